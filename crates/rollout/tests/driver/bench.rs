//! A rollout on a real ledger with a scripted platform, and the audit of what came of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use delivery::clock::{Clock, CountingSeed, Seed};
use delivery::effect::{Effect, Readiness, RevisionSpec};
use delivery::environment::{ApprovalRule, Environment};
use delivery::evidence::Finding;
use delivery::rollout::{RollbackCause, RolloutOutcome, RolloutPlan};
use delivery::strategy::{AnalysisPolicy, OnExpiry, OnInconclusive, Step, Sticky, Strategy, StrategyKind};
use delivery::traffic::Weight;
use delivery::{
    Actor, Digest, EnvironmentName, Event, Recorded, ReleaseId, RevisionId, RolloutId, ServiceName,
};
use rollout::driver::{DriveError, Driver, Notice, Wish};
use rollout::follower::Follower;
use rollout::progress::Rollout;
use rollout::state::State;
use rollout::watch::Watch;
use store::{Access, Entry, Ledger};
use tokio::sync::watch;

use crate::world::{Fault, Script, Scripted, Target, TestClock};

/// A driver that is polled this often in one rollout spins.
pub(crate) const POLLS_MAX: usize = 20_000;

pub(crate) fn weight(percent: f64) -> Weight {
    Weight::from_percent(percent).unwrap()
}

pub(crate) fn plan_of(service: &str, first: bool, seed: &mut dyn Seed) -> RolloutPlan {
    let id = RolloutId::mint(seed);
    let step =
        |percent: f64| Step { weight: weight(percent), hold_ms: 600, deadline_ms: 4_000, analyse: true };
    RolloutPlan {
        parent: None,
        release: ReleaseId::mint(seed),
        version: "1.0.0".into(),
        stable: (!first).then(|| RevisionId::mint(seed)),
        reverts: None,
        policy: Digest::of(b"policy"),
        revision: RevisionSpec {
            id: RevisionId::of_rollout(&id),
            service: ServiceName::new(service).unwrap(),
            digest: Digest::of(b"artifact"),
            directory: "/nowhere".into(),
            command: vec!["shop".into()],
            environment: std::collections::BTreeMap::new(),
            pass: Vec::new(),
            ready: Readiness { path: None, within_ms: 1_000 },
            instances: 1,
            stop_ms: 1_000,
        },
        environment: Environment {
            name: EnvironmentName::new("production").unwrap(),
            listen: "127.0.0.1:0".into(),
            strategy: Strategy {
                kind: StrategyKind::Canary,
                steps: vec![step(25.0), step(50.0)],
                analysis: AnalysisPolicy {
                    interval_ms: 300,
                    warm_up_ms: 0,
                    silence_ms: 1_500,
                    ..AnalysisPolicy::default()
                },
                on_inconclusive: OnInconclusive::Rollback,
                on_expiry: OnExpiry::Rollback,
                grant_ttl_ms: 3_000,
                sticky: Sticky::None,
                drain_ms: 100,
            },
            gates: Vec::new(),
            approval: ApprovalRule::default(),
            freezes: Vec::new(),
            kpis: Vec::new(),
            rollback_objective_ms: 900_000,
        },
        id,
    }
}

pub(crate) fn plan() -> RolloutPlan {
    plan_of("shop", false, &mut CountingSeed::default())
}

/// The deaths here are the driver's, not the machine's, so a ledger in memory will do where there is one.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) struct Bench {
    pub(crate) ledger: Ledger,
    pub(crate) target: Arc<Mutex<Target>>,
    pub(crate) plan: RolloutPlan,
    pub(crate) clock: Arc<TestClock>,
    script: Arc<Mutex<Script>>,
    folder: Arc<tempfile::TempDir>,
}

impl Bench {
    pub(crate) fn new(plan: RolloutPlan) -> Self {
        let folder = folder();
        let path = camino::Utf8PathBuf::from_path_buf(folder.path().join("ledger.db")).unwrap();
        let ledger = Ledger::open(&path, Access::ReadWrite).unwrap();
        let clock = Arc::new(TestClock::start());
        let target = Arc::new(Mutex::new(Target::new(plan.stable.clone())));
        let script: Script = Box::new(|_, _, _| Fault::None);
        let script = Arc::new(Mutex::new(script));
        let bench = Self { ledger, target, plan, clock, script, folder: Arc::new(folder) };
        bench.other().append(Event::RolloutPlanned { plan: Box::new(bench.plan.clone()) });
        bench
    }

    /// Another service's rollout on the same ledger, with a platform of its own.
    pub(crate) fn beside(&self, plan: RolloutPlan) -> Self {
        let target = Arc::new(Mutex::new(Target::new(plan.stable.clone())));
        let script: Script = Box::new(|_, _, _| Fault::None);
        let (ledger, clock, folder) =
            (self.ledger.clone(), Arc::clone(&self.clock), Arc::clone(&self.folder));
        let bench = Self { ledger, target, plan, clock, script: Arc::new(Mutex::new(script)), folder };
        bench.other().append(Event::RolloutPlanned { plan: Box::new(bench.plan.clone()) });
        bench
    }

