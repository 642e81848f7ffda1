//! What goes over the guard's socket (HTTP/1.1, JSON, below `/v1/`). There is no request that raises a share.

use delivery::traffic::Weight;
use delivery::{EnvironmentName, RolloutId, ServiceName, Timestamp};
use serde::{Deserialize, Serialize};

use super::watchman::{Cause, Ended, Held};

/// `POST /v1/renew`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RenewRequest {
    pub(super) rollout: RolloutId,
    pub(super) epoch: u64,
}

/// `POST /v1/settle`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SettleRequest {
    pub(super) rollout: RolloutId,
}

/// What the guard says to who asks for a grant or renews one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// The grant holds.
    Held {
        /// For so long, in milliseconds.
        remaining_ms: u64,
    },
    /// It ended by itself or by a person, and will not come back for this rollout.
    Ended {
        /// When.
        at: Timestamp,
        /// What it had covered.
        ceiling: Weight,
        /// Why.
        cause: Cause,
    },
    /// A newer controller is in charge.
    Fenced {
        /// The highest epoch seen.
        epoch: u64,
    },
    /// No grant of this rollout is held.
    None,
}

/// A drain that HAProxy has not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// Since when, by the wall clock.
    pub since: Timestamp,
    /// What stands in the way, as it was the last time.
    pub trouble: String,
}

/// Everything that a guard knows about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// Its process.
    pub pid: u32,
    /// The boot of the machine, on whose clock grants run.
    pub boot_id: String,
    /// The grant in force, if there is one.
    pub held: Option<Held>,
    /// Milliseconds until it runs out; `None` without one, and for one that ran out and is kept by `hold`.
    pub remaining_ms: Option<u64>,
    /// The last grant that ended by itself or by a person.
    pub ended: Option<Ended>,
    /// The highest epoch seen.
    pub epoch: u64,
    /// The canary's share at HAProxy at the last look; `None` when it did not answer.
    pub share: Option<Weight>,
    /// A drain that is owed.
    pub owed: Option<Owed>,
    /// The last failure to write the state, while it lasts.
    pub storage_problem: Option<String>,
}
