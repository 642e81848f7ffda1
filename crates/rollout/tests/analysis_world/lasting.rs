//! A service whose requests take their time: what has not ended is in no count yet, and under way when the splitter is read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use delivery::Timestamp;
use delivery::traffic::{ArmTotals, Sample, Weight, latency_bucket};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::poisson;

/// What a service is like; pairs are stable, canary.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastingService {
    /// Requests a second, both arms together.
    pub(crate) rps: f64,
    /// The error rate.
    pub(crate) errors: [f64; 2],
    /// Median of the fast requests in milliseconds; log-normal with sigma 0.6.
    pub(crate) fast_ms: [f64; 2],
    /// Part of the requests that are slow.
    pub(crate) slow: [f64; 2],
    /// What each slow request takes, in milliseconds.
    pub(crate) slow_ms: [u64; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ending {
    at_us: u64,
    took_us: u64,
    canary: bool,
    failed: bool,
}

/// The service under load.
pub(crate) struct LastingWorld {
    service: LastingService,
    random: SmallRng,
    now_us: u64,
    under_way: BinaryHeap<Reverse<Ending>>,
    arms: [ArmTotals; 2],
}

impl LastingWorld {
    /// Starts at the epoch.
    pub(crate) fn new(service: LastingService, seed: u64) -> Self {
        Self {
            service,
            random: SmallRng::seed_from_u64(seed),
            now_us: 0,
            under_way: BinaryHeap::new(),
            arms: [ArmTotals::zero(), ArmTotals::zero()],
        }
    }

    /// The present.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH.saturating_add(Duration::from_micros(self.now_us)).unwrap_or(Timestamp::MAX)
    }

    /// Lets time pass at a weight, and reads the splitter.
    pub(crate) fn pass(&mut self, millis: u64, weight: Weight) -> Sample {
        let until_us = self.now_us + millis * 1_000;
        for _ in 0..poisson(&mut self.random, self.service.rps * millis as f64 / 1e3) {
            let begins_us = self.random.random_range(self.now_us..until_us);
            self.begin(begins_us, weight);
        }
        while self.under_way.peek().is_some_and(|Reverse(ending)| ending.at_us <= until_us) {
            if let Some(Reverse(ending)) = self.under_way.pop() {
                let arm = &mut self.arms[usize::from(ending.canary)];
                arm.in_flight -= 1;
                arm.requests += 1;
                arm.errors += u64::from(ending.failed);
                arm.latency[latency_bucket(ending.took_us)] += 1;
            }
        }
        self.now_us = until_us;
        let [stable, canary] = self.arms.clone();
        Sample { boot: "first".into(), at: self.now(), weight, stable, canary }
    }

    fn begin(&mut self, at_us: u64, weight: Weight) {
        let canary = self.random.random::<f64>() < weight.share();
        let arm = usize::from(canary);
        let failed = self.random.random::<f64>() < self.service.errors[arm];
        let took_us = if self.random.random::<f64>() < self.service.slow[arm] {
            self.service.slow_ms[arm] * 1_000
        } else {
            // The sum of twelve uniform draws, less six, is normal enough.
            let normal: f64 = (0..12).map(|_| self.random.random::<f64>()).sum::<f64>() - 6.0;
            (self.service.fast_ms[arm] * 1e3 * libm::exp(0.6 * normal)) as u64
        };
        self.arms[arm].in_flight += 1;
        self.under_way.push(Reverse(Ending { at_us: at_us + took_us, took_us, canary, failed }));
    }
}