    pub(crate) fn script(
        &self,
        script: impl FnMut(&crate::world::Call<'_>, u32, &mut Target) -> Fault + Send + 'static,
    ) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    pub(crate) fn target(&self) -> std::sync::MutexGuard<'_, Target> {
        let mut target = self.target.lock().unwrap();
        target.settle();
        target
    }

    /// Somebody else at the same ledger.
    pub(crate) fn other(&self) -> Other {
        Other { ledger: self.ledger.clone(), clock: Arc::clone(&self.clock), id: self.plan.id.clone() }
    }

    /// Does something at the first call that the driver makes so long after the first canary traffic. (With another task that
    /// sleeps, paused time would run ahead whenever the driver waits for the ledger.)
    pub(crate) fn after_exposure(
        &self,
        wait: Duration,
        action: impl FnOnce(&Other, &mut Target) + Send + 'static,
    ) {
        let (other, mut action) = (self.other(), Some(action));
        self.script(move |_, _, target| {
            let due = target.weights.first().is_some_and(|(at, _)| at.elapsed() >= wait);
            if let Some(action) = action.take_if(|_| due) {
                action(&other, target);
            }
            Fault::None
        });
    }

    pub(crate) fn state(&self) -> State {
        Follower::open(self.ledger.clone()).unwrap().state().clone()
    }

    /// What the first so many records add up to. (Somebody else may have recorded more by now.)
    fn replayed(&self, size: u64) -> State {
        let mut state = State::default();
        for entry in self.ledger.read(0, size as usize).unwrap() {
            match entry {
                Entry::Record(recorded) => state.apply(&recorded),
                Entry::Quarantined { sequence, reason } => state.quarantine(sequence, reason),
            }
        }
        state
    }

    pub(crate) fn rollout(&self) -> Rollout {
        self.other().rollout()
    }

    pub(crate) fn records(&self) -> Vec<Recorded> {
        let record = |entry| match entry {
            Entry::Record(recorded) => recorded,
            Entry::Quarantined { reason, .. } => panic!("{reason}"),
        };
        self.ledger.read(0, 100_000).unwrap().into_iter().map(record).collect()
    }

    /// A controller, from its start to its end.
    pub(crate) async fn drive(&self, wish: watch::Receiver<Wish>) -> Result<RolloutOutcome, DriveError> {
        let mut follower = Follower::open(self.ledger.clone())?;
        let (target, script) = (Arc::clone(&self.target), Arc::clone(&self.script));
        let mut world = Scripted { target, script, ledger: self.ledger.clone() };
        let mut observe = |_: Notice<'_>| {};
        let driver = Driver {
            follower: &mut follower,
            world: &mut world,
            clock: &*self.clock,
            holder: "test".into(),
            wish,
            observe: &mut observe,
        };
        let outcome = driver.drive(&self.plan.id).await?;
        follower.catch_up()?;
        let live = follower.state();
        assert_eq!(*live, self.replayed(live.size), "replay equals live (I10)");
        Ok(outcome)
    }

    /// A controller that nobody disturbs. It must end and must not spin.
    pub(crate) async fn finish(&self) -> RolloutOutcome {
        let (_sender, wish) = watch::channel(Wish::Continue);
        let mut driving = Box::pin(self.drive(wish));
        polls(&mut driving, POLLS_MAX).await.expect("it spins or never ends").expect("it ends well")
    }

    pub(crate) fn cause(&self) -> Option<RollbackCause> {
        self.rollout().cause
    }

    /// Every promise that can be checked from outside, whatever happened.
    pub(crate) fn audit(&self) {
        let (records, rollout) = (self.records(), self.rollout());
        audit_target(&self.target(), &rollout);
        audit_raises(&records, &rollout);
        audit_evidence(&records, &rollout);
        audit_incident(&records, &self.plan.id);
    }
}

/// Another process or person that uses the ledger.
pub(crate) struct Other {
    pub(crate) ledger: Ledger,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) id: RolloutId,
}

impl Other {
    pub(crate) fn append(&self, event: Event) {
        self.append_as(&Actor::Human("ana@example.com".into()), event);
    }

    pub(crate) fn append_as(&self, actor: &Actor, event: Event) {
        self.ledger.append_blocking(actor, self.clock.now(), vec![event]).unwrap();
    }

    pub(crate) fn rollout(&self) -> Rollout {
        Follower::open(self.ledger.clone()).unwrap().state().rollouts[&self.id].clone()
    }

    /// What a person's wish to take it back records, as the rollout is now.
    pub(crate) fn wish(&self) -> Vec<Event> {
        let cause = RollbackCause::Requested { by: "ana".into(), reason: "test".into() };
        rollout::driver::withdrawal(&self.rollout(), cause)
    }

    pub(crate) fn ask_back(&self) {
        self.wish().into_iter().for_each(|event| self.append(event));
    }
}

/// From now on nothing can be recorded; reading works.
pub(crate) fn break_ledger(path: &camino::Utf8Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute("UPDATE head SET root = CAST(x'00' || root AS BLOB)", []).unwrap();
}

