//! What a driver needs from the outside, and the one world that exists: a host's edge process.
//!
//! Invariant: a world that can't be reached answers with an error and has no opinion; it never invents data.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use delivery::effect::{Command, Effect, Outcome};
use delivery::traffic::{Sample, Weight};
use delivery::{RolloutId, Timestamp};
use platform::edge::{Edge, EdgeConfig};
use platform::guard::{self, GuardConfig};
use tokio::time::timeout;

/// How long a guard that is being started is waited for.
const GUARD_WAIT: Duration = Duration::from_secs(3);

/// What came of renewing a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// It holds.
    Held,
    /// The splitter took the traffic back, because it had not heard from us in time or was told to.
    Lapsed,
    /// A person had the traffic taken back, past the ledger.
    Withdrawn {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// A newer controller is in charge.
    Fenced {
        /// Its epoch.
        epoch: u64,
    },
}

/// The platform can't be reached now. Trying again may help.
#[derive(Debug, thiserror::Error)]
#[error("the platform does not answer")]
pub struct Unreachable {
    /// What lies beneath.
    #[source]
    pub source: platform::edge::Error,
}

/// Where a rollout happens.
pub trait World: Send {
    /// Applies a command: at most once for each (rollout, sequence), never for an old epoch.
    fn apply(&mut self, command: &Command) -> impl Future<Output = Result<Outcome, Unreachable>> + Send;
    /// Reads the traffic.
    fn sample(&mut self, at: Timestamp) -> impl Future<Output = Result<Sample, Unreachable>> + Send;
    /// Says that a controller still watches.
    fn renew(
        &mut self,
        rollout: &RolloutId,
        epoch: u64,
    ) -> impl Future<Output = Result<Renewal, Unreachable>> + Send;
    /// The kill switch: no canary traffic from now on. Needs neither ledger nor epoch, since it can only lower.
    fn lower(&mut self) -> impl Future<Output = Result<(), Unreachable>> + Send;
}

/// Verifies what is about to run. Returns why not, for people.
pub type Verify = Box<dyn Fn(&Effect) -> Result<(), String> + Send>;

/// A service's edge on this host. Started when it is needed and does not run; found again when it does.
pub struct Host {
    config: EdgeConfig,
    program: Vec<String>,
    variables: BTreeMap<String, String>,
    verify: Verify,
    /// The guard of an environment behind HAProxy, and the program that starts one.
    guard: Option<(GuardConfig, Vec<String>)>,
    edge: Option<Edge>,
}

impl Host {
    /// `program` starts an edge process when `--config FILE` is added to it. `variables` are handed to what is started, and
    /// kept nowhere. `verify` is asked before anything is started
    /// or promoted: it checks provenance and the artifact's digest.
    pub fn new(
        config: EdgeConfig,
        program: Vec<String>,
        variables: BTreeMap<String, String>,
        verify: Verify,
    ) -> Self {
        Self { config, program, variables, verify, guard: None, edge: None }
    }

    /// With a guard, which `program` starts when `--config FILE` is added to it.
    #[must_use]
    pub fn guarded(mut self, guard: Option<(GuardConfig, Vec<String>)>) -> Self {
        self.guard = guard;
        self
    }

    /// The edge's client, connected.
    pub async fn edge(&mut self) -> Result<&Edge, platform::edge::Error> {
        let edge = if let Some(edge) = self.edge.take() {
            edge
        } else {
            let edge = Edge::ensure(&self.config, &self.program).await?;
            if let Some((config, program)) = &self.guard {
                // Without one the edge refuses to raise; everything else goes on.
                let _ = timeout(GUARD_WAIT, guard::ensure(config, program)).await;
            }
            edge.with_variables(self.variables.clone())
        };
        Ok(self.edge.insert(edge))
    }

    fn lost(&mut self, source: platform::edge::Error) -> Unreachable {
        self.edge = None;
        Unreachable { source }
    }
}

impl World for Host {
    async fn apply(&mut self, command: &Command) -> Result<Outcome, Unreachable> {
        if let Err(detail) = (self.verify)(&command.effect) {
            return Ok(Outcome::Refused { detail });
        }
        let answer = match self.edge().await {
            Ok(edge) => edge.apply(command).await,
            Err(error) => Err(error),
        };
        answer.map_err(|error| self.lost(error))
    }

    async fn sample(&mut self, at: Timestamp) -> Result<Sample, Unreachable> {
        let answer = match self.edge().await {
            Ok(edge) => edge.sample(at).await,
            Err(error) => Err(error),
        };
        answer.map_err(|error| self.lost(error))
    }

    async fn renew(&mut self, rollout: &RolloutId, epoch: u64) -> Result<Renewal, Unreachable> {
        let answer = match self.edge().await {
            Ok(edge) => edge.renew(rollout, epoch).await,
            Err(error) => Err(error),
        };
        match answer.map_err(|error| self.lost(error))? {
            platform::edge::Renewal::Held { .. } => Ok(Renewal::Held),
            platform::edge::Renewal::Fenced { epoch } => Ok(Renewal::Fenced { epoch }),
            platform::edge::Renewal::Expired { requested: Some(requested), .. } => {
                Ok(Renewal::Withdrawn { by: requested.by, reason: requested.reason })
            }
            platform::edge::Renewal::Expired { requested: None, .. } | platform::edge::Renewal::None => {
                Ok(Renewal::Lapsed)
            }
        }
    }

    async fn lower(&mut self) -> Result<(), Unreachable> {
        let answer = match self.edge().await {
            Ok(edge) => edge.lower(Weight::ZERO, None).await,
            Err(error) => Err(error),
        };
        answer.map(|_| ()).map_err(|error| self.lost(error))
    }
}
