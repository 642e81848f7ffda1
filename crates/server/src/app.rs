//! What all handlers share, and the task that keeps it up to date.
//!
//! Leaves out what is made of it (`view`). Invariant: a stream is told of an event only after the event was folded in, so a
//! page that is fetched because of it shows it.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use delivery::environment::Environment;
use delivery::limits::STREAMS_MAX;
use delivery::{Actor, Clock, Digest, EnvironmentName, ServiceName, Timestamp};
use store::Ledger;
use tokio::sync::{Semaphore, watch};

use crate::Config;
use crate::chronicle::{self, Chronicle};
use crate::guard::Guard;
use crate::operations::Operations;
use crate::refusal::Refusal;

/// The wait before a ledger that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The longest that a page waits for an edge's word about itself.
const EDGE_WITHIN: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct App {
    pub(crate) project: String,
    pub(crate) environments: Vec<(Environment, Digest)>,
    pub(crate) identity: Actor,
    pub(crate) operations: Arc<dyn Operations>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) guard: Guard,
    pub(crate) ledger: Ledger,
    pub(crate) streams: Arc<Semaphore>,
    /// The sequence up to which everything is folded in.
    pub(crate) folded: watch::Sender<u64>,
    pub(crate) stopped: watch::Receiver<bool>,
    chronicle: RwLock<Chronicle>,
}

impl App {
    /// Folds the whole ledger. Blocks.
    pub(crate) fn open(
        config: Config,
        address: SocketAddr,
        stopped: watch::Receiver<bool>,
    ) -> Result<Self, store::Error> {
        let guard = Guard::new(&config.token, address, config.clock.now());
        let mut chronicle = Chronicle::default();
        while let Some(entries) = chronicle::read(&config.ledger, chronicle.state().size)? {
            chronicle.take(entries);
        }
        Ok(Self {
            project: config.project,
            environments: config.environments,
            identity: Actor::Human(config.identity),
            operations: config.operations,
            clock: config.clock,
            guard,
            ledger: config.ledger,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            folded: watch::Sender::new(chronicle.state().size),
            stopped,
            chronicle: RwLock::new(chronicle),
        })
    }

    /// The chronicle, to read. Held briefly, and never across an await.
    pub(crate) fn chronicle(&self) -> RwLockReadGuard<'_, Chronicle> {
        self.chronicle.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present, never before the last record.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.clock.now();
        self.chronicle().state().last_at.map_or(now, |last| last.max(now))
    }

    /// What the edge says of itself; `None` when it does not answer in time.
    pub(crate) async fn edge(
        &self,
        service: ServiceName,
        environment: EnvironmentName,
    ) -> Option<platform::edge::Status> {
        tokio::time::timeout(EDGE_WITHIN, self.operations.edge(service, environment)).await.ok().flatten()
    }

    fn catch_up(&self) -> Result<(), store::Error> {
        loop {
            // Bound to a name, so that the lock is free while the ledger is read.
            let size = self.chronicle().state().size;
            let Some(entries) = chronicle::read(&self.ledger, size)? else { return Ok(()) };
            let mut chronicle = self.chronicle.write().unwrap_or_else(PoisonError::into_inner);
            chronicle.take(entries);
            chronicle.trouble = None;
            let size = chronicle.state().size;
            drop(chronicle);
            self.folded.send_replace(size);
        }
    }

    fn note_trouble(&self, error: &store::Error) {
        let mut chronicle = self.chronicle.write().unwrap_or_else(PoisonError::into_inner);
        chronicle.trouble = Some(error.problem().to_string());
    }
}

/// Does the work on a thread that may block, with the app.
pub(crate) async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let app = app.clone();
    tokio::task::spawn_blocking(move || work(&app)).await.unwrap_or_else(|_| Err(Refusal::internal()))
}

/// Follows the ledger until the server stops.
pub(crate) async fn follow(app: Arc<App>) {
    let mut stopped = app.stopped.clone();
    loop {
        let size = *app.folded.borrow();
        let changed = tokio::select! {
            changed = app.ledger.changed(size) => changed,
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        let worker = app.clone();
        let caught_up = match changed {
            Ok(_) => tokio::task::spawn_blocking(move || worker.catch_up()).await.unwrap_or(Ok(())),
            Err(error) => Err(error),
        };
        if let Err(error) = caught_up {
            app.note_trouble(&error);
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
        }
    }
}
