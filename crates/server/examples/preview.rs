//! A ledger with a plausible story, and the dashboard over it: for looking at pages, and for the browser test where the
//! demo can't run.
//!
//! `cargo run -p server --example preview -- [PORT]`. One release serves, one is rolling out and gets a look every half
//! second, one was taken back, one waits for an approval. Rolling back works: the story's driver obeys. Invariant: what
//! is appended is what the real driver would append, in its order.

use std::sync::Arc;
use std::time::Duration;

use delivery::clock::{Clock as _, SteadyClock};
use delivery::effect::{Command, Effect, Outcome, Readiness, RevisionSpec};
use delivery::environment::{ApprovalRule, Environment};
use delivery::event::{ServiceChange, TaskOutcome};
use delivery::evidence::{Evidence, Finding};
use delivery::release::Release;
use delivery::rollout::{RollbackCause, RolloutOutcome, RolloutPlan};
use delivery::strategy::{AnalysisPolicy, OnExpiry, OnInconclusive, Step, Sticky, Strategy, StrategyKind};
use delivery::traffic::{ArmTotals, Sample, Weight};
use delivery::{
    Actor, CommitId, Digest, EnvironmentName, Event, Problem, ReleaseId, RevisionId, RolloutId, RunId,
    ServiceName, TaskName, Timestamp,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rollout::progress::Rollout;
use rollout::state::State;
use rollout::watch::Watch;
use server::{Approval, Config, Operations, Rules};
use store::{Access, Entry, Ledger};

type Failure = Box<dyn std::error::Error>;

/// The same numbers each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn chance(&mut self, probability: f64) -> bool {
        (self.next() % 1_000_000) as f64 / 1e6 < probability
    }
}

impl delivery::Seed for Numbers {
    fn fill(&mut self, buffer: &mut [u8]) {
        buffer.iter_mut().for_each(|byte| *byte = self.next() as u8);
    }
}

fn weight(percent: f64) -> Weight {
    Weight::from_percent(percent).unwrap_or(Weight::ZERO)
}

fn environment(name: &str, steps: &[(f64, u64)], required: u32) -> Result<Environment, Failure> {
    let analyse = steps.len() > 1;
    let step = |(percent, hold_ms): &(f64, u64)| Step {
        weight: weight(*percent),
        hold_ms: *hold_ms,
        deadline_ms: 600_000,
        analyse,
    };
    Ok(Environment {
        name: EnvironmentName::new(name)?,
        listen: "127.0.0.1:8080".into(),
        strategy: Strategy {
            kind: if analyse { StrategyKind::Canary } else { StrategyKind::Direct },
            steps: steps.iter().map(step).collect(),
            analysis: AnalysisPolicy::default(),
            on_inconclusive: OnInconclusive::Rollback,
            on_expiry: OnExpiry::Rollback,
            grant_ttl_ms: 15_000,
            sticky: Sticky::None,
            drain_ms: 2_000,
        },
        gates: Vec::new(),
        approval: ApprovalRule { required, approvers: Vec::new() },
        freezes: Vec::new(),
        kpis: Vec::new(),
        rollback_objective_ms: 900_000,
    })
}

/// The author of the story: a ledger, the time it is told at, and the splitter's counters.
struct Author {
    ledger: Ledger,
    at: Timestamp,
    state: State,
    numbers: Numbers,
    stable: ArmTotals,
    canary: ArmTotals,
}

impl Author {
    fn pass(&mut self, ms: u64) {
        self.at = self.at.saturating_add(Duration::from_millis(ms)).unwrap_or(self.at);
    }

    fn say(&mut self, actor: &Actor, events: Vec<Event>) -> Result<(), Failure> {
        self.ledger.append_blocking(actor, self.at, events)?;
        self.follow()
    }

    fn follow(&mut self) -> Result<(), Failure> {
        for entry in self.ledger.read(self.state.size, usize::MAX)? {
            if let Entry::Record(recorded) = entry {
                self.state.apply(&recorded);
            }
        }
        Ok(())
    }

    fn machine(&mut self, event: Event) -> Result<(), Failure> {
        self.say(&Actor::Machine("trimtab".into()), vec![event])
    }

