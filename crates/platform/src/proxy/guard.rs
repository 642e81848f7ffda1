//! The dead man's switch of a splitter: weights that are raised under a [`Grant`], and fall when it is not renewed.
//!
//! Joins the pure [`Grants`] to the splitter and to `CLOCK_BOOTTIME`, which counts through suspend. Invariant: a change of the
//! weight and the grant that covers it happen under one lock, so an expiry never undoes a later decision, and a weight above
//! zero never stands on a grant that has ended with a rollback.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use delivery::RolloutId;
use delivery::strategy::OnExpiry;
use delivery::traffic::Weight;

use super::routes::Routes;
use super::splitter::Splitter;
use crate::grant::{Expiry, Grant, GrantError, Grants};

/// How often the timer looks at the grant, when its end is not nearer.
const LOOK: Duration = Duration::from_millis(50);

/// Why the guard did not change the weight.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// The grant was refused.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The weight is above the grant's ceiling.
    #[error("a weight of {weight} is above the grant's ceiling of {ceiling}")]
    Ceiling {
        /// What was asked.
        weight: Weight,
        /// What is granted.
        ceiling: Weight,
    },
}

impl GuardError {
    /// For people.
    pub fn problem(&self) -> delivery::Problem {
        match self {
            Self::Grant(error) => error.problem(),
            Self::Ceiling { .. } => {
                delivery::Problem::new(delivery::code::Code::PlatformUnavailable, self.to_string())
                    .hint("ask for a grant that covers the weight")
            }
        }
    }
}

/// Time since boot, suspend included.
pub fn boottime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

/// A splitter whose raised weights hold only while they are renewed. Clones share everything.
#[derive(Debug, Clone)]
pub struct Guard {
    splitter: Splitter,
    grants: Arc<Mutex<Grants>>,
}

impl Guard {
    /// Over a splitter whose weight nobody else sets.
    pub fn new(splitter: Splitter) -> Self {
        Self { splitter, grants: Arc::new(Mutex::new(Grants::new())) }
    }

    /// The splitter.
    pub fn splitter(&self) -> &Splitter {
        &self.splitter
    }

    /// Sets the weight under a grant, which replaces the one before. When it returns, no request starts by the old weight.
    /// Weight zero needs no grant that still holds: it only asks that the epoch is not a lower one, and ends the grant.
    pub fn set_weight(&self, grant: Grant, weight: Weight) -> Result<(), GuardError> {
        self.change(grant, |splitter| splitter.set_weight(weight), weight)
    }

    /// [`Guard::set_weight`] with all routes, `routes.weight` being the weight.
    pub fn set_routes(&self, grant: Grant, routes: Routes) -> Result<(), GuardError> {
        let weight = routes.weight;
        self.change(grant, |splitter| splitter.set_routes(routes), weight)
    }

    /// Replaces the routes without a grant, and ends the rollout's: for a promotion, where nothing is raised any more.
    pub fn settle(&self, rollout: &RolloutId, epoch: u64, routes: Routes) -> Result<(), GuardError> {
        let mut grants = self.grants();
        grants.admit(epoch)?;
        grants.settle(rollout);
        self.splitter.set_routes(routes);
        Ok(())
    }

    /// Tells of restarted instances: the routes without their weight, which stays as it is.
    pub fn refresh(&self, routes: Routes) {
        let _held = self.grants();
        let weight = self.splitter.weight();
        self.splitter.set_routes(Routes { weight, ..routes });
    }

    /// Restarts the grant's time; gives the time that it now has.
    pub fn renew(&self, rollout: &RolloutId, epoch: u64) -> Result<Duration, GrantError> {
        self.grants().renew(boottime(), rollout, epoch)
    }

    /// Acts on a grant that has run out by `now` (from [`boottime`]). Said once.
    pub fn expire(&self, now: Duration) -> Option<Expiry> {
        let mut grants = self.grants();
        let expiry = grants.expire(now)?;
        if expiry.on_expiry == OnExpiry::Rollback {
            self.splitter.set_weight(Weight::ZERO);
        }
        Some(expiry)
    }

    /// The last grant that ran out.
    pub fn ended(&self) -> Option<Expiry> {
        self.grants().ended().cloned()
    }

    /// How long the held grant still holds.
    pub fn remaining(&self) -> Option<Duration> {
        self.grants().deadline().map(|deadline| deadline.saturating_sub(boottime()))
    }

    /// Watches the grant for ever, and tells of each one that ran out.
    pub async fn watch(&self, told: impl Fn(Expiry)) {
        loop {
            if let Some(expiry) = self.expire(boottime()) {
                told(expiry);
            }
            tokio::time::sleep(self.remaining().map_or(LOOK, |left| left.min(LOOK))).await;
        }
    }

    fn change(&self, grant: Grant, apply: impl FnOnce(&Splitter), weight: Weight) -> Result<(), GuardError> {
        let mut grants = self.grants();
        if weight == Weight::ZERO {
            grants.admit(grant.epoch)?;
            grants.settle(&grant.rollout);
        } else if weight > grant.ceiling {
            return Err(GuardError::Ceiling { weight, ceiling: grant.ceiling });
        } else {
            grants.give(boottime(), grant)?;
        }
        apply(&self.splitter);
        Ok(())
    }

    fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
