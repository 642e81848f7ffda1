//! (a3) The odds ratio of an event: a one-sided grid mixture on exact 2x2 tables.
//!
//! The event is "slower than a bound". Given the interval's margins, the canary's count follows Fisher's noncentral
//! hypergeometric distribution with the odds ratio as its only parameter, whatever the base rate is and however it
//! drifts: the alternative `psi_g` gains `x ln(psi_g/psi_0) - ln(Z(psi_g)/Z(psi_0))`. The family has a monotone
//! likelihood ratio in `x`, so the process is valid for the whole one-sided null. It leaves the sum `Z` to `bernoulli`.
//!
//! Requests that are slow together (a collection of garbage, a busy host) are one misfortune, not many. So no single
//! interval may multiply an alternative's capital by more than [`INTERVAL_FACTOR_MAX`]: the mean of a factor that is cut
//! off above is no larger than before, so the process stays valid, and a burst alone decides nothing.

use super::bernoulli::Table;
use super::grid::{RatioMixture, harm_grid, safety_grid};

/// The most that one interval may multiply an alternative's capital by.
pub const INTERVAL_FACTOR_MAX: f64 = 4.0;

/// An e-process on an odds ratio.
#[derive(Debug, Clone)]
pub struct OddsRatio(RatioMixture);

impl OddsRatio {
    /// Evidence against "the odds ratio is at most `margin`".
    pub fn harm(margin: f64) -> Self {
        Self(RatioMixture::new(margin, harm_grid()))
    }

    /// Evidence against "the odds ratio is at least `limit`".
    pub fn safety(limit: f64) -> Self {
        Self(RatioMixture::new(limit, safety_grid()))
    }

    /// Takes in one interval's table.
    pub fn observe(&mut self, table: &Table) {
        let edge = table.log_partition(self.0.edge);
        let events = table.canary_events();
        let most = libm::log(INTERVAL_FACTOR_MAX);
        for alternative in &mut self.0.alternatives {
            let partition = table.log_partition(alternative.ratio);
            alternative.log_value += (events * alternative.log_multiple - (partition - edge)).min(most);
        }
    }

    /// `ln` of the e-value now.
    pub fn log_e(&self) -> f64 {
        self.0.log_e()
    }
}
