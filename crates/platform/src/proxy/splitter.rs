//! The splitter: routes that are swapped atomically, and what came of the requests that followed them.
//!
//! Leaves out the network (see `serve`) and the dead man's grant (see [`crate::grant`]).
//!
//! Invariant: when a change of routes returns, no section that reads the routes holds the old ones. Each shard has its own lock;
//! readers hold their shard's lock while they choose and start a request, without waiting for anything; a writer takes
//! every shard's lock in turn.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use delivery::network::Network;
use delivery::traffic::{ArmTotals, Sample, Weight};
use delivery::{RevisionId, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::choose::{ArmChoice, Split, salt};
use super::counters::Counters;
use super::endpoint::Endpoint;
use super::limits::ProxyLimits;
use super::routes::{Arm, Routes};
use super::shard::Sharded;

/// How often a waiting drain looks.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// A revision's counters and instances.
pub(super) struct Lane {
    pub(super) counters: Arc<Counters>,
    /// For requests that chose this arm themselves: they show nothing of the split, and anyone could send them.
    pub(super) asked: Arc<Counters>,
    pub(super) endpoints: Vec<Arc<Endpoint>>,
}

/// The routes as requests read them.
pub(super) struct Table {
    pub(super) split: Split,
    pub(super) routes: Routes,
    stable: Option<Lane>,
    canary: Option<Lane>,
}

impl Table {
    pub(super) fn lane(&self, choice: ArmChoice) -> Option<&Lane> {
        match choice {
            ArmChoice::Stable => self.stable.as_ref(),
            ArmChoice::Canary => self.canary.as_ref(),
        }
    }
}

#[derive(Default)]
struct Registry {
    routes: Routes,
    /// By revision: of requests that were given their arm, and of those that asked for it.
    counters: HashMap<RevisionId, [Arc<Counters>; 2]>,
    endpoints: Vec<Arc<Endpoint>>,
}

struct Shared {
    boot: String,
    limits: ProxyLimits,
    /// Places for connections to instances.
    upstreams: Arc<Semaphore>,
    trusted: Vec<Network>,
    tables: Sharded<RwLock<Arc<Table>>>,
    registry: Mutex<Registry>,
}

/// Splits requests between a stable and a canary revision. Clones share everything.
#[derive(Clone)]
pub struct Splitter(Arc<Shared>);

impl std::fmt::Debug for Splitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Splitter").field("boot", &self.0.boot).field("routes", &self.routes()).finish()
    }
}

impl Splitter {
    /// Without routes: every request is answered 503. `boot` names this process lifetime in samples.
    pub fn new(boot: String, limits: ProxyLimits) -> Self {
        Self::trusting(boot, limits, Vec::new())
    }

