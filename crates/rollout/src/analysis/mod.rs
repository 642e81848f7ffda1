//! Is the canary harmful, safe, or is it too early to tell: a sequential analysis that stays valid at every look.
//!
//! [`Analysis`] folds the readings of a traffic splitter into e-processes: harm over the whole rollout, safety in the
//! present step, the split of traffic, and a confidence sequence for people. It is pure and deterministic: the same
//! readings at the same times give bit-identical evidence, so every recorded verdict can be replayed. It leaves out
//! deadlines and actions (the planner's) and how readings are got (the platform's). The mathematics and its figures are in
//! `docs/explanation/analysis.md`.
//!
//! Invariant: no data never becomes `Safe`; whatever the counts, every number in an [`Evidence`] is finite.

pub mod allowance;
pub mod bernoulli;
pub mod confidence;
pub mod grid;
pub mod multinomial;
pub mod odds;
mod past;
mod pool;
pub mod rate;
mod signals;
mod step;
#[cfg(test)]
mod tests;
mod unrivalled;
mod window;

use std::time::Duration;

use delivery::clock::millis_between;
use delivery::evidence::{Evidence, Finding};
use delivery::seeded::{self, Bug};
use delivery::strategy::AnalysisPolicy;
use delivery::traffic::{Sample, Weight};
use delivery::{Digest, Timestamp};

use confidence::ConfidenceSequence;
use pool::{Block, Pool};
use signals::Harm;
pub use step::MISMATCH_ALPHA;
use step::Step;
use window::{Interval, Reading, Window};

/// The sequential analysis of one rollout. See the module.
#[derive(Debug, Clone)]
pub struct Analysis {
    policy: AnalysisPolicy,
    digest: Digest,
    /// Whether the split of traffic is judged.
    split: bool,
    window: Window,
    pool: Pool,
    harm: Harm,
    /// Harm while all traffic goes to the canary.
    unrivalled: unrivalled::Harm,
    /// Harm was shown at some look. That is for good: the threshold holds for all looks together.
    harm_shown: Option<signals::Place>,
    confidence: ConfidenceSequence,
    step: Option<Step>,
    /// When latency begins to be judged.
    warm_at: Option<Timestamp>,
    /// When the last canary request was seen, or the step began.
    last_canary: Option<Timestamp>,
}

/// What carries a finding.
#[derive(Debug, Clone, Copy)]
enum Carrier {
    Signal(signals::Place),
    /// Something about the traffic itself.
    Traffic(&'static str),
}

/// A policy that can't be computed with is made harmless: not finite becomes the default, the rest is cut to its range.
fn computable(policy: &AnalysisPolicy) -> AnalysisPolicy {
    let standard = AnalysisPolicy::default();
    let cut = |value: f64, default: f64, low: f64, high: f64| {
        if value.is_finite() { value.clamp(low, high) } else { default }
    };
    AnalysisPolicy {
        alpha: cut(policy.alpha, standard.alpha, 1e-12, 0.5),
        beta: cut(policy.beta, standard.beta, 1e-12, 0.5),
        error_ratio_margin: cut(policy.error_ratio_margin, standard.error_ratio_margin, 1.0, 20.0),
        error_rate_floor: cut(policy.error_rate_floor, standard.error_rate_floor, 1e-6, 0.99),
        safe_ratio: cut(policy.safe_ratio, standard.safe_ratio, 1.0, 100.0),
        latency_ratio_margin: cut(policy.latency_ratio_margin, standard.latency_ratio_margin, 1.0, 20.0),
        latency_share_floor: cut(policy.latency_share_floor, standard.latency_share_floor, 1e-6, 0.99),
        ..policy.clone()
    }
}

impl Analysis {
    /// For one rollout of the artifact. `split` says whether the split of traffic is judged too: only where each request
    /// is drawn by itself (`Sticky::None`), because a sticky user's requests come together.
    pub fn new(policy: &AnalysisPolicy, digest: Digest, split: bool) -> Self {
        let policy = computable(policy);
        Self {
            harm: Harm::new(&policy),
            unrivalled: unrivalled::Harm::default(),
            confidence: ConfidenceSequence::new(policy.alpha),
            policy,
            digest,
            split,
            window: Window::default(),
            pool: Pool::default(),
            harm_shown: None,
            step: None,
            warm_at: None,
            last_canary: None,
        }
    }

    /// A step began. Safety starts over with intervals that begin after it; harm goes on over the whole rollout.
    pub fn begin_step(&mut self, weight: Weight, at: Timestamp) {
        self.close_block();
        self.step = Some(Step::new(weight, at, &self.policy));
        self.last_canary = Some(at);
        let warm_up = Duration::from_millis(self.policy.warm_up_ms);
        self.warm_at.get_or_insert(at.saturating_add(warm_up).unwrap_or(Timestamp::MAX));
    }

