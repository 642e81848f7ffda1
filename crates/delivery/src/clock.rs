//! Time and randomness as arguments.
//!
//! Deciding code takes `now` as a value; driving code takes a [`Clock`]. The one real clock is [`SteadyClock`]: it reads the
//! wall clock once and then counts the system's monotonic clock, so that a wall clock that jumps (NTP, suspend, an
//! operator) neither shortens nor lengthens a wait. Invariant: two readings of one clock never go backwards.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

/// Where the present comes from.
pub trait Clock: Send + Sync {
    /// The present, never earlier than the reading before it.
    fn now(&self) -> Timestamp;
}

/// Where randomness comes from.
pub trait Seed: Send {
    /// Fills the buffer with random bytes.
    fn fill(&mut self, buffer: &mut [u8]);
}

/// The real clock: anchored to the wall once, monotonic afterwards.
#[derive(Debug)]
pub struct SteadyClock {
    anchor: Timestamp,
    started: Instant,
}

impl SteadyClock {
    /// Anchored to the wall clock, but never before `not_before` (the ledger's last record): after a wall clock was set
    /// back, time resumes from where the ledger stopped.
    #[expect(clippy::disallowed_methods, reason = "this module owns the system's clocks")]
    pub fn anchored(not_before: Option<Timestamp>) -> Self {
        let wall = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH);
        let wall = Timestamp::from_microsecond(wall.as_microsecond()).unwrap_or(wall);
        Self { anchor: not_before.map_or(wall, |floor| floor.max(wall)), started: Instant::now() }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        // Whole microseconds, as the ledger keeps them: what is decided with a time is recorded with the same time.
        let elapsed =
            Duration::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX));
        self.anchor.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }
}

/// A clock that stands still until it is told to move: for tests and simulations.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// Starts at the given time.
    pub fn at(start: Timestamp) -> Self {
        Self(Mutex::new(start))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now = now.saturating_add(by).unwrap_or(Timestamp::MAX);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A seed that counts: for tests that want readable, repeatable ids.
#[derive(Debug, Default)]
pub struct CountingSeed(u8);

impl Seed for CountingSeed {
    fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
    }
}

/// Milliseconds from `earlier` to `later`; 0 when the order is reversed.
pub fn millis_between(earlier: Timestamp, later: Timestamp) -> u64 {
    u64::try_from(later.as_millisecond().saturating_sub(earlier.as_millisecond())).unwrap_or(0)
}