    /// The same, behind proxies whose word about the client is taken.
    pub fn trusting(boot: String, limits: ProxyLimits, trusted: Vec<Network>) -> Self {
        let table = Arc::new(Registry::default().table());
        let tables = Sharded::new(|| RwLock::new(Arc::clone(&table)));
        let upstreams = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Shared { boot, limits, upstreams, trusted, tables, registry: Mutex::default() }))
    }

    /// Replaces the routes. When it returns, no request can start by the old ones.
    pub fn set_routes(&self, routes: Routes) {
        self.install(&mut self.registry(), routes);
    }

    /// The routes in force.
    pub fn routes(&self) -> Routes {
        self.registry().routes.clone()
    }

    /// Changes the weight alone. When it returns, no request can start by the old weight: after 0, none starts on the
    /// canary. Takes as long as the longest critical section, some microseconds.
    #[expect(clippy::unused_async, reason = "callers await the acknowledgement, whatever it takes")]
    pub async fn set_weight_and_wait(&self, weight: Weight) {
        self.set_weight(weight);
    }

    /// [`Splitter::set_weight_and_wait`] for callers that are not async.
    pub fn set_weight(&self, weight: Weight) {
        let mut registry = self.registry();
        let routes = Routes { weight, ..registry.routes.clone() };
        self.install(&mut registry, routes);
    }

    /// The weight in force.
    pub fn weight(&self) -> Weight {
        self.registry().routes.weight
    }

    /// Both arms' totals. An arm that does not exist has none; totals belong to the revision, so a promoted canary's
    /// go on as the stable arm's.
    pub fn sample(&self, at: Timestamp) -> Sample {
        let registry = self.registry();
        let of = |arm: &Option<Arm>| {
            let counters = arm.as_ref().and_then(|arm| registry.counters.get(&arm.revision));
            counters.map_or_else(ArmTotals::zero, |[drawn, _]| drawn.totals())
        };
        Sample {
            boot: self.0.boot.clone(),
            at,
            weight: registry.routes.weight,
            stable: of(&registry.routes.stable),
            canary: of(&registry.routes.canary),
        }
    }

    /// A revision's totals; `None` if it was never routed to, or was forgotten.
    pub fn totals(&self, revision: &RevisionId) -> Option<ArmTotals> {
        self.registry().counters.get(revision).map(|[drawn, _]| drawn.totals())
    }

    /// Totals of the requests that chose the revision by the override header. They are in no sample.
    pub fn asked(&self, revision: &RevisionId) -> ArmTotals {
        let registry = self.registry();
        registry.counters.get(revision).map_or_else(ArmTotals::zero, |[_, asked]| asked.totals())
    }

    /// Requests under way on a revision, tunnels (WebSockets) included.
    pub fn in_flight(&self, revision: &RevisionId) -> u64 {
        self.sum(revision, Counters::in_flight)
    }

    /// Request heads written to a revision's instances so far; attempts that went on to another instance included.
    pub fn sent(&self, revision: &RevisionId) -> u64 {
        self.sum(revision, Counters::sent)
    }

    fn sum(&self, revision: &RevisionId, of: impl Fn(&Counters) -> u64) -> u64 {
        let registry = self.registry();
        registry.counters.get(revision).map_or(0, |both| both.iter().map(|counters| of(counters)).sum())
    }

    /// Waits until a revision has no request under way; `false` if it still has one after `within`. It should have left
    /// the routes, or have no weight, before.
    pub async fn drained(&self, revision: &RevisionId, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while self.in_flight(revision) > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(DRAIN_LOOK).await;
        }
        true
    }

    /// Drops the totals of a revision that is not routed to; `false`, and nothing done, if it is.
    pub fn forget(&self, revision: &RevisionId) -> bool {
        let mut registry = self.registry();
        let routed = registry.routes.arms().any(|arm| arm.revision == *revision);
        if !routed {
            registry.counters.remove(revision);
        }
        !routed
    }

    /// Whether this address' word about the client is taken.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.0.trusted.iter().any(|network| network.contains(address))
    }

    pub(super) fn limits(&self) -> &ProxyLimits {
        &self.0.limits
    }

    /// A place for one more connection to an instance; kept ones make room for it. `None` when none came free in time.
    pub(super) async fn upstream_slot(&self) -> Option<OwnedSemaphorePermit> {
        let slots = &self.0.upstreams;
        if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
            return Some(slot);
        }
        self.registry().endpoints.iter().for_each(|endpoint| endpoint.clear());
        timeout(self.0.limits.connect, Arc::clone(slots).acquire_owned()).await.ok()?.ok()
    }

    /// Runs a section under the routes in force. It must not wait for anything.
    pub(super) fn with_table<T>(&self, section: impl FnOnce(&Table) -> T) -> T {
        let table = self.0.tables.local().read().unwrap_or_else(PoisonError::into_inner);
        section(&table)
    }

    /// Drops connections that have been idle for too long.
    pub(super) fn sweep(&self) {
        let endpoints = self.registry().endpoints.clone();
        let now = Instant::now();
        endpoints.iter().for_each(|endpoint| endpoint.sweep(now));
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn install(&self, registry: &mut Registry, routes: Routes) {
        registry.routes = routes;
        let table = Arc::new(registry.table());
        for shard in self.0.tables.iter() {
            *shard.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&table);
        }
        registry.endpoints.retain(|endpoint| {
            let arm = registry.routes.arms().find(|arm| arm.revision == endpoint.counters.revision);
            let used = arm.is_some_and(|arm| arm.instances.contains(&endpoint.address));
            if !used {
                endpoint.close();
            }
            used
        });
    }
}

impl Routes {
    fn arms(&self) -> impl Iterator<Item = &Arm> {
        self.stable.iter().chain(&self.canary)
    }
}

impl Registry {
    fn table(&mut self) -> Table {
        let routes = self.routes.clone();
        let split = Split {
            stable: routes.stable.is_some(),
            canary: routes.canary.is_some(),
            weight: routes.weight,
            salt: routes.canary.as_ref().map_or(0, |arm| salt(&arm.revision)),
        };
        let stable = routes.stable.as_ref().map(|arm| self.lane(arm));
        let canary = routes.canary.as_ref().map(|arm| self.lane(arm));
        Table { split, routes, stable, canary }
    }

    fn lane(&mut self, arm: &Arm) -> Lane {
        let new = || Arc::new(Counters::new(arm.revision.clone()));
        let both = self.counters.entry(arm.revision.clone()).or_insert_with(|| [new(), new()]);
        let [counters, asked] = both.clone();
        let endpoints = arm.instances.iter().map(|address| self.endpoint(*address, &counters)).collect();
        Lane { counters, asked, endpoints }
    }

    fn endpoint(&mut self, address: std::net::SocketAddr, counters: &Arc<Counters>) -> Arc<Endpoint> {
        let same = |endpoint: &&Arc<Endpoint>| {
            endpoint.address == address && endpoint.counters.revision == counters.revision
        };
        if let Some(known) = self.endpoints.iter().find(same) {
            return Arc::clone(known);
        }
        let endpoint = Arc::new(Endpoint::new(address, Arc::clone(counters)));
        self.endpoints.push(Arc::clone(&endpoint));
        endpoint
    }
}