pub(crate) fn mend_ledger(path: &camino::Utf8Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute("UPDATE head SET root = CAST(substr(root, 2) AS BLOB)", []).unwrap();
}

/// Polls a future at most this often; `None` leaves it where it is.
pub(crate) async fn polls<F: Future>(future: &mut Pin<Box<F>>, count: usize) -> Option<F::Output> {
    let mut left = count;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

fn audit_target(target: &Target, rollout: &Rollout) {
    let id = &rollout.plan.id;
    let steps: Vec<Weight> = rollout.plan.environment.strategy.steps.iter().map(|step| step.weight).collect();
    let mut raised = Vec::new();
    let (mut starts, mut promotions, mut lowered) = (0, 0, false);
    for done in target.history.iter().filter(|done| done.command.rollout == *id && done.applied) {
        match &done.command.effect {
            Effect::Start { .. } => starts += 1,
            Effect::SetWeight { weight, .. } if *weight == Weight::ZERO => lowered = true,
            Effect::SetWeight { weight, .. } => {
                assert!(!lowered, "raised after it was taken back");
                raised.push(*weight);
            }
            Effect::Promote { .. } => {
                assert!(!lowered, "promoted after it was taken back");
                promotions += 1;
            }
            Effect::Retire { .. } => {}
        }
    }
    assert!(starts <= 1 && promotions <= 1, "done twice: {:?}", target.history);
    assert!(steps.starts_with(&raised), "the weight followed the plan: {raised:?}");
    match rollout.outcome {
        Some(RolloutOutcome::Completed) => {
            assert_eq!(target.stable.as_ref(), Some(&rollout.plan.revision.id));
        }
        Some(RolloutOutcome::RolledBack) => {
            assert_eq!(target.stable, rollout.plan.stable);
            assert_eq!(target.weight, Weight::ZERO);
            assert_eq!(target.canary, None, "its processes are gone");
        }
        None => {}
    }
}

/// Nothing rises without a passing verdict of its step, nor after the decision to take it back.
fn audit_raises(records: &[Recorded], rollout: &Rollout) {
    let mut state = State::default();
    for recorded in records {
        if let Event::EffectRequested { command } = &recorded.event {
            let before = &state.rollouts[&rollout.plan.id];
            let raises = match &command.effect {
                Effect::SetWeight { weight, .. } => *weight > Weight::ZERO,
                Effect::Promote { .. } => true,
                Effect::Start { .. } | Effect::Retire { .. } => false,
            };
            if raises && command.rollout == rollout.plan.id {
                assert_eq!(before.cause, None, "raised after the decision to take it back (I7)");
                if let Some(position) = before.position.filter(|position| !position.resumed) {
                    let look = before.verdict().expect("a verdict of this step (I4)");
                    assert_eq!(look.evidence.finding, Finding::Safe, "a passing verdict (I4)");
                    assert!(
                        look.at >= position.since && look.evidence.digest == rollout.plan.revision.digest
                    );
                }
            }
        }
        state.apply(recorded);
    }
}

/// Each recorded verdict is bit for bit what the record before it gives, and rests on its step's data only.
fn audit_evidence(records: &[Recorded], rollout: &Rollout) {
    let mut state = State::default();
    let mut watch: Option<Watch> = None;
    for recorded in records {
        if let Event::RolloutJudged { rollout: id, looked_at, sample, evidence, .. } = &recorded.event
            && *id == rollout.plan.id
        {
            let now = &state.rollouts[id];
            let watch = watch.get_or_insert_with(|| Watch::over(now));
            watch.catch_up(now);
            let again = watch.judge(sample.as_ref(), *looked_at);
            let bits = |evidence| serde_json::to_string(evidence).unwrap();
            assert_eq!(bits(&again), bits(evidence), "the record gives the same verdict again");
            let since = now.position.unwrap().since;
            let of_step = now.looks.iter().filter(|look| look.at >= since);
            let reference = of_step.filter_map(|look| look.sample.as_ref()).find(|sample| sample.at >= since);
            if let (Some(first), Some(last)) = (reference, sample)
                && first.boot == last.boot
            {
                let most = last.canary.requests - first.canary.requests;
                assert!(evidence.canary_requests <= most, "the data began before the step (I4)");
            } else if evidence.finding == Finding::Safe {
                panic!("safe without data of the step");
            }
        }
        state.apply(recorded);
    }
}

/// An incident that was opened is closed when the rollout has ended, and none is closed that was not opened.
fn audit_incident(records: &[Recorded], id: &RolloutId) {
    let (mut opened, mut closed, mut ended) = (0, 0, false);
    for recorded in records {
        match &recorded.event {
            Event::IncidentDetected { incident, .. } if incident == id.as_str() => opened += 1,
            Event::IncidentResolved { incident } if incident == id.as_str() => closed += 1,
            Event::RolloutFinished { rollout, .. } if rollout == id => ended = true,
            _ => {}
        }
    }
    if ended {
        assert_eq!(opened.min(1), closed, "incidents opened: {opened}, closed: {closed}");
    }
}
