//! A service under load, as its splitter would count it: for the tests and the figures of the sequential analysis.
//!
//! Everything is drawn from a seed. Requests arrive as a Poisson process and go to the canary one by one with the weight's
//! probability. Latencies fall into the splitter's buckets with the probabilities of a distribution.

#![allow(dead_code, reason = "the tests, the figures and the benchmark each use a part")]

pub(crate) mod lasting;

use std::time::Duration;

use delivery::evidence::{Evidence, Finding};
use delivery::strategy::AnalysisPolicy;
use delivery::traffic::{ArmTotals, LATENCY_BOUNDS_US, LATENCY_BUCKETS, Sample, Weight};
use delivery::{Digest, Timestamp};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rollout::analysis::Analysis;

/// How long requests take.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Latency {
    /// Median in milliseconds, standard deviation of the logarithm.
    LogNormal(f64, f64),
    /// Smallest value in milliseconds, tail index.
    Pareto(f64, f64),
    /// Cache hits and misses: 80 % log-normal around the first median, the rest around the second, sigma 0.4.
    Bimodal(f64, f64),
}

impl Latency {
    /// Probability of taking longer than this.
    fn longer(self, millis: f64) -> f64 {
        let normal = |median: f64, sigma: f64| {
            0.5 * libm::erfc(libm::log(millis / median) / (sigma * std::f64::consts::SQRT_2))
        };
        match self {
            Self::LogNormal(median, sigma) => normal(median, sigma),
            Self::Pareto(scale, index) => libm::pow((scale / millis).min(1.0), index),
            Self::Bimodal(hit, miss) => 0.8 * normal(hit, 0.4) + 0.2 * normal(miss, 0.4),
        }
    }

    /// The splitter's buckets as a cumulative distribution, every latency stretched by the factor.
    fn buckets(self, factor: f64) -> [f64; LATENCY_BUCKETS] {
        let mut cumulative = [1.0; LATENCY_BUCKETS];
        for (value, bound) in cumulative.iter_mut().zip(LATENCY_BOUNDS_US) {
            *value = 1.0 - self.longer(bound as f64 / 1e3 / factor);
        }
        cumulative
    }
}

/// What a service is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    /// Requests a second, both arms together.
    pub(crate) rps: f64,
    /// Stable's error rate.
    pub(crate) errors: f64,
    /// The canary's error rate is this many times stable's.
    pub(crate) error_ratio: f64,
    /// Latencies.
    pub(crate) latency: Latency,
    /// The canary's latencies are this many times stable's.
    pub(crate) latency_ratio: f64,
    /// The error rate swings by this part of itself, once in ten minutes.
    pub(crate) drift: f64,
}

/// A hundred requests a second, 0.1 % errors, 20 ms; the canary is like stable.
pub(crate) const PLAIN: Service = Service {
    rps: 100.0,
    errors: 0.001,
    error_ratio: 1.0,
    latency: Latency::LogNormal(20.0, 0.6),
    latency_ratio: 1.0,
    drift: 0.0,
};

/// A service under load.
pub(crate) struct World {
    service: Service,
    random: SmallRng,
    at: Timestamp,
    seconds: f64,
    stable: ArmTotals,
    canary: ArmTotals,
    buckets: [[f64; LATENCY_BUCKETS]; 2],
}

/// A Poisson draw by counting arrivals; cheap for the means of one interval.
pub(crate) fn poisson(random: &mut SmallRng, mean: f64) -> u64 {
    let (mut count, mut left) = (0, mean);
    loop {
        let part = left.min(500.0);
        let limit = libm::exp(-part);
        let mut product: f64 = random.random();
        while product > limit {
            count += 1;
            product *= random.random::<f64>();
        }
        left -= part;
        if left <= 0.0 {
            return count;
        }
    }
}

