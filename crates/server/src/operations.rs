//! What a page or an API call may ask to be done. The binary implements it with the very code of its commands.

use delivery::{Actor, EnvironmentName, Problem, ReleaseId, RolloutId, ServiceName};
use futures_util::future::BoxFuture;

/// The way from a request to an act.
pub trait Operations: Send + Sync {
    /// Asks for a rollout to be taken back. Returns when that is recorded, not when it is done.
    fn rollback(
        &self,
        actor: Actor,
        rollout: RolloutId,
        reason: String,
    ) -> BoxFuture<'_, Result<(), Problem>>;

    /// Approves a release for an environment.
    fn approve(
        &self,
        actor: Actor,
        release: ReleaseId,
        environment: EnvironmentName,
        comment: String,
    ) -> BoxFuture<'_, Result<(), Problem>>;

    /// What the edge of the service in the environment says of itself; `None` when it does not run.
    fn edge(
        &self,
        service: ServiceName,
        environment: EnvironmentName,
    ) -> BoxFuture<'_, Option<platform::edge::Status>>;

    /// Whether a controller is at work for the service in the environment.
    fn driven(&self, service: &ServiceName, environment: &EnvironmentName) -> bool;
}
