//! A rollout's plan: immutable once recorded.

use serde::{Deserialize, Serialize};

use crate::effect::RevisionSpec;
use crate::environment::Environment;
use crate::id::{Digest, ReleaseId, RevisionId, RolloutId};

/// Everything that the planner needs to carry one release into one environment. Recorded before anything is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutPlan {
    /// Its id.
    pub id: RolloutId,
    /// The rollout before it in the same environment and service, whose revision is stable now.
    pub parent: Option<RolloutId>,
    /// The release.
    pub release: ReleaseId,
    /// Its version, for people.
    pub version: String,
    /// What is started.
    pub revision: RevisionSpec,
    /// The revision that serves now; `None` for a first deployment.
    pub stable: Option<RevisionId>,
    /// The release that this rollout takes back after it had already been promoted, if that is what it is for.
    pub reverts: Option<ReleaseId>,
    /// The environment with its rules as they were when the plan was made.
    pub environment: Environment,
    /// SHA-256 over those rules and its address: approvals are bound to it.
    pub policy: Digest,
}

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutOutcome {
    /// The release serves the environment.
    Completed,
    /// The release was taken back; what served before serves again.
    RolledBack,
}

/// Why a release is being taken back. One enum, so that every cause has a sentence and a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum RollbackCause {
    /// The analysis showed harm.
    Harm {
        /// The signal that carried it.
        signal: String,
    },
    /// The revision did not start, or did not become ready.
    StartFailed {
        /// What the platform said.
        detail: String,
    },
    /// No evidence by the deadline.
    Inconclusive {
        /// What was missing.
        detail: String,
    },
    /// A person asked for it.
    Requested {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// The splitter took the traffic back by itself: nobody renewed its grant, it was restarted, or its kill switch was used.
    GrantExpired,
    /// The platform refused an effect, or lost the revision.
    PlatformRefused {
        /// What it said.
        detail: String,
    },
}

impl std::fmt::Display for RollbackCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Harm { signal } => write!(f, "the canary is worse than stable on {signal}"),
            Self::StartFailed { detail } => write!(f, "the new revision did not start: {detail}"),
            Self::Inconclusive { detail } => write!(f, "no evidence by the deadline: {detail}"),
            Self::Requested { by, reason } => write!(f, "{by} asked for it: {reason}"),
            Self::GrantExpired => f.write_str(
                "the splitter took the traffic back: its grant ran out, it restarted, or it was told to",
            ),
            Self::PlatformRefused { detail } => write!(f, "the platform refused: {detail}"),
        }
    }
}
