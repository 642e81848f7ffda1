//! What an analysis found at one look, small enough to record each time and rich enough to explain it.

use serde::{Deserialize, Serialize};

use crate::id::Digest;

/// What the look says about the canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Not enough evidence either way.
    Continue,
    /// Shown to be worse than the margin.
    Harm,
    /// Shown to be within the margin.
    Safe,
    /// Nothing to judge by: no traffic, no data, a reset.
    NoSignal,
    /// The split of traffic is not the one that was asked for, so the arms can't be compared.
    RatioMismatch,
}

/// One look's evidence. `log_e_*` are natural logarithms of e-values; harm is shown at `ln(1/alpha)`, safety at
/// `ln(1/beta)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What it says.
    pub finding: Finding,
    /// Evidence of harm, over the whole rollout.
    pub log_e_harm: f64,
    /// Evidence of safety, in this step.
    pub log_e_safe: f64,
    /// The signal that carries the finding: `errors`, or `latency > 100 ms`.
    pub signal: String,
    /// Lower end of the error-rate ratio's confidence sequence at 1 - alpha; `None` is 0.
    pub ratio_low: Option<f64>,
    /// Upper end of it; `None` is unbounded.
    pub ratio_high: Option<f64>,
    /// Canary requests in the step so far.
    pub canary_requests: u64,
    /// Canary errors in the step so far.
    pub canary_errors: u64,
    /// Stable requests in the step so far.
    pub stable_requests: u64,
    /// Stable errors in the step so far.
    pub stable_errors: u64,
    /// The artifact that was under test.
    pub digest: Digest,
}
