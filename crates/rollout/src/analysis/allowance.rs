//! The additive safety test: evidence against "the canary's rate is at least stable's rate plus an allowance".
//!
//! Where events are rare no ratio can ever be shown to be small, but a distance can. For a rate `p_c >= p_b + d` and any
//! `0 < s < 1`, with `t = (n_c/n_b) s/(1 - d s)`,
//!
//! `e = (1-s)^k_c (1+t)^k_b / (1 - d s)^n_c`
//!
//! has mean at most 1: `n_c ln(1 - (p_b+d) s) + n_b ln(1 + p_b t)` is at most `n_c ln(1 - (p_b+d) s) + n_b p_b t`, which is
//! concave in `p_b` with slope 0 at `p_b = 0` by the choice of `t`, where it is `n_c ln(1 - d s)`. For an error-free stable
//! arm this is the likelihood-ratio test of the absolute floor `p_c >= d`. Where nearly all requests are events the same
//! is done with the complements, `q_b >= q_c + d`: for `u > 0` and `v = u n_c / (n_b + u n_c d)`,
//! `e = (1+u)^(n_c-k_c) (1-v)^(n_b-k_b) / (1 - d v)^n_b`. The mean over a fixed grid of `s` and `u` is the process.
//! Each interval stands for itself, so a drifting base rate does not matter. Invariant: all logarithms are finite.

use super::grid::log_sum_exp;
use super::odds::INTERVAL_FACTOR_MAX;

/// Bets on few events: `s` near 1 for rates near 0, small `s` for high rates (the best is about `d/(p+d)`).
const DIRECT: [f64; 6] = [0.97, 0.9, 0.75, 0.55, 0.35, 0.15];
/// Bets on few non-events (the best `u` is about `d/(q-d)`).
const COMPLEMENT: [f64; 4] = [8.0, 2.0, 0.7, 0.25];
/// Part of the capital on [`COMPLEMENT`], when it takes part.
const COMPLEMENT_WEIGHT: f64 = 0.3;
/// `v` must stay below 1; a bet that would pass this is made smaller.
const BET_MAX: f64 = 0.95;

/// One interval's events and requests.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// Events of the canary.
    pub canary_events: u64,
    /// Requests of the canary.
    pub canary: u64,
    /// Events of stable.
    pub stable_events: u64,
    /// Requests of stable.
    pub stable: u64,
}

impl Counts {
    /// With others of the same event.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            canary_events: self.canary_events.saturating_add(other.canary_events),
            canary: self.canary.saturating_add(other.canary),
            stable_events: self.stable_events.saturating_add(other.stable_events),
            stable: self.stable.saturating_add(other.stable),
        }
    }
}

/// An e-process on the difference of two rates.
#[derive(Debug, Clone)]
pub struct Allowance {
    /// What the canary may be worse by, in 0..1.
    distance: f64,
    direct: [f64; DIRECT.len()],
    complement: Option<[f64; COMPLEMENT.len()]>,
    /// `ln` of the most that one interval may multiply a bet's capital by.
    most: f64,
}

impl Allowance {
    /// For events that are rare in every good service, such as errors. The allowance is in 0..1.
    pub fn rare(allowance: f64) -> Self {
        let direct = -libm::log(DIRECT.len() as f64);
        Self { distance: allowance, direct: [direct; DIRECT.len()], complement: None, most: f64::INFINITY }
    }

    /// For events of any rate, such as being slower than a bound. The allowance is in 0..1. They come in bursts, so no
    /// interval counts for more than in [`odds`](super::odds).
    pub fn any(allowance: f64) -> Self {
        let direct = libm::log((1.0 - COMPLEMENT_WEIGHT) / DIRECT.len() as f64);
        let complement = libm::log(COMPLEMENT_WEIGHT / COMPLEMENT.len() as f64);
        Self {
            distance: allowance,
            direct: [direct; DIRECT.len()],
            complement: Some([complement; COMPLEMENT.len()]),
            most: libm::log(INTERVAL_FACTOR_MAX),
        }
    }

    /// Takes in one interval. Without canary requests it tells nothing.
    pub fn observe(&mut self, counts: Counts) {
        if counts.canary == 0 {
            return;
        }
        let (canary, stable) = (counts.canary as f64, counts.stable as f64);
        let canary_events = counts.canary_events.min(counts.canary) as f64;
        let stable_events = counts.stable_events.min(counts.stable) as f64;
        for (value, bet) in self.direct.iter_mut().zip(DIRECT) {
            let kept = 1.0 - self.distance * bet;
            let mut gain = canary_events * libm::log1p(-bet) - canary * libm::log(kept);
            if stable_events > 0.0 {
                gain += stable_events * libm::log1p(canary / stable * bet / kept);
            }
            *value += gain.min(self.most);
        }
        let Some(complement) = &mut self.complement else { return };
        if counts.stable == 0 {
            return;
        }
        for (value, wish) in complement.iter_mut().zip(COMPLEMENT) {
            let against = (wish * canary / (stable + wish * canary * self.distance)).min(BET_MAX);
            let kept = 1.0 - self.distance * against;
            let bet = stable / canary * against / kept;
            let gain = (canary - canary_events) * libm::log1p(bet)
                + (stable - stable_events) * libm::log1p(-against)
                - stable * libm::log(kept);
            *value += gain.min(self.most);
        }
    }

    /// `ln` of the e-value now.
    pub fn log_e(&self) -> f64 {
        log_sum_exp(self.direct.iter().chain(self.complement.iter().flatten()).copied())
    }
}
