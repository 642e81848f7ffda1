//! Every chance of a simulation, from one seed.
//!
//! Each part of the simulated world has dice of its own, so that one more throw in one part does not change all others.
//! Invariant: the same seed and part give the same throws on every machine.

use std::time::Duration;

use delivery::clock::Seed;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

/// A source of throws.
#[derive(Debug, Clone)]
pub(crate) struct Dice(SmallRng);

impl Dice {
    /// The part's dice in the simulation of this seed.
    pub(crate) fn of(seed: u64, part: &str) -> Self {
        let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(part).finalize();
        let mut start = [0_u8; 32];
        start.copy_from_slice(&digest);
        Self(SmallRng::from_seed(start))
    }

    /// Whether something of this probability happens.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.0.random::<f64>() < probability
    }

    /// A whole number from `0` to `below - 1`; 0 when `below` is 0.
    pub(crate) fn below(&mut self, below: usize) -> usize {
        if below == 0 { 0 } else { self.0.random_range(0..below) }
    }

    /// A number between the two.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.random::<f64>()
    }

    /// A time between the two, in milliseconds, with short ones as likely as long ones (log-uniform).
    pub(crate) fn span(&mut self, low_ms: f64, high_ms: f64) -> Duration {
        let ms = self.between(low_ms.ln(), high_ms.ln()).exp();
        Duration::from_millis(ms as u64)
    }

    /// One of them.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let index = self.below(from.len());
        from.get(index)
    }
}

impl Seed for Dice {
    fn fill(&mut self, buffer: &mut [u8]) {
        self.0.fill(buffer);
    }
}
