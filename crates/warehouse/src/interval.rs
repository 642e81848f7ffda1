//! 95 % confidence intervals, each exact or with a known name: order statistics for quantiles, Wilson for shares, Garwood for
//! rates. Pure numbers; no approximation by the normal distribution where counts are small.

use serde::Serialize;

/// Two-sided 95 %: the probability that is left out on each side.
const TAIL: f64 = 0.025;
/// The normal distribution's 97.5 % quantile.
const Z: f64 = 1.959_963_984_540_054;

/// A confidence interval at 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Interval of the `q` quantile (0 < q < 1) from sorted values: the order statistics whose ranks the binomial distribution
/// gives. It assumes nothing of the values' distribution. `None` when there are too few values for 95 % (fewer than 6 for the
/// median, fewer than 36 for the 90 % quantile).
pub fn quantile(sorted: &[f64], q: f64) -> Option<Interval> {
    let n = sorted.len();
    // cdf(k) = P(X <= k) for X ~ Binomial(n, q), summed from the left in logarithms. The lower rank (from 1) is the largest l
    // with cdf(l - 1) <= 2.5 %, the upper one the smallest u with cdf(u - 1) >= 97.5 %.
    let (mut low, mut high) = (0, None);
    let mut log_term = n as f64 * (-q).ln_1p();
    let log_odds = q.ln() - (-q).ln_1p();
    let mut cumulated = 0.0;
    for k in 0..n {
        cumulated += log_term.exp();
        if cumulated <= TAIL {
            low = k + 1;
        }
        if cumulated >= 1.0 - TAIL {
            high = Some(k + 1);
            break;
        }
        log_term += ((n - k) as f64).ln() - ((k + 1) as f64).ln() + log_odds;
    }
    let (low, high) = (sorted.get(low.checked_sub(1)?)?, sorted.get(high? - 1)?);
    Some(Interval { low: *low, high: *high })
}

/// Interval of a share, `hits` of `n`, by Wilson's score. `None` without data.
pub fn share(hits: u64, n: u64) -> Option<Interval> {
    if n == 0 || hits > n {
        return None;
    }
    let (hits, n) = (hits as f64, n as f64);
    let share = hits / n;
    let center = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    // Rounding must not push an end past the share itself where they meet (0 and 1).
    Some(Interval { low: (center - half).clamp(0.0, share), high: (center + half).clamp(share, 1.0) })
}

/// Interval of a Poisson count's expectation (Garwood, exact): where `count` or more, and `count` or fewer, have a probability of
/// 2.5 % each.
pub fn count(count: u64) -> Interval {
    let low = match count {
        0 => 0.0,
        // P(X >= count) rises with the expectation.
        _ => bisect(0.0, count as f64, |mean| 1.0 - poisson_cdf(count - 1, mean) < TAIL),
    };
    let c = count as f64;
    let high = bisect(c, c + 10.0 * (c + 1.0).sqrt() + 10.0, |mean| poisson_cdf(count, mean) > TAIL);
    Interval { low, high }
}

/// The point between `low` and `high` where `below` turns from true to false.
fn bisect(mut low: f64, mut high: f64, below: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// P(X <= k) for a Poisson variable, summed in logarithms.
fn poisson_cdf(k: u64, mean: f64) -> f64 {
    if mean <= 0.0 {
        return 1.0;
    }
    let mut log_term = -mean;
    let mut sum = 0.0;
    for i in 0..=k {
        sum += log_term.exp();
        log_term += mean.ln() - ((i + 1) as f64).ln();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, wanted: f64) {
        assert!((found - wanted).abs() <= 1e-5 * wanted.abs().max(1.0), "{found} instead of {wanted}");
    }

    /// Garwood (1936); the same as half the chi-square quantiles, as R's poisson.test prints them.
    #[test]
    fn counts_have_garwoods_interval() {
        for (n, low, high) in [
            (0, 0.0, 3.688_879),
            (1, 0.025_318, 5.571_643),
            (10, 4.795_389, 18.390_356),
            (100, 81.363_968, 121.627_259),
        ] {
            let interval = count(n);
            near(interval.low, low);
            near(interval.high, high);
        }
        let large = count(5_000);
        near(large.low, 4_862.359_188);
        near(large.high, 5_140.548_949);
    }

    /// Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    #[test]
    fn shares_have_wilsons_interval() {
        for (hits, n, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let interval = share(hits, n).unwrap();
            assert!((interval.low - low).abs() < 6e-5 && (interval.high - high).abs() < 6e-5, "{interval:?}");
        }
        assert_eq!(share(0, 0), None);
        assert_eq!(share(5, 5).map(|i| i.high), Some(1.0));
    }

    /// Ranks from the textbook tables (Conover, Practical Nonparametric Statistics): n = 10 gives the 2nd and the 9th.
    #[test]
    fn quantiles_have_order_statistics() {
        let ranks = |n: u32, q| {
            let values: Vec<f64> = (1..=n).map(f64::from).collect();
            quantile(&values, q).map(|i| (i.low as u32, i.high as u32))
        };
        assert_eq!(ranks(5, 0.5), None);
        assert_eq!(ranks(6, 0.5), Some((1, 6)));
        assert_eq!(ranks(10, 0.5), Some((2, 9)));
        assert_eq!(ranks(25, 0.5), Some((8, 18)));
        assert_eq!(ranks(35, 0.9), None);
        assert_eq!(ranks(36, 0.9).map(|r| r.1), Some(36));
        assert_eq!(ranks(0, 0.5), None);
        let (low, high) = ranks(100_000, 0.5).unwrap();
        assert!((49_680..49_700).contains(&low) && (50_300..50_320).contains(&high), "{low} {high}");
    }
}
