//! Repeatable randomness for choosing where to strike: SplitMix64 (Steele, Lea, Flood 2014).

use std::time::Duration;

/// A generator.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// From a seed and the number of a stream.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut dice = Self(seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in 0..1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether an event of this probability happens.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform in 1..=most; 1 when `most` is 0.
    pub(crate) fn count(&mut self, most: u32) -> u32 {
        1 + (self.unit() * f64::from(most.max(1))) as u32
    }

    /// Uniform between two times.
    pub(crate) fn time(&mut self, from: Duration, to: Duration) -> Duration {
        from + to.saturating_sub(from).mul_f64(self.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throws_are_fair_and_repeatable() {
        let mut dice = Dice::new(1, 2);
        let mean = (0..10_000).map(|_| dice.unit()).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        let mut seen = [false; 6];
        (0..1_000).for_each(|_| seen[dice.count(6) as usize - 1] = true);
        assert_eq!(seen, [true; 6]);
        assert_eq!(Dice::new(1, 2).unit().to_bits(), Dice::new(1, 2).unit().to_bits());
    }
}
