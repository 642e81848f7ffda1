//! The daemon: takes the state directory, cleans up after a predecessor that was killed, serves until told to stop, and
//! leaves nothing running.
//!
//! Everything runs in this one process: the proxy, the control API, the timer of the grant, the reaper of orphans, and the
//! desk, which alone applies commands. Invariant: whatever way it is told to stop (SIGTERM, SIGINT, the control API), every
//! process that it started is gone before it returns.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use delivery::Clock;
use delivery::clock::SteadyClock;
use delivery::traffic::Weight;
use rustix::process::Signal;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};

use super::control::{self, Job, Reach};
use super::desk::{Desk, Lookup, variables_of};
use super::follower::Follower;
use super::front::Front;
use super::host::{Host, requested_by};
use super::launch::{LastWords, Taken, last_words_path};
use super::state::{Entry, State, Storage, write_atomically};
use super::wire::{ExpiredStatus, Role};
use super::{EdgeConfig, Error, private_folder};
use crate::guard::Ended;
use crate::lock;
use crate::process::{self, Children};
use crate::proxy::limits::CONNECTIONS_MAX;
use crate::proxy::{self, ProxyLimits, Splitter};
use crate::signals;
use crate::supervisor::{DigestOf, Persistence, Revision, Surroundings};

/// The timer of the grant: how late an expiry can be.
const GRANT_LOOK: Duration = Duration::from_millis(25);
/// Orphans are also looked for without a signal.
const REAP_INTERVAL: Duration = Duration::from_secs(5);
/// Changes of processes are written together.
const SAVE_PAUSE: Duration = Duration::from_millis(50);
/// How long a dead predecessor's processes may take to end after SIGTERM.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// Descriptors for everything but users' requests: the control socket, logs, the instances' output.
const FILES_RESERVED: u64 = 256;
/// Commands waiting at the desk.
const JOBS_MAX: usize = 64;
/// How long users' requests may take to finish when the edge stops.
const STOP_DRAIN: Duration = Duration::from_secs(10);

/// Runs the edge until SIGTERM, SIGINT or [`super::Edge::shutdown`]. `environment` looks variables up in the process' own
/// environment. Needs a multi-threaded tokio runtime with all drivers. Artifact digests are not checked: see
/// [`run_verified`].
pub async fn run(config: EdgeConfig, environment: Lookup<'_>) -> Result<(), Error> {
    run_with(config, environment, None).await
}

/// Like [`run`], and before every start of a process, restarts included, checks that its folder has the digest of its
/// specification.
pub async fn run_verified(
    config: EdgeConfig,
    environment: Lookup<'_>,
    digest_of: DigestOf,
) -> Result<(), Error> {
    run_with(config, environment, Some(digest_of)).await
}

async fn run_with(
    config: EdgeConfig,
    environment: Lookup<'_>,
    digest_of: Option<DigestOf>,
) -> Result<(), Error> {
    for folder in [&config.state_directory, &config.log_directory] {
        private_folder(folder)?;
    }
    let _lock = lock(&config).await?;
    match take_over(&config, digest_of).await {
        Ok(start) => serve(start, environment).await,
        Err(error) => {
            leave_last_words(&config, &error);
            Err(error)
        }
    }
}

/// Everything that can fail is done.
struct Start {
    host: Arc<Host>,
    /// Where users come in; none where HAProxy listens.
    door: Option<TcpListener>,
    control: UnixListener,
}

