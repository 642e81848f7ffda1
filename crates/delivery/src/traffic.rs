//! What a splitter counted: requests, errors and latencies for each arm.
//!
//! Counts are running totals since the splitter started (`boot`); readers take differences, and a new `boot` starts over.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Upper bounds of the latency buckets in microseconds, ascending; one more bucket catches everything above the last.
pub const LATENCY_BOUNDS_US: [u64; 24] = [
    500, 1_000, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 50_000, 75_000, 100_000, 150_000,
    200_000, 300_000, 500_000, 750_000, 1_000_000, 1_500_000, 2_000_000, 3_000_000, 5_000_000, 10_000_000,
];

/// Number of latency buckets, the unbounded last one included.
pub const LATENCY_BUCKETS: usize = LATENCY_BOUNDS_US.len() + 1;

/// The bucket that a latency falls into: the first whose bound is not below it.
pub fn latency_bucket(micros: u64) -> usize {
    LATENCY_BOUNDS_US.partition_point(|bound| *bound < micros)
}

/// Share of traffic in hundredths of a percent: 0 (none) to 10,000 (all).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "u16", into = "u16")]
pub struct Weight(u16);

impl Weight {
    /// No traffic.
    pub const ZERO: Self = Self(0);
    /// All traffic.
    pub const FULL: Self = Self(10_000);

    /// From hundredths of a percent; more than 10,000 is refused.
    pub fn from_basis_points(points: u16) -> Option<Self> {
        (points <= Self::FULL.0).then_some(Self(points))
    }

    /// From percent; not finite, negative or above 100 is refused. Rounded to hundredths.
    pub fn from_percent(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then(|| Self((percent * 100.0).round() as u16))
    }

    /// Hundredths of a percent.
    pub fn basis_points(self) -> u16 {
        self.0
    }

    /// Share in 0..=1.
    pub fn share(self) -> f64 {
        f64::from(self.0) / f64::from(Self::FULL.0)
    }
}

impl std::fmt::Display for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}%", f64::from(self.0) / 100.0))
    }
}

impl TryFrom<u16> for Weight {
    type Error = &'static str;
    fn try_from(points: u16) -> Result<Self, Self::Error> {
        Self::from_basis_points(points).ok_or("a weight is at most 10000 hundredths of a percent")
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

/// Running totals of one arm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmTotals {
    /// Requests that ended.
    pub requests: u64,
    /// Of these, the ones that failed: status 500 or above, a broken or refused connection, a time-out.
    pub errors: u64,
    /// Requests by latency bucket, not cumulative; [`LATENCY_BUCKETS`] long, sums to `requests`.
    pub latency: Vec<u64>,
    /// Requests under way now. A level, not a total.
    pub in_flight: u64,
}

impl ArmTotals {
    /// No traffic yet.
    pub fn zero() -> Self {
        Self { requests: 0, errors: 0, latency: vec![0; LATENCY_BUCKETS], in_flight: 0 }
    }

    /// What came since `earlier`; `None` when a total went backwards or a shape differs (the counter was reset).
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        if self.latency.len() != earlier.latency.len() {
            return None;
        }
        let latency: Option<Vec<u64>> =
            self.latency.iter().zip(&earlier.latency).map(|(now, then)| now.checked_sub(*then)).collect();
        Some(Self {
            requests: self.requests.checked_sub(earlier.requests)?,
            errors: self.errors.checked_sub(earlier.errors)?,
            latency: latency?,
            in_flight: self.in_flight,
        })
    }
}

/// One reading of a splitter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Names the splitter's process lifetime; totals of two boots are not comparable.
    pub boot: String,
    /// When it was read, by the reader's clock.
    pub at: Timestamp,
    /// The weight in force at that moment.
    pub weight: Weight,
    /// The stable arm.
    pub stable: ArmTotals,
    /// The canary arm.
    pub canary: ArmTotals,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_take_their_upper_bound() {
        assert_eq!(latency_bucket(0), 0);
        assert_eq!(latency_bucket(500), 0);
        assert_eq!(latency_bucket(501), 1);
        assert_eq!(latency_bucket(10_000_000), LATENCY_BUCKETS - 2);
        assert_eq!(latency_bucket(u64::MAX), LATENCY_BUCKETS - 1);
    }

    #[test]
    fn a_reset_counter_gives_no_difference() {
        let mut later = ArmTotals::zero();
        later.requests = 5;
        assert_eq!(later.since(&ArmTotals::zero()).map(|d| d.requests), Some(5));
        assert_eq!(ArmTotals::zero().since(&later), None);
    }

    #[test]
    fn weights_are_bounded() {
        assert_eq!(Weight::from_percent(2.5).map(Weight::basis_points), Some(250));
        assert_eq!(Weight::from_percent(100.1), None);
        assert_eq!(Weight::from_percent(f64::NAN), None);
        assert_eq!(Weight::from_percent(5.0).map(|w| w.to_string()), Some("5%".into()));
    }
}
