//! (a2) The error-rate ratio: a one-sided grid mixture over `canary rate / stable rate`.
//!
//! In an interval with `c` canary errors, `b` stable errors and canary share `rho` of the requests, an error belongs to
//! the canary with probability `theta(psi) = rho psi / (rho psi + 1 - rho)`. The alternative `psi_g` gains
//! `c ln(theta_g/theta_0) + b ln((1-theta_g)/(1-theta_0))`. The share may differ in every interval, so one process
//! survives changes of weight.
//!
//! Valid for Bernoulli outcomes of any size, not only for rare ones: with `a = theta_g/theta_0`,
//! `z = (1-theta_g)/(1-theta_0)` and `n_c p_c : n_b p_b = theta_0 : 1 - theta_0` at the edge,
//! `E[a^c z^b] = (1+p_c(a-1))^n_c (1+p_b(z-1))^n_b <= exp(n_c p_c (a-1) + n_b p_b (z-1)) = exp(0)`, and the exponent only
//! falls further inside the null. So high error rates cost some power (a variance of `p` is assumed where it is
//! `p(1-p)`) but never validity. Source: Lindon and Malek, arXiv 2011.03567; the one-sided grid is ours.

use super::grid::{RatioMixture, harm_grid, safety_grid};

/// An e-process on the ratio of two error rates.
#[derive(Debug, Clone)]
pub struct RateRatio(RatioMixture);

impl RateRatio {
    /// Evidence against "the ratio is at most `margin`".
    pub fn harm(margin: f64) -> Self {
        Self(RatioMixture::new(margin, harm_grid()))
    }

    /// Evidence against "the ratio is at least `limit`".
    pub fn safety(limit: f64) -> Self {
        Self(RatioMixture::new(limit, safety_grid()))
    }

    /// Takes in one interval: errors of both arms, and the canary's share of requests in 0..=1. A share of 0 or 1, or
    /// no errors at all, tells nothing about a ratio.
    pub fn observe(&mut self, canary_errors: u64, stable_errors: u64, share: f64) {
        if canary_errors.saturating_add(stable_errors) == 0 || !(share > 0.0 && share < 1.0) {
            return;
        }
        let canary = canary_errors as f64;
        let both = canary + stable_errors as f64;
        let edge = share * self.0.edge + (1.0 - share);
        for alternative in &mut self.0.alternatives {
            let shrink = libm::log(edge / (share * alternative.ratio + (1.0 - share)));
            alternative.log_value += canary * alternative.log_multiple + both * shrink;
        }
    }

    /// `ln` of the e-value now.
    pub fn log_e(&self) -> f64 {
        self.0.log_e()
    }
}