/// Cleans up after the predecessor and takes its place.
async fn take_over(config: &EdgeConfig, digest_of: Option<DigestOf>) -> Result<Start, Error> {
    process::become_reaper();
    let (storage, mut state) = Storage::open(config)?;
    let children = Children::default();
    clean_up(&state, &children).await;
    let (door, listen) = if config.haproxy.is_some() {
        (None, config.listen.clone())
    } else {
        let door = listen(config, &mut state).await?;
        let refuse = |source| Error::Listen { address: config.listen.clone(), source };
        let address = door.local_addr().map_err(refuse)?.to_string();
        (Some(door), address)
    };
    let control = control::bind(&config.control_socket)?;
    let mut seed = [0_u8; 8];
    getrandom::fill(&mut seed).map_err(|error| Error::State {
        path: config.state_directory.clone(),
        reason: format!("there is no randomness: {error}"),
    })?;
    let boot = hex::encode(seed);
    let around = Arc::new(Surroundings {
        key: state.key.clone(),
        clock: Arc::new(SteadyClock::anchored(None)),
        log_directory: config.log_directory.clone(),
        digest_of,
        children,
        changed: Notify::new(),
    });
    state.boots += 1;
    let front = front(config, &boot);
    let ended = match front.guard() {
        // One that does not answer has no better words.
        Some(guard) => guard.status().await.ok().and_then(|status| status.ended),
        None => None,
    };
    forget_canary(&mut state, &boot, around.clock.as_ref(), ended);
    let host = Host::new(config.clone(), boot, listen, around, front, (storage, state));
    Ok(Start { host: Arc::new(host), door, control })
}

fn front(config: &EdgeConfig, boot: &str) -> Front {
    if let Some(haproxy) = &config.haproxy {
        return Front::Haproxy(Follower::new(haproxy.clone(), boot.to_owned()));
    }
    Front::Embedded(Splitter::trusting(boot.to_owned(), limits(), config.trusted_proxies.clone()))
}

/// The proxy's limits, with as many connections as there are file descriptors for, so that some are always left for the
/// control socket: two for each client, whose requests need a connection to an instance each.
fn limits() -> ProxyLimits {
    let files = process::raise_files_max(FILES_RESERVED + 2 * CONNECTIONS_MAX as u64);
    let connections = files.saturating_sub(FILES_RESERVED) / 2;
    ProxyLimits {
        connections: connections.clamp(1, CONNECTIONS_MAX as u64) as usize,
        ..ProxyLimits::default()
    }
}

/// One edge for each state directory: held until the process ends, however it ends. A predecessor that is just ending is
/// waited for; one that answers is left alone.
async fn lock(config: &EdgeConfig) -> Result<File, Error> {
    let path = config.state_directory.join("edge.lock");
    let taken = lock::take(&path, &config.control_socket).await.map_err(Error::file("lock", &path))?;
    taken.ok_or_else(|| Error::AlreadyRunning { directory: config.state_directory.clone() })
}

/// Ends what a killed predecessor left running: recorded process groups, and everything that carries this edge's marker.
async fn clean_up(state: &State, children: &Children) {
    let marker = format!("{}.", state.key);
    let recorded: Vec<_> = state.revisions.values().flat_map(|record| &record.processes).copied().collect();
    let leftovers = || {
        let mut found = process::family(None, &marker);
        for leader in recorded.iter().filter(|leader| process::is_running(**leader)) {
            found.extend(process::family(Some(leader.pid), &marker));
        }
        found
    };
    let mut found = leftovers();
    found.iter().for_each(|member| process::signal(*member, Signal::TERM));
    let deadline = tokio::time::Instant::now() + LEFTOVER_GRACE;
    while !found.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        children.reap();
        found = leftovers();
        if tokio::time::Instant::now() >= deadline {
            found.iter().for_each(|member| process::signal(*member, Signal::KILL));
        }
        if tokio::time::Instant::now() >= deadline + LEFTOVER_GRACE {
            // Unkillable: in an uninterruptible wait of the kernel. It holds none of our ports.
            return;
        }
    }
}

/// Binds the environment's address; for port 0 the port of last time, if it is still free.
async fn listen(config: &EdgeConfig, state: &mut State) -> Result<TcpListener, Error> {
    let refuse = |source| Error::Listen { address: config.listen.clone(), source };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&config.listen).await.map_err(refuse)?.collect();
    let first = *addresses
        .first()
        .ok_or_else(|| refuse(std::io::Error::from(std::io::ErrorKind::AddrNotAvailable)))?;
    if first.port() == 0
        && let Some(port) = state.port
        && let Ok(listener) = TcpListener::bind((first.ip(), port)).await
    {
        return Ok(listener);
    }
    match TcpListener::bind(first).await {
        Ok(listener) => {
            if first.port() == 0 {
                state.port = listener.local_addr().ok().map(|address| address.port());
            }
            Ok(listener)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(Error::PortTaken { address: first.to_string(), holder: process::holder(first) })
        }
        Err(error) => Err(refuse(error)),
    }
}

