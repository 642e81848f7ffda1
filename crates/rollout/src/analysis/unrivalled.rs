//! Harm and safety where there is nothing to compare with: all traffic goes to the new revision (blue/green after the
//! switch).
//!
//! The question is then asked of the past: of what stable had counted before it lost its traffic. Its rates are estimates, so
//! the limits are made from bounds on them (see [`past`](super::past)), and the chance that a bound is wrong is paid for:
//! one tenth of the error probability goes to the bound, so the process starts with nine tenths of its capital. Each
//! process is a Bernoulli likelihood ratio against a fixed limit, mixed over fixed rates beyond it (Ville's inequality as
//! everywhere here). Harm is judged by errors only: a service's latency drifts over a day more than the margins allow.
//! Safety is judged by every signal, as in comparison.
//!
//! Invariants: a limit never changes once it is set; harm takes only intervals without stable traffic, which no other
//! process of harm takes, so the product with theirs stays valid.

use std::time::Duration;

use delivery::strategy::AnalysisPolicy;
use delivery::traffic::{ArmTotals, LATENCY_BOUNDS_US};

use super::grid::log_sum_exp;
use super::odds::INTERVAL_FACTOR_MAX;
use super::past::{self, Share};
use super::signals::{Place, first_judged};
use super::window::ArmInterval;

/// The part of an error probability that pays for the bounds on stable's rates.
const BOUND_PART: f64 = 0.1;
/// Rates that harm bets on, as multiples of the limit.
const HARM_MULTIPLES: [f64; 7] = [1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0];
/// Rates that safety bets on: parts of the limit, and parts of the way from stable's rate to the limit.
const SAFE_MULTIPLES: [f64; 3] = [0.05, 0.2, 0.5];
const SAFE_WAYS: [f64; 3] = [0.0, 0.35, 0.7];
/// No limit and no alternative of harm is above this.
const RATE_MAX: f64 = 0.95;
/// No alternative of safety is below this.
const RATE_MIN: f64 = 1e-6;

/// A likelihood ratio of fixed rates against one limit.
#[derive(Debug, Clone)]
struct Bet {
    limit: f64,
    /// The rates with `ln` of what each has won or lost, its weight included.
    rates: Vec<(f64, f64)>,
    /// `ln` of the most that one interval may multiply a rate's capital by.
    most: f64,
}

impl Bet {
    fn new(limit: f64, rates: &[f64], most: f64) -> Self {
        let weight = libm::log((1.0 - BOUND_PART) / rates.len() as f64);
        Self { limit, rates: rates.iter().map(|rate| (*rate, weight)).collect(), most }
    }

    fn observe(&mut self, requests: u64, events: u64) {
        let (bad, good) = (events.min(requests) as f64, requests.saturating_sub(events) as f64);
        for (rate, log_value) in &mut self.rates {
            let gain =
                bad * libm::log(*rate / self.limit) + good * libm::log((1.0 - *rate) / (1.0 - self.limit));
            *log_value += gain.min(self.most);
        }
    }

    fn log_e(&self) -> f64 {
        log_sum_exp(self.rates.iter().map(|(_, log_value)| *log_value))
    }
}

/// Evidence against "the error rate is within the margins of what stable's was".
#[derive(Debug, Clone, Default)]
pub(super) struct Harm(Option<Bet>);

impl Harm {
    /// Sets the limit from what stable had counted, once.
    pub(super) fn remember(&mut self, stable: &ArmTotals, policy: &AnalysisPolicy) {
        if self.0.is_none() {
            let most = past::errors(stable).upper(policy.alpha * BOUND_PART);
            let limit = (most * policy.error_ratio_margin + policy.error_rate_floor).min(RATE_MAX);
            let rates = HARM_MULTIPLES.map(|multiple| (limit * multiple).min(f64::midpoint(RATE_MAX, 1.0)));
            self.0 = Some(Bet::new(limit, &rates, f64::INFINITY));
        }
    }

    /// Whether there is a past to hold the canary against.
    pub(super) fn remembers(&self) -> bool {
        self.0.is_some()
    }

    /// Takes in an interval without stable traffic.
    pub(super) fn observe(&mut self, canary: &ArmInterval) {
        if let Some(bet) = &mut self.0 {
            bet.observe(canary.requests, canary.errors);
        }
    }

    /// `ln` of the e-value; 0 before there was anything to see.
    pub(super) fn log_e(&self) -> f64 {
        self.0.as_ref().map_or(0.0, Bet::log_e)
    }
}

/// Evidence of safety in one step, signal by signal.
#[derive(Debug, Clone)]
pub(super) struct Safety {
    /// By place, from errors on; `None` where the limit can't be exceeded.
    signals: Vec<(Place, Option<Bet>)>,
    mean_latency: Option<Duration>,
}

impl Safety {
    /// Against what stable had counted before it lost its traffic.
    pub(super) fn new(stable: &ArmTotals, policy: &AnalysisPolicy) -> Self {
        let first = first_judged(policy);
        let mut signals = vec![(0, errors_bet(past::errors(stable), policy))];
        signals.extend(
            (first..LATENCY_BOUNDS_US.len())
                .map(|bound| (bound + 1, latency_bet(past::slower(stable, bound), policy))),
        );
        Self { signals, mean_latency: past::mean_latency(stable) }
    }

