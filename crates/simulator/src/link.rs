//! A controller's way to a site, with all that can happen on it.
//!
//! Invariant: what a controller that is gone had under way may still arrive, but nothing new comes from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use delivery::effect::{Command, Effect, Outcome};
use delivery::traffic::{ArmTotals, Sample};
use delivery::{RolloutId, Timestamp};
use rollout::world::{Renewal, Unreachable, World};

use crate::dice::Dice;
use crate::fault::Fault;
use crate::universe::Universe;

/// A client waits for an answer for this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Starting processes takes at most this long, in milliseconds.
const WORK_MS_MAX: f64 = 3_000.0;
/// Ending them takes at most this long.
const ENDING_MS_MAX: f64 = 3_000.0;
/// A request that was delayed arrives within this.
const DELAY_MS: (f64, f64) = (20.0, 20_000.0);
/// Probability of a fault of a request about a rollout that chaos lies in wait for, at most.
const AMBUSH: f64 = 0.45;
/// The same for what the platform's interface makes of it.
const AMBUSH_API: f64 = 0.95;
/// The same for its readings, which are many.
const AMBUSH_READING: f64 = 0.7;
/// Readings that are kept to be read again.
const READINGS_KEPT: usize = 16;

/// How a request fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fare {
    Well,
    Lost,
    ReplyLost,
    /// Arrives so much later; the caller has given up by then if it is longer than its patience.
    Late(Duration),
    /// Arrives, and once more so much later.
    Twice(Duration),
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Link {
    universe: Arc<Universe>,
    controller: usize,
    /// The process that speaks.
    process: String,
    site: usize,
    rollout: RolloutId,
    lowered: Arc<AtomicBool>,
}

fn unreachable() -> Unreachable {
    let within_ms = PATIENCE.as_millis() as u64;
    Unreachable { source: platform::edge::Error::TimedOut { doing: "answer", within_ms } }
}

/// One of the faults: any of them with the probability `lure`, else each with its own.
fn draw(dice: &mut Dice, lure: f64, often: &[(Fault, f64)]) -> Option<Fault> {
    let struck = if dice.chance(lure) {
        dice.pick(often)
    } else {
        often.iter().find(|(_, probability)| dice.chance(*probability))
    };
    struck.map(|(fault, _)| *fault)
}

impl Link {
    /// For one rollout of one controller.
    pub(crate) fn new(
        universe: Arc<Universe>,
        controller: usize,
        process: String,
        site: usize,
        rollout: RolloutId,
    ) -> Self {
        Self { universe, controller, process, site, rollout, lowered: Arc::default() }
    }

