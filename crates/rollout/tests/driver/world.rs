//! A platform in memory that keeps a platform's promises: each command at most once, nothing from an old epoch, traffic taken
//! back when a grant runs out. It fails when its script says so, and it watches the driver: a command that is not in the
//! ledger, or that changes when it is repeated, fails the test at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use delivery::clock::Clock;
use delivery::effect::{Command, Effect, Outcome};
use delivery::strategy::OnExpiry;
use delivery::traffic::{ArmTotals, Sample, Weight};
use delivery::{Event, RevisionId, RolloutId, Timestamp};
use rollout::world::{Renewal, Unreachable, World};
use store::{Entry, Ledger};
use tokio::time::Instant;

/// The wall clock of a test: it runs with tokio's (paused) time.
pub(crate) struct TestClock {
    base: Timestamp,
    began: Instant,
}

impl TestClock {
    pub(crate) fn start() -> Self {
        Self { base: Timestamp::from_second(1_800_000_000).unwrap(), began: Instant::now() }
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let elapsed = Duration::from_micros(self.began.elapsed().as_micros() as u64);
        self.base.saturating_add(elapsed).unwrap()
    }
}

/// What the driver asks.
pub(crate) enum Call<'a> {
    Apply(&'a Command),
    Sample,
    Renew,
    Lower,
}

/// How it goes.
pub(crate) enum Fault {
    None,
    /// It never arrives.
    Unreachable,
    /// It is done, and the answer is lost.
    Lost,
    /// The platform can't do it, ever.
    Refuse(String),
}

/// Decides on a fault from the call, its number (from 1) and the platform.
pub(crate) type Script = Box<dyn FnMut(&Call<'_>, u32, &mut Target) -> Fault + Send>;

/// An effect that took place.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    pub(crate) command: Command,
    pub(crate) applied: bool,
}

struct Grant {
    rollout: RolloutId,
    deadline: Instant,
    ttl: Duration,
    on_expiry: OnExpiry,
}

/// The platform.
pub(crate) struct Target {
    /// Requests a second, and the share of errors in each arm.
    pub(crate) rate: f64,
    pub(crate) canary_errors: f64,
    pub(crate) stable_errors: f64,
    pub(crate) stable: Option<RevisionId>,
    pub(crate) canary: Option<RevisionId>,
    pub(crate) weight: Weight,
    /// Every effect that took place, and every change of the weight.
    pub(crate) history: Vec<Done>,
    pub(crate) weights: Vec<(Instant, Weight)>,
    /// How often the kill switch was used.
    pub(crate) lowered: u32,
    pub(crate) samples: u32,
    /// Canary requests since ever.
    pub(crate) canary_seen: u64,
    epoch: u64,
    outcomes: BTreeMap<(RolloutId, u32), (Effect, Outcome)>,
    grant: Option<Grant>,
    taken_back: BTreeSet<RolloutId>,
    boot: u32,
    totals: [ArmTotals; 2],
    owed: [[f64; 2]; 2],
    flowed: Instant,
    calls: u32,
}

impl Target {
    pub(crate) fn new(stable: Option<RevisionId>) -> Self {
        Self {
            rate: 4_000.0,
            canary_errors: 0.0,
            stable_errors: 0.0,
            stable,
            canary: None,
            weight: Weight::ZERO,
            history: Vec::new(),
            weights: Vec::new(),
            lowered: 0,
            samples: 0,
            canary_seen: 0,
            epoch: 0,
            outcomes: BTreeMap::new(),
            grant: None,
            taken_back: BTreeSet::new(),
            boot: 1,
            totals: [ArmTotals::zero(), ArmTotals::zero()],
            owed: [[0.0; 2]; 2],
            flowed: Instant::now(),
            calls: 0,
        }
    }

    /// Lets time pass: traffic flows, grants run out.
    pub(crate) fn settle(&mut self) {
        let now = Instant::now();
        let late =
            self.grant.as_ref().is_some_and(|g| g.deadline <= now && g.on_expiry == OnExpiry::Rollback);
        if let Some(grant) = self.grant.take_if(|_| late) {
            self.flow(grant.deadline);
            self.set(Weight::ZERO);
            self.taken_back.insert(grant.rollout);
        }
        self.flow(now);
    }