impl World {
    /// Starts at the epoch.
    pub(crate) fn new(service: Service, seed: u64) -> Self {
        let latency = service.latency;
        Self {
            service,
            random: SmallRng::seed_from_u64(seed),
            at: Timestamp::UNIX_EPOCH,
            seconds: 0.0,
            stable: ArmTotals::zero(),
            canary: ArmTotals::zero(),
            buckets: [latency.buckets(1.0), latency.buckets(service.latency_ratio)],
        }
    }

    /// The present.
    pub(crate) fn now(&self) -> Timestamp {
        self.at
    }

    /// Lets time pass at a weight, and reads the splitter.
    pub(crate) fn pass(&mut self, millis: u64, weight: Weight) -> Sample {
        let seconds = millis as f64 / 1e3;
        let swing = self.service.drift * libm::sin(std::f64::consts::TAU * self.seconds / 600.0);
        let errors = self.service.errors * (1.0 + swing);
        for _ in 0..poisson(&mut self.random, self.service.rps * seconds) {
            let to_canary = self.random.random::<f64>() < weight.share();
            let arm = if to_canary { &mut self.canary } else { &mut self.stable };
            let rate = if to_canary { errors * self.service.error_ratio } else { errors };
            let slowness: f64 = self.random.random();
            arm.requests += 1;
            arm.errors += u64::from(self.random.random::<f64>() < rate);
            let cumulative = &self.buckets[usize::from(to_canary)];
            arm.latency[cumulative.partition_point(|value| *value < slowness).min(LATENCY_BUCKETS - 1)] += 1;
        }
        self.seconds += seconds;
        self.at = self.at.saturating_add(Duration::from_millis(millis)).unwrap_or(self.at);
        self.sample(weight)
    }

    fn sample(&self, weight: Weight) -> Sample {
        Sample {
            boot: "first".into(),
            at: self.at,
            weight,
            stable: self.stable.clone(),
            canary: self.canary.clone(),
        }
    }
}

/// How a rollout went.
pub(crate) struct Course {
    /// The last look.
    pub(crate) last: Evidence,
    /// Seconds that each finished step took, and the last one until it was left.
    pub(crate) seconds: Vec<f64>,
}

impl Course {
    /// Whether every step was found safe.
    pub(crate) fn promoted(&self, steps: usize) -> bool {
        self.seconds.len() == steps && self.last.finding == Finding::Safe
    }

    /// Whether it was taken back.
    pub(crate) fn rolled_back(&self) -> bool {
        self.last.finding == Finding::Harm
    }
}

/// A weight in percent.
pub(crate) fn percent(value: f64) -> Weight {
    Weight::from_percent(value).unwrap_or(Weight::ZERO)
}

/// A rollout through the steps: each is left when it is found safe, the rollout ends at harm or when a step lasted
/// `deadline` seconds. With `promote` false the first step goes on to its deadline unless harm is found.
pub(crate) fn roll_out(
    service: Service,
    policy: &AnalysisPolicy,
    steps: &[f64],
    deadline: f64,
    promote: bool,
    seed: u64,
) -> Course {
    let mut world = World::new(service, seed);
    let mut analysis = Analysis::new(policy, Digest::of(b"canary"), true);
    let first = world.pass(policy.interval_ms, Weight::ZERO);
    let mut course = Course { last: analysis.observe(Some(&first), world.now()), seconds: Vec::new() };
    for step in steps {
        let weight = percent(*step);
        analysis.begin_step(weight, world.now());
        let mut looks = 0.0;
        loop {
            let sample = world.pass(policy.interval_ms, weight);
            course.last = analysis.observe(Some(&sample), world.now());
            looks += 1.0;
            let seconds = looks * policy.interval_ms as f64 / 1e3;
            let left = course.last.finding == Finding::Safe && promote;
            if left || course.last.finding == Finding::Harm || seconds >= deadline {
                course.seconds.push(seconds);
                break;
            }
        }
        if course.last.finding != Finding::Safe {
            break;
        }
    }
    course
}
