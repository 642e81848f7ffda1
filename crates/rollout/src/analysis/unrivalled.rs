//! Harm where there is nothing to compare with: all traffic goes to the new revision (blue/green after the switch).
//!
//! The question is then asked of the past: is the error rate above what stable had before, plus what the policy allows?
//! A Bernoulli likelihood ratio against a fixed limit, mixed over a grid of worse rates (Ville's inequality as everywhere
//! here). It is valid for a fixed limit; that stable's former rate is an estimate is what the allowance is for. Only
//! intervals without stable traffic count, which no other process here uses, so the product with theirs stays valid. It
//! leaves out latency. Invariant: the limit never changes once it is set.

use delivery::strategy::AnalysisPolicy;
use delivery::traffic::ArmTotals;

use super::grid::log_sum_exp;

/// Rates that are bet on, as multiples of the limit.
const MULTIPLES: [f64; 7] = [1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0];
/// No limit and no alternative is above this.
const RATE_MAX: f64 = 0.95;

/// Evidence against "the error rate is at most the limit".
#[derive(Debug, Clone)]
pub(super) struct Unrivalled {
    limit: Option<f64>,
    log_values: [f64; MULTIPLES.len()],
}

impl Unrivalled {
    pub(super) fn new() -> Self {
        Self { limit: None, log_values: [-libm::log(MULTIPLES.len() as f64); MULTIPLES.len()] }
    }

    /// Sets the limit from what stable had counted before it lost its traffic, once.
    pub(super) fn remember(&mut self, stable: &ArmTotals, policy: &AnalysisPolicy) {
        if self.limit.is_none() {
            let rate = if stable.requests == 0 { 0.0 } else { stable.errors as f64 / stable.requests as f64 };
            self.limit = Some((rate * policy.error_ratio_margin + policy.error_rate_floor).min(RATE_MAX));
        }
    }

    /// Takes in one interval.
    pub(super) fn observe(&mut self, requests: u64, errors: u64) {
        let Some(limit) = self.limit else { return };
        let (bad, good) = (errors.min(requests) as f64, requests.saturating_sub(errors) as f64);
        for (log_value, multiple) in self.log_values.iter_mut().zip(MULTIPLES) {
            let rate = (limit * multiple).min(f64::midpoint(RATE_MAX, 1.0));
            *log_value += bad * libm::log(rate / limit) + good * libm::log((1.0 - rate) / (1.0 - limit));
        }
    }

    /// `ln` of the e-value; 0 before there was anything to see.
    pub(super) fn log_e(&self) -> f64 {
        log_sum_exp(self.log_values.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_mean_under_the_null_is_at_most_one() {
        let mut totals = ArmTotals::zero();
        (totals.requests, totals.errors) = (1_000, 10);
        let mut fresh = Unrivalled::new();
        fresh.remember(&totals, &AnalysisPolicy::default());
        let limit = fresh.limit.unwrap_or_default();
        // Exact expectation over Binomial(20, limit).
        let (mut mean, mut probability) = (0.0, libm::pow(1.0 - limit, 20.0));
        for errors in 0..=20_u32 {
            let mut process = fresh.clone();
            process.observe(20, u64::from(errors));
            mean += probability * libm::exp(process.log_e());
            probability *= f64::from(20 - errors) / f64::from(errors + 1) * limit / (1.0 - limit);
        }
        assert!((mean - 1.0).abs() < 1e-9, "{mean}");
    }

    #[test]
    fn many_errors_are_harm_and_few_are_not() {
        let policy = AnalysisPolicy::default();
        let mut bad = Unrivalled::new();
        bad.remember(&ArmTotals::zero(), &policy);
        let mut good = bad.clone();
        for _ in 0..4 {
            bad.observe(50, 5);
            good.observe(50, 0);
        }
        assert!(bad.log_e() > 4.7, "{}", bad.log_e());
        assert!(good.log_e() < 0.0);
    }
}
