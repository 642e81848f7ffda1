//! Runs revisions: each instance is a child process in its own process group, on its own loopback port, watched by its own
//! task.
//!
//! It starts processes, waits until they are ready, restarts the ones that end, and stops them with everything they started.
//! It deliberately knows nothing of traffic: it says which addresses are ready, and the edge routes. Invariants: when an
//! instance is stopped or replaced, none of its descendants runs any more (found by process group, parentage and marker); no
//! process is started from files whose digest is not the revision's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use delivery::effect::RevisionSpec;
use delivery::{Clock, Digest};
use futures_util::TryFutureExt as _;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use crate::edge::{InstanceState, InstanceStatus};
use crate::log::RevisionLog;
use crate::mask::Masker;
use crate::process::{Children, Identity};

mod instance;
mod output;
mod ready;
mod stop;

/// Computes an artifact folder's digest; the error is a clause for people.
pub type DigestOf = Arc<dyn Fn(&Utf8Path) -> Result<Digest, String> + Send + Sync>;

/// The environment of a revision's instances.
#[derive(Default)]
pub(crate) struct Variables {
    /// All of it but for `PORT` and the marker.
    pub(crate) values: BTreeMap<String, String>,
    /// Values in it that are masked in the log.
    pub(crate) secrets: Vec<String>,
    /// Names to pass that are set nowhere.
    pub(crate) missing: Vec<String>,
}

/// What all revisions of one edge share.
pub(crate) struct Surroundings {
    /// Starts every process' marker; names this edge for good.
    pub(crate) key: String,
    /// For log lines.
    pub(crate) clock: Arc<dyn Clock>,
    /// Where revisions' logs go.
    pub(crate) log_directory: Utf8PathBuf,
    /// Asked before every start of a process.
    pub(crate) digest_of: Option<DigestOf>,
    /// Our direct children.
    pub(crate) children: Children,
    /// Told whenever an instance became ready, ended, or has a new process.
    pub(crate) changed: Notify,
}

/// Whether the first failure of an instance ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// A new revision: it must prove itself once, and is given up if it can't.
    ProveFirst,
    /// It proved itself before the edge was restarted: keep trying.
    KeepTrying,
}

/// What every instance of one revision needs.
pub(super) struct Recipe {
    spec: RevisionSpec,
    variables: Variables,
    masker: Masker,
    log: RevisionLog,
    around: Arc<Surroundings>,
    persistence: Persistence,
}

/// What is known of an instance.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    status: InstanceStatus,
    address: Option<SocketAddr>,
    process: Option<Identity>,
}

/// One instance from outside.
struct Instance {
    facts: Arc<Mutex<Facts>>,
    first: Option<oneshot::Receiver<Result<(), String>>>,
    task: JoinHandle<()>,
}

/// A running revision.
pub(crate) struct Revision {
    recipe: Arc<Recipe>,
    instances: Vec<Instance>,
    stop: watch::Sender<bool>,
}

impl Revision {
    /// Starts all instances.
    pub(crate) fn start(
        spec: RevisionSpec,
        variables: Variables,
        persistence: Persistence,
        around: &Arc<Surroundings>,
    ) -> Self {
        let log = RevisionLog::new(log_path(around, spec.id.as_str()));
        let count = spec.instances.max(1);
        let recipe = Arc::new(Recipe {
            spec,
            masker: Masker::new(&variables.secrets),
            variables,
            log,
            around: Arc::clone(around),
            persistence,
        });
        let (stop, stopped) = watch::channel(false);
        let instances = (0..count)
            .map(|index| {
                let facts = Arc::new(Mutex::new(Facts {
                    status: InstanceStatus {
                        port: None,
                        pid: None,
                        state: InstanceState::Starting,
                        restarts: 0,
                        last_end: None,
                    },
                    address: None,
                    process: None,
                }));
                let (sender, first) = oneshot::channel();
                let life =
                    instance::Life::new(Arc::clone(&recipe), index, Arc::clone(&facts), stopped.clone());
                Instance { facts, first: Some(first), task: tokio::spawn(life.run(sender)) }
            })
            .collect();
        Self { recipe, instances, stop }
    }

    /// Its log's path.
    pub(crate) fn log_path(&self) -> Utf8PathBuf {
        log_path(&self.recipe.around, self.recipe.spec.id.as_str())
    }

    /// Names of variables to pass that it had to be started without.
    pub(crate) fn missing(&self) -> &[String] {
        &self.recipe.variables.missing
    }

    /// Ends when every instance was ready once, or with the first failure. To be taken once; it does not borrow, so that the
    /// revision can be looked at meanwhile.
    pub(crate) fn proof(&mut self) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let firsts: Vec<_> = self.instances.iter_mut().filter_map(|instance| instance.first.take()).collect();
        let all = firsts.into_iter().map(|first| async {
            first.await.unwrap_or_else(|_| Err("was stopped before it was ready".into()))
        });
        futures_util::future::try_join_all(all.collect::<Vec<_>>()).map_ok(|_| ())
    }

    /// Where requests can go now.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.facts().filter_map(|facts| facts.address).collect()
    }

    /// Its instances for people.
    pub(crate) fn status(&self) -> Vec<InstanceStatus> {
        self.facts().map(|facts| facts.status).collect()
    }

    /// The processes that lead its instances now.
    pub(crate) fn processes(&self) -> Vec<Identity> {
        self.facts().filter_map(|facts| facts.process).collect()
    }

    /// Stops every instance with all its descendants; at the latest, `stop_ms` and a moment later nothing of it runs.
    pub(crate) async fn stop(self) {
        // Fails only when no task listens any more.
        let _ = self.stop.send(true);
        for instance in self.instances {
            let _ = instance.task.await;
        }
    }

    fn facts(&self) -> impl Iterator<Item = Facts> {
        self.instances
            .iter()
            .map(|instance| instance.facts.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn log_path(around: &Surroundings, revision: &str) -> Utf8PathBuf {
    around.log_directory.join(format!("{revision}.log"))
}
