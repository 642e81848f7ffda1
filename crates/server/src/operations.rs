//! What a page or an API call may ask to be done. The binary implements it with the very code of its commands.

use std::sync::Arc;

use delivery::environment::Environment;
use delivery::{Actor, Digest, EnvironmentName, Problem, ReleaseId, RolloutId, ServiceName};
use futures_util::future::BoxFuture;
use rollout::progress::Rollout;

/// The project's rules, as far as they can be read.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The environments in promotion order, each with the digest of its rules.
    pub environments: Vec<(Environment, Digest)>,
    /// Why these are not the present ones, one sentence; `None` when they are.
    pub trouble: Option<String>,
}

/// What somebody approves.
#[derive(Debug, Clone)]
pub struct Approval {
    /// The release.
    pub release: ReleaseId,
    /// Where it may go.
    pub environment: EnvironmentName,
    /// What was seen when it was decided: the digest of the rules and the artifact's. Refused when it has changed since.
    pub seen: Option<(Digest, Digest)>,
    /// Goes on record; may be empty.
    pub comment: String,
}

/// The way from a request to an act. None of it may depend on the manifest but [`Self::approve`] and [`Self::rules`].
pub trait Operations: Send + Sync {
    /// Asks for a rollout, of which this is known, to be taken back. Returns when that is recorded, not when it is done.
    /// Nothing is read for it: how much is on record is no obstacle.
    fn rollback(&self, actor: Actor, rollout: Rollout, reason: String) -> BoxFuture<'_, Result<(), Problem>>;

    /// Lets a rollout that is held for a person go on. Returns when that is recorded.
    fn resume(&self, actor: Actor, rollout: RolloutId, reason: String) -> BoxFuture<'_, Result<(), Problem>>;

    /// Approves a release for an environment.
    fn approve(&self, actor: Actor, approval: Approval) -> BoxFuture<'_, Result<(), Problem>>;

    /// What the edge of the service in the environment says of itself; `None` when it does not run.
    fn edge(
        &self,
        service: ServiceName,
        environment: EnvironmentName,
    ) -> BoxFuture<'_, Option<platform::edge::Status>>;

    /// Whether a controller is at work for the service in the environment. May block.
    fn driven(&self, service: &ServiceName, environment: &EnvironmentName) -> bool;

    /// The rules now, or the last that could be read. May block.
    fn rules(&self) -> Arc<Rules>;
}