    /// Becomes true when the driver uses the kill switch.
    pub(crate) fn lowered(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.lowered)
    }

    /// A process that is gone does nothing more; whoever carries it is told.
    async fn alive(&self) {
        tokio::task::yield_now().await;
        let gone = self.universe.disk.disk().gone(&self.process);
        if gone || self.universe.count_call() {
            self.universe.kills[self.controller].notify_one();
            std::future::pending::<()>().await;
        }
    }

    fn fare(&self) -> Fare {
        if !self.universe.stormy() {
            return Fare::Well;
        }
        let (now, profile) = (self.universe.now(), &self.universe.profile);
        let lure = self.universe.lure_request(&self.rollout) * AMBUSH;
        let mut inner = self.universe.inner();
        let way = (self.controller, self.site);
        if inner.partitions.iter().any(|(between, until)| *between == way && *until > now) {
            return Fare::Lost;
        }
        let dice = &mut inner.dice;
        let often = [
            (Fault::RequestLost, profile.lost),
            (Fault::ReplyLost, profile.reply_lost),
            (Fault::Duplicated, profile.duplicated),
            (Fault::Delayed, profile.delayed),
        ];
        let Some(fault) = draw(dice, lure, &often) else { return Fare::Well };
        let fare = match fault {
            Fault::RequestLost => Fare::Lost,
            Fault::ReplyLost => Fare::ReplyLost,
            Fault::Duplicated => Fare::Twice(dice.span(DELAY_MS.0, DELAY_MS.1)),
            _ => Fare::Late(dice.span(DELAY_MS.0, DELAY_MS.1)),
        };
        drop(inner);
        self.universe.strike_one(fault, Some(&self.rollout));
        fare
    }

    /// Carries a request to the site and its answer back.
    async fn request<T: Send + 'static>(
        &self,
        mut at_site: impl FnMut(&Universe) -> Result<T, Unreachable> + Send + 'static,
    ) -> Result<T, Unreachable> {
        self.alive().await;
        self.travel().await;
        let answer = match self.fare() {
            Fare::Well => at_site(&self.universe),
            Fare::Lost => {
                tokio::time::sleep(PATIENCE).await;
                Err(unreachable())
            }
            Fare::ReplyLost => {
                let _ = at_site(&self.universe);
                tokio::time::sleep(PATIENCE).await;
                Err(unreachable())
            }
            Fare::Late(delay) if delay < PATIENCE => {
                // On its way whatever becomes of the caller.
                let universe = Arc::clone(&self.universe);
                let arrival = tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    at_site(&universe)
                });
                arrival.await.unwrap_or_else(|_| Err(unreachable()))
            }
            Fare::Late(delay) => {
                let universe = Arc::clone(&self.universe);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    at_site(&universe).map(drop)
                });
                tokio::time::sleep(PATIENCE).await;
                Err(unreachable())
            }
            Fare::Twice(delay) => {
                let answer = at_site(&self.universe);
                let universe = Arc::clone(&self.universe);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    at_site(&universe).map(drop)
                });
                answer
            }
        };
        self.travel().await;
        self.alive().await;
        answer
    }

    /// The time that a message takes when nothing is wrong.
    async fn travel(&self) {
        let latency_ms = self.universe.profile.latency_ms;
        let time = self.universe.inner().dice.between(0.0, latency_ms);
        tokio::time::sleep(Duration::from_micros((time * 1_000.0) as u64)).await;
    }

    /// Whether the platform's interface fails, and how.
    fn api_fault(universe: &Universe, rollout: &RolloutId) -> Option<Fault> {
        if !universe.stormy() {
            return None;
        }
        let lure = universe.lure_request(rollout) * AMBUSH_API;
        let probability = universe.profile.api / 4.0;
        let mut inner = universe.inner();
        let faults = [Fault::ApiTimeoutAfter, Fault::ApiConflict, Fault::ApiTooMany, Fault::ApiError];
        let fault = draw(&mut inner.dice, lure, &faults.map(|fault| (fault, probability)))?;
        drop(inner);
        universe.strike_one(fault, Some(rollout));
        Some(fault)
    }

    /// A reading as it comes out of a metrics source that may be bad.
    fn spoil(universe: &Universe, site: usize, rollout: &RolloutId, sample: Sample) -> Option<Sample> {
        let lure = universe.lure_request(rollout) * AMBUSH_READING;
        let probability = universe.profile.metrics / 5.0;
        let mut inner = universe.inner();
        let readings = &mut inner.readings[site];
        readings.push(sample.clone());
        if readings.len() > READINGS_KEPT {
            readings.remove(0);
        }
        if !universe.stormy() {
            return Some(sample);
        }
        let kinds = [
            Fault::MetricsLate,
            Fault::MetricsMissing,
            Fault::MetricsGarbled,
            Fault::MetricsReset,
            Fault::MetricsStale,
        ];
        let often = kinds.map(|fault| (fault, probability));
        let Some(fault) = draw(&mut inner.dice, lure, &often) else {
            return Some(sample);
        };
        let older = inner.readings[site].clone();
        let older = inner.dice.pick(&older).cloned().unwrap_or_else(|| sample.clone());
        drop(inner);
        universe.strike_one(fault, Some(rollout));
        match fault {
            Fault::MetricsLate => Some(older),
            Fault::MetricsStale => Some(Sample { at: sample.at, weight: sample.weight, ..older }),
            Fault::MetricsReset => {
                Some(Sample { stable: ArmTotals::zero(), canary: ArmTotals::zero(), ..sample })
            }
            Fault::MetricsGarbled => {
                let mut garbled = sample;
                garbled.canary.errors = garbled.canary.requests.saturating_mul(3);
                garbled.canary.latency.pop();
                Some(garbled)
            }
            _ => None,
        }
    }
}

impl World for Link {
    async fn apply(&mut self, command: &Command) -> Result<Outcome, Unreachable> {
        let (site, command) = (self.site, command.clone());
        let work_ms = match command.effect {
            Effect::Start { .. } => WORK_MS_MAX,
            Effect::Retire { .. } => ENDING_MS_MAX,
            Effect::SetWeight { .. } | Effect::Promote { .. } => 0.0,
        };
        if work_ms > 0.0 {
            // Processes take their time.
            let time = self.universe.inner().dice.between(0.0, work_ms);
            tokio::time::sleep(Duration::from_millis(time as u64)).await;
        }
        let answer = self
            .request(move |universe| {
                let fault = Self::api_fault(universe, &command.rollout);
                if matches!(fault, Some(Fault::ApiTooMany | Fault::ApiError)) {
                    return Err(unreachable());
                }
                let refusal = (fault == Some(Fault::ApiConflict)).then_some("409: it is being changed");
                let now = universe.now();
                let outcome = universe.inner().sites[site].apply(now, &command, refusal);
                universe.check();
                match (fault, outcome) {
                    (Some(Fault::ApiTimeoutAfter), _) | (_, Err(_)) => Err(unreachable()),
                    (_, Ok(outcome)) => Ok(outcome),
                }
            })
            .await;
        self.universe.tell(|| format!("{} was answered {answer:?}", self.process));
        answer
    }

    async fn sample(&mut self, at: Timestamp) -> Result<Sample, Unreachable> {
        let (site, rollout) = (self.site, self.rollout.clone());
        self.request(move |universe| {
            let now = universe.now();
            let sample = universe.inner().sites[site].sample(now, at).map_err(|_| unreachable())?;
            universe.check();
            Self::spoil(universe, site, &rollout, sample).ok_or_else(unreachable)
        })
        .await
    }

    async fn renew(&mut self, rollout: &RolloutId, epoch: u64) -> Result<Renewal, Unreachable> {
        let (site, rollout) = (self.site, rollout.clone());
        self.request(move |universe| {
            let now = universe.now();
            let renewal = universe.inner().sites[site].renew(now, &rollout, epoch);
            universe.check();
            renewal.map_err(|_| unreachable())
        })
        .await
    }

    async fn lower(&mut self) -> Result<(), Unreachable> {
        self.lowered.store(true, Ordering::Relaxed);
        let site = self.site;
        self.request(move |universe| {
            let now = universe.now();
            let lowered = universe.inner().sites[site].lower(now);
            universe.check();
            lowered.map_err(|_| unreachable())
        })
        .await
    }
}