/// After a restart only stable serves. The canary's controller is told that the grant ended, also one that said `hold`: the
/// kill switch is acknowledged before it is on disk, so the state can't prove that it was not used.
fn forget_canary(state: &mut State, boot: &str, clock: &dyn Clock, ended: Option<Ended>) {
    state.revisions.retain(|_, record| record.role == Role::Stable);
    for record in state.revisions.values_mut() {
        record.processes.clear();
    }
    if let Some(exposure) = state.exposure.take() {
        state.note(Entry {
            number: 0,
            at: clock.now(),
            took_ms: None,
            boot: boot.to_owned(),
            effect: "expire".into(),
            rollout: Some(exposure.rollout.clone()),
            sequence: None,
            epoch: Some(exposure.epoch),
            revision: Some(exposure.revision),
            weight: Weight::ZERO,
            outcome: "applied".into(),
        });
        // The guard may have been first, and knows better why.
        let ended = ended.filter(|ended| ended.rollout == exposure.rollout);
        state.expired = Some(ExpiredStatus {
            rollout: exposure.rollout,
            weight: exposure.weight,
            at: ended.as_ref().map_or_else(|| clock.now(), |ended| ended.at),
            cause: ended.as_ref().map_or("the edge was restarted".into(), |ended| ended.cause.to_string()),
            requested: ended.and_then(|ended| requested_by(&ended.cause)),
        });
    }
}

async fn serve(start: Start, environment: Lookup<'_>) -> Result<(), Error> {
    let Start { host, door, control } = start;
    if let Err(problem) = host.save().await {
        // Stable is served all the same; what would raise a weight is refused until it can be written.
        say(&host, &problem);
    }
    restore(&host, environment);
    say(&host, &format!("serves {} in {} on {}", host.config.service, host.config.environment, host.listen));
    let (stop, stopped) = watch::channel(false);
    let (desk_sender, jobs) = mpsc::channel(JOBS_MAX);
    let reach = Reach { host: Arc::clone(&host), desk: desk_sender, stop: stop.clone() };
    let mut front_stopped = stopped.clone();
    let stop_front = async move {
        // The sender lives as long as this function.
        let _ = front_stopped.wait_for(|stop| *stop).await;
    };
    let front = match (&host.front, door) {
        (Front::Embedded(splitter), Some(door)) => {
            tokio::spawn(proxy::serve(door, splitter.clone(), stop_front))
        }
        (Front::Haproxy(follower), _) => tokio::spawn(follower.clone().run(stop_front)),
        (Front::Embedded(_), None) => tokio::spawn(stop_front),
    };
    let background = [
        tokio::spawn(control::serve(control, reach)),
        tokio::spawn(watch_grant(Arc::clone(&host))),
        tokio::spawn(follow_instances(Arc::clone(&host))),
        tokio::spawn(reap(Arc::clone(&host))),
        tokio::spawn(signals::watch(stop)),
    ];
    let desk = Desk { host: &host, environment };
    let mut told = stopped;
    tokio::select! {
        biased;
        _ = told.wait_for(|stop| *stop) => {}
        () = work(&desk, jobs) => {}
    }
    host.books().stopping = true;
    stop_all(&host, front).await;
    background.iter().for_each(tokio::task::JoinHandle::abort);
    let _ = std::fs::remove_file(&host.config.control_socket);
    say(&host, "stopped");
    Ok(())
}

