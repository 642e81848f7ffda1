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

/// How often something happened in each arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCounts {
    /// Canary requests that it happened to.
    pub canary_events: u64,
    /// Canary requests.
    pub canary: u64,
    /// Stable requests that it happened to.
    pub stable_events: u64,
    /// Stable requests.
    pub stable: u64,
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
    /// Where the signal is a latency bound: the requests that took longer, in the step so far.
    pub slower: Option<EventCounts>,
    /// The artifact that was under test.
    pub digest: Digest,
}

/// What the name of a signal that is a latency bound begins with.
pub const LATENCY_SIGNAL: &str = "latency > ";

impl Evidence {
    /// The counts that people ask for, in words: `canary 3 failed of 26, stable 0 of 275`, or for harm by latency
    /// `canary 31 of 54 over 15 ms, stable 2 of 450`.
    pub fn counts(&self) -> String {
        match (self.signal.strip_prefix(LATENCY_SIGNAL), &self.slower) {
            (Some(bound), Some(counts)) if self.finding == Finding::Harm => format!(
                "canary {} of {} over {bound}, stable {} of {}",
                counts.canary_events, counts.canary, counts.stable_events, counts.stable
            ),
            _ => format!(
                "canary {} failed of {}, stable {} of {}",
                self.canary_errors, self.canary_requests, self.stable_errors, self.stable_requests
            ),
        }
    }
}
