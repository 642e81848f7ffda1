//! A finding: one thing that a check has to say. One model for every tool (requirement C1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{Digest, GateName};

/// How bad a finding is. The names are SARIF's levels (SARIF 2.1.0 §3.27.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Note,
    /// Should be mended.
    Warning,
    /// Must be mended.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The tool or report format it came from, such as `junit`.
    pub tool: String,
    /// The rule or test that it is about, such as `cart::adds_up`.
    pub rule: String,
    /// How bad it is.
    pub level: Level,
    /// One sentence.
    pub message: String,
    /// The file, relative to the repository, where the tool named one.
    pub path: Option<String>,
    /// The line, from 1.
    pub line: Option<u32>,
    /// Identity across runs: a hash over tool, rule, path and message without numbers, so that a moved line keeps it.
    pub fingerprint: Digest,
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateVerdict {
    /// The gate.
    pub gate: GateName,
    /// Whether it lets the change pass.
    pub passed: bool,
    /// Why, most important first. Never empty: a pass says what it rests on.
    pub reasons: Vec<String>,
    /// Tests seen over all its reports.
    pub tests: u64,
    /// Findings at level error.
    pub errors: u64,
}