    fn flow(&mut self, until: Instant) {
        let seconds = until.saturating_duration_since(self.flowed).as_secs_f64();
        self.flowed = self.flowed.max(until);
        let share = self.weight.share();
        let arms = [(1.0 - share, self.stable_errors), (share, self.canary_errors)];
        for (arm, (share, errors)) in arms.into_iter().enumerate() {
            let owed = &mut self.owed[arm];
            owed[0] += seconds * self.rate * share;
            let requests = owed[0].floor();
            owed[0] -= requests;
            owed[1] += requests * errors;
            let failed = owed[1].floor();
            owed[1] -= failed;
            self.totals[arm].requests += requests as u64;
            self.totals[arm].errors += failed as u64;
            self.totals[arm].latency[0] += requests as u64;
            if arm == 1 {
                self.canary_seen += requests as u64;
            }
        }
    }

    fn set(&mut self, weight: Weight) {
        self.weight = weight;
        self.weights.push((Instant::now(), weight));
    }

    /// The kill switch, used by the driver or by a person.
    pub(crate) fn lower(&mut self) {
        self.settle();
        self.lowered += 1;
        if let Some(grant) = self.grant.take() {
            self.taken_back.insert(grant.rollout);
        }
        if self.weight > Weight::ZERO {
            self.set(Weight::ZERO);
        }
    }

    /// The platform dies and comes back: only stable runs.
    pub(crate) fn reboot(&mut self) {
        self.settle();
        self.boot += 1;
        self.totals = [ArmTotals::zero(), ArmTotals::zero()];
        self.canary = None;
        if let Some(grant) = self.grant.take() {
            self.taken_back.insert(grant.rollout);
        }
        if self.weight > Weight::ZERO {
            self.set(Weight::ZERO);
        }
    }

    fn apply(&mut self, command: &Command, refusal: Option<String>) -> Outcome {
        self.settle();
        if command.epoch < self.epoch {
            return Outcome::Fenced { epoch: self.epoch };
        }
        self.epoch = command.epoch;
        let key = (command.rollout.clone(), command.sequence);
        if let Some((effect, outcome)) = self.outcomes.get(&key) {
            assert_eq!(*effect, command.effect, "a repeated number means the same effect");
            return outcome.clone();
        }
        let outcome = match refusal {
            Some(detail) => Outcome::Refused { detail },
            None => match self.act(command) {
                Ok(()) => Outcome::Applied { detail: "done".into() },
                Err(detail) => Outcome::Refused { detail: detail.into() },
            },
        };
        let applied = matches!(outcome, Outcome::Applied { .. });
        self.history.push(Done { command: command.clone(), applied });
        self.outcomes.insert(key, (command.effect.clone(), outcome.clone()));
        outcome
    }

