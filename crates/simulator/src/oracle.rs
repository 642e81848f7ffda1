//! What must hold whatever fails, checked at every record and every effect.
//!
//! The oracle sees two things: the records, in order, as soon as anybody reads them; and what really took place at the sites, with
//! the true time. It has its own idea of what a rollout may do and does not ask the code that it judges: only phases (for
//! coverage) come from the real fold. The names I1 to I13 are those of the safety case.
//!
//! Invariant: a violation is kept for good, and the first one ends a simulation.

use std::collections::BTreeMap;
use std::time::Duration;

use delivery::effect::{Command, Effect, Outcome};
use delivery::evidence::Finding;
use delivery::rollout::{RollbackCause, RolloutOutcome, RolloutPlan};
use delivery::strategy::OnExpiry;
use delivery::traffic::{Sample, Weight};
use delivery::{Actor, Event, Recorded, RolloutId};
use rollout::state::State;
use store::Entry;

use crate::site::{Behaviour, Happened, Site};

/// Requests are under way for at most this long, so an effect may be so late.
pub(crate) const UNDERWAY_MAX: Duration = Duration::from_secs(30);
/// A decision and its record are so far apart at most: a renewal may be waited for in between.
const SLACK: Duration = Duration::from_secs(6);
/// Clocks are at most this much too fast or too slow.
pub(crate) const DRIFT_MAX: f64 = 1.1;

/// What the oracle knows of one rollout.
#[derive(Debug, Clone)]
struct Fate {
    plan: RolloutPlan,
    site: usize,
    behaviour: Behaviour,
    /// What serves when it is planned.
    stable: Behaviour,
    requested: BTreeMap<u32, Effect>,
    pending: Option<u32>,
    /// The generation in charge.
    epoch: u64,
    /// Index of the step that was acknowledged last.
    step: Option<usize>,
    /// Whether the last look at that step showed safety, on the right artifact.
    safe: bool,
    /// When somebody first read of that look.
    safe_at: Duration,
    /// The last look showed harm.
    harmful: bool,
    resumed: bool,
    /// The first and the highest count of canary requests that the step's readings show, by boot of the platform.
    readings: BTreeMap<String, (u64, u64)>,
    /// Nothing fails any more and the build is good, so it must serve in the end.
    must_serve: bool,
    /// When taking it back was decided.
    decided: Option<Duration>,
    /// It was decided for want of evidence.
    undecided: bool,
    promoted: bool,
    ended: Option<RolloutOutcome>,
    /// True times of its raises.
    raised: Vec<Duration>,
    started_truly: bool,
    lowered_truly: bool,
    promoted_truly: bool,
    incident: bool,
}

impl Fate {
    fn promoting(&self) -> bool {
        let pending = self.pending.and_then(|number| self.requested.get(&number));
        self.promoted || matches!(pending, Some(Effect::Promote { .. }))
    }

    /// Takes a look's reading, and says how many canary requests the step's readings show in all.
    fn shown(&mut self, sample: Option<&Sample>) -> u64 {
        if let Some(sample) = sample {
            let count = sample.canary.requests;
            let (_, highest) = self.readings.entry(sample.boot.clone()).or_insert((count, count));
            *highest = (*highest).max(count);
        }
        self.readings.values().map(|(first, highest)| highest - first).sum()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Hashes of the records that somebody has read, by sequence from 1.
    seen: Vec<fingerprint::Hash>,
    fates: BTreeMap<RolloutId, Fate>,
    approvals: Vec<(Actor, RolloutPlanKey)>,
    epoch_recorded: u64,
    /// The highest generation that a site has done anything for.
    epoch_heard: BTreeMap<usize, u64>,
    /// Until when a site's guards may have been unable to act.
    disturbed: BTreeMap<usize, Duration>,
    /// The real fold, for phases.
    pub(crate) state: State,
    violation: Option<String>,
    /// The disk lost what it said it had: the record can't be trusted by anybody.
    pub(crate) lied: bool,
    /// Bits have turned: records may be missing, but none may be another.
    pub(crate) flipped: bool,
}

/// What an approval is bound to.
type RolloutPlanKey = (delivery::ReleaseId, delivery::Digest, delivery::EnvironmentName, delivery::Digest);

mod fingerprint {
    //! Hashes of records.

    use sha2::{Digest as _, Sha256};

