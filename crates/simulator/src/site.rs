//! A site, where one service runs: its processes, its traffic, and the guards that hold the canary's grant.
//!
//! Pure over a time that is passed in. The grants are the real ones ([`platform::grant::Grants`]), each on a boot clock of its
//! own; the rest keeps the promises of an edge: each command once, nothing from an old epoch, nothing that younger
//! commands have overtaken. In front is either the edge's own proxy, which dies with it, or a load balancer, which keeps its weight
//! when the edge dies and is watched by a guard of its own.
//!
//! Invariant: the weight rises only by a command that every guard has given its grant to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use delivery::effect::{Command, Effect, Outcome};
use delivery::strategy::OnExpiry;
use delivery::traffic::{ArmTotals, Sample, Weight};
use delivery::{RevisionId, RolloutId, Timestamp};
use platform::grant::{Grant, GrantError, Grants};
use rollout::world::Renewal;

/// How a revision does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behaviour {
    /// The share of requests that fail.
    pub(crate) errors: f64,
    /// The latency bucket of its requests.
    pub(crate) latency: usize,
    /// Whether it becomes ready.
    pub(crate) starts: bool,
}

impl Behaviour {
    /// Nothing is wrong with it.
    pub(crate) const GOOD: Self = Self { errors: 0.001, latency: 5, starts: true };
}

/// Something that takes the traffic back when nobody renews its grant.
#[derive(Debug)]
struct Guard {
    grants: Grants,
    /// Seconds on its clock for each second that passes.
    pace: f64,
    /// When it does something again; in the past, it is awake since then.
    awake_at: Duration,
    /// Whether it was killed and has lost its grant.
    died: bool,
}

impl Guard {
    fn boot_clock(&self, now: Duration) -> Duration {
        now.mul_f64(self.pace)
    }

    fn awake(&self, now: Duration) -> bool {
        self.awake_at <= now
    }

    /// When it acts on its grant's end, if nothing renews it.
    fn fires_at(&self) -> Option<Duration> {
        let deadline = self.grants.deadline()?;
        // A little more, so that rounding does not let it look too early.
        Some((deadline.div_f64(self.pace) + Duration::from_micros(1)).max(self.awake_at))
    }
}

/// Something that took place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Happened {
    /// A command was carried out, for the first time.
    Applied(Command),
    /// The traffic was taken back without a command.
    TakenBack(RolloutId),
    /// A controller of this generation was believed to watch the rollout.
    Renewed(RolloutId, u64),
    /// A grant ran out that should have ended in order before.
    FiredLate(RolloutId),
}

/// Why a call came to nothing that can be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unanswered;

/// A raised weight.
#[derive(Debug, Clone)]
struct Raised {
    rollout: RolloutId,
    ttl: Duration,
    on_expiry: OnExpiry,
    /// The last sign of life that was accepted.
    contact: Duration,
}

/// The site.
#[derive(Debug)]
pub(crate) struct Site {
    /// Requests a second.
    pub(crate) rate: f64,
    /// How revisions do.
    pub(crate) behaviours: BTreeMap<RevisionId, Behaviour>,
    balancer: bool,
    guards: Vec<Guard>,
    stable: Option<RevisionId>,
    canary: Option<RevisionId>,
    weight: Weight,
    raised: Option<Raised>,
    taken_back: BTreeSet<RolloutId>,
    answers: BTreeMap<(RolloutId, u32), (Effect, Outcome)>,
    boot: u32,
    totals: [ArmTotals; 2],
    owed: [[f64; 2]; 2],
    flowed: Duration,
    happened: Vec<(Duration, Happened)>,
    /// Canary requests since the last raise.
    canary_since_raise: u64,
}

impl Site {
    /// Nothing runs there. `paces` are the guards' clocks: the edge's own first.
    pub(crate) fn new(rate: f64, balancer: bool, paces: &[f64]) -> Self {
        let guard =
            |pace: &f64| Guard { grants: Grants::new(), pace: *pace, awake_at: Duration::ZERO, died: false };
        Self {
            rate,
            behaviours: BTreeMap::new(),
            balancer,
            guards: paces.iter().map(guard).collect(),
            stable: None,
            canary: None,
            weight: Weight::ZERO,
            raised: None,
            taken_back: BTreeSet::new(),
            answers: BTreeMap::new(),
            boot: 1,
            totals: [ArmTotals::zero(), ArmTotals::zero()],
            owed: [[0.0; 2]; 2],
            flowed: Duration::ZERO,
            happened: Vec::new(),
            canary_since_raise: 0,
        }
    }

