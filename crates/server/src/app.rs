//! What all handlers share, and the task that keeps it up to date.
//!
//! Leaves out what is made of it (`view`). Invariant: a stream is told of an event only after the event was folded in, so a
//! page that is fetched because of it shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use camino::Utf8PathBuf;
use delivery::clock::millis_between;
use delivery::code::Code;
use delivery::{Actor, Clock, EnvironmentName, Problem, RolloutId, ServiceName, Timestamp};
use rollout::progress::Rollout;
use store::Ledger;
use tokio::sync::{Semaphore, watch};

use crate::Config;
use crate::admission::Admission;
use crate::chronicle::{self, Chronicle};
use crate::guard::Guard;
use crate::intake::Intake;
use crate::limits::Limits;
use crate::operations::{Operations, Rules};
use crate::refusal::Refusal;

/// The wait before a ledger that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The longest that a page waits for an edge's word about itself.
const EDGE_WITHIN: Duration = Duration::from_millis(500);

/// Edges that are asked for one answer.
const EDGES_MAX: usize = 64;
/// How long this process may take to go on with a rollout whose controller is gone, before a person is called.
const ADOPTED_WITHIN_MS: u64 = 10_000;

/// A service in an environment.
pub(crate) type Place = (ServiceName, EnvironmentName);

/// What holds beside the ledger. Asked for once for each answer, without the chronicle's lock.
#[derive(Default)]
pub(crate) struct Surroundings {
    pub(crate) rules: Arc<Rules>,
    /// Where a controller is at work.
    pub(crate) driven: BTreeSet<Place>,
    /// Where none is, but has been until a moment ago: this process goes on there.
    pub(crate) adopted: BTreeSet<Place>,
    /// What the edges say of themselves, where a rollout is under way and they answer.
    pub(crate) edges: BTreeMap<Place, platform::edge::Status>,
}

/// See the module.
pub(crate) struct App {
    pub(crate) project: String,
    pub(crate) identity: Actor,
    pub(crate) operations: Arc<dyn Operations>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) guard: Guard,
    pub(crate) ledger: Ledger,
    pub(crate) recall: Utf8PathBuf,
    pub(crate) intake: Intake,
    pub(crate) limits: Limits,
    pub(crate) admission: Admission,
    pub(crate) streams: Arc<Semaphore>,
    /// Streams that were ever opened.
    pub(crate) streams_opened: AtomicU32,
    /// The sequence up to which everything is folded in.
    pub(crate) folded: watch::Sender<u64>,
    pub(crate) stopped: watch::Receiver<bool>,
    chronicle: RwLock<Chronicle>,
    /// Rollouts without a controller, and since when that is known.
    orphans: Mutex<BTreeMap<Place, Timestamp>>,
}

impl App {
    /// Folds the whole ledger. Blocks.
    pub(crate) fn open(
        config: Config,
        address: SocketAddr,
        intake: Intake,
        stopped: watch::Receiver<bool>,
    ) -> Result<Self, store::Error> {
        let guard = Guard::new(&config.token, &config.report_token, address);
        let chronicle = Chronicle::of(&config.ledger)?;
        Ok(Self {
            project: config.project,
            identity: Actor::Human(config.identity),
            operations: config.operations,
            clock: config.clock,
            guard,
            ledger: config.ledger,
            recall: config.recall,
            intake,
            limits: config.limits,
            admission: Admission::new(config.limits),
            streams: Arc::new(Semaphore::new(config.limits.streams)),
            streams_opened: AtomicU32::new(0),
            folded: watch::Sender::new(chronicle.state().size),
            stopped,
            chronicle: RwLock::new(chronicle),
            orphans: Mutex::default(),
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

    /// Asks for a rollout to be taken back, from what is folded in: the ledger is read only when it is not known yet.
    pub(crate) async fn roll_back(
        self: &Arc<Self>,
        actor: Actor,
        id: RolloutId,
        reason: String,
    ) -> Result<(), Refusal> {
        let known = |app: &Self| app.chronicle().state().rollouts.get(&id).map(Rollout::outline);
        let mut rollout = known(self);
        if rollout.is_none() {
            blocking(self, |app| Ok(app.catch_up()?)).await?;
            rollout = known(self);
        }
        let unknown = || Problem::new(Code::RolloutUnknown, format!("there is no rollout {id}"));
        Ok(self.operations.rollback(actor, rollout.ok_or_else(unknown)?, reason).await?)
    }

    /// What holds beside the ledger now.
    pub(crate) async fn look_around(self: &Arc<Self>) -> Result<Surroundings, Refusal> {
        let place = |rollout: &&rollout::progress::Rollout| {
            (rollout.plan.revision.service.clone(), rollout.plan.environment.name.clone())
        };
        let active: BTreeSet<Place> = self.chronicle().state().rollouts_active().iter().map(place).collect();
        let asked = active.iter().take(EDGES_MAX).map(|(service, environment)| async move {
            let answer = self.operations.edge(service.clone(), environment.clone());
            let status = tokio::time::timeout(EDGE_WITHIN, answer).await.ok().flatten()?;
            Some(((service.clone(), environment.clone()), status))
        });
        let edges = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
        let known = blocking(self, |app| {
            let driven = |(service, environment): &Place| app.operations.driven(service, environment);
            let (driven, orphans): (BTreeSet<_>, BTreeSet<_>) = active.into_iter().partition(driven);
            let adopted = app.adopted(&orphans);
            Ok(Surroundings { rules: app.operations.rules(), driven, adopted, ..Surroundings::default() })
        });
        Ok(Surroundings { edges, ..known.await? })
    }

    /// Those of the orphans that have not been ones for long.
    fn adopted(&self, orphans: &BTreeSet<Place>) -> BTreeSet<Place> {
        let now = self.now();
        let mut since = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        since.retain(|place, _| orphans.contains(place));
        let fresh = |place: &&Place| {
            let known = *since.entry((*place).clone()).or_insert(now);
            millis_between(known, now) < ADOPTED_WITHIN_MS
        };
        orphans.iter().filter(fresh).cloned().collect()
    }

    fn catch_up(&self) -> Result<(), store::Error> {
        loop {
            // Bound to a name, so that the lock is free while the ledger is read.
            let size = self.chronicle().state().size;
            let Some(entries) = chronicle::read(&self.ledger, size)? else { return Ok(()) };
            // What was folded before a person was erased still has the address.
            let anew = if chronicle::erases(&entries) { Some(Chronicle::of(&self.ledger)?) } else { None };
            let mut chronicle = self.chronicle.write().unwrap_or_else(PoisonError::into_inner);
            if chronicle.state().size != size {
                // Somebody else was faster.
                continue;
            }
            match anew {
                Some(anew) => *chronicle = anew,
                None => chronicle.take(entries),
            }
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
