//! (a1) Sample-ratio mismatch: is the traffic split the one that was asked for?
//!
//! The multinomial test of Lindon and Malek (arXiv 2011.03567) with a Dirichlet prior around the expected shares. It
//! assumes that each request is drawn by itself: with sticky routing a few busy users make requests correlated, and the
//! test would fire on a healthy splitter, so then it is not used. Invariant: the expected shares are inside (0, 1).

/// Concentration of the prior, in requests.
pub const CONCENTRATION: f64 = 100.0;

/// `ln` of the e-value against "requests fall to the arms in these shares". Counts and shares are in the same order;
/// the shares are positive and sum to 1.
pub fn log_e(counts: [u64; 2], shares: [f64; 2], concentration: f64) -> f64 {
    let total: f64 = counts.iter().map(|count| *count as f64).sum();
    let mut log_e = libm::lgamma(concentration) - libm::lgamma(concentration + total);
    for (count, share) in counts.iter().zip(shares) {
        let (count, prior) = (*count as f64, concentration * share);
        log_e += libm::lgamma(prior + count) - libm::lgamma(prior) - count * libm::log(share);
    }
    log_e
}
