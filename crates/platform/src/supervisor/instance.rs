//! One instance's life: process after process on ever new ports, until it is told to stop.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::code::Code;
use delivery::text;
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::output::Output;
use super::{Facts, Persistence, Recipe, ready, stop};
use crate::edge::InstanceState;
use crate::process::{self, MARKER};

/// First wait before a restart; doubles up to the last.
const BACK_OFF_FIRST: Duration = Duration::from_millis(200);
const BACK_OFF_LAST: Duration = Duration::from_secs(10);
/// Ready for this long, an instance has earned the first wait again.
const HEALTHY: Duration = Duration::from_secs(30);
/// Processes that may find their port taken before that is an answer.
const PORT_ATTEMPTS: u32 = 5;

/// How a process' life ended.
enum End {
    /// It was told to.
    Stopped,
    /// Another process had taken its port before it was ready.
    PortTaken,
    /// By itself, or it was given up. Reads after "the revision ".
    Failed { why: String, healthy: bool },
}

pub(super) struct Life {
    recipe: Arc<Recipe>,
    index: u32,
    facts: Arc<Mutex<Facts>>,
    stopped: watch::Receiver<bool>,
    generation: u32,
}

impl Life {
    pub(super) fn new(
        recipe: Arc<Recipe>,
        index: u32,
        facts: Arc<Mutex<Facts>>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        Self { recipe, index, facts, stopped, generation: 0 }
    }

    /// Runs processes until told to stop. `first` hears of the first time it is ready, or why it never was.
    pub(super) async fn run(mut self, first: oneshot::Sender<Result<(), String>>) {
        let mut first = Some(first);
        let mut back_off = BACK_OFF_FIRST;
        let mut port_attempts = 0;
        loop {
            let end = self.one_process(&mut first).await;
            self.note(|facts| (facts.address, facts.process) = (None, None));
            let why = match end {
                End::Stopped => break,
                End::PortTaken if port_attempts < PORT_ATTEMPTS => {
                    port_attempts += 1;
                    continue;
                }
                End::PortTaken => "found its port taken each time it was started".to_owned(),
                End::Failed { why, healthy } => {
                    if healthy {
                        back_off = BACK_OFF_FIRST;
                    }
                    why
                }
            };
            self.say(&format!("instance {} {why}", self.index));
            let unproven = first.is_some();
            if unproven && self.recipe.persistence == Persistence::ProveFirst {
                if let Some(first) = first.take() {
                    let _ = first.send(Err(why.clone()));
                }
                self.note(|facts| facts.status.last_end = Some(why));
                break;
            }
            port_attempts = 0;
            self.note(|facts| {
                facts.status.state = InstanceState::BackingOff;
                (facts.status.pid, facts.status.port) = (None, None);
                facts.status.restarts += 1;
                facts.status.last_end = Some(why);
            });
            tokio::select! {
                () = told_to_stop(&mut self.stopped) => break,
                () = tokio::time::sleep(back_off) => {}
            }
            back_off = (back_off * 2).min(BACK_OFF_LAST);
        }
        self.note(|facts| {
            facts.status.state = InstanceState::Stopped;
            (facts.status.pid, facts.status.port) = (None, None);
        });
    }

    async fn one_process(&mut self, first: &mut Option<oneshot::Sender<Result<(), String>>>) -> End {
        if *self.stopped.borrow() {
            return End::Stopped;
        }
        self.generation += 1;
        if let Err(why) = self.verify().await {
            return End::Failed { why, healthy: false };
        }
        let port = match process::free_port() {
            Ok(port) => port,
            Err(error) => return End::Failed { why: format!("got no port: {error}"), healthy: false },
        };
        let marker =
            format!("{}.{}.{}.{}.", self.recipe.around.key, self.recipe.spec.id, self.index, self.generation);
        let (mut child, pid) = match self.spawn(port, &marker) {
            Ok(started) => started,
            Err(why) => return End::Failed { why, healthy: false },
        };
        let output = Output::capture(&mut child, &self.recipe, self.index);
        self.note(|facts| {
            facts.status.state = InstanceState::Starting;
            (facts.status.pid, facts.status.port) = (Some(pid), Some(port));
            facts.process = process::identity(pid);
        });
        let family = || process::family(Some(pid), &marker);
        let is_strangers = |address| process::is_strangers(address, &family());
        let end = self.watch(&mut child, port, &output, first, is_strangers).await;
        let grace = match end {
            End::Stopped => Duration::from_millis(self.recipe.spec.stop_ms),
            End::PortTaken | End::Failed { .. } => Duration::ZERO,
        };
        // Out of the routes before it is asked to stop.
        self.note(|facts| facts.address = None);
        stop::all(&mut child, pid, &marker, grace, &self.recipe.around.children).await;
        output.finish().await;
        end
    }