    pub(super) type Hash = [u8; 32];

    pub(super) fn of(recorded: &delivery::Recorded) -> Hash {
        // Whether an address can be read is a matter of its own: what is hashed in the ledger is a pseudonym.
        let named = matches!(recorded.actor, delivery::Actor::Human(_))
            || matches!(
                recorded.event,
                delivery::Event::ReleaseCreated { .. } | delivery::Event::RollbackRequested { .. }
            );
        let text = if named {
            format!("{} {} {}", recorded.sequence, recorded.at, recorded.event.kind())
        } else {
            format!("{recorded:?}")
        };
        Sha256::digest(text).into()
    }
}

/// What a record's processing may need to know of the outside.
pub(crate) struct Outside<'a> {
    /// The true time.
    pub(crate) now: Duration,
    /// The sites.
    pub(crate) sites: &'a [Site],
    /// Where a rollout happens, and how its build and what serves there do.
    pub(crate) place: &'a dyn Fn(&RolloutPlan) -> (usize, Behaviour, Behaviour),
    /// Whose hand was in the release.
    pub(crate) author: &'a str,
    /// Whether what is planned now must serve in the end.
    pub(crate) must_serve: bool,
}

impl Oracle {
    /// The first violation.
    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Notes a violation. On a disk that has lied nothing is promised.
    pub(crate) fn blame(&mut self, promise: &str, what: impl std::fmt::Display) {
        if self.lied {
            return;
        }
        self.violation.get_or_insert_with(|| format!("{promise}: {what}"));
    }

    /// The guards of a site may not be able to act until then.
    pub(crate) fn disturbed(&mut self, site: usize, until: Duration) {
        let known = self.disturbed.entry(site).or_default();
        *known = (*known).max(until);
    }

    /// How many records were seen.
    pub(crate) fn records(&self) -> u64 {
        self.seen.len() as u64
    }

    /// The rollouts that have not ended.
    pub(crate) fn unfinished(&self) -> Vec<&RolloutId> {
        self.fates.iter().filter(|(_, fate)| fate.ended.is_none()).map(|(id, _)| id).collect()
    }

    /// How many rollouts there were, and how many of them were completed.
    pub(crate) fn rollouts(&self) -> (usize, usize) {
        let completed = |fate: &&Fate| fate.ended == Some(RolloutOutcome::Completed);
        (self.fates.len(), self.fates.values().filter(completed).count())
    }

    /// Somebody read the whole ledger after it was opened: everything that was seen must be there.
    pub(crate) fn reopened(&mut self, entries: &[Entry]) {
        if self.lied {
            return;
        }
        if entries.len() < self.seen.len() && !self.flipped {
            self.blame("I1", format!("{} records are gone", self.seen.len() - entries.len()));
        }
        for (index, entry) in entries.iter().enumerate() {
            if entry.sequence() != index as u64 + 1 && !self.flipped {
                return self
                    .blame("I2", format!("record {} is in the place of {}", entry.sequence(), index + 1));
            }
            match entry {
                Entry::Quarantined { sequence, reason } if !self.flipped => {
                    return self.blame("I1", format!("record {sequence} can't be read: {reason}"));
                }
                Entry::Quarantined { .. } => {}
                Entry::Record(recorded) => {
                    let known = self.seen.get(recorded.sequence as usize - 1);
                    if known.is_some_and(|known| *known != fingerprint::of(recorded)) {
                        return self.blame("I1", format!("record {} has become another", recorded.sequence));
                    }
                }
            }
        }
    }

    /// Somebody read a record. Gives whether it is news.
    pub(crate) fn read(&mut self, recorded: &Recorded, outside: &Outside<'_>) -> bool {
        if self.lied {
            return false;
        }
        let hash = fingerprint::of(recorded);
        let known = self.seen.len() as u64;
        if recorded.sequence <= known {
            if self.seen[recorded.sequence as usize - 1] != hash && !self.flipped {
                self.blame("I1", format!("record {} reads differently now", recorded.sequence));
            }
            return false;
        }
        if recorded.sequence != known + 1 {
            if !self.flipped {
                self.blame("I2", format!("record {} follows on {known}", recorded.sequence));
            }
            // A flipped bit has put records aside; what is known of rollouts has a hole from here on.
            self.lied = self.flipped;
            return false;
        }
        self.seen.push(hash);
        self.state.apply(recorded);
        self.judge(recorded, outside);
        true
    }

