//! How a release takes over traffic, and what is asked of it on the way.
//!
//! Every strategy (direct, rolling, blue/green, canary) is the same thing to the planner: a list of steps, each with a
//! weight, a shortest stay, a deadline and the question whether evidence is needed to go on.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::traffic::Weight;

/// The strategy's name in the manifest and on pages. The steps, not the kind, steer the planner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StrategyKind {
    /// All at once, as soon as the new revision is ready.
    Direct,
    /// In equal shares, each after the one before it was ready.
    Rolling,
    /// The new revision stands ready beside the old one, takes all traffic in one step, and is watched before the old one goes.
    BlueGreen,
    /// In growing shares, each kept only on evidence.
    Canary,
}

impl StrategyKind {
    /// As the manifest spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Rolling => "rolling",
            Self::BlueGreen => "blue-green",
            Self::Canary => "canary",
        }
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The canary's share of traffic during the step.
    pub weight: Weight,
    /// Shortest stay in milliseconds, however good the evidence.
    pub hold_ms: u64,
    /// Longest wait for evidence in milliseconds, counted from the step's start; then it is inconclusive.
    pub deadline_ms: u64,
    /// Whether a passing verdict is needed to leave the step upwards.
    pub analyse: bool,
}

/// What happens when a step's deadline passes without evidence either way. It never promotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnInconclusive {
    /// Take the release back.
    Rollback,
    /// Stay at the step's weight until a person decides (`trimtab approve` or `trimtab rollback`), but at most as long
    /// again as the step's deadline; then take it back.
    Hold,
}

/// What the guard in the splitter does when nobody renews its grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnExpiry {
    /// Send everything back to stable.
    Rollback,
    /// Keep the last weight: for one-way schema changes. Must be chosen explicitly.
    Hold,
}

/// The statistical questions and their strictness. Rates and probabilities are in 0..=1, ratios are canary over stable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnalysisPolicy {
    /// Probability of ever taking back a release that is within the margins (false rollback).
    pub alpha: f64,
    /// Probability of ever promoting early a release that is outside the margins.
    pub beta: f64,
    /// An error-rate ratio up to this is no harm.
    pub error_ratio_margin: f64,
    /// Promotion asks that the error rate is shown to be below
    /// `max(stable's rate + error_rate_floor, safe_ratio * stable's rate)`.
    pub error_rate_floor: f64,
    /// See `error_rate_floor`.
    pub safe_ratio: f64,
    /// An odds ratio of exceeding any latency bound up to this is no harm.
    pub latency_ratio_margin: f64,
    /// Promotion asks that for each latency bound, the share of slower requests is shown to be below stable's share plus
    /// this, or its odds to be below `safe_ratio` times stable's odds.
    pub latency_share_floor: f64,
    /// Latency bounds below this, in milliseconds, are not judged: being slower there does not matter to anyone.
    pub latency_from_ms: u64,
    /// Latency is not judged for this long after the first canary traffic, in milliseconds: caches and compilers warm up.
    /// Errors are judged from the first request on.
    pub warm_up_ms: u64,
    /// Time between two looks in milliseconds.
    pub interval_ms: u64,
    /// Without a new canary request for this long in milliseconds, there is no signal.
    pub silence_ms: u64,
}

impl Default for AnalysisPolicy {
    fn default() -> Self {
        Self {
            alpha: 0.01,
            beta: 0.05,
            error_ratio_margin: 1.1,
            error_rate_floor: 0.02,
            safe_ratio: 2.0,
            latency_ratio_margin: 1.25,
            latency_share_floor: 0.075,
            latency_from_ms: 5,
            warm_up_ms: 3_000,
            interval_ms: 500,
            silence_ms: 10_000,
        }
    }
}

/// What makes a user stay with the arm they saw first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case", tag = "by", content = "name")]
pub enum Sticky {
    /// Each request is drawn by itself.
    #[default]
    None,
    /// By a cookie, which is set when it is missing.
    Cookie(String),
    /// By a request header's value; requests without it are drawn by themselves.
    Header(String),
    /// By the client's address.
    Address,
}

/// A strategy as the planner uses it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Strategy {
    /// Its name, for people.
    pub kind: StrategyKind,
    /// In order; weights never fall. At least one.
    pub steps: Vec<Step>,
    /// The statistical policy of the steps that analyse.
    pub analysis: AnalysisPolicy,
    /// What a missed deadline means.
    pub on_inconclusive: OnInconclusive,
    /// What a silent control plane means.
    pub on_expiry: OnExpiry,
    /// How long the splitter may keep a raised weight without hearing from us, in milliseconds.
    pub grant_ttl_ms: u64,
    /// Who stays where.
    pub sticky: Sticky,
    /// How long a drained arm may finish its requests, in milliseconds.
    pub drain_ms: u64,
}

impl Strategy {
    /// Milliseconds as a duration.
    pub fn grant_ttl(&self) -> Duration {
        Duration::from_millis(self.grant_ttl_ms)
    }
}
