//! What a rollout does next: a pure function of its recorded state and the time.
//!
//! One decision at a time. The driver carries it out, records what came of it, and asks again, so a controller that dies
//! anywhere is continued by asking the same question of the same record. The planner never looks at the world.
//!
//! Invariants: the weight never rises without a passing verdict on data from the current step (I4); once a release is
//! being taken back no weight but 0 is asked for (I7); missing data never promotes (rule 5).

use std::time::Duration;

use delivery::Timestamp;
use delivery::clock::millis_between;
use delivery::effect::Effect;
use delivery::evidence::Finding;
use delivery::rollout::{RollbackCause, RolloutOutcome};
use delivery::seeded::{self, Bug};
use delivery::strategy::{OnInconclusive, Step};
use delivery::text;
use delivery::traffic::Weight;
use platform::grant::GRANT_TTL_MAX;

use crate::progress::{Position, Rollout};

/// The next thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Record the intention under this number and apply it. A number that was already asked for is asked for again: the
    /// platform answers a repetition with its first answer.
    Apply {
        /// The command's number.
        sequence: u32,
        /// What to do.
        effect: Effect,
    },
    /// Read the traffic and record what it shows.
    Look,
    /// Record that the release is to be taken back.
    Withdraw(RollbackCause),
    /// Nothing before this time, unless the record changes.
    Wait(Timestamp),
    /// Record the end.
    Finish(RolloutOutcome),
    /// It has ended.
    Done(RolloutOutcome),
}

/// Decides.
pub fn next(rollout: &Rollout, now: Timestamp) -> Next {
    if let Some(outcome) = rollout.outcome {
        return Next::Done(outcome);
    }
    if rollout.cause.is_some() {
        return withdraw(rollout);
    }
    if let Some(command) = &rollout.pending {
        let again = u32::from(seeded::is(Bug::RetryWithNewNumber));
        return Next::Apply { sequence: command.sequence + again, effect: command.effect.clone() };
    }
    if rollout.doubtful() && rollout.withdrawable() {
        let detail = "the record of what it was asked can't be read".into();
        return Next::Withdraw(RollbackCause::PlatformRefused { detail });
    }
    if !rollout.started {
        return apply(rollout, Effect::Start { revision: Box::new(rollout.plan.revision.clone()) });
    }
    if rollout.promoted {
        return conclude(rollout);
    }
    match rollout.position {
        // Nothing serves yet, so there is nothing to compare with and nobody to protect.
        None if rollout.plan.stable.is_none() => apply(rollout, promote(rollout)),
        None => apply(rollout, raise(rollout, 0)),
        Some(position) => stay(rollout, position, now),
    }
}

/// The wait between two renewals of the grant: three chances before it runs out, which it does after
/// [`GRANT_TTL_MAX`] at the latest.
pub fn renewal_interval(rollout: &Rollout) -> Duration {
    rollout.plan.environment.strategy.grant_ttl().min(GRANT_TTL_MAX) / 3
}

/// Whether the splitter holds a grant that must be renewed.
pub fn holds_grant(rollout: &Rollout) -> bool {
    rollout.active() && rollout.weight > Weight::ZERO && !rollout.promoted && rollout.cause.is_none()
}

fn apply(rollout: &Rollout, effect: Effect) -> Next {
    Next::Apply { sequence: rollout.sequence_next(), effect }
}

fn promote(rollout: &Rollout) -> Effect {
    Effect::Promote { revision: rollout.plan.revision.id.clone() }
}

fn raise(rollout: &Rollout, step: usize) -> Effect {
    let steps = &rollout.plan.environment.strategy.steps;
    let later = usize::from(seeded::is(Bug::WeightOfLaterStep) && step + 1 < steps.len());
    set_weight(rollout, steps[step + later].weight)
}

fn set_weight(rollout: &Rollout, weight: Weight) -> Effect {
    let strategy = &rollout.plan.environment.strategy;
    Effect::SetWeight {
        revision: rollout.plan.revision.id.clone(),
        weight,
        ttl_ms: strategy.grant_ttl_ms,
        on_expiry: strategy.on_expiry,
        sticky: strategy.sticky.clone(),
    }
}

fn retire(rollout: &Rollout, revision: &delivery::RevisionId) -> Next {
    let drain_ms = rollout.plan.environment.strategy.drain_ms;
    apply(rollout, Effect::Retire { revision: revision.clone(), drain_ms })
}

