//! What a planner asks of a platform, and what the platform answers.
//!
//! A command carries its identity (rollout, sequence) and its fencing epoch. A platform applies each identity at most once
//! and answers a repetition with the first answer; it refuses a command whose epoch is below the highest it has seen.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::id::{Digest, RevisionId, RolloutId, ServiceName};
use crate::strategy::{OnExpiry, Sticky};
use crate::traffic::Weight;

/// One intended effect with its identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// The rollout it belongs to.
    pub rollout: RolloutId,
    /// Its number within the rollout, from 1. With the rollout this is the idempotency key.
    pub sequence: u32,
    /// The controller's fencing generation.
    pub epoch: u64,
    /// What to do.
    pub effect: Effect,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Effect {
    /// Start the revision's processes and wait until they are ready. It gets no traffic yet.
    Start {
        /// What to start.
        revision: Box<RevisionSpec>,
    },
    /// Give the revision this share of new requests. A raised weight holds only while its grant is renewed.
    SetWeight {
        /// The canary.
        revision: RevisionId,
        /// Its share.
        weight: Weight,
        /// The grant's length in milliseconds.
        ttl_ms: u64,
        /// What the splitter does when the grant ends unrenewed.
        on_expiry: OnExpiry,
        /// Who stays where.
        sticky: Sticky,
    },
    /// The revision becomes stable: it gets all traffic, without a grant; the former stable stays up until retired.
    Promote {
        /// The new stable.
        revision: RevisionId,
    },
    /// Drain the revision's requests, stop its processes and forget it. Refused for the stable revision.
    Retire {
        /// What to stop.
        revision: RevisionId,
        /// How long its requests may take to finish, in milliseconds.
        drain_ms: u64,
    },
}

impl Effect {
    /// The revision that it is about.
    pub fn revision(&self) -> &RevisionId {
        match self {
            Self::Start { revision } => &revision.id,
            Self::SetWeight { revision, .. } | Self::Promote { revision } | Self::Retire { revision, .. } => {
                revision
            }
        }
    }
}

/// What to run, and how to know that it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionSpec {
    /// Its id.
    pub id: RevisionId,
    /// The service.
    pub service: ServiceName,
    /// The artifact that is run. The platform refuses to start a directory with another digest.
    pub digest: Digest,
    /// The unpacked artifact, which is also the working directory.
    pub directory: Utf8PathBuf,
    /// Program and arguments. `{port}` is replaced by the port that the instance must listen on.
    pub command: Vec<String>,
    /// Plain environment variables. `PORT` is added.
    pub environment: BTreeMap<String, String>,
    /// Names of variables passed through from Trimtab's own environment; their values are masked in logs.
    pub pass: Vec<String>,
    /// How to know that an instance is ready.
    pub ready: Readiness,
    /// Number of instances.
    pub instances: u32,
    /// How long an instance may take to end after SIGTERM, in milliseconds; then it is killed.
    pub stop_ms: u64,
}

/// How to know that an instance is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Path that must answer 200 to 299; `None` means that a connection is enough.
    pub path: Option<String>,
    /// How long it may take in milliseconds.
    pub within_ms: u64,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// Done; what was asked is true now.
    Applied {
        /// One clause for people, such as "2 instances ready in 340 ms".
        detail: String,
    },
    /// It can't be done, and trying again won't help: the revision crashed or never became ready, the directory's digest
    /// differs, stable would be retired.
    Refused {
        /// One clause for people.
        detail: String,
    },
    /// A newer controller is in charge; whoever sent this must stop.
    Fenced {
        /// The highest epoch seen.
        epoch: u64,
    },
}
