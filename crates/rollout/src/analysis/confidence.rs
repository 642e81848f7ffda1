//! A confidence sequence for the error-rate ratio, for people to look at.
//!
//! The ratios that neither one-sided process (a2), each at alpha/2, has rejected so far. Ratios live on a lattice with a
//! step of 5 %, so that all processes share one log likelihood per lattice point: the process for an edge compares the
//! points beyond it with the edge. The sequence only ever shrinks and holds the true ratio at all times with probability
//! 1 - alpha, as long as that ratio stays the same. It decides nothing. Invariant: `low <= high`, both on the lattice.

use super::grid::log_sum_exp;

/// Ratio of two neighbours on the lattice.
const STEP: f64 = 1.05;
/// Edges go from `STEP^-REACH` to `STEP^REACH`: 1/52 to 52.
const REACH: usize = 81;
/// An alternative is a whole number of strides beyond its edge.
const STRIDE: usize = 4;
/// Alternatives of one edge: up to `STEP^(STRIDE*BETS)` = 50 times the edge.
const BETS: usize = 20;
/// Lattice points on each side of the ratio 1.
const SIDE: usize = REACH + STRIDE * BETS;

/// The ratios that are still possible.
#[derive(Debug, Clone)]
pub struct ConfidenceSequence {
    /// `ln` of the threshold: `ln(2/alpha)`.
    threshold: f64,
    /// The lattice, from the smallest ratio up, with the log likelihood of each.
    lattice: Vec<(f64, f64)>,
    canary_errors: f64,
    /// Index of the largest edge that the ratio was shown to exceed.
    low: Option<usize>,
    /// Index of the smallest edge that the ratio was shown to stay below.
    high: Option<usize>,
}

impl ConfidenceSequence {
    /// Covers at 1 - `alpha`.
    pub fn new(alpha: f64) -> Self {
        let exponent = |index: usize| index as f64 - SIDE as f64;
        let point = |index: usize| (libm::exp(exponent(index) * libm::log(STEP)), 0.0);
        Self {
            threshold: libm::log(2.0 / alpha),
            lattice: (0..=2 * SIDE).map(point).collect(),
            canary_errors: 0.0,
            low: None,
            high: None,
        }
    }

    /// Takes in one interval: errors of both arms, and the canary's share of requests.
    pub fn observe(&mut self, canary_errors: u64, stable_errors: u64, share: f64) {
        let both = canary_errors as f64 + stable_errors as f64;
        if both == 0.0 || !(share > 0.0 && share < 1.0) {
            return;
        }
        // The canary's part, c ln(psi), is linear in the exponent and kept as one count.
        self.canary_errors += canary_errors as f64;
        for (ratio, log_likelihood) in &mut self.lattice {
            *log_likelihood -= both * libm::log(share * *ratio + (1.0 - share));
        }
        self.tighten();
    }

    /// Moves both ends inwards as far as the evidence goes. Rejecting an edge rejects everything outside it, so it is
    /// enough to walk from where the end is now.
    fn tighten(&mut self) {
        let (first, last) = (SIDE - REACH, SIDE + REACH);
        let mut next = self.low.map_or(first, |index| index + 1);
        while next <= last
            && self.high.is_none_or(|high| next < high)
            && self.log_e_above(next) >= self.threshold
        {
            self.low = Some(next);
            next += 1;
        }
        let mut next = self.high.map_or(last, |index| index - 1);
        while next >= first
            && self.low.is_none_or(|low| next > low)
            && self.log_e_below(next) >= self.threshold
        {
            self.high = Some(next);
            next -= 1;
        }
    }

    fn log_likelihood_ratio(&self, bet: usize, edge: usize) -> f64 {
        let steps = bet as f64 - edge as f64;
        self.canary_errors * steps * libm::log(STEP) + self.lattice[bet].1 - self.lattice[edge].1
    }

    /// `ln` of the e-value against "the ratio is at most this edge".
    fn log_e_above(&self, edge: usize) -> f64 {
        let bets = (1..=BETS).map(|count| self.log_likelihood_ratio(edge + count * STRIDE, edge));
        log_sum_exp(bets) - libm::log(BETS as f64)
    }

    /// `ln` of the e-value against "the ratio is at least this edge".
    fn log_e_below(&self, edge: usize) -> f64 {
        let bets = (1..=BETS).map(|count| self.log_likelihood_ratio(edge - count * STRIDE, edge));
        log_sum_exp(bets) - libm::log(BETS as f64)
    }

    /// The lower end; `None` while nothing above 0 is excluded.
    pub fn low(&self) -> Option<f64> {
        self.low.map(|index| self.lattice[index].0)
    }

    /// The upper end; `None` while it is unbounded.
    pub fn high(&self) -> Option<f64> {
        self.high.map(|index| self.lattice[index].0)
    }
}
