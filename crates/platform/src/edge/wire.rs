//! What goes over the control socket. Version 1 of the control API; domain types appear only where `delivery` defines their
//! wire form.

use camino::Utf8PathBuf;
use delivery::effect::Command;
use delivery::strategy::OnExpiry;
use delivery::traffic::Weight;
use delivery::{RevisionId, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::guard::Requested;

/// `POST /v1/apply`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ApplyRequest {
    pub(super) command: Command,
    /// Values for the revision's `pass` variables; they go before the daemon's own environment and are never stored.
    pub(super) variables: BTreeMap<String, String>,
}

/// `POST /v1/renew`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RenewRequest {
    pub(super) rollout: RolloutId,
    pub(super) epoch: u64,
}

/// `POST /v1/lower`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LowerRequest {
    pub(super) weight: Weight,
    /// The person who asks for it, where known.
    #[serde(default)]
    pub(super) requested: Option<Requested>,
}

/// Any answer but 200.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) message: String,
}

/// What came of a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "renewal")]
pub enum Renewal {
    /// The grant holds for its whole length again.
    Held {
        /// That length in milliseconds.
        remaining_ms: u64,
    },
    /// It is too late: the grant ended, or the kill switch was used, or the edge was restarted, and the canary was taken
    /// out of traffic. It won't come back for this rollout.
    Expired {
        /// The weight that was in force until then.
        weight: Weight,
        /// When it ended.
        at: Timestamp,
        /// One clause for people.
        cause: String,
        /// The person who asked for it, where it was one.
        #[serde(default)]
        requested: Option<Requested>,
    },
    /// A newer controller is in charge.
    Fenced {
        /// The highest epoch seen.
        epoch: u64,
    },
    /// The rollout has no raised weight here, so there is nothing to renew.
    None,
}

/// What the kill switch did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lowered {
    /// The weight before.
    pub from: Weight,
    /// The weight in force now; never above `from`.
    pub to: Weight,
}

/// What a revision is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Serves everything that the canary does not.
    Stable,
    /// Started for a rollout; has the weight's share of traffic.
    Canary,
    /// Was stable, has no new traffic, and waits to be retired.
    Retiring,
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// Its process runs but is not ready.
    Starting,
    /// It takes requests.
    Ready,
    /// Its process ended; another is started after a wait.
    BackingOff,
    /// It is done.
    Stopped,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its loopback port; `None` while it has no process.
    pub port: Option<u16>,
    /// Its process, which leads its process group.
    pub pid: Option<u32>,
    /// What it is doing.
    pub state: InstanceState,
    /// How often its process was replaced.
    pub restarts: u32,
    /// Why its last process ended.
    pub last_end: Option<String>,
}

/// One revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionStatus {
    /// Its id.
    pub id: RevisionId,
    /// What it is here.
    pub role: Role,
    /// Its log; the older half is beside it with `.1` appended.
    pub log: Utf8PathBuf,
    /// Variables of `pass` that it was started without, because they were set nowhere.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Requests that came here, or would have, because they named their arm by the override header. They are in no sample.
    #[serde(default)]
    pub asked: u64,
    /// Its instances in order.
    pub instances: Vec<InstanceStatus>,
}

/// Everything that an edge knows about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The address really bound, `ip:port`.
    pub listen: String,
    /// The address that was asked for.
    pub listen_asked: String,
    /// Names this process lifetime; counters start over with it.
    pub boot: String,
    /// The daemon's pid.
    pub pid: u32,
    /// How often an edge was started on this state, from 1.
    pub boots: u64,
    /// The revisions that were running before a restart are still being started.
    pub restoring: bool,
    /// It was told to stop and is draining; start anew once it is gone.
    pub stopping: bool,
    /// The canary's share in force now.
    pub weight: Weight,
    /// The rollout whose raised weight that is.
    pub rollout: Option<RolloutId>,
    /// Milliseconds until the weight falls to 0 unless renewed; `None` without a raised weight.
    pub grant_remaining_ms: Option<u64>,
    /// What happens then.
    pub on_expiry: Option<OnExpiry>,
    /// The last rollout whose raised weight was taken back without a command.
    pub expired: Option<ExpiredStatus>,
    /// The highest epoch seen.
    pub epoch: u64,
    /// All revisions; at most one is stable.
    pub revisions: Vec<RevisionStatus>,
    /// The last failure to write the state, while it lasts.
    pub storage_problem: Option<String>,
    /// What keeps HAProxy from being as it should, while it lasts.
    #[serde(default)]
    pub front_problem: Option<String>,
}

impl Status {
    /// The revision with this role, if there is one.
    pub fn revision(&self, role: Role) -> Option<&RevisionStatus> {
        self.revisions.iter().find(|revision| revision.role == role)
    }
}

/// A raised weight that was taken back without a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiredStatus {
    /// The rollout.
    pub rollout: RolloutId,
    /// The weight in force until then.
    pub weight: Weight,
    /// When it ended.
    pub at: Timestamp,
    /// One clause for people.
    pub cause: String,
    /// The person who asked for it, where it was one.
    #[serde(default)]
    pub requested: Option<Requested>,
}
