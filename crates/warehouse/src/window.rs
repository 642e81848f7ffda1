//! The period that a report covers.

use delivery::Timestamp;
use serde::Serialize;

const DAY_S: i64 = 86_400;

/// A period: `from` belongs to it, `until` does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Window {
    /// First instant.
    pub from: Timestamp,
    /// First instant after it.
    pub until: Timestamp,
}

impl Window {
    /// The days before `now`. What happens at `now` itself still belongs to it, so that a report made right after a deployment
    /// shows it.
    pub fn last_days(days: u32, now: Timestamp) -> Self {
        let seconds = i64::from(days) * DAY_S;
        let from = Timestamp::from_second(now.as_second().saturating_sub(seconds)).unwrap_or(Timestamp::MIN);
        let until = now.saturating_add(std::time::Duration::from_micros(1)).unwrap_or(Timestamp::MAX);
        Self { from, until }
    }

    /// Whether the instant belongs to it.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }

    /// Its length in days from `observed_from` on, when nothing was observed before; at least one day, so that the first
    /// minutes of a project do not look like thousands of deployments a day.
    pub fn days_observed(&self, observed_from: Timestamp) -> f64 {
        let from = self.from.max(observed_from);
        (seconds_between(from, self.until) / DAY_S as f64).max(1.0)
    }
}

/// Seconds from one instant to another, negative when they are the other way around.
pub(crate) fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.as_millisecond().saturating_sub(from.as_millisecond()) as f64 / 1000.0
}

/// The UTC day, as `2026-11-23`.
pub(crate) fn day(at: Timestamp) -> String {
    at.to_string().chars().take_while(|c| *c != 'T').collect()
}
