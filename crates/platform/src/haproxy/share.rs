//! Shares of traffic as HAProxy's weights of 0 to 256.
//!
//! HAProxy gives a server the part of requests that its weight is of all weights. The same weight is given to every server
//! of a group, so with `s` stable and `c` canary servers the canary's share is `c*wc / (c*wc + s*ws)`.
//!
//! Resolution: with as many servers on both sides, every share from 0.39% (1 of 257) to 99.61% is met from below within 0.2
//! percentage points; nothing lies between 0 and 0.39%. Tests hold these figures. Invariant: never above what was asked.

use delivery::traffic::Weight;

/// The highest weight of a server (HAProxy 2.6, configuration.txt, `weight`).
pub const WEIGHT_MAX: u64 = 256;
/// The smallest share above 0 with as many servers on both sides, rounded up to hundredths of a percent.
pub const LEAST_SHARE_BASIS_POINTS: u16 = 39;

const ALL: u64 = 10_000;

/// The weights of each stable and each canary server, for so many servers; `None` when no share above 0 is that small.
pub fn weights(share: Weight, stable: usize, canary: usize) -> Option<(u64, u64)> {
    let (asked, stable, canary) = (u64::from(share.basis_points()), stable as u64, canary as u64);
    if asked == 0 {
        return Some((WEIGHT_MAX, 0));
    }
    if asked == ALL || stable == 0 {
        return Some((0, WEIGHT_MAX));
    }
    let mut best: Option<(u64, u64)> = None;
    for of_stable in 1..=WEIGHT_MAX {
        let fits = asked * stable * of_stable / (canary.max(1) * (ALL - asked));
        let of_canary = fits.min(WEIGHT_MAX);
        // a/b > c/d as a*d > c*b: the ratio grows with the share.
        if of_canary > 0 && best.is_none_or(|(s, c)| of_canary * s > c * of_stable) {
            best = Some((of_stable, of_canary));
        }
    }
    best
}

/// The share that weights give, rounded to hundredths of a percent; zero when nobody has weight.
pub fn share(stable: u64, canary: u64) -> Weight {
    let all = stable + canary;
    let points = (canary * ALL + all / 2).checked_div(all).unwrap_or(0);
    Weight::from_basis_points(points.min(ALL) as u16).unwrap_or(Weight::FULL)
}

/// Whether weights give the canary more than this.
pub fn exceeds(stable: u64, canary: u64, ceiling: Weight) -> bool {
    canary * ALL > u64::from(ceiling.basis_points()) * (stable + canary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(points: u16) -> Weight {
        Weight::from_basis_points(points).unwrap()
    }

    /// What is lost below the asked share, in percentage points.
    fn lost(asked: u16, stable: usize, canary: usize) -> f64 {
        let (of_stable, of_canary) = weights(points(asked), stable, canary).unwrap();
        let (stable, canary) = (of_stable * stable as u64, of_canary * canary as u64);
        assert!(!exceeds(stable, canary, points(asked)), "{asked}");
        f64::from(asked) / 100.0 - canary as f64 * 100.0 / (stable + canary) as f64
    }

    #[test]
    fn every_share_is_met_from_below_within_a_fifth_of_a_point() {
        for servers in [1, 2, 7, 64] {
            let worst = (LEAST_SHARE_BASIS_POINTS..=9_961).map(|asked| lost(asked, servers, servers));
            assert!(worst.fold(0.0, f64::max) < 0.2);
        }
    }

    #[test]
    fn usual_shares_are_exact() {
        for asked in [500, 1_000, 2_000, 2_500, 5_000, 7_500, 10_000] {
            assert!(lost(asked, 2, 2).abs() < 1e-9, "{asked}");
        }
        assert_eq!(weights(points(500), 2, 2), Some((19, 1)));
        assert!(lost(500, 3, 1) < 0.05 && lost(500, 1, 3) < 0.2);
    }

    #[test]
    fn what_is_too_small_is_said_and_not_rounded() {
        assert_eq!(weights(points(LEAST_SHARE_BASIS_POINTS - 1), 1, 1), None);
        assert_eq!(weights(points(LEAST_SHARE_BASIS_POINTS), 1, 1), Some((256, 1)));
        assert_eq!(weights(Weight::ZERO, 1, 1), Some((WEIGHT_MAX, 0)));
        assert_eq!(weights(Weight::FULL, 1, 1), Some((0, WEIGHT_MAX)));
    }

    #[test]
    fn nothing_is_above_nothing() {
        assert!(!exceeds(0, 0, Weight::ZERO) && !exceeds(5, 0, Weight::ZERO) && exceeds(5, 1, Weight::ZERO));
        assert_eq!((share(0, 0), share(3, 1), share(0, 1)), (Weight::ZERO, points(2_500), Weight::FULL));
    }
}
