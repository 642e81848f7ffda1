//! One interval's exact 2x2 table, and the normaliser of Fisher's noncentral hypergeometric distribution.
//!
//! `Z(psi) = sum_x C(n_c, x) C(n_b, k - x) psi^x` over the support of `x`, the canary's events given `k` events in both
//! arms. Only differences of `ln Z` between two ratios of the same table have a meaning. Three ways, by the size of the
//! support: Horner's rule up to [`SMALL`] terms; a sum outwards from the mode; and, where the variance is above
//! [`LAPLACE_VARIANCE`], Laplace's method with its second-order term (error below 1e-6, see the tests). So the cost is
//! bounded for any count. It leaves out every decision. Invariant: the result is finite.

/// Supports of up to this many terms are summed by Horner's rule.
const SMALL: usize = 64;
/// Above this conditional variance the sum is taken by Laplace's method.
const LAPLACE_VARIANCE: f64 = 400.0;
/// A term below this part of the sum ends the summation.
const NEGLIGIBLE: f64 = 1e-17;

/// Events and requests of both arms in one interval.
#[derive(Debug, Clone)]
pub struct Table {
    canary_events: f64,
    /// Requests of the canary, `n_c`.
    canary: f64,
    /// Requests of stable, `n_b`.
    stable: f64,
    /// Events in both arms, `k`.
    events: f64,
    /// Smallest and largest possible count of canary events.
    low: f64,
    high: f64,
    /// For a small support: the weights from `low` on, the largest being 1.
    weights: Option<([f64; SMALL + 1], usize)>,
}

impl Table {
    /// `None` when the table tells nothing: an empty arm, no event, or nothing but events. Events above the requests are
    /// cut to them.
    pub fn new(canary_events: u64, canary: u64, stable_events: u64, stable: u64) -> Option<Self> {
        let canary_events = canary_events.min(canary);
        let events = canary_events + stable_events.min(stable);
        if canary == 0 || stable == 0 || events == 0 || events == canary + stable {
            return None;
        }
        let low = events.saturating_sub(stable);
        let high = events.min(canary);
        let mut table = Self {
            canary_events: canary_events as f64,
            canary: canary as f64,
            stable: stable as f64,
            events: events as f64,
            low: low as f64,
            high: high as f64,
            weights: None,
        };
        let terms = high - low;
        if terms <= SMALL as u64 {
            table.weights = Some((table.small_weights(terms as usize), terms as usize));
        }
        Some(table)
    }

    /// The canary's events.
    pub fn canary_events(&self) -> f64 {
        self.canary_events
    }

    /// `w(x+1) / w(x)` of the central distribution.
    fn step(&self, x: f64) -> f64 {
        (self.canary - x) * (self.events - x) / ((x + 1.0) * (self.stable - self.events + x + 1.0))
    }

    /// The weights relative to the largest, so that neither they nor their sum times any power of a ratio overflows.
    fn small_weights(&self, terms: usize) -> [f64; SMALL + 1] {
        let mut weights = [0.0; SMALL + 1];
        let mode = (0..terms).find(|index| self.step(self.low + *index as f64) < 1.0).unwrap_or(terms);
        weights[mode] = 1.0;
        for index in mode..terms {
            weights[index + 1] = weights[index] * self.step(self.low + index as f64);
        }
        for index in (0..mode).rev() {
            weights[index] = weights[index + 1] / self.step(self.low + index as f64);
        }
        weights
    }

    /// `ln Z(ratio)` up to a constant of this table. The ratio is positive and finite.
    pub fn log_partition(&self, ratio: f64) -> f64 {
        if let Some((weights, terms)) = &self.weights {
            let sum = weights[..=*terms].iter().rev().fold(0.0, |sum, weight| sum * ratio + weight);
            // The lowest power is common to all terms; it is left to the logarithm, where it can't overflow.
            return libm::log(sum) + self.low * libm::log(ratio);
        }
        let mode = self.mode(ratio).clamp(self.low, self.high);
        let curvature = 1.0 / (mode + 0.5)
            + 1.0 / (self.canary - mode + 0.5)
            + 1.0 / (self.events - mode + 0.5)
            + 1.0 / (self.stable - self.events + mode + 0.5);
        if curvature * LAPLACE_VARIANCE < 1.0 {
            self.laplace(mode, ratio)
        } else {
            self.around(mode.round().clamp(self.low, self.high), ratio)
        }
    }

    /// Where the density of the tilted distribution is largest, as a real number: the root of
    /// `(n_c - x + 1/2)(k - x + 1/2) psi = (x + 1/2)(n_b - k + x + 1/2)`. The halves make up for `ln x!` growing by
    /// `ln(x + 1/2)` and not by `ln x`.
    fn mode(&self, ratio: f64) -> f64 {
        // In y = x + 1/2: (A - y)(B - y) psi = y (y + C).
        let (first, second) = (self.canary + 1.0, self.events + 1.0);
        let rest = self.stable - self.events;
        let linear = ratio * (first + second) + rest;
        let constant = ratio * first * second;
        let root = libm::sqrt((linear * linear - 4.0 * (ratio - 1.0) * constant).max(0.0));
        let y = if linear >= 0.0 {
            2.0 * constant / (linear + root)
        } else {
            (linear - root) / (2.0 * (ratio - 1.0))
        };
        y - 0.5
    }

    /// `ln w(x) + x ln(ratio)` without the table's constants `n_c!` and `n_b!`; also between whole numbers.
    fn log_term(&self, x: f64, ratio: f64) -> f64 {
        x * libm::log(ratio)
            - libm::lgamma(x + 1.0)
            - libm::lgamma(self.canary - x + 1.0)
            - libm::lgamma(self.events - x + 1.0)
            - libm::lgamma(self.stable - self.events + x + 1.0)
    }

    /// The sum, outwards from a whole number near the mode.
    fn around(&self, mode: f64, ratio: f64) -> f64 {
        let mut sum = 1.0;
        let (mut x, mut term) = (mode, 1.0);
        while x < self.high && term > NEGLIGIBLE * sum {
            term *= self.step(x) * ratio;
            sum += term;
            x += 1.0;
        }
        (x, term) = (mode, 1.0);
        while x > self.low && term > NEGLIGIBLE * sum {
            x -= 1.0;
            term /= self.step(x) * ratio;
            sum += term;
        }
        self.log_term(mode, ratio) + libm::log(sum)
    }

    /// Laplace's method: `f + ln(sqrt(2 pi / c))` plus the second-order term of the third and fourth derivatives.
    fn laplace(&self, mode: f64, ratio: f64) -> f64 {
        let rest = self.stable - self.events;
        let cells = [mode + 0.5, rest + mode + 0.5, self.canary - mode + 0.5, self.events - mode + 0.5];
        let (mut second, mut third, mut fourth) = (0.0, 0.0, 0.0);
        for (index, cell) in cells.iter().enumerate() {
            let inverse = 1.0 / cell;
            let square = inverse * inverse;
            let sign = if index < 2 { 1.0 } else { -1.0 };
            // d2, d3, d4 of -lnGamma(x + 1/2 + cell...), leading terms in 1/cell with the first correction of d2.
            second += inverse - square * inverse / 12.0;
            third += sign * square;
            fourth -= 2.0 * square * inverse;
        }
        let correction =
            fourth / (8.0 * second * second) + 5.0 * third * third / (24.0 * second * second * second);
        self.log_term(mode, ratio) + 0.5 * libm::log(std::f64::consts::TAU / second) + correction
    }
}