    /// The rollout whose canary has traffic.
    pub(crate) fn raised(&self) -> Option<&RolloutId> {
        self.raised.as_ref().filter(|_| self.weight > Weight::ZERO).map(|raised| &raised.rollout)
    }

    /// Canary requests since its weight was raised last.
    pub(crate) fn canary_since_raise(&self) -> u64 {
        self.canary_since_raise
    }

    /// What took place since the last call, with when.
    pub(crate) fn take_happened(&mut self) -> Vec<(Duration, Happened)> {
        std::mem::take(&mut self.happened)
    }

    /// Whether a guard apart from the edge watches.
    pub(crate) fn guards(&self) -> usize {
        self.guards.len()
    }

    /// For how long the canary has had traffic although its grant should have been taken for ended by a guard that is awake.
    pub(crate) fn overdue(&self, now: Duration) -> Option<Duration> {
        let raised = self.raised.as_ref().filter(|raised| raised.on_expiry == OnExpiry::Rollback)?;
        if self.weight == Weight::ZERO {
            return None;
        }
        let ended = |guard: &Guard| (raised.contact + raised.ttl.div_f64(guard.pace)).max(guard.awake_at);
        self.guards
            .iter()
            .filter(|guard| guard.awake(now))
            .filter_map(|guard| now.checked_sub(ended(guard)))
            .max()
    }

    /// Lets time pass: traffic flows, grants run out, guards come back.
    pub(crate) fn settle(&mut self, now: Duration) {
        loop {
            let revived = self.guards.iter().filter(|guard| guard.died).map(|guard| guard.awake_at).min();
            let fires = self.guards.iter().filter_map(Guard::fires_at).min();
            let Some(next) = revived.into_iter().chain(fires).min().filter(|next| *next <= now) else {
                break;
            };
            self.flow(next);
            if revived == Some(next) {
                self.revive(next);
            } else if !self.expire(next) {
                break;
            }
        }
        self.flow(now);
    }

    /// A guard that was killed trusts nothing that it does not know.
    fn revive(&mut self, now: Duration) {
        for index in 0..self.guards.len() {
            let guard = &mut self.guards[index];
            if guard.died && guard.awake_at <= now {
                guard.died = false;
                let epoch = guard.grants.epoch();
                guard.grants = Grants::new();
                let _ = guard.grants.admit(epoch);
                self.take_back(now);
            }
        }
    }

    /// Gives whether a grant ran out.
    fn expire(&mut self, now: Duration) -> bool {
        let mut fired = false;
        for index in 0..self.guards.len() {
            let guard = &mut self.guards[index];
            if !guard.awake(now) {
                continue;
            }
            let boot = guard.boot_clock(now);
            let Some(expiry) = guard.grants.expire(boot) else { continue };
            fired = true;
            // What a grant covers is the weight of its own rollout.
            if self.raised() != Some(&expiry.rollout) {
                self.happened.push((now, Happened::FiredLate(expiry.rollout)));
            } else if expiry.on_expiry == OnExpiry::Rollback {
                self.take_back(now);
            }
        }
        fired
    }

    fn flow(&mut self, until: Duration) {
        let seconds = until.saturating_sub(self.flowed).as_secs_f64();
        self.flowed = self.flowed.max(until);
        if !self.balancer && !self.guards[0].awake(until) {
            return;
        }
        let share = self.weight.share();
        let revisions = [self.stable.as_ref(), self.canary.as_ref()];
        for (arm, share) in [1.0 - share, share].into_iter().enumerate() {
            let Some(revision) = revisions[arm] else { continue };
            let behaviour = self.behaviours.get(revision).copied().unwrap_or(Behaviour::GOOD);
            let owed = &mut self.owed[arm];
            owed[0] += seconds * self.rate * share;
            let requests = owed[0].floor();
            owed[0] -= requests;
            owed[1] += requests * behaviour.errors;
            let failed = owed[1].floor();
            owed[1] -= failed;
            let totals = &mut self.totals[arm];
            totals.requests += requests as u64;
            totals.errors += failed as u64;
            totals.latency[behaviour.latency] += requests as u64;
            if arm == 1 {
                self.canary_since_raise += requests as u64;
            }
        }
    }