    fn act(&mut self, command: &Command) -> Result<(), &'static str> {
        let taken_back = self.taken_back.contains(&command.rollout);
        match &command.effect {
            Effect::Start { revision } => {
                if self.weight > Weight::ZERO {
                    return Err("another canary has traffic");
                }
                self.canary = Some(revision.id.clone());
            }
            Effect::SetWeight { revision, weight, ttl_ms, on_expiry, .. } => {
                let canary = self.canary.as_ref() == Some(revision);
                if *weight == Weight::ZERO {
                    self.grant = None;
                    if canary {
                        self.set(Weight::ZERO);
                    }
                    return Ok(());
                }
                if taken_back {
                    return Err("its traffic was taken back");
                }
                if !canary {
                    return Err("it is not running as the canary here");
                }
                let ttl = Duration::from_millis(*ttl_ms);
                let deadline = Instant::now() + ttl;
                let rollout = command.rollout.clone();
                self.grant = Some(Grant { rollout, deadline, ttl, on_expiry: *on_expiry });
                self.set(*weight);
            }
            Effect::Promote { revision } => {
                if self.stable.as_ref() == Some(revision) {
                    return Ok(());
                }
                if taken_back || self.canary.as_ref() != Some(revision) {
                    return Err("it is not running as the canary here");
                }
                self.stable = self.canary.take();
                self.grant = None;
                self.set(Weight::ZERO);
            }
            Effect::Retire { revision, .. } => {
                if self.stable.as_ref() == Some(revision) {
                    return Err("it is the stable revision");
                }
                if self.canary.as_ref() == Some(revision) {
                    self.canary = None;
                    self.grant = None;
                    self.set(Weight::ZERO);
                }
            }
        }
        Ok(())
    }

    fn renew(&mut self, rollout: &RolloutId, epoch: u64) -> Renewal {
        self.settle();
        if epoch < self.epoch {
            return Renewal::Fenced { epoch: self.epoch };
        }
        self.epoch = epoch;
        if self.taken_back.contains(rollout) {
            return Renewal::Lapsed;
        }
        match &mut self.grant {
            Some(grant) if grant.rollout == *rollout => {
                grant.deadline = Instant::now() + grant.ttl;
                Renewal::Held
            }
            _ => Renewal::Lapsed,
        }
    }

    fn sample(&mut self, at: Timestamp) -> Sample {
        self.settle();
        self.samples += 1;
        let [stable, canary] = self.totals.clone();
        Sample { boot: format!("boot {}", self.boot), at, weight: self.weight, stable, canary }
    }
}

/// One controller's way to the platform.
#[derive(Clone)]
pub(crate) struct Scripted {
    pub(crate) target: Arc<Mutex<Target>>,
    pub(crate) script: Arc<Mutex<Script>>,
    pub(crate) ledger: Ledger,
}

fn unreachable() -> Unreachable {
    Unreachable { source: platform::edge::Error::TimedOut { doing: "answer", within_ms: 1 } }
}

impl Scripted {
    fn fault(&self, call: &Call<'_>) -> Fault {
        let mut target = self.target.lock().unwrap();
        target.calls += 1;
        let calls = target.calls;
        (self.script.lock().unwrap())(call, calls, &mut target)
    }

    /// Nothing acts before it is recorded.
    fn assert_recorded(&self, command: &Command) {
        let intended = self.ledger.read(0, 1_000_000).unwrap().into_iter().any(|entry| {
            let Entry::Record(recorded) = entry else { return false };
            let Event::EffectRequested { command: recorded } = recorded.event else { return false };
            recorded.rollout == command.rollout
                && recorded.sequence == command.sequence
                && recorded.effect == command.effect
        });
        assert!(intended, "asked for, but not recorded: {command:?}");
    }
}

impl World for Scripted {
    async fn apply(&mut self, command: &Command) -> Result<Outcome, Unreachable> {
        self.assert_recorded(command);
        tokio::task::yield_now().await;
        let fault = self.fault(&Call::Apply(command));
        let refusal = match &fault {
            Fault::Unreachable => return Err(unreachable()),
            Fault::Refuse(detail) => Some(detail.clone()),
            Fault::None | Fault::Lost => None,
        };
        let outcome = self.target.lock().unwrap().apply(command, refusal);
        tokio::task::yield_now().await;
        if matches!(fault, Fault::Lost) { Err(unreachable()) } else { Ok(outcome) }
    }

    async fn sample(&mut self, at: Timestamp) -> Result<Sample, Unreachable> {
        tokio::task::yield_now().await;
        if !matches!(self.fault(&Call::Sample), Fault::None) {
            return Err(unreachable());
        }
        Ok(self.target.lock().unwrap().sample(at))
    }

    async fn renew(&mut self, rollout: &RolloutId, epoch: u64) -> Result<Renewal, Unreachable> {
        tokio::task::yield_now().await;
        if !matches!(self.fault(&Call::Renew), Fault::None) {
            return Err(unreachable());
        }
        Ok(self.target.lock().unwrap().renew(rollout, epoch))
    }

    async fn lower(&mut self) -> Result<(), Unreachable> {
        tokio::task::yield_now().await;
        if !matches!(self.fault(&Call::Lower), Fault::None) {
            return Err(unreachable());
        }
        self.target.lock().unwrap().lower();
        Ok(())
    }
}