    fn release(&mut self, service: &str, version: &str, subject: &str) -> Result<Release, Failure> {
        let author = delivery::change::Person { name: "Dana".into(), email: "dana@example.com".into() };
        let run = RunId::mint(&mut self.numbers);
        let commit = CommitId::new(Digest::of(subject.as_bytes()).as_str()[..40].to_owned())?;
        let tasks = vec![TaskName::new("check")?, TaskName::new("test")?];
        self.machine(Event::RunStarted {
            run: run.clone(),
            commit: Some(commit.clone()),
            dirty: false,
            tasks,
        })?;
        self.pass(8_400);
        self.machine(Event::RunFinished {
            run: run.clone(),
            outcome: TaskOutcome::Success,
            duration_ms: 8_400,
        })?;
        let release = Release {
            id: ReleaseId::mint(&mut self.numbers),
            version: version.into(),
            commit: delivery::change::Commit {
                id: commit,
                author: author.clone(),
                committer: author.clone(),
                co_authors: Vec::new(),
                authored_at: self.at,
                committed_at: self.at,
                subject: subject.into(),
            },
            artifact: delivery::artifact::Artifact {
                service: ServiceName::new(service)?,
                digest: Digest::of(version.as_bytes()),
                files: 12,
                bytes: 48_213,
            },
            authors: vec![author],
            changelog: vec![subject.into()],
            run,
            provenance: Digest::of(subject.as_bytes()),
        };
        self.machine(Event::ReleaseCreated { release: Box::new(release.clone()) })?;
        self.pass(900);
        Ok(release)
    }

    fn approve(&mut self, release: &Release, environment: &Environment) -> Result<(), Failure> {
        let event = Event::ApprovalGranted {
            release: release.id.clone(),
            digest: release.artifact.digest.clone(),
            environment: environment.name.clone(),
            policy: policy(environment),
            comment: "the changelog reads well".into(),
        };
        self.say(&Actor::Human("ana@example.com".into()), vec![event])?;
        self.pass(4_000);
        Ok(())
    }

    fn begin(&mut self, release: &Release, environment: &Environment) -> Result<RolloutId, Failure> {
        let id = RolloutId::mint(&mut self.numbers);
        let revision = RevisionId::of_rollout(&id);
        let service = release.artifact.service.clone();
        let slot = self.state.slot(&service, &environment.name);
        let spec = RevisionSpec {
            id: revision,
            service,
            digest: release.artifact.digest.clone(),
            directory: "/srv/shop".into(),
            command: vec!["node".into(), "src/server.mjs".into()],
            environment: std::collections::BTreeMap::new(),
            pass: Vec::new(),
            ready: Readiness { path: Some("/healthz".into()), within_ms: 5_000 },
            instances: 2,
            stop_ms: 2_000,
        };
        let plan = RolloutPlan {
            id: id.clone(),
            parent: slot.and_then(|slot| slot.rollouts.last().cloned()),
            release: release.id.clone(),
            version: release.version.clone(),
            stable: slot.and_then(|slot| slot.stable.clone()),
            revision: spec.clone(),
            reverts: None,
            environment: environment.clone(),
            policy: policy(environment),
        };
        self.machine(Event::RolloutPlanned { plan: Box::new(plan) })?;
        let epoch = self.state.epoch_max + 1;
        let holder = "trimtab ship (pid 4711)".into();
        self.machine(Event::RolloutAcquired { rollout: id.clone(), epoch, holder })?;
        self.effect(&id, Effect::Start { revision: Box::new(spec) }, 640, "2 instances ready in 640 ms")?;
        Ok(id)
    }

    fn rollout(&self, id: &RolloutId) -> Result<&Rollout, Failure> {
        self.state.rollouts.get(id).ok_or_else(|| "the rollout is not in the ledger".into())
    }

    fn effect(&mut self, id: &RolloutId, effect: Effect, ms: u64, detail: &str) -> Result<(), Failure> {
        let rollout = self.rollout(id)?;
        let (sequence, epoch) = (rollout.sequence + 1, rollout.epoch);
        let command = Command { rollout: id.clone(), sequence, epoch, effect };
        self.machine(Event::EffectRequested { command })?;
        self.pass(ms);
        let outcome = Outcome::Applied { detail: detail.into() };
        self.machine(Event::EffectFinished { rollout: id.clone(), sequence, outcome })
    }

    fn weigh(&mut self, id: &RolloutId, percent: f64) -> Result<(), Failure> {
        let effect = Effect::SetWeight {
            revision: RevisionId::of_rollout(id),
            weight: weight(percent),
            ttl_ms: 15_000,
            on_expiry: OnExpiry::Rollback,
            sticky: Sticky::None,
        };
        self.effect(id, effect, 4, &format!("{percent} % of new requests go to the canary"))
    }