    /// One look, with the splitter's reading if there is one.
    ///
    /// The finding is the first of these that holds:
    /// `Harm`, shown now or before; `RatioMismatch`; `NoSignal`: no reading, counters that started over, no step, or no
    /// canary request for the policy's silence; `Continue` while too many canary requests hang;
    /// `Safe`: every signal shown safe by intervals within the step, by an e-value of at least 1/beta and of at least
    /// 1/beta times that of harm, so that doubt must be outweighed; `Continue`. So evidence of harm counts even when the
    /// split is wrong, and nothing is called safe that can't be compared or wasn't seen. The signal is what carries the finding; while it is `Continue`, what promotion waits for.
    pub fn observe(&mut self, sample: Option<&Sample>, at: Timestamp) -> Evidence {
        let reading = sample.map(|sample| self.window.read(sample));
        if let (Some(step), Some(sample)) = (&mut self.step, sample) {
            step.meet(&sample.stable, &self.policy);
            if step.is_alone() {
                self.unrivalled.remember(&sample.stable, &self.policy);
            }
        }
        if let Some(Reading::Interval(interval)) = &reading {
            self.take(interval, at);
        }
        let (log_e_compared, carrier) = self.harm.log_e();
        let log_e_alone = self.unrivalled.log_e();
        // The two never use the same interval, so their product is an e-value.
        let log_e_harm = log_e_compared + log_e_alone;
        let carrier = if log_e_alone > log_e_compared { signals::ERRORS } else { carrier };
        if self.harm_shown.is_none() && log_e_harm >= -libm::log(self.policy.alpha) {
            self.harm_shown = Some(carrier);
        }
        let blind = matches!(reading, None | Some(Reading::Reset));
        let (finding, place, log_e_safe) = self.finding(blind, log_e_harm.max(0.0), carrier, at);
        let step = self.step.as_ref();
        let errors = step.map(|step| step.errors).unwrap_or_default();
        Evidence {
            finding,
            log_e_harm,
            log_e_safe,
            signal: match place {
                Carrier::Signal(place) => signals::name(place),
                Carrier::Traffic(what) => what.into(),
            },
            ratio_low: self.confidence.low(),
            ratio_high: self.confidence.high(),
            canary_requests: errors.canary,
            canary_errors: errors.canary_events,
            stable_requests: errors.stable,
            stable_errors: errors.stable_events,
            slower: match place {
                Carrier::Signal(place) => step.and_then(|step| step.slower(place)),
                Carrier::Traffic(_) => None,
            },
            digest: self.digest.clone(),
        }
    }

    fn take(&mut self, interval: &Interval, at: Timestamp) {
        let tables = signals::tables(interval);
        let since = |step: &Step| interval.from >= step.began || seeded::is(Bug::OldDataInStep);
        let in_step = self.step.as_ref().is_some_and(since);
        let alone = in_step && interval.stable.requests == 0 && self.unrivalled.remembers();
        // Neither a change of weight nor the beginning of a step falls inside a block, nor what is judged alone.
        let apart = alone || !in_step || interval.weight.is_none();
        if apart {
            self.close_block();
        }
        if alone {
            self.unrivalled.observe(&interval.canary);
        } else if let Some(block) = self.pool.add(interval) {
            self.take_errors(&block);
        }
        if apart {
            self.close_block();
        }
        let warm = self.warm_at.is_some_and(|warm_at| interval.from >= warm_at);
        if warm {
            self.harm.observe_latency(&tables);
        }
        if interval.canary.requests > 0 {
            self.last_canary = self.last_canary.max(Some(at));
        }
        if let Some(step) = self.step.as_mut().filter(|_| in_step) {
            step.observe(interval, &tables, warm);
        }
    }

    fn close_block(&mut self) {
        if let Some(block) = self.pool.take() {
            self.take_errors(&block);
        }
    }

    fn take_errors(&mut self, block: &Block) {
        self.harm.observe_errors(block);
        self.confidence.observe(block.counts.canary_events, block.counts.stable_events, block.share());
        if let Some(step) = &mut self.step {
            step.observe_errors(block);
        }
    }

    fn finding(
        &self,
        blind: bool,
        doubt: f64,
        carrier: signals::Place,
        at: Timestamp,
    ) -> (Finding, Carrier, f64) {
        let (log_e_safe, laggard) = self.step.as_ref().map_or((0.0, signals::ERRORS), Step::log_e);
        let (finding, carrier) = if let Some(carrier) = self.harm_shown {
            (Finding::Harm, Carrier::Signal(carrier))
        } else if self.split && self.step.as_ref().is_some_and(Step::mismatched) {
            (Finding::RatioMismatch, Carrier::Traffic("split of traffic"))
        } else if (blind || self.silent(at)) && !seeded::is(Bug::MissingDataKeepsVerdict) {
            (Finding::NoSignal, Carrier::Traffic("canary requests"))
        } else if self.step.as_ref().is_some_and(|step| step.stuck) {
            (Finding::Continue, Carrier::Traffic("canary requests under way"))
        } else if log_e_safe >= doubt - libm::log(self.policy.beta) {
            (Finding::Safe, Carrier::Signal(laggard))
        } else if doubt > 0.0 && log_e_safe >= -libm::log(self.policy.beta) {
            (Finding::Continue, Carrier::Signal(carrier))
        } else {
            (Finding::Continue, Carrier::Signal(laggard))
        };
        (finding, carrier, log_e_safe)
    }

    fn silent(&self, at: Timestamp) -> bool {
        self.last_canary.is_none_or(|last| millis_between(last, at) >= self.policy.silence_ms)
    }
}