/// Applies commands in the order of their arrival.
async fn work(desk: &Desk<'_>, mut jobs: mpsc::Receiver<Job>) {
    while let Some(Job { request, answer }) = jobs.recv().await {
        let outcome = desk.apply(request).await;
        // Whoever asked may be gone; the outcome is recorded for the next time.
        let _ = answer.send(outcome);
    }
}

/// Starts what should run. Stable serves as soon as its first instance is ready.
fn restore(host: &Arc<Host>, environment: Lookup<'_>) {
    let mut proofs = Vec::new();
    let mut books = host.books();
    let records: Vec<_> =
        books.state.revisions.iter().map(|(id, record)| (id.clone(), record.spec.clone())).collect();
    for (id, spec) in records {
        let variables = variables_of(&spec, environment, &BTreeMap::new());
        if !variables.missing.is_empty() {
            let names = variables.missing.join(", ");
            say(host, &format!("{id} is started again without {names}: not set where this edge was started"));
        }
        let within = Duration::from_millis(spec.ready.within_ms);
        let mut revision = Revision::start(spec, variables, Persistence::KeepTrying, &host.around);
        proofs.push((within, revision.proof()));
        books.running.insert(id, revision);
    }
    host.route(&books);
    drop(books);
    let host = Arc::clone(host);
    tokio::spawn(async move {
        for (within, proof) in proofs {
            // Ready or not, it is kept trying.
            let _ = tokio::time::timeout(within, proof).await;
            host.route(&host.books());
        }
        host.books().restoring = false;
    });
}

async fn watch_grant(host: Arc<Host>) {
    let mut look = tokio::time::interval(GRANT_LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if host.expire() {
            say(&host, "a grant ran out: all traffic is back on stable");
            // It is in force; a full disk is shown in the status.
            let _ = host.save().await;
        }
    }
}

async fn follow_instances(host: Arc<Host>) {
    let mut unsaved = false;
    loop {
        let changed = host.around.changed.notified();
        if unsaved {
            if tokio::time::timeout(SAVE_PAUSE, changed).await.is_err() {
                // The marker finds processes that the state lacks, so a full disk does no harm here.
                let _ = host.save().await;
                unsaved = false;
                continue;
            }
        } else {
            changed.await;
        }
        unsaved |= host.follow();
    }
}

async fn reap(host: Arc<Host>) {
    let Ok(mut ended) = signal(SignalKind::child()) else { return };
    loop {
        let _ = tokio::time::timeout(REAP_INTERVAL, ended.recv()).await;
        // Let the instance's own task wait for its child, and gather a crowd into one look.
        tokio::time::sleep(Duration::from_millis(20)).await;
        host.around.children.reap();
    }
}

/// Lets requests finish, then stops every instance, and at last whatever else is below us.
async fn stop_all(host: &Arc<Host>, mut front: tokio::task::JoinHandle<()>) {
    if tokio::time::timeout(STOP_DRAIN, &mut front).await.is_err() {
        front.abort();
    }
    let running = std::mem::take(&mut host.books().running);
    futures_util::future::join_all(running.into_values().map(Revision::stop)).await;
    let marker = format!("{}.", host.around.key);
    for _ in 0..100 {
        let mut left = process::family(None, &marker);
        left.extend(host.around.children.reap());
        if left.is_empty() {
            break;
        }
        left.iter().for_each(|member| process::signal(*member, Signal::KILL));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if let Err(problem) = host.save().await {
        say(host, &problem);
    }
}

/// Tells whoever started the daemon why it gave up.
fn leave_last_words(config: &EdgeConfig, error: &Error) {
    let taken = match error {
        Error::PortTaken { address, holder } => {
            Some(Taken { address: address.clone(), holder: holder.clone() })
        }
        _ => None,
    };
    let words = LastWords { message: error.problem().to_string(), taken };
    if let Ok(text) = serde_json::to_vec(&words) {
        // The log has it too.
        let _ = write_atomically(&last_words_path(config), &text);
    }
}

/// A line in the edge's own log, which is its standard error.
fn say(host: &Host, line: &str) {
    eprintln!("{:.3} edge {line}", host.around.clock.now());
}
