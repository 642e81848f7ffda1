//! The signals of an HTTP service and how their evidence is put together: errors, and one event per latency bound.
//!
//! Harm: half of the capital bets on errors, half in equal parts on the latency bounds; a weighted mean of e-values is an
//! e-value under any dependence between them. Safety: every signal has to be shown safe by itself (intersection-union),
//! so the smallest e-value counts and nothing is paid for looking at many. One signal is safe when its rate is below
//! `max(stable's rate + allowance, limit * stable's rate)`; both nulls hold when it is not, so the mean of both
//! e-values is one. It leaves out thresholds and findings. Invariant: missing data changes no e-value.

use delivery::evidence::LATENCY_SIGNAL;
use delivery::strategy::AnalysisPolicy;
use delivery::traffic::LATENCY_BOUNDS_US;

use super::allowance::{Allowance, Counts};
use super::bernoulli::Table;
use super::grid::log_sum_exp;
use super::odds::OddsRatio;
use super::pool::Block;
use super::rate::RateRatio;
use super::window::Interval;

/// Part of the harm test's capital that bets on errors; the rest bets on latency.
const ERRORS_WEIGHT: f64 = 0.5;
/// Number of latency bounds.
const BOUNDS: usize = LATENCY_BOUNDS_US.len();

/// A signal by its place: 0 is errors, `j + 1` is the latency bound `j`.
pub(super) type Place = usize;

/// The place of errors.
pub(super) const ERRORS: Place = 0;

/// The signal's name for people: `errors`, `latency > 100 ms`.
pub(super) fn name(place: Place) -> String {
    match place.checked_sub(1).and_then(|bound| LATENCY_BOUNDS_US.get(bound)) {
        None => "errors".into(),
        Some(micros) if *micros >= 1_000_000 => format!("{LATENCY_SIGNAL}{} s", *micros as f64 / 1e6),
        Some(micros) => format!("{LATENCY_SIGNAL}{} ms", *micros as f64 / 1e3),
    }
}

pub(super) fn latency_counts(interval: &Interval, bound: usize) -> Option<Counts> {
    Some(Counts {
        canary_events: *interval.canary.slower.get(bound)?,
        canary: interval.canary.timed,
        stable_events: *interval.stable.slower.get(bound)?,
        stable: interval.stable.timed,
    })
}

/// The first latency bound that is judged.
pub(super) fn first_judged(policy: &AnalysisPolicy) -> usize {
    let from_us = policy.latency_from_ms.saturating_mul(1_000);
    LATENCY_BOUNDS_US.partition_point(|bound| *bound < from_us)
}

/// The exact tables of one interval, one per latency bound that tells something.
pub(super) fn tables(interval: &Interval) -> Vec<Option<Table>> {
    let table = |bound| {
        latency_counts(interval, bound)
            .and_then(|it| Table::new(it.canary_events, it.canary, it.stable_events, it.stable))
    };
    (0..BOUNDS).map(table).collect()
}

/// Evidence of harm over the whole rollout.
#[derive(Debug, Clone)]
pub(super) struct Harm {
    errors: RateRatio,
    /// From the first bound that is judged on.
    latency: Vec<OddsRatio>,
    first: usize,
}

impl Harm {
    pub(super) fn new(policy: &AnalysisPolicy) -> Self {
        let first = first_judged(policy);
        Self {
            errors: RateRatio::harm(policy.error_ratio_margin),
            latency: vec![OddsRatio::harm(policy.latency_ratio_margin); BOUNDS - first],
            first,
        }
    }

    pub(super) fn observe_errors(&mut self, block: &Block) {
        self.errors.observe(block.counts.canary_events, block.counts.stable_events, block.share());
    }

    pub(super) fn observe_latency(&mut self, tables: &[Option<Table>]) {
        for (process, table) in self.latency.iter_mut().zip(tables.iter().skip(self.first)) {
            if let Some(table) = table {
                process.observe(table);
            }
        }
    }

    /// `ln` of the e-value, and the signal that holds the largest part of it.
    pub(super) fn log_e(&self) -> (f64, Place) {
        let bounds = self.latency.len();
        // Without a latency bound to bet on, all of the capital bets on errors.
        let errors_weight = if bounds == 0 { 1.0 } else { ERRORS_WEIGHT };
        let latency_weight = libm::log((1.0 - ERRORS_WEIGHT) / bounds.max(1) as f64);
        let mut parts = vec![libm::log(errors_weight) + self.errors.log_e()];
        parts.extend(self.latency.iter().map(|process| latency_weight + process.log_e()));
        let mut carrier = 0;
        for (place, part) in parts.iter().enumerate() {
            if *part > parts[carrier] {
                carrier = place;
            }
        }
        let place = if carrier == 0 { 0 } else { self.first + carrier };
        (log_sum_exp(parts.iter().copied()), place)
    }
}

/// One signal's safety: a ratio below the limit, or a distance below the allowance.
#[derive(Debug, Clone)]
struct Safe<Ratio> {
    ratio: Ratio,
    allowance: Allowance,
}

fn either(ratio: f64, allowance: f64) -> f64 {
    log_sum_exp([ratio, allowance].into_iter()) - std::f64::consts::LN_2
}

/// Evidence of safety in one step.
#[derive(Debug, Clone)]
pub(super) struct Safety {
    errors: Safe<RateRatio>,
    /// From the first bound that is judged on.
    latency: Vec<Safe<OddsRatio>>,
    first: usize,
}

impl Safety {
    pub(super) fn new(policy: &AnalysisPolicy) -> Self {
        let errors = Safe {
            ratio: RateRatio::safety(policy.safe_ratio),
            allowance: Allowance::rare(policy.error_rate_floor),
        };
        let bound = Safe {
            ratio: OddsRatio::safety(policy.safe_ratio),
            allowance: Allowance::any(policy.latency_share_floor),
        };
        let first = first_judged(policy);
        Self { errors, latency: vec![bound; BOUNDS - first], first }
    }

    pub(super) fn observe_errors(&mut self, block: &Block) {
        self.errors.ratio.observe(block.counts.canary_events, block.counts.stable_events, block.share());
        self.errors.allowance.observe(block.counts);
    }

    pub(super) fn observe_latency(&mut self, interval: &Interval, tables: &[Option<Table>]) {
        let judged = tables.iter().enumerate().skip(self.first);
        for (process, (bound, table)) in self.latency.iter_mut().zip(judged) {
            if let Some(table) = table {
                process.ratio.observe(table);
            }
            if let Some(counts) = latency_counts(interval, bound) {
                process.allowance.observe(counts);
            }
        }
    }

    /// `ln` of the smallest e-value, and its signal: the one that promotion still waits for.
    pub(super) fn log_e(&self) -> (f64, Place) {
        let mut least = (either(self.errors.ratio.log_e(), self.errors.allowance.log_e()), 0);
        for (bound, process) in self.latency.iter().enumerate() {
            let log_e = either(process.ratio.log_e(), process.allowance.log_e());
            if log_e < least.0 {
                least = (log_e, self.first + bound + 1);
            }
        }
        least
    }
}