    /// Takes in an interval; latency only when the canary is warm.
    pub(super) fn observe(&mut self, canary: &ArmInterval, warm: bool) {
        for (place, bet) in &mut self.signals {
            let Some(bet) = bet else { continue };
            match place.checked_sub(1) {
                None => bet.observe(canary.requests, canary.errors),
                Some(bound) if warm => {
                    if let Some(slower) = canary.slower.get(bound) {
                        bet.observe(canary.timed, *slower);
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// `ln` of the smallest e-value, and its signal.
    pub(super) fn log_e(&self) -> (f64, Place) {
        let known = self.signals.iter().filter_map(|(place, bet)| Some((bet.as_ref()?.log_e(), *place)));
        known.min_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or((0.0, 0))
    }

    /// How many requests are under way at this rate of arrivals (a second) when each lasts as long as stable's did: Little's
    /// law. `None` when stable had none.
    pub(super) fn expected_in_flight(&self, arrivals: f64) -> Option<f64> {
        self.mean_latency.map(|mean| arrivals * mean.as_secs_f64())
    }
}

fn errors_bet(before: Share, policy: &AnalysisPolicy) -> Option<Bet> {
    let least = before.lower(policy.beta * BOUND_PART);
    let limit = (least + policy.error_rate_floor).max(least * policy.safe_ratio);
    safe_bet(before, limit, f64::INFINITY)
}

fn latency_bet(before: Share, policy: &AnalysisPolicy) -> Option<Bet> {
    let least = before.lower(policy.beta * BOUND_PART);
    // The ratio is one of odds, as in comparison.
    let odds = policy.safe_ratio * least / (1.0 - least).max(f64::MIN_POSITIVE);
    let limit = (least + policy.latency_share_floor).max(odds / (1.0 + odds));
    safe_bet(before, limit, libm::log(INTERVAL_FACTOR_MAX))
}

fn safe_bet(before: Share, limit: f64, most: f64) -> Option<Bet> {
    if limit >= 1.0 {
        return None;
    }
    let from = before.rate().unwrap_or(0.0).min(limit);
    let parts = SAFE_MULTIPLES.map(|multiple| limit * multiple);
    let ways = SAFE_WAYS.map(|way| from + (limit - from) * way);
    let rates: Vec<f64> = parts.into_iter().chain(ways).map(|rate| rate.max(RATE_MIN)).collect();
    Some(Bet::new(limit, &rates, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(requests: u64, errors: u64) -> ArmTotals {
        let mut totals = ArmTotals::zero();
        (totals.requests, totals.errors) = (requests, errors);
        totals.latency[0] = requests;
        totals
    }

    fn canary(requests: u64, errors: u64) -> ArmInterval {
        ArmInterval {
            requests,
            errors,
            started: Some(requests),
            in_flight: 0,
            slower: vec![0; LATENCY_BOUNDS_US.len()],
            timed: requests,
        }
    }

    /// Exact expectation of the bet's e-value over Binomial(20, rate).
    fn mean(bet: &Bet, rate: f64) -> f64 {
        let (mut mean, mut probability) = (0.0, libm::pow(1.0 - rate, 20.0));
        for events in 0..=20_u32 {
            let mut process = bet.clone();
            process.observe(20, u64::from(events));
            mean += probability * libm::exp(process.log_e());
            probability *= f64::from(20 - events) / f64::from(events + 1) * rate / (1.0 - rate);
        }
        mean
    }

    #[test]
    fn means_under_the_null_leave_room_for_a_wrong_bound() {
        let policy = AnalysisPolicy::default();
        let mut harm = Harm::default();
        harm.remember(&totals(1_000, 10), &policy);
        let Harm(Some(bet)) = &harm else { panic!("it remembers") };
        assert!((mean(bet, bet.limit) - 0.9).abs() < 1e-9);
        assert!(mean(bet, bet.limit / 2.0) < 0.9);
        for (place, bet) in Safety::new(&totals(1_000, 10), &policy).signals {
            if let Some(bet) = bet {
                assert!(mean(&bet, bet.limit) <= 0.9 + 1e-9, "{place}");
                assert!(mean(&bet, f64::midpoint(bet.limit, 1.0)) <= 0.9, "{place}");
            }
        }
    }

    #[test]
    fn many_errors_are_harm_and_few_are_not() {
        let mut bad = Harm::default();
        bad.remember(&totals(5_000, 5), &AnalysisPolicy::default());
        let mut good = bad.clone();
        for _ in 0..4 {
            bad.observe(&canary(50, 5));
            good.observe(&canary(50, 0));
        }
        assert!(bad.log_e() > 4.7, "{}", bad.log_e());
        assert!(good.log_e() < 0.0);
    }

    /// False harm for arms that are alike, at 5 % errors: with a limit from few requests it used to be nearly certain.
    #[test]
    fn few_requests_before_the_switch_accuse_nobody() {
        use rand::rngs::StdRng;
        use rand::{Rng as _, SeedableRng as _};
        let policy = AnalysisPolicy::default();
        for before in [0_u64, 20, 100, 300] {
            let mut accused = 0;
            for seed in 0..400 {
                let mut draws = StdRng::seed_from_u64(seed);
                let failed =
                    |draws: &mut StdRng, n: u64| (0..n).filter(|_| draws.random_bool(0.05)).count() as u64;
                let mut harm = Harm::default();
                harm.remember(&totals(before, failed(&mut draws, before)), &policy);
                let shown = (0..60).any(|_| {
                    harm.observe(&canary(100, failed(&mut draws, 100)));
                    harm.log_e() >= -libm::log(policy.alpha)
                });
                accused += u32::from(shown);
            }
            assert!(accused <= 8, "{accused} of 400 with {before} requests before");
        }
    }
}
