//! How much goes wrong in one simulation, and what is there to go wrong.
//!
//! Each seed breaks some things often, some seldom and some not at all: a world in which everything fails all the time hides what
//! happens when one thing fails. Invariant: a profile is a function of the seed.

use std::time::Duration;

use crate::dice::Dice;

/// What chaos lies in wait for, beside its strokes at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ambush {
    /// Nothing.
    Nowhere,
    /// All phases of a rollout, the more the quicker they pass.
    Everywhere,
    /// The last phases. Little else goes wrong, so that rollouts come to them.
    Late,
}

/// Probabilities and sizes.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    /// How many controllers there are.
    pub(crate) controllers: usize,
    /// How many sites.
    pub(crate) sites: usize,
    /// How many rollouts are begun at most.
    pub(crate) rollouts: usize,
    /// When things begin to go wrong. Late in most worlds, so that something serves by then and what is struck are canaries.
    pub(crate) dawn: Duration,
    /// Until when things go wrong.
    pub(crate) storm: Duration,
    /// What chaos lies in wait for.
    pub(crate) ambush: Ambush,
    /// Whether controllers respect each other's leases.
    pub(crate) leases: bool,
    /// The average time between two strokes of chaos, in milliseconds.
    pub(crate) pace_ms: f64,
    /// How long a request and its answer take on their ways, at most, in milliseconds.
    pub(crate) latency_ms: f64,
    /// Probability of each network fault, for each request.
    pub(crate) lost: f64,
    /// See `lost`.
    pub(crate) reply_lost: f64,
    /// See `lost`.
    pub(crate) duplicated: f64,
    /// See `lost`.
    pub(crate) delayed: f64,
    /// Probability of each answer of a platform's interface that is no answer.
    pub(crate) api: f64,
    /// Probability of each kind of bad reading.
    pub(crate) metrics: f64,
    /// Weights of the strokes, by [`crate::chaos::Stroke`].
    pub(crate) strokes: Vec<f64>,
    /// Whether controllers' clocks may be far off.
    pub(crate) clocks: bool,
    /// The share of builds that are bad.
    pub(crate) bad: f64,
    /// Whether people ask for rollbacks and use kill switches.
    pub(crate) meddling: f64,
}

impl Profile {
    /// The seed's profile.
    pub(crate) fn of(seed: u64, strokes: usize) -> Self {
        let mut dice = Dice::of(seed, "profile");
        let ambush = match dice.between(0.0, 1.0) {
            ..0.15 => Ambush::Nowhere,
            ..0.57 => Ambush::Everywhere,
            _ => Ambush::Late,
        };
        let late = ambush == Ambush::Late;
        let often = if late { 0.2 } else { 1.0 };
        let mut level =
            |highest: f64| if dice.chance(0.45) { dice.between(0.0, highest * often) } else { 0.0 };
        let (lost, reply_lost, duplicated, delayed) = (level(0.15), level(0.15), level(0.2), level(0.2));
        let (api, metrics, meddling) = (level(0.8), level(1.5), level(0.15));
        let strokes = (0..strokes).map(|_| level(1.0)).collect();
        // Many small worlds, a few large ones.
        let rollouts = match dice.below(40) {
            0 => 20 + dice.below(31),
            1..=5 => 6 + dice.below(6),
            _ => 1 + dice.below(8),
        };
        let dawn = if dice.chance(0.85) { dice.span(3_000.0, 12_000.0) } else { Duration::ZERO };
        Self {
            controllers: 2 + dice.below(2),
            sites: (1 + dice.below(3)).min(rollouts),
            rollouts,
            dawn,
            storm: dawn + dice.span(20_000.0, 80_000.0),
            ambush,
            leases: dice.chance(0.7),
            pace_ms: dice.between(200.0, 3_000.0) / often,
            latency_ms: dice.span(4.0, 800.0).as_millis() as f64,
            lost,
            reply_lost,
            duplicated,
            delayed,
            api,
            metrics,
            strokes,
            clocks: dice.chance(0.4),
            bad: dice.between(0.05, 0.55) * often,
            meddling,
        }
    }
}