/// Weight to zero, then stop it, then say so. A command whose answer never came is overtaken when it would raise the
/// weight, and asked again when it is part of taking the release back.
fn withdraw(rollout: &Rollout) -> Next {
    let exposed = rollout.raised || rollout.doubtful();
    if let Some(command) = &rollout.pending {
        let lowers = match &command.effect {
            Effect::SetWeight { weight, .. } => *weight == Weight::ZERO,
            Effect::Retire { .. } => true,
            Effect::Start { .. } | Effect::Promote { .. } => false,
        };
        if lowers {
            return Next::Apply { sequence: command.sequence, effect: command.effect.clone() };
        }
    }
    if exposed && rollout.milestones.withdrawn.is_none() {
        return apply(rollout, set_weight(rollout, Weight::ZERO));
    }
    if !rollout.retired {
        return retire(rollout, &rollout.plan.revision.id);
    }
    Next::Finish(RolloutOutcome::RolledBack)
}

/// After the promotion: the old revision goes, then it is done.
fn conclude(rollout: &Rollout) -> Next {
    match &rollout.plan.stable {
        Some(stable) if !rollout.retired => retire(rollout, stable),
        _ => Next::Finish(RolloutOutcome::Completed),
    }
}

fn advance(rollout: &Rollout, position: Position) -> Next {
    let steps = rollout.plan.environment.strategy.steps.len();
    if seeded::is(Bug::StepSkipped) && position.step + 2 < steps {
        return apply(rollout, raise(rollout, position.step + 2));
    }
    if position.step + 1 < steps {
        apply(rollout, raise(rollout, position.step + 1))
    } else {
        apply(rollout, promote(rollout))
    }
}

fn after(since: Timestamp, ms: u64) -> Timestamp {
    since.saturating_add(Duration::from_millis(ms)).unwrap_or(Timestamp::MAX)
}

/// Whether a finding lets the release go on.
fn passes(finding: Finding) -> bool {
    match finding {
        Finding::Safe => true,
        Finding::Continue => seeded::is(Bug::PromoteOnContinue),
        Finding::NoSignal => seeded::is(Bug::PromoteOnNoSignal),
        Finding::Harm | Finding::RatioMismatch => false,
    }
}

fn stay(rollout: &Rollout, position: Position, now: Timestamp) -> Next {
    let strategy = &rollout.plan.environment.strategy;
    let step = &strategy.steps[position.step];
    if !step.analyse || position.resumed {
        let hold_until = after(position.since, step.hold_ms);
        let stayed = now >= hold_until || seeded::is(Bug::NoStay);
        return if stayed { advance(rollout, position) } else { Next::Wait(hold_until) };
    }
    let look = rollout.verdict();
    let finding = look.map(|look| look.evidence.finding);
    if finding == Some(Finding::Harm) && !seeded::is(Bug::HarmIgnored) {
        let signal = look.map_or_else(String::new, |look| look.evidence.signal.clone());
        return Next::Withdraw(RollbackCause::Harm { signal });
    }
    // The verdict must be about the artifact that the plan names (I4).
    let bound = look.is_some_and(|look| look.evidence.digest == rollout.plan.revision.digest);
    // Nor may it be late: a controller that was away looks again before it goes by what was seen then.
    let fresh = look.is_some_and(|look| {
        millis_between(look.at, now) < rollout.fresh_ms() || seeded::is(Bug::StaleVerdict)
    });
    let watched_ms = rollout.watched_ms(now);
    let stayed = watched_ms >= step.hold_ms || seeded::is(Bug::NoStay);
    if finding.is_some_and(passes) && bound && fresh && stayed {
        return advance(rollout, position);
    }
    // Nobody gives up without having looked.
    if watched_ms >= patience_ms(rollout, step) && fresh && !seeded::is(Bug::NoDeadline) {
        return Next::Withdraw(RollbackCause::Inconclusive { detail: inconclusive(rollout, watched_ms) });
    }
    let look_at = look.map_or(position.since, |look| look.at);
    let next_look = after(look_at, strategy.analysis.interval_ms);
    if now >= next_look { Next::Look } else { Next::Wait(next_look) }
}

/// How long a step may go without evidence before the release is taken back, in milliseconds.
pub fn patience_ms(rollout: &Rollout, step: &Step) -> u64 {
    match rollout.plan.environment.strategy.on_inconclusive {
        OnInconclusive::Rollback => step.deadline_ms,
        OnInconclusive::Hold => step.deadline_ms.saturating_mul(2),
    }
}

fn inconclusive(rollout: &Rollout, waited_ms: u64) -> String {
    let waited = text::duration(waited_ms);
    match rollout.verdict() {
        None => format!("the traffic could not be read for {waited}"),
        Some(look) if look.evidence.finding == Finding::NoSignal => {
            let requests = text::count(look.evidence.canary_requests, "request");
            format!("{requests} reached the canary in {waited}, and none lately")
        }
        Some(look) if look.evidence.finding == Finding::RatioMismatch => {
            format!("the traffic was not split as asked for {waited}")
        }
        Some(look) if look.evidence.finding == Finding::Safe => {
            format!("the evidence of {waited} is about another artifact")
        }
        Some(look) => {
            let requests = text::count(look.evidence.canary_requests, "request");
            format!("{requests} in {waited} neither showed harm nor safety")
        }
    }
}
