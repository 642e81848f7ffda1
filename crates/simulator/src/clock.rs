//! A controller's clock: anchored once to a wall clock that may be wrong by a year, then running a little fast or slow.
//!
//! As [`delivery::clock::SteadyClock`] does it, on simulated time. Invariant: it never goes back.

use std::sync::Arc;
use std::time::Duration;

use delivery::Timestamp;
use delivery::clock::Clock;

use crate::universe::Universe;

/// See the module.
pub(crate) struct DriftingClock {
    universe: Arc<Universe>,
    anchor: Timestamp,
    started: Duration,
    pace: f64,
}

impl DriftingClock {
    /// `off` seconds wrong, `pace` seconds for each that passes, and never before `not_before`.
    pub(crate) fn anchored(
        universe: Arc<Universe>,
        off: i64,
        pace: f64,
        not_before: Option<Timestamp>,
    ) -> Self {
        let wall = universe.wall();
        let distance = Duration::from_secs(off.unsigned_abs());
        let wrong = if off < 0 { wall.saturating_sub(distance) } else { wall.saturating_add(distance) };
        let wall = wrong.unwrap_or(wall);
        let started = universe.now();
        Self { universe, anchor: not_before.map_or(wall, |floor| floor.max(wall)), started, pace }
    }
}

impl Clock for DriftingClock {
    fn now(&self) -> Timestamp {
        self.universe.count_clock_reading();
        let elapsed = self.universe.now().saturating_sub(self.started).mul_f64(self.pace);
        let elapsed = Duration::from_micros(elapsed.as_micros() as u64);
        self.anchor.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }
}
