//! What begins with a step and ends with it: evidence of safety, and the counts that people see.
//!
//! Right after a raise only fast requests have ended in the canary, while stable's long ones, from before the raise, still
//! come in. So intervals count for safety only from when the requests that were under way at the raise have ended: all
//! but one in a thousand, by what stable's requests last. Requests that hang in the canary for longer are in no count yet; too
//! many of them hold safety back. Invariant: without a reading in the step there is no evidence of safety.

use std::time::Duration;

use delivery::Timestamp;
use delivery::evidence::EventCounts;
use delivery::strategy::AnalysisPolicy;
use delivery::traffic::{ArmTotals, LATENCY_BOUNDS_US, Weight};

use super::allowance::Counts;
use super::bernoulli::Table;
use super::pool::Block;
use super::signals::{Place, Safety};
use super::window::Interval;
use super::{multinomial, past, signals, unrivalled};

/// Probability of ever calling a healthy split of traffic a mismatch, in one step.
pub const MISMATCH_ALPHA: f64 = 1e-4;
/// Requests under way in the canary that never hold promotion back.
const IN_FLIGHT_FREE: f64 = 10.0;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) began: Timestamp,
    pub(super) weight: Weight,
    /// From when on intervals count for safety; known from the step's first reading on.
    settled: Option<Timestamp>,
    compared: Safety,
    /// In place of `compared` while all traffic goes to the canary.
    alone: Option<unrivalled::Safety>,
    /// Errors and requests so far.
    pub(super) errors: Counts,
    /// Slower requests so far, by latency bound.
    slower: [Counts; LATENCY_BOUNDS_US.len()],
    /// Requests that began while the weight was in force: stable, canary.
    started: [u64; 2],
    /// Weight under which `started` was counted.
    started_at: Weight,
    /// Canary requests under way are too many to trust those that ended.
    pub(super) stuck: bool,
}

impl Step {
    pub(super) fn new(weight: Weight, began: Timestamp, policy: &AnalysisPolicy) -> Self {
        Self {
            began,
            weight,
            settled: None,
            compared: Safety::new(policy),
            alone: None,
            errors: Counts::default(),
            slower: [Counts::default(); LATENCY_BOUNDS_US.len()],
            started: [0; 2],
            started_at: weight,
            stuck: false,
        }
    }

    /// Whether all traffic goes to the canary.
    pub(super) fn is_alone(&self) -> bool {
        self.weight == Weight::FULL
    }

    /// Looks at what stable has counted so far. The first look in the step decides.
    pub(super) fn meet(&mut self, stable: &ArmTotals, policy: &AnalysisPolicy) {
        if self.settled.is_some() {
            return;
        }
        self.settled = Some(self.began.saturating_add(past::tail(stable)).unwrap_or(Timestamp::MAX));
        if self.is_alone() {
            self.alone = Some(unrivalled::Safety::new(stable, policy));
        }
    }

    fn counts_from(&self, from: Timestamp) -> bool {
        self.settled.is_some_and(|settled| from >= settled)
    }

    pub(super) fn observe_errors(&mut self, block: &Block) {
        if self.counts_from(block.from) {
            self.compared.observe_errors(block);
        }
    }

    /// Takes in an interval that began within the step; latency only when the canary is warm.
    pub(super) fn observe(&mut self, interval: &Interval, tables: &[Option<Table>], warm: bool) {
        if self.counts_from(interval.from) {
            if warm {
                self.compared.observe_latency(interval, tables);
            }
            if let Some(alone) = &mut self.alone {
                alone.observe(&interval.canary, warm);
            }
        }
        self.count(interval);
    }

    /// `ln` of the e-value of safety, and the signal that promotion waits for.
    pub(super) fn log_e(&self) -> (f64, Place) {
        match &self.alone {
            Some(alone) => alone.log_e(),
            None => self.compared.log_e(),
        }
    }

    /// The signal's counts, where it is a latency bound.
    pub(super) fn slower(&self, place: Place) -> Option<EventCounts> {
        let counts = self.slower.get(place.checked_sub(1)?)?;
        Some(EventCounts {
            canary_events: counts.canary_events,
            canary: counts.canary,
            stable_events: counts.stable_events,
            stable: counts.stable,
        })
    }

    fn count(&mut self, interval: &Interval) {
        let (canary, stable) = (&interval.canary, &interval.stable);
        self.errors = self.errors.and(interval.errors());
        for (bound, counts) in self.slower.iter_mut().enumerate() {
            *counts = counts.and(signals::latency_counts(interval, bound).unwrap_or_default());
        }
        self.stuck = canary.in_flight as f64 > IN_FLIGHT_FREE + 2.0 * self.usually_in_flight(interval);
        let (Some(weight), Some(from_stable), Some(from_canary)) =
            (interval.weight, stable.started, canary.started)
        else {
            return;
        };
        if weight != self.started_at {
            (self.started, self.started_at) = ([0; 2], weight);
        }
        self.started[0] = self.started[0].saturating_add(from_stable);
        self.started[1] = self.started[1].saturating_add(from_canary);
    }

    /// How many requests would be under way in a canary like stable: its part of what is under way in stable, or while
    /// there is nothing beside it, by what stable's requests lasted.
    fn usually_in_flight(&self, interval: &Interval) -> f64 {
        let canary = &interval.canary;
        let Some(alone) = &self.alone else {
            let part = self.weight.share() / (1.0 - self.weight.share()).max(1e-4);
            return part * interval.stable.in_flight as f64;
        };
        let lasted = Duration::try_from(interval.until.duration_since(interval.from)).unwrap_or_default();
        let arrivals = canary.started.unwrap_or(canary.requests) as f64 / lasted.as_secs_f64().max(1e-3);
        alone.expected_in_flight(arrivals).unwrap_or(canary.requests as f64)
    }

    /// Whether requests fell to the arms in other shares than the weight in force.
    pub(super) fn mismatched(&self) -> bool {
        let share = self.started_at.share();
        share > 0.0
            && share < 1.0
            && multinomial::log_e(self.started, [1.0 - share, share], multinomial::CONCENTRATION)
                >= -libm::log(MISMATCH_ALPHA)
    }
}