    /// Weight 0 without a command; the rollout will be told.
    fn take_back(&mut self, now: Duration) {
        self.weight = Weight::ZERO;
        if let Some(raised) = self.raised.take() {
            self.guards.iter_mut().for_each(|guard| guard.grants.settle(&raised.rollout));
            self.taken_back.insert(raised.rollout.clone());
            self.happened.push((now, Happened::TakenBack(raised.rollout)));
        }
    }

    /// The kill switch.
    pub(crate) fn lower(&mut self, now: Duration) -> Result<(), Unanswered> {
        self.settle(now);
        self.answering(now)?;
        self.take_back(now);
        Ok(())
    }

    /// A guard's own kill switch, which needs no edge. The last guard has it.
    pub(crate) fn lower_by_guard(&mut self, now: Duration) -> Result<(), Unanswered> {
        self.settle(now);
        if !self.guards.last().is_some_and(|guard| guard.awake(now)) {
            return Err(Unanswered);
        }
        self.take_back(now);
        Ok(())
    }

    fn answering(&self, now: Duration) -> Result<(), Unanswered> {
        if self.guards[0].awake(now) { Ok(()) } else { Err(Unanswered) }
    }

    /// The edge dies and is back after a while, with stable alone.
    pub(crate) fn restart(&mut self, now: Duration, after: Duration) {
        self.settle(now);
        self.guards[0].awake_at = now + after;
        self.guards[0].died = true;
        self.boot += 1;
        self.totals = [ArmTotals::zero(), ArmTotals::zero()];
        if !self.balancer {
            self.take_back(now);
        }
    }

    /// A guard does nothing for a while; killed, it also forgets its grant.
    pub(crate) fn disturb_guard(&mut self, now: Duration, index: usize, length: Duration, killed: bool) {
        self.settle(now);
        if let Some(guard) = self.guards.get_mut(index) {
            guard.awake_at = guard.awake_at.max(now + length);
            guard.died |= killed;
        }
    }

    /// A controller's command.
    pub(crate) fn apply(
        &mut self,
        now: Duration,
        command: &Command,
        refusal: Option<&str>,
    ) -> Result<Outcome, Unanswered> {
        self.settle(now);
        self.answering(now)?;
        if let Err(GrantError::Fenced { epoch }) = self.guards[0].grants.admit(command.epoch) {
            return Ok(Outcome::Fenced { epoch });
        }
        let key = (command.rollout.clone(), command.sequence);
        if let Some((effect, outcome)) = self.answers.get(&key) {
            let same = *effect == command.effect;
            let detail = "the number was another effect's".to_owned();
            return Ok(if same { outcome.clone() } else { Outcome::Refused { detail } });
        }
        let younger = (command.rollout.clone(), command.sequence + 1)..=(command.rollout.clone(), u32::MAX);
        let outcome = if self.answers.range(younger).next().is_some() {
            Outcome::Refused { detail: "a younger command was there first".into() }
        } else if let Some(detail) = refusal {
            Outcome::Refused { detail: detail.to_owned() }
        } else {
            self.act(now, command)?
        };
        if let Outcome::Fenced { .. } = outcome {
            return Ok(outcome);
        }
        if matches!(outcome, Outcome::Applied { .. }) {
            self.happened.push((now, Happened::Applied(command.clone())));
        }
        self.answers.insert(key, (command.effect.clone(), outcome.clone()));
        Ok(outcome)
    }

    fn act(&mut self, now: Duration, command: &Command) -> Result<Outcome, Unanswered> {
        let refused = |detail: &str| Ok(Outcome::Refused { detail: detail.to_owned() });
        let taken_back = self.taken_back.contains(&command.rollout);
        match &command.effect {
            Effect::Start { revision } => {
                if self.weight > Weight::ZERO && self.canary.as_ref() != Some(&revision.id) {
                    return refused("another canary has traffic");
                }
                if !self.behaviours.get(&revision.id).copied().unwrap_or(Behaviour::GOOD).starts {
                    return refused("it did not become ready");
                }
                self.canary = Some(revision.id.clone());
            }
            Effect::SetWeight { revision, weight, .. } => {
                let canary = self.canary.as_ref() == Some(revision);
                if *weight <= self.weight && canary || *weight == Weight::ZERO {
                    if canary {
                        self.lower_to(*weight, &command.rollout);
                    }
                } else if taken_back {
                    return refused("its traffic was taken back");
                } else if !canary {
                    return refused("it is not running as the canary here");
                } else {
                    return self.raise(now, command);
                }
            }
            Effect::Promote { revision } => {
                if self.stable.as_ref() != Some(revision) {
                    if taken_back || self.canary.as_ref() != Some(revision) {
                        return refused("it is not running as the canary here");
                    }
                    self.stable = self.canary.take();
                    self.lower_to(Weight::ZERO, &command.rollout);
                }
            }
            Effect::Retire { revision, .. } => {
                if self.stable.as_ref() == Some(revision) {
                    return refused("it is the stable revision");
                }
                if self.canary.as_ref() == Some(revision) {
                    self.lower_to(Weight::ZERO, &command.rollout);
                    self.canary = None;
                }
            }
        }
        Ok(Outcome::Applied { detail: "done".into() })
    }

