//! The guard's process: looks at HAProxy, answers on its socket, until it is told to end.
//!
//! Leaves out what is decided (see `watchman`). Invariants: a grant is on disk before it is given; taking back comes before
//! writing anything; the present ceiling is asked after HAProxy was read, so that a share that was granted in between is
//! never lowered.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use delivery::clock::{Clock, SteadyClock};
use delivery::strategy::OnExpiry;
use delivery::traffic::Weight;
use delivery::{RolloutId, Timestamp};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use tokio::sync::{Notify, watch};

use super::storage::{Action, Entry, Storage};
use super::watchman::{Cause, Held, Requested, Watchman};
use super::wire::{Answer, Owed, RenewRequest, SettleRequest, Status};
use super::{Error, GuardConfig, LOOK_MS};
use crate::edge::control::{self, failure, json};
use crate::edge::private_folder;
use crate::lock;
use crate::proxy::boottime;
use crate::signals;

/// One guard at work.
struct Post {
    config: GuardConfig,
    boot_id: String,
    clock: SteadyClock,
    watchman: Mutex<Watchman>,
    seen: Mutex<Seen>,
    storage: tokio::sync::Mutex<Storage>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
    changed: Notify,
    stop: watch::Sender<bool>,
}

/// What the last look saw.
#[derive(Debug, Default)]
struct Seen {
    share: Option<Weight>,
    owed: Option<Owed>,
    storage_problem: Option<String>,
    said: Option<String>,
}