    /// Whether the files are what was signed: they may have been edited since the last start. Read anew each time, which costs
    /// about a second for a gigabyte, while a restart waits for longer than that.
    async fn verify(&self) -> Result<(), String> {
        let Some(digest_of) = self.recipe.around.digest_of.clone() else { return Ok(()) };
        let spec = &self.recipe.spec;
        let folder = spec.directory.clone();
        if !folder.is_dir() {
            return Err(format!("can't start: the folder {folder} does not exist"));
        }
        let (code, told) = (Code::ArtifactChanged, &spec.directory);
        match tokio::task::spawn_blocking(move || digest_of(&folder)).await {
            Ok(Ok(digest)) if digest == spec.digest => Ok(()),
            Ok(Ok(digest)) => {
                let (found, wanted) = (digest.short(), spec.digest.short());
                Err(format!("can't start: the artifact in {told} has digest {found}, not {wanted} ({code})"))
            }
            Ok(Err(reason)) => {
                Err(format!("can't start: the artifact in {told} can't be checked: {reason} ({code})"))
            }
            Err(error) => {
                Err(format!("can't start: the artifact in {told} can't be checked: {error} ({code})"))
            }
        }
    }

    /// Watches a started process until it ends, is given up, or must stop.
    async fn watch(
        &mut self,
        child: &mut Child,
        port: u16,
        output: &Output,
        first: &mut Option<oneshot::Sender<Result<(), String>>>,
        is_strangers: impl Fn(SocketAddr) -> bool,
    ) -> End {
        let readiness = self.recipe.spec.ready.clone();
        let address = tokio::select! {
            biased;
            () = told_to_stop(&mut self.stopped) => return End::Stopped,
            status = child.wait() => return before_ready(status, output).await,
            address = ready::wait(port, &readiness, is_strangers) => address,
        };
        let Some(address) = address else {
            let within = text::duration(readiness.within_ms);
            return End::Failed {
                why: with_last_line(&format!("was not ready within {within}"), output),
                healthy: false,
            };
        };
        let ready_at = Instant::now();
        self.note(|facts| {
            facts.status.state = InstanceState::Ready;
            facts.address = Some(address);
        });
        if let Some(first) = first.take() {
            let _ = first.send(Ok(()));
        }
        tokio::select! {
            biased;
            () = told_to_stop(&mut self.stopped) => End::Stopped,
            status = child.wait() => {
                self.note(|facts| facts.address = None);
                output.settle().await;
                let why = with_last_line(&describe(status), output);
                End::Failed { why, healthy: ready_at.elapsed() >= HEALTHY }
            }
        }
    }

    /// Starts the process. The error reads after "the revision ".
    #[expect(clippy::disallowed_methods, reason = "this module owns the start of instances")]
    fn spawn(&self, port: u16, marker: &str) -> Result<(Child, u32), String> {
        let spec = &self.recipe.spec;
        let arguments: Vec<String> =
            spec.command.iter().map(|word| word.replace("{port}", &port.to_string())).collect();
        let Some((program, rest)) = arguments.split_first() else {
            return Err("has no command".into());
        };
        if !spec.directory.is_dir() {
            return Err(format!("can't start: the folder {} does not exist", spec.directory));
        }
        let mut command = Command::new(resolve(program, &spec.directory));
        command
            .args(rest)
            .current_dir(&spec.directory)
            .env_clear()
            .envs(&self.recipe.variables.values)
            .env("PORT", port.to_string())
            .env(MARKER, marker)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let spawned = self.recipe.around.children.start(|| {
            let child = command.spawn()?;
            let pid = child.id().ok_or(std::io::ErrorKind::Other)?;
            Ok((child, pid))
        });
        spawned.map_err(|error: std::io::Error| not_started(program, &spec.directory, &error))
    }

    fn note(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner));
        self.recipe.around.changed.notify_one();
    }

    fn say(&self, line: &str) {
        self.recipe.log.append(self.recipe.around.clock.now(), "edge", line);
    }
}

/// Waits for the word; a supervisor that is gone means it too.
async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender was dropped, which is the same word.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// A program with a slash is meant within the working directory; a bare name is looked up in the child's PATH.
fn resolve(program: &str, directory: &Utf8Path) -> Utf8PathBuf {
    if program.contains('/') { directory.join(program) } else { Utf8PathBuf::from(program) }
}

fn not_started(program: &str, directory: &Utf8Path, error: &std::io::Error) -> String {
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    let path = resolve(program, directory);
    if missing && !program.contains('/') {
        format!("can't start: there is no program {program} in PATH")
    } else if missing && path.exists() {
        format!("can't start: {program} names an interpreter that does not exist")
    } else if missing {
        format!("can't start: there is no program {program} in {directory}")
    } else {
        format!("can't start: {program}: {error}")
    }
}

async fn before_ready(status: std::io::Result<ExitStatus>, output: &Output) -> End {
    output.settle().await;
    if output.tail().tells_of_a_taken_port() {
        return End::PortTaken;
    }
    let why = with_last_line(&format!("{} before it was ready", describe(status)), output);
    End::Failed { why, healthy: false }
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended".into(),
        },
        Err(error) => format!("ended ({error})"),
    }
}

fn with_last_line(what: &str, output: &Output) -> String {
    output.tail().last().map_or_else(|| what.to_owned(), |line| format!("{what}: {line}"))
}