    fn lower_to(&mut self, weight: Weight, rollout: &RolloutId) {
        self.weight = weight.min(self.weight);
        if weight == Weight::ZERO {
            self.guards.iter_mut().for_each(|guard| guard.grants.settle(rollout));
            self.raised = None;
        }
    }

    fn raise(&mut self, now: Duration, command: &Command) -> Result<Outcome, Unanswered> {
        let Effect::SetWeight { weight, ttl_ms, on_expiry, .. } = command.effect else {
            return Err(Unanswered);
        };
        if self.guards.iter().any(|guard| !guard.awake(now)) {
            return Err(Unanswered);
        }
        let (rollout, ttl) = (command.rollout.clone(), Duration::from_millis(ttl_ms));
        for guard in &mut self.guards {
            let grant =
                Grant { rollout: rollout.clone(), epoch: command.epoch, ceiling: weight, ttl, on_expiry };
            let boot = guard.boot_clock(now);
            match guard.grants.give(boot, grant) {
                Ok(()) => {}
                Err(GrantError::Fenced { epoch }) => return Ok(Outcome::Fenced { epoch }),
                Err(error) => return Ok(Outcome::Refused { detail: error.to_string() }),
            }
        }
        self.raised = Some(Raised { rollout, ttl, on_expiry, contact: now });
        self.weight = weight;
        self.canary_since_raise = 0;
        Ok(Outcome::Applied { detail: "raised".into() })
    }

    /// A controller's sign of life.
    pub(crate) fn renew(
        &mut self,
        now: Duration,
        rollout: &RolloutId,
        epoch: u64,
    ) -> Result<Renewal, Unanswered> {
        self.settle(now);
        self.answering(now)?;
        if let Err(GrantError::Fenced { epoch }) = self.guards[0].grants.admit(epoch) {
            return Ok(Renewal::Fenced { epoch });
        }
        if self.taken_back.contains(rollout) {
            return Ok(Renewal::Lapsed);
        }
        let Some(raised) = self.raised.as_mut().filter(|raised| raised.rollout == *rollout) else {
            return Ok(Renewal::Lapsed);
        };
        for guard in self.guards.iter_mut().filter(|guard| guard.awake(now)) {
            let boot = guard.boot_clock(now);
            let renewed = match guard.grants.renew(boot, rollout, epoch) {
                // A grant that says `hold` ran out and kept its weight: its controller is back.
                Err(GrantError::Unknown { .. } | GrantError::Expired { .. })
                    if raised.on_expiry == OnExpiry::Hold =>
                {
                    let (rollout, ceiling) = (rollout.clone(), self.weight);
                    let (ttl, on_expiry) = (raised.ttl, raised.on_expiry);
                    guard.grants.give(boot, Grant { rollout, epoch, ceiling, ttl, on_expiry }).map(|()| ttl)
                }
                renewed => renewed,
            };
            match renewed {
                Ok(_) => {}
                Err(GrantError::Fenced { epoch }) => return Ok(Renewal::Fenced { epoch }),
                Err(GrantError::Unknown { .. } | GrantError::Expired { .. }) => return Ok(Renewal::Lapsed),
            }
        }
        raised.contact = now;
        self.happened.push((now, Happened::Renewed(rollout.clone(), epoch)));
        Ok(Renewal::Held)
    }

    /// Reads the traffic.
    pub(crate) fn sample(&mut self, now: Duration, at: Timestamp) -> Result<Sample, Unanswered> {
        self.settle(now);
        self.answering(now)?;
        let [stable, canary] = self.totals.clone();
        Ok(Sample { boot: format!("boot {}", self.boot), at, weight: self.weight, stable, canary })
    }
}