    /// Half a second of traffic, and a look at it.
    fn look(&mut self, id: &RolloutId, errors: f64, requests: u64) -> Result<Evidence, Failure> {
        self.pass(500);
        let share = self.rollout(id)?.weight;
        for _ in 0..requests {
            let to_canary = self.numbers.chance(share.share());
            let failed = self.numbers.chance(if to_canary { errors } else { 0.002 });
            let micros =
                3_000 + self.numbers.next() % 9_000 + if self.numbers.chance(0.02) { 40_000 } else { 0 };
            let arm = if to_canary { &mut self.canary } else { &mut self.stable };
            arm.requests += 1;
            arm.errors += u64::from(failed);
            arm.latency[delivery::traffic::latency_bucket(micros)] += 1;
        }
        let sample = Sample {
            boot: "preview".into(),
            at: self.at,
            weight: share,
            stable: self.stable.clone(),
            canary: self.canary.clone(),
        };
        let rollout = self.rollout(id)?;
        let evidence = Watch::over(rollout).judge(Some(&sample), self.at);
        let step = rollout.position.map_or(0, |position| position.step as u32);
        let event = Event::RolloutJudged {
            rollout: id.clone(),
            step,
            looked_at: self.at,
            sample: Some(sample),
            evidence: evidence.clone(),
        };
        self.machine(event)?;
        Ok(evidence)
    }

    fn change(&self, id: &RolloutId) -> Result<ServiceChange, Failure> {
        Ok(State::service_change(self.rollout(id)?))
    }

    fn complete(&mut self, id: &RolloutId) -> Result<(), Failure> {
        let revision = RevisionId::of_rollout(id);
        self.effect(id, Effect::Promote { revision }, 3, "it is stable")?;
        let change = self.change(id)?;
        self.machine(Event::ServiceUpgraded(change))?;
        self.machine(Event::RolloutFinished { rollout: id.clone(), outcome: RolloutOutcome::Completed })?;
        self.canary = ArmTotals::zero();
        Ok(())
    }

    fn take_back(&mut self, id: &RolloutId) -> Result<(), Failure> {
        self.weigh(id, 0.0)?;
        self.pass(1_200);
        let revision = RevisionId::of_rollout(id);
        self.effect(id, Effect::Retire { revision, drain_ms: 2_000 }, 900, "drained and stopped")?;
        let change = self.change(id)?;
        self.machine(Event::ServiceRolledBack(change))?;
        self.machine(Event::IncidentResolved { incident: id.to_string() })?;
        self.machine(Event::RolloutFinished { rollout: id.clone(), outcome: RolloutOutcome::RolledBack })
    }
}

fn policy(environment: &Environment) -> Digest {
    Digest::of(environment.name.as_str().as_bytes())
}

/// Does what pages ask for, to the story's ledger.
struct Stage {
    ledger: Ledger,
    clock: Arc<SteadyClock>,
    rules: Arc<Rules>,
}

impl Stage {
    async fn record(&self, actor: &Actor, event: Event) -> Result<(), Problem> {
        let recorded = self.ledger.append(actor, self.clock.now(), vec![event]).await;
        recorded.map(drop).map_err(|error| error.problem())
    }
}

impl Operations for Stage {
    fn rollback(&self, actor: Actor, rollout: Rollout, reason: String) -> BoxFuture<'_, Result<(), Problem>> {
        let rollout = rollout.plan.id;
        let cause = RollbackCause::Requested { by: actor.to_string(), reason };
        async move { self.record(&actor, Event::RollbackRequested { rollout, cause }).await }.boxed()
    }

    fn resume(&self, actor: Actor, rollout: RolloutId, reason: String) -> BoxFuture<'_, Result<(), Problem>> {
        let event = Event::RolloutResumed { rollout, step: 0, reason };
        async move { self.record(&actor, event).await }.boxed()
    }

    fn approve(&self, actor: Actor, approval: Approval) -> BoxFuture<'_, Result<(), Problem>> {
        let Approval { release, environment, comment, .. } = approval;
        let policy = Digest::of(environment.as_str().as_bytes());
        let digest = Digest::of(b"1.5.0");
        let event = Event::ApprovalGranted { release, digest, environment, policy, comment };
        async move { self.record(&actor, event).await }.boxed()
    }

    fn edge(&self, _: ServiceName, _: EnvironmentName) -> BoxFuture<'_, Option<platform::edge::Status>> {
        let status = (|| {
            let follower = rollout::follower::Follower::open(self.ledger.clone()).ok()?;
            let active = follower.state().rollouts_active();
            let rollout = active.iter().find(|rollout| rollout.position.is_some())?;
            let raised = rollout.weight > Weight::ZERO;
            Some(platform::edge::Status {
                listen: "127.0.0.1:8080".into(),
                listen_asked: "127.0.0.1:8080".into(),
                boot: "preview".into(),
                pid: 4712,
                boots: 1,
                restoring: false,
                stopping: false,
                weight: rollout.weight,
                rollout: raised.then(|| rollout.plan.id.clone()),
                grant_remaining_ms: raised.then_some(12_600),
                on_expiry: Some(OnExpiry::Rollback),
                expired: None,
                epoch: rollout.epoch,
                revisions: Vec::new(),
                storage_problem: None,
                front_problem: None,
            })
        })();
        async move { status }.boxed()
    }

    fn driven(&self, _: &ServiceName, _: &EnvironmentName) -> bool {
        true
    }

    fn rules(&self) -> Arc<Rules> {
        self.rules.clone()
    }
}

