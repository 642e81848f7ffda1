//! The planner's promises, checked over many random histories: a toy world answers its effects, and a crash may come
//! between any two records.

#![expect(clippy::unwrap_used, reason = "a test may")]

use delivery::clock::CountingSeed;
use delivery::effect::{Command, Effect, Outcome, Readiness, RevisionSpec};
use delivery::environment::{ApprovalRule, Environment};
use delivery::evidence::{Evidence, Finding};
use delivery::rollout::{RollbackCause, RolloutOutcome, RolloutPlan};
use delivery::strategy::{AnalysisPolicy, OnExpiry, OnInconclusive, Step, Sticky, Strategy, StrategyKind};
use delivery::traffic::{ArmTotals, Sample, Weight};
use delivery::{
    Actor, Digest, EnvironmentName, Event, Recorded, ReleaseId, RevisionId, RolloutId, ServiceName, Timestamp,
};
use proptest::prelude::*;
use rollout::planner::{self, Next};
use rollout::progress::Rollout;
use rollout::state::State;
use std::time::Duration;

fn weight(percent: f64) -> Weight {
    Weight::from_percent(percent).unwrap()
}

fn plan(first: bool, on_inconclusive: OnInconclusive) -> RolloutPlan {
    let mut seed = CountingSeed::default();
    let id = RolloutId::mint(&mut seed);
    let digest = Digest::of(b"artifact");
    let step =
        |percent: f64| Step { weight: weight(percent), hold_ms: 2_000, deadline_ms: 20_000, analyse: true };
    RolloutPlan {
        parent: None,
        release: ReleaseId::mint(&mut seed),
        version: "1.0.0".into(),
        stable: (!first).then(|| RevisionId::mint(&mut seed)),
        reverts: None,
        policy: Digest::of(b"policy"),
        revision: RevisionSpec {
            id: RevisionId::of_rollout(&id),
            service: ServiceName::new("shop").unwrap(),
            digest,
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
                steps: vec![step(5.0), step(25.0), step(50.0)],
                analysis: AnalysisPolicy::default(),
                on_inconclusive,
                on_expiry: OnExpiry::Rollback,
                grant_ttl_ms: 5_000,
                sticky: Sticky::None,
                drain_ms: 1_000,
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

fn evidence(finding: Finding, digest: &Digest) -> Evidence {
    Evidence {
        finding,
        log_e_harm: 0.0,
        log_e_safe: 0.0,
        signal: "errors".into(),
        ratio_low: None,
        ratio_high: None,
        canary_requests: 10,
        canary_errors: 0,
        stable_requests: 90,
        stable_errors: 0,
        slower: None,
        digest: digest.clone(),
    }
}

/// What the world does next, drawn by the test.
#[derive(Debug, Clone, Copy)]
enum Luck {
    Applied,
    Refused,
    Continue,
    Safe,
    Harm,
    NoSignal,
    /// The controller dies after it recorded its intention (and perhaps acted), and another takes over.
    Crash,
    /// A person asks for a rollback.
    Ask,
}

fn luck() -> impl Strategy_<Value = Luck> {
    prop_oneof![
        8 => Just(Luck::Applied),
        1 => Just(Luck::Refused),
        4 => Just(Luck::Continue),
        8 => Just(Luck::Safe),
        1 => Just(Luck::Harm),
        2 => Just(Luck::NoSignal),
        2 => Just(Luck::Crash),
        1 => Just(Luck::Ask),
    ]
}

use proptest::strategy::Strategy as Strategy_;

/// A ledger in memory, its state, and a target that remembers what was really done to it.
struct Bench {
    state: State,
    ledger: Vec<Recorded>,
    id: RolloutId,
    now: Timestamp,
    /// The weight at the target, and every value it ever had.
    weights: Vec<Weight>,
    applied: Vec<u32>,
}

impl Bench {
    fn new(plan: RolloutPlan) -> Self {
        let id = plan.id.clone();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut bench = Self {
            state: State::default(),
            ledger: Vec::new(),
            id,
            now,
            weights: vec![Weight::ZERO],
            applied: Vec::new(),
        };
        bench.record(Event::RolloutPlanned { plan: Box::new(plan) });
        bench
    }

    fn record(&mut self, event: Event) {
        let sequence = self.ledger.len() as u64 + 1;
        let recorded = Recorded { sequence, at: self.now, actor: Actor::Machine("test".into()), event };
        self.state.apply(&recorded);
        self.ledger.push(recorded);
    }

    fn rollout(&self) -> &Rollout {
        &self.state.rollouts[&self.id]
    }

    /// At most once for each number, as a platform does it.
    fn act(&mut self, command: &Command) {
        if self.applied.contains(&command.sequence) {
            return;
        }
        self.applied.push(command.sequence);
        match &command.effect {
            Effect::SetWeight { weight, .. } => self.weights.push(*weight),
            Effect::Promote { .. } => self.weights.push(Weight::FULL),
            Effect::Retire { revision, .. } if *revision == self.rollout().plan.revision.id => {
                self.weights.push(Weight::ZERO);
            }
            Effect::Start { .. } | Effect::Retire { .. } => {}
        }
    }

    /// A raise may have been done and forgotten before it was asked for again. That less than all is wanted of a revision is only
    /// refused by a platform that does not know the revision, and gives it no traffic.
    fn refuse(&mut self, effect: &Effect) {
        match effect {
            Effect::SetWeight { weight: Weight::ZERO, .. } => self.weights.push(Weight::ZERO),
            Effect::Retire { revision, .. } if *revision == self.rollout().plan.revision.id => {
                self.weights.push(Weight::ZERO);
            }
            Effect::SetWeight { .. }
            | Effect::Start { .. }
            | Effect::Promote { .. }
            | Effect::Retire { .. } => {}
        }
    }

    fn step(&mut self, luck: Luck) -> Option<RolloutOutcome> {
        if matches!(luck, Luck::Ask) && self.rollout().cause.is_none() {
            let cause = RollbackCause::Requested { by: "ana".into(), reason: "test".into() };
            self.record(Event::RollbackRequested { rollout: self.id.clone(), cause });
        }
        match planner::next(self.rollout(), self.now) {
            Next::Done(outcome) => return Some(outcome),
            Next::Finish(outcome) => {
                self.record(Event::RolloutFinished { rollout: self.id.clone(), outcome });
            }
            Next::Withdraw(cause) => {
                self.record(Event::RollbackRequested { rollout: self.id.clone(), cause });
            }
            Next::Wait(until) => self.now = until.max(self.now),
            Next::Look => self.look(luck),
            Next::Apply { sequence, effect } => self.apply(luck, sequence, effect),
        }
        None
    }

    fn look(&mut self, luck: Luck) {
        let finding = match luck {
            Luck::Safe | Luck::Applied => Finding::Safe,
            Luck::Harm => Finding::Harm,
            Luck::NoSignal => Finding::NoSignal,
            _ => Finding::Continue,
        };
        self.now = self.now.saturating_add(Duration::from_millis(500)).unwrap();
        let evidence = evidence(finding, &self.rollout().plan.revision.digest.clone());
        let step = self.rollout().position.unwrap().step as u32;
        let (rollout, looked_at) = (self.id.clone(), self.now);
        self.record(Event::RolloutJudged { rollout, step, looked_at, sample: None, evidence });
    }

    fn apply(&mut self, luck: Luck, sequence: u32, effect: Effect) {
        let command = Command { rollout: self.id.clone(), sequence, epoch: 1, effect };
        if self.rollout().sequence != sequence {
            assert_eq!(sequence, self.rollout().sequence + 1, "numbers have no gap");
            self.record(Event::EffectRequested { command: command.clone() });
        }
        self.now = self.now.saturating_add(Duration::from_millis(20)).unwrap();
        let outcome = match luck {
            Luck::Refused => {
                self.refuse(&command.effect);
                Outcome::Refused { detail: "no".into() }
            }
            Luck::Crash => {
                // Acted, and died before it could record that: the next controller finds the intention only.
                self.act(&command);
                return;
            }
            _ => {
                self.act(&command);
                Outcome::Applied { detail: "done".into() }
            }
        };
        self.record(Event::EffectFinished { rollout: self.id.clone(), sequence, outcome });
    }
}

fn check_history(bench: &Bench) {
    let replayed = bench.ledger.iter().fold(State::default(), |mut state, recorded| {
        state.apply(recorded);
        state
    });
    assert_eq!(replayed, bench.state, "replay equals live (I10)");
    let mut raised_after_cause = false;
    let mut cause = false;
    let mut last_verdict = None;
    let mut last_raise = Timestamp::MIN;
    for recorded in &bench.ledger {
        match &recorded.event {
            Event::RollbackRequested { .. } => cause = true,
            Event::RolloutJudged { evidence, .. } => last_verdict = Some((recorded.at, evidence.finding)),
            Event::EffectRequested { command } => {
                let raises = matches!(&command.effect, Effect::SetWeight { weight, .. } if *weight > Weight::ZERO)
                    || matches!(command.effect, Effect::Promote { .. });
                if raises {
                    raised_after_cause |= cause;
                    if last_raise > Timestamp::MIN {
                        let (at, finding) = last_verdict.expect("a raise follows a verdict");
                        assert_eq!(finding, Finding::Safe, "only a passing verdict raises the weight (I4)");
                        assert!(at >= last_raise, "its data began after the step before (I4)");
                    }
                    last_raise = recorded.at;
                }
            }
            _ => {}
        }
    }
    assert!(!raised_after_cause, "nothing is raised once the release is being taken back (I7)");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_rollout_ends_and_keeps_the_promises(
        first in any::<bool>(),
        hold in any::<bool>(),
        lucks in proptest::collection::vec(luck(), 0..120),
    ) {
        let policy = if hold { OnInconclusive::Hold } else { OnInconclusive::Rollback };
        let mut bench = Bench::new(plan(first, policy));
        let mut end = None;
        for luck in lucks {
            end = bench.step(luck);
            check_history(&bench);
            if end.is_some() {
                break;
            }
        }
        // Once the faults stop, it ends (I9): quiet evidence leads to the deadline at the latest.
        for _ in 0..400 {
            if end.is_some() {
                break;
            }
            end = bench.step(Luck::Continue);
        }
        check_history(&bench);
        let outcome = end.expect("it ends");
        let last = *bench.weights.last().unwrap();
        match outcome {
            RolloutOutcome::Completed => prop_assert_eq!(last, Weight::FULL),
            RolloutOutcome::RolledBack => prop_assert_eq!(last, Weight::ZERO),
        }
    }
}

fn run(lucks: &[Luck], rest: Luck) -> Bench {
    let mut bench = Bench::new(plan(false, OnInconclusive::Rollback));
    let mut lucks = lucks.iter().copied();
    for _ in 0..400 {
        if bench.step(lucks.next().unwrap_or(rest)).is_some() {
            return bench;
        }
    }
    panic!("it does not end");
}

#[test]
fn a_good_release_climbs_every_step() {
    let bench = run(&[], Luck::Safe);
    assert_eq!(bench.rollout().outcome, Some(RolloutOutcome::Completed));
    assert_eq!(bench.weights, [0.0, 5.0, 25.0, 50.0, 100.0].map(weight));
}

#[test]
fn silence_never_promotes() {
    let bench = run(&[], Luck::NoSignal);
    assert_eq!(bench.rollout().outcome, Some(RolloutOutcome::RolledBack));
    assert!(matches!(bench.rollout().cause, Some(RollbackCause::Inconclusive { .. })));
    assert_eq!(bench.weights, [0.0, 5.0, 0.0, 0.0].map(weight));
}

#[test]
fn a_revision_that_does_not_start_never_gets_traffic() {
    let bench = run(&[Luck::Refused], Luck::Safe);
    assert_eq!(bench.rollout().outcome, Some(RolloutOutcome::RolledBack));
    assert_eq!(bench.rollout().weight_max, Weight::ZERO);
}

#[test]
fn a_raise_that_was_done_forgotten_and_refused_is_taken_back_before_the_revision_goes() {
    let bench = run(&[Luck::Applied, Luck::Crash, Luck::Refused], Luck::Safe);
    assert_eq!(bench.rollout().outcome, Some(RolloutOutcome::RolledBack));
    let asked: Vec<_> = bench
        .ledger
        .iter()
        .filter_map(|recorded| match &recorded.event {
            Event::EffectRequested { command } => Some(&command.effect),
            _ => None,
        })
        .collect();
    let [Effect::Start { .. }, Effect::SetWeight { weight: raised, .. }, lowered, Effect::Retire { .. }] =
        asked[..]
    else {
        panic!("{asked:?}");
    };
    assert_eq!(*raised, weight(5.0));
    assert!(matches!(lowered, Effect::SetWeight { weight: Weight::ZERO, .. }), "{lowered:?}");
}

#[test]
fn a_verdict_on_another_artifact_does_not_count() {
    let mut bench = run(&[], Luck::Safe);
    bench = Bench::new(bench.rollout().plan.clone());
    bench.step(Luck::Applied);
    bench.step(Luck::Applied);
    let mut other = evidence(Finding::Safe, &Digest::of(b"another"));
    other.finding = Finding::Safe;
    let step = bench.rollout().position.unwrap().step as u32;
    bench.now = bench.now.saturating_add(Duration::from_secs(3)).unwrap();
    let (rollout, looked_at) = (bench.id.clone(), bench.now);
    bench.record(Event::RolloutJudged { rollout, step, looked_at, sample: None, evidence: other });
    assert!(!matches!(planner::next(bench.rollout(), bench.now), Next::Apply { .. }));
}

#[test]
fn of_an_ended_rollout_some_looks_are_kept_and_what_was_counted_stays() {
    let planned = plan(false, OnInconclusive::Hold);
    let (id, digest) = (planned.id.clone(), planned.revision.digest.clone());
    let mut rollout = Rollout::planned(planned, Timestamp::UNIX_EPOCH);
    // Five thousand looks: the splitter starts over at 1,500, the second step begins at 2,000, now and then nothing is read.
    let read = |look: u32| (look % 7 != 3).then_some(u64::from(look));
    for look in 0..5_000 {
        let arm = |requests| ArmTotals { requests, ..ArmTotals::zero() };
        let sample = read(look).map(|requests| Sample {
            boot: if look < 1_500 { "one".into() } else { "two".into() },
            at: Timestamp::UNIX_EPOCH,
            weight: weight(5.0),
            stable: arm(requests),
            canary: arm(requests),
        });
        let (evidence, step) = (evidence(Finding::Continue, &digest), u32::from(look >= 2_000));
        let looked_at = Timestamp::UNIX_EPOCH;
        let judged = Event::RolloutJudged { rollout: id.clone(), step, looked_at, sample, evidence };
        rollout.apply(&judged, Timestamp::UNIX_EPOCH);
    }
    assert_eq!((rollout.looks.len(), rollout.looks_taken), (5_000, 5_000), "it is under way");
    let finished = Event::RolloutFinished { rollout: id, outcome: RolloutOutcome::RolledBack };
    rollout.apply(&finished, Timestamp::UNIX_EPOCH);
    assert_eq!(rollout.looks_taken, 5_000);
    assert!((96..=106).contains(&rollout.looks.len()), "{}", rollout.looks.len());
    let samples: Vec<_> =
        rollout.looks.iter().filter_map(|look| Some((look.step, look.sample.as_ref()?))).collect();
    let ends = |wanted: &dyn Fn(usize, &str) -> bool| {
        let of = samples.iter().filter(|(step, sample)| wanted(*step, &sample.boot));
        let requests: Vec<u64> = of.map(|(_, sample)| sample.canary.requests).collect();
        (requests[0], requests[requests.len() - 1])
    };
    let last = |below: u32| (0..below).rev().find_map(read).unwrap();
    assert_eq!(ends(&|_, boot| boot == "one"), (0, last(1_500)));
    assert_eq!(
        ends(&|step, boot| step == 0 && boot == "two"),
        ((1_500..).find_map(read).unwrap(), last(2_000))
    );
    assert_eq!(ends(&|step, _| step == 1), ((2_000..).find_map(read).unwrap(), last(5_000)));
    assert!(rollout.looks.windows(2).all(|pair| pair[0].step <= pair[1].step));
}

/// What the ledger says after a restore to the middle of a rollout: nothing goes on, no number is used twice, and the next
/// generation is above every one that an edge has seen.
#[test]
fn a_rollout_that_was_under_way_in_a_restored_ledger_is_taken_back() {
    let plan = plan(false, OnInconclusive::Rollback);
    let id = plan.id.clone();
    let command = |sequence, effect| Command { rollout: id.clone(), sequence, epoch: 3, effect };
    let raise = Effect::SetWeight {
        revision: plan.revision.id.clone(),
        weight: weight(5.0),
        ttl_ms: 5_000,
        on_expiry: OnExpiry::Rollback,
        sticky: Sticky::None,
    };
    let start = Effect::Start { revision: Box::new(plan.revision.clone()) };
    let applied = || Outcome::Applied { detail: "done".into() };
    let finished = |sequence| Event::EffectFinished { rollout: id.clone(), sequence, outcome: applied() };
    let history = [
        Event::RolloutPlanned { plan: Box::new(plan.clone()) },
        Event::RolloutAcquired { rollout: id.clone(), epoch: 3, holder: "test".into() },
        Event::EffectRequested { command: command(1, start) },
        finished(1),
        Event::EffectRequested { command: command(2, raise) },
        finished(2),
    ];
    // A command that waits for its answer is asked again first: the edge answers a repetition with its first answer.
    for (until, lost) in [(1, Some(7)), (2, Some(70)), (4, None), (6, Some(1))] {
        let mut state = State::default();
        let digest = Digest::of(b"root");
        let lost = lost.map(|more| delivery::event::LostHistory {
            size: until as u64 + more,
            root: digest.clone(),
            last_at: None,
        });
        let more = lost.as_ref().map_or(1 << 20, |lost| lost.size - until as u64) as u32;
        let restored = Event::LedgerRestored { size: until as u64, root: digest.clone(), lost, epoch: 41 };
        for (sequence, event) in (1..).zip(history[..until].iter().chain([&restored])) {
            let actor = Actor::Machine("test".into());
            state.apply(&Recorded { sequence, at: Timestamp::UNIX_EPOCH, actor, event: event.clone() });
        }
        assert_eq!(state.epoch_max, 41);
        let now = Timestamp::UNIX_EPOCH;
        let rollout = &state.rollouts[&id];
        let Next::Withdraw(cause) = planner::next(rollout, now) else { panic!("after {until}") };
        let used = rollout.sequence;
        let mut rollout = rollout.clone();
        rollout.apply(&Event::RollbackRequested { rollout: id.clone(), cause }, now);
        match planner::next(&rollout, now) {
            Next::Apply { sequence, effect: Effect::SetWeight { weight, .. } } => {
                assert!(weight == Weight::ZERO && sequence > used + more, "after {until}: {sequence}");
            }
            other => panic!("after {until}: {other:?}"),
        }
    }
}