    fn judge(&mut self, recorded: &Recorded, outside: &Outside<'_>) {
        match &recorded.event {
            Event::RolloutPlanned { plan } => self.planned(plan, outside),
            Event::ApprovalGranted { release, digest, environment, policy, .. } => {
                let key = (release.clone(), digest.clone(), environment.clone(), policy.clone());
                self.approvals.push((recorded.actor.clone(), key));
            }
            Event::RolloutAcquired { rollout, epoch, .. } => {
                if *epoch <= self.epoch_recorded {
                    self.blame("I8", format!("generation {epoch} was given out twice, now to {rollout}"));
                }
                self.epoch_recorded = self.epoch_recorded.max(*epoch);
                if let Some(fate) = self.fates.get_mut(rollout) {
                    fate.epoch = *epoch;
                }
            }
            Event::EffectRequested { command } => self.requested(command, outside.now),
            Event::EffectFinished { rollout, sequence, outcome } => {
                self.finished(rollout, *sequence, outcome);
            }
            Event::RolloutJudged { .. } => self.judged(&recorded.event, outside),
            Event::RolloutResumed { rollout, step, .. } => {
                if let Some(fate) = self.fates.get_mut(rollout) {
                    // Where nobody has to approve, anybody may wave it through; else whoever may approve.
                    let free = fate.plan.environment.approval.required == 0;
                    let person =
                        matches!(&recorded.actor, Actor::Human(name) if free || name != outside.author);
                    fate.resumed |= person && fate.step == Some(*step as usize);
                }
            }
            Event::RollbackRequested { rollout, cause } => {
                if let Some(fate) = self.fates.get_mut(rollout)
                    && !fate.promoting()
                    && fate.ended.is_none()
                {
                    fate.decided.get_or_insert(outside.now);
                    fate.undecided = matches!(cause, RollbackCause::Inconclusive { .. });
                }
            }
            Event::IncidentDetected { rollout: Some(rollout), .. } => {
                if let Some(fate) = self.fates.get_mut(rollout) {
                    fate.incident = true;
                }
            }
            Event::IncidentResolved { incident } => {
                let id = RolloutId::new(incident.as_str()).ok();
                if let Some(fate) = id.and_then(|id| self.fates.get_mut(&id)) {
                    fate.incident = false;
                }
            }
            Event::RolloutFinished { rollout, outcome } => self.ended(rollout, *outcome, outside),
            _ => {}
        }
    }

    fn planned(&mut self, plan: &RolloutPlan, outside: &Outside<'_>) {
        let (site, behaviour, stable) = (outside.place)(plan);
        if let Some((other, _)) =
            self.fates.iter().find(|(_, fate)| fate.site == site && fate.ended.is_none())
        {
            let other = other.clone();
            self.blame("I5", format!("{} was planned while {other} is under way at the same site", plan.id));
        }
        let key = (
            plan.release.clone(),
            plan.revision.digest.clone(),
            plan.environment.name.clone(),
            plan.policy.clone(),
        );
        let counts = |(actor, bound): &(Actor, RolloutPlanKey)| {
            *bound == key && matches!(actor, Actor::Human(name) if name != outside.author)
        };
        let approvals = self.approvals.iter().filter(|approval| counts(approval)).count();
        if approvals < plan.environment.approval.required as usize {
            self.blame("I5/I6", format!("{} was planned with {approvals} approvals that count", plan.id));
        }
        let fate = Fate {
            plan: plan.clone(),
            site,
            behaviour,
            stable,
            requested: BTreeMap::new(),
            pending: None,
            epoch: 0,
            step: None,
            safe: false,
            safe_at: Duration::ZERO,
            harmful: false,
            resumed: false,
            readings: BTreeMap::new(),
            // Nor has a guard slept lately.
            must_serve: outside.must_serve
                && self.disturbed.get(&site).is_none_or(|until| *until < outside.now),
            decided: None,
            undecided: false,
            promoted: false,
            ended: None,
            raised: Vec::new(),
            started_truly: false,
            lowered_truly: false,
            promoted_truly: false,
            incident: false,
        };
        if self.fates.insert(plan.id.clone(), fate).is_some() {
            self.blame("I3", format!("{} was planned twice", plan.id));
        }
    }

