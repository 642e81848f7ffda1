//! Joins short intervals into blocks for the error-rate ratio.
//!
//! The ratio's test takes the canary's share from the requests of the interval itself, so that it does not have to trust
//! the splitter. Where an interval holds about one canary request, that share is mostly chance: a canary error needs a
//! canary request to happen to, so intervals with an error have too large a share, and evidence is lost (half as slow
//! again at one canary request a second). So intervals are joined until the canary had [`REQUESTS`] requests.
//!
//! Blocks end by counts of requests, by time, and with their step. That a step is left depends on errors, but only on
//! those of complete blocks (all that is judged of errors is judged by blocks), so no block's end depends on the errors in
//! it, and the test stays valid. Invariant: every error is in at most one block.

use delivery::Timestamp;
use delivery::clock::millis_between;

use super::allowance::Counts;
use super::window::Interval;

/// A block is complete with this many canary requests.
const REQUESTS: u64 = 4;
/// A block that has lasted this long in milliseconds is complete anyway.
const MILLIS: u64 = 10_000;

/// Errors and requests of joined intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Block {
    /// When the first of them began.
    pub(super) from: Timestamp,
    /// Errors and requests.
    pub(super) counts: Counts,
}

impl Block {
    /// The canary's share of the requests; 0 when there were none.
    pub(super) fn share(&self) -> f64 {
        let canary = self.counts.canary as f64;
        let both = canary + self.counts.stable as f64;
        if both > 0.0 { canary / both } else { 0.0 }
    }
}

/// The block that is being filled.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool(Option<Block>);

impl Pool {
    /// Adds an interval, and gives the block if that completes it.
    pub(super) fn add(&mut self, interval: &Interval) -> Option<Block> {
        let block = self.0.get_or_insert(Block { from: interval.from, counts: Counts::default() });
        block.counts = block.counts.and(interval.errors());
        let complete = block.counts.canary >= REQUESTS || millis_between(block.from, interval.from) >= MILLIS;
        if complete { self.0.take() } else { None }
    }

    /// What there is, as a block.
    pub(super) fn take(&mut self) -> Option<Block> {
        self.0.take()
    }
}
