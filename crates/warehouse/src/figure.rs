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

/// Which quantile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantile {
    /// The middle value; of an even number of values the mean of the two in the middle.
    Median,
    /// The smallest value that 90 % do not exceed.
    P90,
}

impl Quantile {
    /// The quantile of sorted values, and its share.
    fn of(self, sorted: &[f64]) -> Option<(f64, f64)> {
        let n = sorted.len();
        let last = n.checked_sub(1)?;
        match self {
            Self::Median => Some((f64::midpoint(sorted[last / 2], sorted[n / 2]), 0.5)),
            Self::P90 => Some((sorted[(n * 9).div_ceil(10) - 1], 0.9)),
        }
    }
}

impl Figure {
    /// No value.
    pub(crate) fn empty(unit: Unit, confidence: Confidence, why: impl Into<String>, method: &str) -> Self {
        let why_empty = Some(why.into());
        Self { value: None, unit, n: 0, interval: None, confidence, why_empty, method: method.to_owned() }
    }

    /// A quantile of durations in seconds.
    pub(crate) fn quantile(
        seconds: &mut [f64],
        quantile: Quantile,
        confidence: Confidence,
        why: impl FnOnce() -> String,
        method: &str,
    ) -> Self {
        seconds.sort_unstable_by(f64::total_cmp);
        let Some((value, q)) = quantile.of(seconds) else {
            return Self::empty(Unit::Seconds, confidence, why(), method);
        };
        Self {
            value: Some(value),
            unit: Unit::Seconds,
            n: seconds.len() as u64,
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