/// Tells the story so far, and returns the rollout that is under way.
fn story(author: &mut Author, staging: &Environment, production: &Environment) -> Result<RolloutId, Failure> {
    let first = author.release("shop", "1.3.0", "feat: remember the cart for a month")?;
    for environment in [staging, production] {
        let id = author.begin(&first, environment)?;
        author.complete(&id)?;
        author.pass(3_600_000 * 5);
    }
    let bad =
        author.release("shop", "1.4.0", "perf: start adding up with the first price <b>&\"quoted\"</b>")?;
    let id = author.begin(&bad, staging)?;
    author.complete(&id)?;
    author.approve(&bad, production)?;
    let id = author.begin(&bad, production)?;
    author.weigh(&id, 10.0)?;
    for _ in 0..40 {
        let evidence = author.look(&id, 0.1, 60)?;
        if evidence.finding == Finding::Harm {
            let cause = RollbackCause::Harm { signal: evidence.signal };
            let summary = format!("shop 1.4.0: {cause}");
            author.machine(Event::RollbackRequested { rollout: id.clone(), cause })?;
            author.machine(Event::IncidentDetected {
                incident: id.to_string(),
                service: ServiceName::new("shop")?,
                environment: production.name.clone(),
                rollout: Some(id.clone()),
                summary,
            })?;
            break;
        }
    }
    author.take_back(&id)?;
    author.pass(3_600_000 * 3);
    let good = author.release("shop", "1.4.1", "fix: an empty cart costs nothing")?;
    let id = author.begin(&good, staging)?;
    author.complete(&id)?;
    author.approve(&good, production)?;
    let waiting = author.release("catalogue", "1.5.0", "feat: search by colour")?;
    let id = author.begin(&waiting, staging)?;
    author.complete(&id)?;
    let id = author.begin(&good, production)?;
    author.canary = ArmTotals::zero();
    author.weigh(&id, 10.0)?;
    for _ in 0..30 {
        author.look(&id, 0.002, 60)?;
    }
    author.weigh(&id, 25.0)?;
    for _ in 0..30 {
        author.look(&id, 0.002, 60)?;
    }
    Ok(id)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let port: u16 = std::env::args().nth(1).map_or(Ok(0), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let path = camino::Utf8Path::from_path(folder.path()).ok_or("the folder's name is not UTF-8")?;
    let ledger = Ledger::open(&path.join("ledger.db"), Access::ReadWrite)?;
    let clock = Arc::new(SteadyClock::anchored(None));
    let staging = environment("staging", &[(100.0, 0)], 0)?;
    let production = environment("production", &[(10.0, 10_000), (25.0, 30_000), (50.0, 30_000)], 1)?;
    let mut author = Author {
        ledger: ledger.clone(),
        at: clock.now().saturating_sub(Duration::from_secs(13 * 3_600 + 90))?,
        state: State::default(),
        numbers: Numbers(7),
        stable: ArmTotals::zero(),
        canary: ArmTotals::zero(),
    };
    let id = story(&mut author, &staging, &production)?;
    let environments = vec![(staging.clone(), policy(&staging)), (production.clone(), policy(&production))];
    let rules = Arc::new(Rules { environments, trouble: None });
    let config = Config {
        project: "shop".into(),
        listen: ([127, 0, 0, 1], port).into(),
        ledger: ledger.clone(),
        token: "ttb_preview".into(),
        report_token: "ttr_preview".into(),
        recall: path.join("reports.db"),
        identity: "ana@example.com".into(),
        operations: Arc::new(Stage { ledger, clock: clock.clone(), rules }),
        limits: server::Limits::default(),
        clock: clock.clone(),
    };
    let running = server::start(config).await?;
    eprintln!("The dashboard: {}", running.url());
    go_on(&mut author, &id, &clock).await?;
    tokio::signal::ctrl_c().await?;
    running.stop().await;
    Ok(())
}

/// A look every half second, until somebody takes it back.
async fn go_on(author: &mut Author, id: &RolloutId, clock: &SteadyClock) -> Result<(), Failure> {
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        author.follow()?;
        author.at = clock.now();
        if author.rollout(id)?.cause.is_some() {
            return author.take_back(id);
        }
        if author.rollout(id)?.looks.len() < 400 {
            author.look(id, 0.002, 60)?;
        }
    }
}
