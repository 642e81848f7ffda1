//! Mixtures of likelihood ratios: the part that every e-process here shares.
//!
//! A one-sided null `ratio <= edge` is tested against a fixed grid of alternatives beyond the edge. Each alternative's
//! likelihood ratio is an e-process by itself; their weighted mean is one too, and is never far below the best of them.
//! What it leaves out: how a likelihood is computed (`rate`, `odds`, `allowance`). Invariant: weights sum to 1 and are
//! fixed before the first count, all state is finite, and everything stays in natural logarithms.

/// Alternatives of a harm test, as multiples of the margin: 32 of them, log-spaced from 1.05 to 50.
pub const HARM_POINTS: usize = 32;
/// Smallest multiple of the margin that a harm test bets on.
pub const HARM_LOW: f64 = 1.05;
/// Largest multiple of the margin that a harm test bets on.
pub const HARM_HIGH: f64 = 50.0;
/// Alternatives of a safety test as multiples of its limit, with their weights. A good release has ratio 1, which for
/// the default limit of 2 is the multiple 0.5: most of the capital is there.
pub const SAFE_POINTS: [(f64, f64); 5] = [(0.2, 0.1), (0.35, 0.2), (0.5, 0.4), (0.65, 0.2), (0.8, 0.1)];

/// `points` values from `low` to `high` with equal ratios between neighbours. Both ends are positive.
pub fn log_spaced(low: f64, high: f64, points: usize) -> Vec<f64> {
    let (start, end) = (libm::log(low), libm::log(high));
    let last = points.saturating_sub(1).max(1) as f64;
    (0..points).map(|index| libm::exp(start + (end - start) * index as f64 / last)).collect()
}

/// `ln(sum(exp(x)))` without overflow; minus infinity for nothing.
pub fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    // exp(-40) is below one unit in the last place of the sum, so such terms are not worth their exponential.
    let sum: f64 = values.map(|x| if x - most < -40.0 { 0.0 } else { libm::exp(x - most) }).sum();
    most + libm::log(sum)
}

/// The multiples of the edge that a harm test bets on, with the logarithms of their weights.
pub(crate) fn harm_grid() -> Vec<(f64, f64)> {
    let log_weight = -libm::log(HARM_POINTS as f64);
    log_spaced(HARM_LOW, HARM_HIGH, HARM_POINTS).into_iter().map(|multiple| (multiple, log_weight)).collect()
}

/// The multiples of the limit that a safety test bets on, with the logarithms of their weights.
pub(crate) fn safety_grid() -> Vec<(f64, f64)> {
    SAFE_POINTS.iter().map(|(multiple, weight)| (*multiple, libm::log(*weight))).collect()
}

/// One alternative of a one-sided test on a ratio.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alternative {
    /// The ratio that is bet on: the edge times a multiple.
    pub(crate) ratio: f64,
    /// `ln` of the multiple.
    pub(crate) log_multiple: f64,
    /// `ln` of its weight plus its log likelihood ratio against the edge so far.
    pub(crate) log_value: f64,
}

/// A grid of alternatives to an edge, and what each has won or lost.
#[derive(Debug, Clone)]
pub(crate) struct RatioMixture {
    /// The ratio at the null's edge.
    pub(crate) edge: f64,
    /// The alternatives.
    pub(crate) alternatives: Vec<Alternative>,
}

impl RatioMixture {
    /// Nothing won or lost yet.
    pub(crate) fn new(edge: f64, grid: Vec<(f64, f64)>) -> Self {
        let alternative = |(multiple, log_value): (f64, f64)| Alternative {
            ratio: edge * multiple,
            log_multiple: libm::log(multiple),
            log_value,
        };
        Self { edge, alternatives: grid.into_iter().map(alternative).collect() }
    }

    /// `ln` of the e-value now.
    pub(crate) fn log_e(&self) -> f64 {
        log_sum_exp(self.alternatives.iter().map(|alternative| alternative.log_value))
    }
}
