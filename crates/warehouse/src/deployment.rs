//! What the figures are computed from: deployments, the changes that they shipped first, and what went wrong with them.

use delivery::{CommitId, Timestamp};
use serde::Serialize;

/// How sure a fact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Somebody or something recorded it when it happened.
    Recorded,
    /// Concluded from other facts; may be wrong.
    Inferred,
}

/// A finished deployment of one release of one service into one environment, successful or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deployment {
    /// The release's version.
    pub version: String,
    /// The commit it was built from; `None` when somebody else deployed it and did not say.
    pub commit: Option<CommitId>,
    /// When it ended: the release served all traffic, or had been taken back.
    pub finished_at: Timestamp,
    /// Whether the release was taken back before it served all traffic.
    pub rolled_back: bool,
    /// When users' requests first went to the release; `None` when none ever did.
    pub exposed_at: Option<Timestamp>,
    /// Whether it was made to mend an earlier deployment (an unplanned one, in DORA's words).
    pub unplanned: bool,
    /// Whether it only put an earlier release back. It carries no change.
    pub revert: bool,
    /// What went wrong, where something did. However many incidents there were, it is one failed deployment.
    pub failure: Option<Failure>,
    /// Changes that this deployment brought into the environment for the first time.
    pub changes: Vec<Change>,
}

/// What went wrong with a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What tells us.
    pub kind: FailureKind,
    /// When it was noticed. Users may have met it before.
    pub detected_at: Timestamp,
    /// When users were served rightly again; `None` while they are not.
    pub restored_at: Option<Timestamp>,
    /// Whether that was recorded.
    pub confidence: Confidence,
}

/// What tells us that a deployment failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The release was taken back while it was rolled out.
    RolledBack,
    /// A later rollout put the release before it back.
    Reverted,
    /// An incident was attributed to it.
    Incident,
    /// The next release came soon after and held only fixes.
    FixFollowed,
}

/// A change that was shipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its commit.
    pub commit: CommitId,
    /// When it was written.
    pub authored_at: Timestamp,
    /// When it entered the trunk; `None` when it never did (a fix on a release branch).
    pub merged_at: Option<Timestamp>,
}