    fn requested(&mut self, command: &Command, now: Duration) {
        let Some(fate) = self.fates.get_mut(&command.rollout) else {
            return self.blame("I3", format!("an effect of the unknown rollout {}", command.rollout));
        };
        let mut wrong = None;
        if fate.requested.last_key_value().is_some_and(|(last, _)| *last >= command.sequence) {
            wrong = Some(("I3", format!("number {} is used again", command.sequence)));
        }
        if command.epoch != fate.epoch {
            let what = format!("generation {} asks, and {} is in charge", command.epoch, fate.epoch);
            wrong = Some(("I8", what));
        }
        if fate.ended.is_some() {
            wrong = Some(("I7", "an effect is asked for after the end".to_owned()));
        }
        if let Some(next) = raise_to(&command.effect) {
            if fate.decided.is_some() {
                wrong = Some(("I7", "a raise is asked for after it was decided to take it back".to_owned()));
            } else if let Err(why) = may_rise(fate, next, now) {
                wrong = Some(("I4", why));
            }
        }
        fate.requested.insert(command.sequence, command.effect.clone());
        fate.pending = Some(command.sequence);
        if let Some((promise, what)) = wrong {
            self.blame(promise, format!("{} number {}: {what}", command.rollout, command.sequence));
        }
    }

    fn finished(&mut self, rollout: &RolloutId, sequence: u32, outcome: &Outcome) {
        let Some(fate) = self.fates.get_mut(rollout) else { return };
        if fate.pending != Some(sequence) {
            return;
        }
        let Some(effect) = fate.requested.get(&sequence) else { return };
        match outcome {
            Outcome::Applied { .. } => match effect {
                Effect::SetWeight { weight, .. } if *weight > Weight::ZERO => {
                    fate.step = Some(fate.step.map_or(0, |step| step + 1));
                    (fate.safe, fate.resumed) = (false, false);
                    fate.readings.clear();
                }
                Effect::Promote { .. } => fate.promoted = true,
                _ => {}
            },
            Outcome::Refused { .. }
                if raise_to(effect).is_some() || matches!(effect, Effect::Start { .. }) =>
            {
                // A refusal is itself the decision; from when the controller knows it.
                fate.decided.get_or_insert(Duration::MAX);
            }
            Outcome::Refused { .. } => {}
            Outcome::Fenced { .. } => return,
        }
        fate.pending = None;
    }

    fn judged(&mut self, event: &Event, outside: &Outside<'_>) {
        let Event::RolloutJudged { rollout, step, sample, evidence, .. } = event else { return };
        let Some(fate) = self.fates.get_mut(rollout) else { return };
        if fate.step != Some(*step as usize) {
            return;
        }
        let overlooked = fate.harmful && fate.decided.is_none() && !fate.promoting();
        fate.harmful = evidence.finding == Finding::Harm;
        fate.safe = evidence.finding == Finding::Safe && evidence.digest == fate.plan.revision.digest;
        fate.safe_at = outside.now;
        if overlooked {
            return self.blame("I7", format!("{rollout}: harm was shown, and it goes on"));
        }
        let truly = outside.sites[fate.site].canary_since_raise();
        let (counted, shown) = (evidence.canary_requests, fate.shown(sample.as_ref()));
        let wrong = if counted > shown {
            Some(format!("a look counts {counted} requests, its step's readings show {shown}"))
        } else if !fate.safe {
            None
        } else if sample.is_none() {
            Some("safety was found without a reading".to_owned())
        } else if counted == 0 {
            Some("safety was found without a request".to_owned())
        } else if counted > truly {
            Some(format!("safety rests on {counted} requests, {truly} came in the step"))
        } else {
            None
        };
        if let Some(what) = wrong {
            self.blame("I4", format!("{rollout}: {what}"));
        }
    }

    /// Whether a rollout that must serve has served at the site.
    pub(crate) fn served_well(&self, site: usize) -> bool {
        self.fates.values().any(|fate| fate.site == site && fate.must_serve && fate.ended.is_some())
    }

