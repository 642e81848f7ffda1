//! The dead man's grant: a raised weight holds only while its controller keeps renewing it.
//!
//! Pure state over a time that is passed in: a [`Duration`] on one clock that never goes back and counts through suspend
//! (`CLOCK_BOOTTIME`). Leaves out the clock, the timer and the weight itself; the edge joins them, under one lock, so that an
//! expiry never undoes a later decision.
//!
//! Invariants: at most one grant is held; the highest epoch seen never falls, and whoever comes with a lower one is refused;
//! a grant that ran out with [`OnExpiry::Rollback`] is never renewed or given again, so its controller must learn of it.

use std::time::Duration;

use delivery::RolloutId;
use delivery::seeded::{self, Bug};
use delivery::strategy::OnExpiry;
use delivery::traffic::Weight;

/// The longest a grant may run unrenewed. Longer is cut to this: a switch that never fires is no switch.
pub const GRANT_TTL_MAX: Duration = Duration::from_hours(1);

/// Permission to keep a canary's weight raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// For which rollout.
    pub rollout: RolloutId,
    /// By which controller generation.
    pub epoch: u64,
    /// The highest weight that it covers.
    pub ceiling: Weight,
    /// How long it holds without renewal; at most [`GRANT_TTL_MAX`].
    pub ttl: Duration,
    /// What happens when it runs out.
    pub on_expiry: OnExpiry,
}

/// A grant ran out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// Whose.
    pub rollout: RolloutId,
    /// The controller generation that let it run out.
    pub epoch: u64,
    /// When it ended, on the caller's clock.
    pub at: Duration,
    /// What to do.
    pub on_expiry: OnExpiry,
}

/// Why a grant was not given or renewed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// A newer controller is in charge.
    #[error("a controller with epoch {epoch} is in charge")]
    Fenced {
        /// The highest epoch seen.
        epoch: u64,
    },
    /// It ran out, and the traffic went back to stable.
    #[error("the grant of {rollout} ran out")]
    Expired {
        /// Whose.
        rollout: RolloutId,
    },
    /// No grant of this rollout is held.
    #[error("no grant of {rollout} is held")]
    Unknown {
        /// Whose.
        rollout: RolloutId,
    },
}

impl GrantError {
    /// For people.
    pub fn problem(&self) -> delivery::Problem {
        use delivery::code::Code;
        match self {
            Self::Fenced { .. } => delivery::Problem::new(Code::Fenced, self.to_string())
                .hint("stop this controller; the newer one carries the rollout on"),
            Self::Expired { .. } => delivery::Problem::new(Code::RolledBack, self.to_string())
                .hint("the splitter sent all traffic back to stable; start a new rollout"),
            Self::Unknown { .. } => delivery::Problem::new(Code::RolloutUnknown, self.to_string())
                .hint("ask for the weight again, which gives a new grant"),
        }
    }
}

#[derive(Debug)]
struct Held {
    grant: Grant,
    deadline: Duration,
}

/// What one splitter has been granted.
#[derive(Debug, Default)]
pub struct Grants {
    highest: u64,
    held: Option<Held>,
    ended: Option<Expiry>,
}

impl Grants {
    /// Nothing granted, no epoch seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a controller's epoch: refused when it is below the highest seen.
    pub fn admit(&mut self, epoch: u64) -> Result<(), GrantError> {
        if epoch < self.highest && !seeded::is(Bug::NoFence) {
            return Err(GrantError::Fenced { epoch: self.highest });
        }
        if !seeded::is(Bug::EpochForgotten) {
            self.highest = epoch;
        }
        Ok(())
    }

    /// Takes a grant from `now` on, in place of the one held before.
    ///
    /// Refused for a rollout whose grant has run out with [`OnExpiry::Rollback`], also when [`Grants::expire`] has not been
    /// called since.
    pub fn give(&mut self, now: Duration, grant: Grant) -> Result<(), GrantError> {
        self.admit(grant.epoch)?;
        self.refuse_expired(now, &grant.rollout, true)?;
        let length = if seeded::is(Bug::GrantTooLong) { grant.ttl * 3 } else { grant.ttl };
        let deadline = now.saturating_add(length.min(GRANT_TTL_MAX));
        self.held = Some(Held { grant, deadline });
        Ok(())
    }

    /// Restarts the grant's time; gives the time that it now has.
    pub fn renew(&mut self, now: Duration, rollout: &RolloutId, epoch: u64) -> Result<Duration, GrantError> {
        self.admit(epoch)?;
        self.refuse_expired(now, rollout, false)?;
        let Some(held) = self.held.as_mut().filter(|held| held.grant.rollout == *rollout) else {
            return Err(GrantError::Unknown { rollout: rollout.clone() });
        };
        held.grant.epoch = epoch;
        let ttl = held.grant.ttl.min(GRANT_TTL_MAX);
        if !seeded::is(Bug::RenewalWithoutEffect) {
            held.deadline = now.saturating_add(ttl);
        }
        Ok(ttl)
    }

    /// Ends the rollout's grant in order: its weight is 0, or it became stable. Without a grant this does nothing.
    pub fn settle(&mut self, rollout: &RolloutId) {
        if seeded::is(Bug::SettledGrantFires) {
            return;
        }
        self.held = self.held.take().filter(|held| held.grant.rollout != *rollout);
    }

    /// What ran out by `now`; said once.
    pub fn expire(&mut self, now: Duration) -> Option<Expiry> {
        let never = seeded::is(Bug::GrantNeverEnds);
        let held = self.held.take_if(|held| held.deadline <= now && !never)?;
        let expiry = Expiry {
            rollout: held.grant.rollout,
            epoch: held.grant.epoch,
            at: held.deadline,
            on_expiry: if seeded::is(Bug::RollbackHolds) { OnExpiry::Hold } else { held.grant.on_expiry },
        };
        self.ended = Some(expiry.clone());
        Some(expiry)
    }

    /// When the held grant runs out, on the caller's clock.
    pub fn deadline(&self) -> Option<Duration> {
        self.held.as_ref().map(|held| held.deadline)
    }

    /// The highest weight that the held grant covers; zero without one.
    pub fn ceiling(&self) -> Weight {
        self.held.as_ref().map_or(Weight::ZERO, |held| held.grant.ceiling)
    }

    /// The last grant that ran out.
    pub fn ended(&self) -> Option<&Expiry> {
        self.ended.as_ref()
    }

    /// The highest epoch seen.
    pub fn epoch(&self) -> u64 {
        self.highest
    }

    fn refuse_expired(&self, now: Duration, rollout: &RolloutId, again: bool) -> Result<(), GrantError> {
        let forgiven = |on_expiry: OnExpiry| again && on_expiry == OnExpiry::Hold;
        let late = self.held.as_ref().is_some_and(|held| {
            held.grant.rollout == *rollout && held.deadline <= now && !forgiven(held.grant.on_expiry)
        });
        let taken_back = self.held.as_ref().is_none_or(|held| held.grant.rollout != *rollout)
            && self
                .ended
                .as_ref()
                .is_some_and(|ended| ended.rollout == *rollout && !forgiven(ended.on_expiry));
        if late || taken_back { Err(GrantError::Expired { rollout: rollout.clone() }) } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "proxy/grant_tests.rs"]
mod tests;
