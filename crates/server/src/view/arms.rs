//! Both arms' numbers, from the readings of the splitter.
//!
//! Percentiles are estimated within latency buckets, linearly; they are for people, no decision rests on them.
//! Invariant: readings of two splitter lifetimes are never subtracted from each other.

use delivery::traffic::{ArmTotals, LATENCY_BOUNDS_US, LATENCY_BUCKETS};
use rollout::progress::Look;
use serde::Serialize;

use crate::words;

/// One arm over some time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ArmView {
    /// Requests that ended.
    pub(crate) requests: u64,
    /// Of these, failed.
    pub(crate) errors: u64,
    /// Median latency in milliseconds; absent without requests.
    pub(crate) p50_ms: Option<f64>,
    /// 99th percentile in milliseconds; absent without requests. Capped at the highest bound, 10 s.
    pub(crate) p99_ms: Option<f64>,
}

/// Both arms over the same time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ArmsView {
    pub(crate) stable: ArmView,
    pub(crate) canary: ArmView,
}

impl ArmView {
    fn of(totals: &ArmTotals) -> Self {
        Self {
            requests: totals.requests,
            errors: totals.errors,
            p50_ms: quantile_us(&totals.latency, 0.5).map(|us| us / 1_000.0),
            p99_ms: quantile_us(&totals.latency, 0.99).map(|us| us / 1_000.0),
        }
    }

    pub(crate) fn requests_text(&self) -> String {
        words::thousands(self.requests)
    }

    pub(crate) fn errors_text(&self) -> String {
        words::thousands(self.errors)
    }

    pub(crate) fn rate_text(&self) -> String {
        if self.requests == 0 {
            return "no requests".into();
        }
        words::percent(self.errors as f64 / self.requests as f64)
    }

    pub(crate) fn p50_text(&self) -> String {
        latency(self.p50_ms)
    }

    pub(crate) fn p99_text(&self) -> String {
        latency(self.p99_ms)
    }
}

fn latency(ms: Option<f64>) -> String {
    match ms {
        None => "–".into(),
        Some(ms) if ms >= 10_000.0 => "over 10 s".into(),
        Some(ms) if ms >= 1_000.0 => format!("{} s", words::trimmed(ms / 1_000.0, 1)),
        Some(ms) if ms >= 10.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{} ms", words::trimmed(ms, 1)),
    }
}

/// What was counted between the first and the last of the looks. Looks without a reading don't count; a splitter that
/// started over begins a new count that is added.
pub(crate) fn between(looks: &[Look]) -> ArmsView {
    let (mut stable, mut canary) = (ArmTotals::zero(), ArmTotals::zero());
    let samples: Vec<_> = looks.iter().filter_map(|look| look.sample.as_ref()).collect();
    for pair in samples.windows(2) {
        let [earlier, later] = pair else { continue };
        if earlier.boot == later.boot {
            add(&mut stable, later.stable.since(&earlier.stable));
            add(&mut canary, later.canary.since(&earlier.canary));
        }
    }
    ArmsView { stable: ArmView::of(&stable), canary: ArmView::of(&canary) }
}

fn add(sum: &mut ArmTotals, interval: Option<ArmTotals>) {
    let Some(interval) = interval else { return };
    sum.requests = sum.requests.saturating_add(interval.requests);
    sum.errors = sum.errors.saturating_add(interval.errors);
    for (sum, count) in sum.latency.iter_mut().zip(&interval.latency) {
        *sum = sum.saturating_add(*count);
    }
}

/// The quantile in microseconds, linear within its bucket; the unbounded bucket gives the highest bound.
pub(crate) fn quantile_us(buckets: &[u64], quantile: f64) -> Option<f64> {
    if buckets.len() != LATENCY_BUCKETS {
        return None;
    }
    let total = buckets.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
    if total == 0 {
        return None;
    }
    let rank = quantile.clamp(0.0, 1.0) * total as f64;
    let mut below = 0.0;
    for (index, count) in buckets.iter().enumerate() {
        let count = *count as f64;
        if count > 0.0 && below + count >= rank {
            let low = if index == 0 { 0 } else { LATENCY_BOUNDS_US[index - 1] } as f64;
            let high = LATENCY_BOUNDS_US.get(index).map_or(low, |bound| *bound as f64);
            return Some(low + (high - low) * ((rank - below) / count).clamp(0.0, 1.0));
        }
        below += count;
    }
    LATENCY_BOUNDS_US.last().map(|bound| *bound as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let mut buckets = vec![0; LATENCY_BUCKETS];
        assert_eq!(quantile_us(&buckets, 0.5), None);
        buckets[6] = 100;
        assert_eq!(quantile_us(&buckets, 0.5), Some(8_750.0));
        buckets[LATENCY_BUCKETS - 1] = 900;
        assert_eq!(quantile_us(&buckets, 0.99), Some(10_000_000.0));
        assert_eq!(quantile_us(&[1, 2], 0.5), None);
    }
}