/// Runs the guard until SIGTERM, SIGINT or [`super::Guard::shutdown`]. Needs a tokio runtime with all drivers.
pub async fn run(config: GuardConfig) -> Result<(), Error> {
    let refuse =
        |error: crate::edge::Error| Error::Start { reason: error.to_string(), log: config.log.clone() };
    private_folder(&config.state_directory).map_err(refuse)?;
    let _lock = lock(&config).await?;
    let listener = control::bind(&config.socket).map_err(refuse)?;
    let post = Arc::new(Post::take(config).await);
    let mut stopped = post.stop.subscribe();
    let answering = Arc::clone(&post);
    let tasks = [
        tokio::spawn(signals::watch(post.stop.clone())),
        tokio::spawn(async move {
            let path = answering.config.socket.clone();
            let post = answering;
            control::serve_socket(listener, &path, move |request| answer(request, Arc::clone(&post))).await;
        }),
    ];
    post.say("watches");
    tokio::select! {
        // The sender lives as long as the post.
        _ = stopped.wait_for(|stop| *stop) => {}
        () = post.watch() => {}
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let _ = std::fs::remove_file(&post.config.socket);
    post.say("ended");
    Ok(())
}

/// One guard for each state directory, held until the process ends, however it ends.
async fn lock(config: &GuardConfig) -> Result<File, Error> {
    let path = config.state_directory.join("guard.lock");
    let taken = lock::take(&path, &config.socket).await;
    let taken = taken.map_err(Error::start("lock", &path, &config.log))?;
    taken.ok_or_else(|| Error::AlreadyRunning { directory: config.state_directory.clone() })
}

impl Post {
    /// Takes up what was known before, as far as it can be proven.
    async fn take(config: GuardConfig) -> Self {
        let (storage, memory) = Storage::open(&config.state_directory);
        let clock = SteadyClock::anchored(None);
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot_id = boot_id.map(|id| id.trim().to_owned()).unwrap_or_default();
        let ended_before = memory.ended.clone();
        let watchman = Watchman::resume(memory, &boot_id, boottime(), clock.now());
        let distrusted = watchman.ended().filter(|_| watchman.ended() != ended_before.as_ref()).cloned();
        let post = Self {
            config,
            boot_id,
            clock,
            watchman: Mutex::new(watchman),
            seen: Mutex::default(),
            storage: tokio::sync::Mutex::new(storage),
            looking: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            stop: watch::Sender::new(false),
        };
        if let Some(ended) = distrusted {
            let detail = ended.cause.to_string();
            post.record(Action::Distrusted, Some(&ended.rollout), None, Weight::ZERO, detail).await;
        }
        post
    }

    fn watchman(&self) -> MutexGuard<'_, Watchman> {
        self.watchman.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at HAProxy for ever: at the end of a grant, after a change, and in between.
    async fn watch(&self) {
        let mut known = self.watchman().ended().cloned();
        loop {
            let (kept, ended, wait) = {
                let mut watchman = self.watchman();
                let now = boottime();
                let kept = watchman.tick(now, self.clock.now());
                let next = watchman.deadline().map(|deadline| deadline.saturating_sub(now));
                let wait = next.map_or(LOOK_MS, |next| (next.as_millis() as u64).clamp(1, LOOK_MS));
                (kept.filter(|held| held.on_expiry == OnExpiry::Hold), watchman.ended().cloned(), wait)
            };
            self.look().await;
            if let Some(held) = kept {
                self.record(Action::Kept, Some(&held.rollout), None, held.ceiling, String::new()).await;
            }
            // A renewal that came too late may have been the one to find the end.
            if ended != known {
                let expired = ended.as_ref().filter(|ended| ended.cause == Cause::Expired);
                if let Some(expired) = expired {
                    let id = Some(&expired.rollout);
                    self.record(Action::Expired, id, None, Weight::ZERO, String::new()).await;
                }
                known = ended;
                let _ = self.save().await;
            }
            let _ = tokio::time::timeout(Duration::from_millis(wait), self.changed.notified()).await;
        }
    }

    /// Reads HAProxy, and lowers the canary where it has more than is granted.
    async fn look(&self) {
        let _one = self.looking.lock().await;
        let mut read = self.config.haproxy.read().await;
        let (mut ceiling, mut rollout) = self.allowed();
        if read.as_ref().is_ok_and(|backend| backend.exceeds(ceiling)) {
            // A grant that just ended in order was still in force when HAProxy was read: only what is so still counts.
            read = self.config.haproxy.read().await;
            (ceiling, rollout) = self.allowed();
        }
        let before = read.as_ref().ok().map(crate::haproxy::Backend::share);
        let lowered = match read {
            Ok(backend) if backend.exceeds(ceiling) => {
                self.seen().share = before;
                self.config.haproxy.lower(&backend, ceiling).await
            }
            read => read,
        };
        match lowered {
            Ok(backend) => {
                let to = backend.share();
                self.saw(to);
                if before.is_some_and(|from| from > to) {
                    self.record(Action::Lowered, rollout.as_ref(), before, to, String::new()).await;
                }
            }
            Err(error) => self.could_not_look(ceiling, rollout.as_ref(), error.words()).await,
        }
    }

    /// The ceiling, and the rollout that it is about: the one that has the grant, or the last whose grant ended.
    fn allowed(&self) -> (Weight, Option<RolloutId>) {
        let watchman = self.watchman();
        let held = watchman.held().map(|held| held.rollout.clone());
        let rollout = held.or_else(|| watchman.ended().map(|ended| ended.rollout.clone()));
        (watchman.ceiling(), rollout)
    }

    fn saw(&self, share: Weight) {
        let mut seen = self.seen();
        (seen.share, seen.owed) = (Some(share), None);
        if seen.said.take().is_some() {
            drop(seen);
            self.say("HAProxy answers again");
        }
    }

    /// What HAProxy was last seen with stands until it says otherwise; what was never seen may be anything.
    async fn could_not_look(&self, ceiling: Weight, rollout: Option<&RolloutId>, trouble: String) {
        let (begins, words) = {
            let mut seen = self.seen();
            let owes = seen.share.is_none_or(|share| share > ceiling);
            let since = seen.owed.as_ref().map_or_else(|| self.clock.now(), |owed| owed.since);
            let begins = owes && seen.owed.is_none();
            seen.owed = owes.then(|| Owed { since, trouble: trouble.clone() });
            let words = (seen.said.as_ref() != Some(&trouble)).then(|| trouble.clone());
            seen.said = Some(trouble.clone());
            (begins, words)
        };
        if let Some(words) = words {
            self.say(&format!("{words}; trying again"));
        }
        if begins {
            self.record(Action::Owed, rollout, None, ceiling, trouble).await;
        }
    }

    /// Appends to the record of what was done. What is in force needs no disk; a full one is shown in the status.
    async fn record(
        &self,
        action: Action,
        rollout: Option<&RolloutId>,
        from: Option<Weight>,
        to: Weight,
        detail: String,
    ) {
        let at: Timestamp = self.clock.now();
        let entry = Entry { at, action, rollout: rollout.cloned(), from, to, detail };
        self.say(&format!("{action:?} {} to {to} {}", rollout.map_or("", RolloutId::as_str), entry.detail));
        let storage = self.storage.lock().await;
        let _ = self.note_storage(tokio::task::block_in_place(|| storage.append(&entry)));
    }

    /// Makes what is known durable; says whether that was possible.
    async fn save(&self) -> Result<(), String> {
        let storage = self.storage.lock().await;
        let memory = self.watchman().memory(&self.boot_id);
        self.note_storage(tokio::task::block_in_place(|| storage.save(&memory)))
    }

    fn note_storage(&self, result: std::io::Result<()>) -> Result<(), String> {
        let folder = &self.config.state_directory;
        let result = result.map_err(|error| format!("{folder} can't be written: {error}"));
        self.seen().storage_problem = result.clone().err();
        result
    }

    fn status(&self) -> Status {
        let watchman = self.watchman();
        let seen = self.seen();
        Status {
            service: self.config.service.clone(),
            environment: self.config.environment.clone(),
            pid: std::process::id(),
            boot_id: self.boot_id.clone(),
            held: watchman.held().cloned(),
            remaining_ms: watchman
                .deadline()
                .map(|deadline| deadline.saturating_sub(boottime()).as_millis() as u64),
            ended: watchman.ended().cloned(),
            epoch: watchman.epoch(),
            share: seen.share,
            owed: seen.owed.clone(),
            storage_problem: seen.storage_problem.clone(),
        }
    }

    /// A line in the guard's log, which is its standard error.
    fn say(&self, line: &str) {
        let (service, environment) = (&self.config.service, &self.config.environment);
        eprintln!("{:.3} guard of {service} in {environment}: {line}", self.clock.now());
    }
}

async fn answer(request: Request<Incoming>, post: Arc<Post>) -> control::Answer {
    let (head, body) = request.into_parts();
    match (&head.method, head.uri.path()) {
        (&Method::GET, "/v1/status") => json(StatusCode::OK, &post.status()),
        (&Method::POST, "/v1/grant") => match control::take::<Held>(body).await {
            Ok(wanted) => {
                let before = post.watchman().held().cloned();
                let answer = post.watchman().grant(boottime(), post.clock.now(), &wanted);
                given(&post, answer, before.as_ref(), &wanted).await
            }
            Err(refusal) => refusal,
        },
        (&Method::POST, "/v1/renew") => match control::take::<RenewRequest>(body).await {
            Ok(RenewRequest { rollout, epoch }) => {
                let answer = post.watchman().renew(boottime(), post.clock.now(), &rollout, epoch);
                // It holds in memory; a guard that is restarted before it is on disk has less time, never more.
                let saving = Arc::clone(&post);
                tokio::spawn(async move { saving.save().await });
                post.changed.notify_one();
                json(StatusCode::OK, &answer)
            }
            Err(refusal) => refusal,
        },
        (&Method::POST, "/v1/settle") => match control::take::<SettleRequest>(body).await {
            Ok(SettleRequest { rollout }) => {
                post.watchman().settle(&rollout);
                let _ = post.save().await;
                json(StatusCode::OK, &Answer::None)
            }
            Err(refusal) => refusal,
        },
        (&Method::POST, "/v1/rollback") => match control::take::<Requested>(body).await {
            Ok(requested) => rollback(&post, requested).await,
            Err(refusal) => refusal,
        },
        (&Method::POST, "/v1/shutdown") => shutdown(&post),
        (method, path) => failure(StatusCode::NOT_FOUND, format!("there is no {method} {path}")),
    }
}

/// Answers with a grant once it is on disk; without disk there is none.
async fn given(post: &Post, answer: Answer, before: Option<&Held>, wanted: &Held) -> control::Answer {
    if !matches!(answer, Answer::Held { .. }) {
        return json(StatusCode::OK, &answer);
    }
    if let Err(problem) = post.save().await {
        // The grant before covered less or nothing; what can't be proven later is not kept.
        post.watchman().settle(&wanted.rollout);
        return failure(StatusCode::SERVICE_UNAVAILABLE, problem);
    }
    if before.is_none_or(|before| before.rollout != wanted.rollout || before.ceiling != wanted.ceiling) {
        let detail = format!("for {} ms", wanted.ttl_ms);
        post.record(Action::Granted, Some(&wanted.rollout), None, wanted.ceiling, detail).await;
    }
    post.changed.notify_one();
    json(StatusCode::OK, &answer)
}

async fn rollback(post: &Post, requested: Requested) -> control::Answer {
    let words = format!("{}: {}", requested.by, requested.reason);
    let ended = post.watchman().rollback(post.clock.now(), requested);
    post.look().await;
    // The traffic is off the canary, or owed; the record comes after.
    let _ = post.save().await;
    if let Some(ended) = ended {
        post.record(Action::Requested, Some(&ended.rollout), None, Weight::ZERO, words).await;
    }
    json(StatusCode::OK, &post.status())
}

fn shutdown(post: &Post) -> control::Answer {
    let status = post.status();
    if let Some(held) = status.held {
        let why = format!("it holds a grant of {}; take that back first", held.rollout);
        return failure(StatusCode::CONFLICT, why);
    }
    if let Some(owed) = status.owed.filter(|_| status.ended.is_some()) {
        return failure(StatusCode::CONFLICT, format!("it owes a drain: {}", owed.trouble));
    }
    post.stop.send_replace(true);
    json(StatusCode::OK, &serde_json::Value::Null)
}