    fn ended(&mut self, rollout: &RolloutId, outcome: RolloutOutcome, outside: &Outside<'_>) {
        let Some(fate) = self.fates.get_mut(rollout) else { return };
        if fate.ended.is_some() {
            return;
        }
        fate.ended = Some(outcome);
        let site = &outside.sites[fate.site];
        let raised = site.raised() == Some(rollout);
        let wrong = match outcome {
            RolloutOutcome::Completed if !fate.promoted_truly => Some("it was never promoted"),
            RolloutOutcome::RolledBack if fate.promoted_truly => {
                Some("it serves, and was said to be taken back")
            }
            RolloutOutcome::RolledBack if raised => Some("its canary has traffic still"),
            RolloutOutcome::RolledBack if fate.must_serve && !fate.undecided => {
                Some("it is good and nothing fails")
            }
            _ if fate.incident => Some("its incident is open"),
            _ => None,
        };
        if let Some(what) = wrong {
            self.blame("I10", format!("{rollout} ended as {outcome:?}: {what}"));
        }
    }

    /// Something took place at a site.
    pub(crate) fn happened(&mut self, site: usize, at: Duration, what: &Happened) {
        if self.lied {
            return;
        }
        let command = match what {
            Happened::Applied(command) => command,
            Happened::Renewed(rollout, epoch) => return self.renewed(site, at, rollout, *epoch),
            Happened::FiredLate(rollout) => {
                return self.blame("I7/E5", format!("{rollout}: a grant ran out that had ended in order"));
            }
            Happened::TakenBack(_) => return,
        };
        if self.outdated(site, command.epoch) {
            self.blame("I8", format!("{}: an effect of generation {}", command.rollout, command.epoch));
        }
        let Some(fate) = self.fates.get_mut(&command.rollout) else {
            return self.blame("I3", format!("an effect of {}, which is not recorded", command.rollout));
        };
        let mut wrong = None;
        if fate.requested.get(&command.sequence) != Some(&command.effect) {
            wrong = Some(("I3", "it took place before it was recorded".to_owned()));
        }
        match &command.effect {
            Effect::Start { .. } if std::mem::replace(&mut fate.started_truly, true) => {
                wrong = Some(("I3", "it was started twice".to_owned()));
            }
            Effect::SetWeight { weight, .. } if *weight == Weight::ZERO => fate.lowered_truly = true,
            Effect::SetWeight { weight, .. } => {
                let expected =
                    fate.plan.environment.strategy.steps.get(fate.raised.len()).map(|step| step.weight);
                if expected != Some(*weight) {
                    wrong = Some(("I4", format!("raised to {weight}, which is not its next step")));
                }
                wrong = wrong.or_else(|| too_early(fate, at));
                fate.raised.push(at);
            }
            Effect::Promote { .. } => {
                if std::mem::replace(&mut fate.promoted_truly, true) {
                    wrong = Some(("I3", "it was promoted twice".to_owned()));
                }
                wrong = wrong.or_else(|| too_early(fate, at));
                if fate.behaviour.errors > fate.stable.errors + 0.3 && all_analysed(fate) && !fate.resumed {
                    wrong = Some(("I4", "a build that fails most requests was promoted".to_owned()));
                }
            }
            _ => {}
        }
        if raise_to(&command.effect).is_some() && fate.lowered_truly {
            wrong = Some(("I7", "its weight rises after it was taken back".to_owned()));
        }
        if let Some((promise, what)) = wrong {
            self.blame(promise, format!("{} number {}: {what}", command.rollout, command.sequence));
        }
    }

    /// A person wanted the release taken back, and there was nothing to record for it.
    pub(crate) fn denied(&mut self, rollout: &RolloutId) {
        let possible = |fate: &Fate| fate.decided.is_none() && fate.ended.is_none() && !fate.promoting();
        if self.fates.get(rollout).is_some_and(possible) && !self.flipped {
            self.blame("I7", format!("{rollout}: a person can't have it taken back"));
        }
    }

    /// Whether the site has heard of a younger generation; it has heard of this one from now on.
    fn outdated(&mut self, site: usize, epoch: u64) -> bool {
        let highest = self.epoch_heard.entry(site).or_default();
        let outdated = epoch < *highest;
        *highest = (*highest).max(epoch);
        outdated
    }

