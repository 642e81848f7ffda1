//! One figure of a report: a value or the reason why there is none, never both, never neither.

use serde::Serialize;

use crate::deployment::Confidence;
use crate::interval::{self, Interval};

/// What a figure's value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A duration in seconds.
    Seconds,
    /// Events for each day.
    PerDay,
    /// A part of a whole, 0 to 1.
    Share,
}

/// A figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// The value in `unit`; `None` when there is nothing to compute it from.
    pub value: Option<f64>,
    /// What it counts.
    pub unit: Unit,
    /// How many observations it rests on.
    pub n: u64,
    /// 95 % confidence interval; `None` when there are too few observations for one.
    pub interval: Option<Interval>,
    /// Whether it was recorded or inferred.
    pub confidence: Confidence,
    /// Why there is no value, and what to do about it. Set exactly when `value` is not.
    pub why_empty: Option<String>,
    /// How it was computed.
    pub method: String,
}

impl Figure {
    /// No value.
    pub(crate) fn empty(unit: Unit, confidence: Confidence, why: impl Into<String>, method: &str) -> Self {
        let why_empty = Some(why.into());
        Self { value: None, unit, n: 0, interval: None, confidence, why_empty, method: method.to_owned() }
    }

    /// The `q` quantile of durations in seconds: the middle of the two middle values for the median, the value at rank
    /// `ceil(q n)` otherwise.
    pub(crate) fn quantile(
        seconds: &mut [f64],
        q: f64,
        confidence: Confidence,
        why: impl FnOnce() -> String,
        method: &str,
    ) -> Self {
        seconds.sort_unstable_by(f64::total_cmp);
        let n = seconds.len();
        let rank = ((q * n as f64).ceil() as usize).max(1) - 1;
        let value = match (seconds.get(rank), seconds.get(n / 2)) {
            (Some(lower), Some(upper)) if q == 0.5 => f64::midpoint(*lower, *upper),
            (Some(value), _) => *value,
            (None, _) => return Self::empty(Unit::Seconds, confidence, why(), method),
        };
        Self {
            value: Some(value),
            unit: Unit::Seconds,
            n: n as u64,
            interval: interval::quantile(seconds, q),
            confidence,
            why_empty: None,
            method: method.to_owned(),
        }
    }

    /// `hits` of `n`.
    pub(crate) fn share(
        hits: u64,
        n: u64,
        confidence: Confidence,
        why: impl FnOnce() -> String,
        method: &str,
    ) -> Self {
        if n == 0 {
            return Self::empty(Unit::Share, confidence, why(), method);
        }
        Self {
            value: Some(hits as f64 / n as f64),
            unit: Unit::Share,
            n,
            interval: interval::share(hits, n),
            confidence,
            why_empty: None,
            method: method.to_owned(),
        }
    }

    /// `count` events in so many days.
    pub(crate) fn per_day(
        count: u64,
        days: f64,
        confidence: Confidence,
        why: impl FnOnce() -> String,
        method: &str,
    ) -> Self {
        if count == 0 {
            return Self::empty(Unit::PerDay, confidence, why(), method);
        }
        let Interval { low, high } = interval::count(count);
        Self {
            value: Some(count as f64 / days),
            unit: Unit::PerDay,
            n: count,
            interval: Some(Interval { low: low / days, high: high / days }),
            confidence,
            why_empty: None,
            method: method.to_owned(),
        }
    }
}
