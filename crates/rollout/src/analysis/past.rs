//! What stable had counted before: the measure of a canary that has nothing beside it, and of how long requests last.
//!
//! Rates are estimates, so they come as bounds: with `k` of `n`, all rates `p` with `n KL(k/n, p) <= ln(1/delta)` are
//! believed, which leaves out the true one with probability at most `delta` a side (Chernoff's bound, exact for every `n`).
//! It leaves out that the past may differ from the present. Invariant: nothing counted means nothing known, so the bounds
//! are 0 and 1.

use std::time::Duration;

use delivery::traffic::{ArmTotals, LATENCY_BOUNDS_US, LATENCY_BUCKETS};

/// A request in the unbounded last bucket is taken to have lasted this many times the last bound.
const UNBOUNDED: u64 = 3;
/// The tail is what this part of the requests exceeds: one in a thousand.
const TAIL_PART: u64 = 1_000;

/// So many of so many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) events: u64,
    pub(super) requests: u64,
}

impl Share {
    /// The estimate; `None` when nothing was counted.
    pub(super) fn rate(self) -> Option<f64> {
        (self.requests > 0).then(|| self.events.min(self.requests) as f64 / self.requests as f64)
    }

    /// Above the true rate, but for a chance of `delta`.
    pub(super) fn upper(self, delta: f64) -> f64 {
        self.rate().map_or(1.0, |rate| self.edge(rate, 1.0, delta))
    }

    /// Below the true rate, but for a chance of `delta`.
    pub(super) fn lower(self, delta: f64) -> f64 {
        self.rate().map_or(0.0, |rate| self.edge(rate, 0.0, delta))
    }

    /// Where belief ends on the way from the estimate to `end`.
    fn edge(self, rate: f64, end: f64, delta: f64) -> f64 {
        let enough = -libm::log(delta) / self.requests as f64;
        let (mut believed, mut not) = (rate, end);
        // Bisection to the last bit that matters.
        for _ in 0..60 {
            let middle = f64::midpoint(believed, not);
            if divergence(rate, middle) <= enough {
                believed = middle;
            } else {
                not = middle;
            }
        }
        not
    }
}

/// The Kullback-Leibler divergence of two Bernoulli distributions, in nats.
fn divergence(p: f64, q: f64) -> f64 {
    let part = |a: f64, b: f64| if a > 0.0 { a * libm::log(a / b) } else { 0.0 };
    part(p, q) + part(1.0 - p, 1.0 - q)
}

/// The part of requests that failed.
pub(super) fn errors(totals: &ArmTotals) -> Share {
    Share { events: totals.errors, requests: totals.requests }
}

/// The part of requests that took longer than the bound.
pub(super) fn slower(totals: &ArmTotals, bound: usize) -> Share {
    let sum = |counts: &[u64]| counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
    let above = totals.latency.get(bound + 1..).unwrap_or_default();
    Share { events: sum(above), requests: sum(&totals.latency) }
}

/// The longest that a request in the bucket is taken to have lasted.
fn longest(bucket: usize) -> Duration {
    let last = LATENCY_BOUNDS_US[LATENCY_BOUNDS_US.len() - 1];
    Duration::from_micros(LATENCY_BOUNDS_US.get(bucket).copied().unwrap_or(last * UNBOUNDED))
}

/// What requests last on average, rounded up; `None` when nothing was counted.
pub(super) fn mean_latency(totals: &ArmTotals) -> Option<Duration> {
    let buckets = || totals.latency.iter().take(LATENCY_BUCKETS).enumerate();
    let requests: f64 = buckets().map(|(_, count)| *count as f64).sum();
    let seconds: f64 = buckets().map(|(bucket, count)| *count as f64 * longest(bucket).as_secs_f64()).sum();
    (requests > 0.0).then(|| Duration::from_secs_f64(seconds / requests))
}

/// How long all but one in a thousand requests last at most; zero when nothing was counted.
pub(super) fn tail(totals: &ArmTotals) -> Duration {
    let requests = totals.latency.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
    let mut above = 0_u64;
    for (bucket, count) in totals.latency.iter().take(LATENCY_BUCKETS).enumerate().rev() {
        above = above.saturating_add(*count);
        if above > requests / TAIL_PART {
            return longest(bucket);
        }
    }
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_for_the_true_rate_but_for_delta() {
        // Exact: the probability, over Binomial(n, p), that the bound misses p.
        for (n, p) in [(20_u64, 0.05), (200, 0.01), (200, 0.5), (1_000, 0.9)] {
            let (mut above, mut below) = (0.0, 0.0);
            let mut log_mass = n as f64 * libm::log1p(-p);
            for k in 0..=n {
                let share = Share { events: k, requests: n };
                above += if share.upper(0.01) < p { libm::exp(log_mass) } else { 0.0 };
                below += if share.lower(0.01) > p { libm::exp(log_mass) } else { 0.0 };
                log_mass += libm::log((n - k) as f64 / (k + 1) as f64) + libm::log(p / (1.0 - p));
            }
            assert!(above <= 0.01 && below <= 0.01, "{n} {p}: {above} {below}");
        }
        let nothing = Share::default();
        assert_eq!((nothing.lower(0.01), nothing.upper(0.01)), (0.0, 1.0));
    }

    #[test]
    fn the_tail_and_the_mean_are_rounded_up() {
        let mut totals = ArmTotals::zero();
        assert_eq!((tail(&totals), mean_latency(&totals)), (Duration::ZERO, None));
        totals.latency[2] = 998;
        totals.latency[10] = 2;
        assert_eq!(tail(&totals), Duration::from_millis(50));
        totals.latency[2] = 1_998;
        assert_eq!(tail(&totals), Duration::from_millis(2));
        totals.latency[LATENCY_BUCKETS - 1] = 500;
        assert_eq!(tail(&totals), Duration::from_secs(30));
        assert!(mean_latency(&totals).is_some_and(|mean| mean > Duration::from_secs(6)));
    }
}