    /// Who renews a grant keeps the canary's traffic: an older generation must not, and nobody after the decision to take it back.
    fn renewed(&mut self, site: usize, at: Duration, rollout: &RolloutId, epoch: u64) {
        if self.outdated(site, epoch) {
            return self.blame("I8", format!("{rollout}: its grant was renewed by generation {epoch}"));
        }
        let decided = self.fates.get(rollout).and_then(|fate| fate.decided);
        let Some(decided) = decided.filter(|decided| *decided != Duration::MAX) else { return };
        if at > decided + UNDERWAY_MAX {
            self.blame("I7", format!("{rollout}: its grant is renewed although it is being taken back"));
        }
    }

    /// What must hold at every moment.
    pub(crate) fn watch(&mut self, now: Duration, sites: &[Site]) {
        for (index, site) in sites.iter().enumerate() {
            if let Some(overdue) = site.overdue(now).filter(|overdue| *overdue > Duration::from_secs(1)) {
                let what = format!("site {index}: the canary has traffic {overdue:?} after its grant ended");
                self.blame("I7/E5", what);
            }
            let late = site.raised().and_then(|rollout| self.late(index, rollout, now));
            if let Some(what) = late {
                self.blame("I7", what);
            }
        }
    }

    fn late(&self, site: usize, rollout: &RolloutId, now: Duration) -> Option<String> {
        let fate = self.fates.get(rollout)?;
        let strategy = &fate.plan.environment.strategy;
        if self.lied || strategy.on_expiry == OnExpiry::Hold {
            return None;
        }
        let decided = fate.decided.filter(|decided| *decided != Duration::MAX)?;
        let since = decided.max(self.disturbed.get(&site).copied().unwrap_or_default());
        let limit = strategy.grant_ttl().mul_f64(DRIFT_MAX) + UNDERWAY_MAX;
        let late = now.checked_sub(since + limit)?;
        Some(format!("{rollout} has traffic {late:?} after the last moment that taking it back may take"))
    }
}

/// The share that an effect gives the release, if it gives it more.
fn raise_to(effect: &Effect) -> Option<Weight> {
    match effect {
        Effect::SetWeight { weight, .. } if *weight > Weight::ZERO => Some(*weight),
        Effect::Promote { .. } => Some(Weight::FULL),
        _ => None,
    }
}

/// Whether the record lets the rollout go on to its next step (I4).
fn may_rise(fate: &Fate, to: Weight, now: Duration) -> Result<(), String> {
    let steps = &fate.plan.environment.strategy.steps;
    let Some(step) = fate.step else {
        let first = fate.plan.stable.is_none() || steps.first().is_some_and(|step| step.weight == to);
        return if first { Ok(()) } else { Err(format!("its first step is not {to}")) };
    };
    if steps[step].analyse && !fate.safe && !fate.resumed {
        return Err(format!("step {step} has no passing verdict"));
    }
    let age = now.saturating_sub(fate.safe_at);
    if steps[step].analyse && !fate.resumed && age > fresh(fate).mul_f64(DRIFT_MAX) + SLACK {
        return Err(format!("the verdict of step {step} is {age:?} old"));
    }
    match steps.get(step + 1) {
        Some(next) if next.weight != to => Err(format!("its next step is not {to}")),
        Some(_) => Ok(()),
        None if to != Weight::FULL => Err(format!("it has no step after {step}")),
        None => Ok(()),
    }
}

/// A step's shortest stay is true time, whatever clocks say. Where it is measured by looks, a clock that jumps can add what a look
/// counts for at most.
fn too_early(fate: &Fate, at: Duration) -> Option<(&'static str, String)> {
    let last = fate.raised.len().checked_sub(1)?;
    let step = fate.plan.environment.strategy.steps.get(last)?;
    let hold = Duration::from_millis(step.hold_ms);
    let granted = if step.analyse { fresh(fate) } else { Duration::ZERO };
    let stayed = at.saturating_sub(fate.raised[last]);
    let early = stayed + granted < hold.div_f64(DRIFT_MAX);
    early.then(|| ("I4", format!("step {last} lasted {stayed:?} instead of {hold:?}")))
}

/// A verdict that is older says nothing about the present.
fn fresh(fate: &Fate) -> Duration {
    let analysis = &fate.plan.environment.strategy.analysis;
    Duration::from_millis(analysis.silence_ms.max(analysis.interval_ms * 2))
}

fn all_analysed(fate: &Fate) -> bool {
    fate.plan.stable.is_some() && fate.plan.environment.strategy.steps.iter().all(|step| step.analyse)
}
