//! Runs one program to its end, whatever it does: the only place of this crate that starts processes.
//!
//! The program leads a process group of its own, has no standard input, and writes into one pipe. It is stopped at its time
//! limit or when the run is cancelled: SIGTERM to the group, SIGKILL after a grace. Processes that it leaves behind are stopped
//! too, and a pipe that one of them still holds is let go. Leaves out caching and scheduling.
//! Invariant: [`execute`] returns within the time limit and the graces, and then nothing of the family lives.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use camino::Utf8PathBuf;
use delivery::TaskName;
use platform::mask::Masker;
use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::cancel::{Cancel, CancelLevel};
use crate::capture::{Capture, Captured};
use crate::orphan::{COOKIE, Family};

/// Between SIGTERM and SIGKILL for a task that is stopped.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(5);
/// For a killed process to disappear; only one that hangs in the kernel takes longer, and is given up.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// For processes behind an ended task to end by themselves, such as a `tee` behind a closing pipe.
const LINGER: Duration = Duration::from_millis(200);
/// Between SIGTERM and SIGKILL for processes that are left behind.
const STRAY_GRACE: Duration = Duration::from_secs(2);
/// For the pipe to run dry once nobody we know of holds it.
const DRAIN_GRACE: Duration = Duration::from_millis(250);
/// Between two looks at processes left behind.
const POLL: Duration = Duration::from_millis(10);
const CHUNK_BYTES: usize = 64 << 10;

/// What happens in a job, for the scheduler.
#[derive(Debug)]
pub(crate) enum Message {
    Started(usize),
    Lines(usize, Vec<String>),
}

/// What to run.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) index: usize,
    pub(crate) task: TaskName,
    pub(crate) program: Utf8PathBuf,
    pub(crate) command: Vec<String>,
    pub(crate) directory: Utf8PathBuf,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) timeout: Duration,
    pub(crate) log: Utf8PathBuf,
    pub(crate) masker: Masker,
}

/// How the main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Exited(ExitStatus),
    TimedOut,
    Cancelled,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) ending: Ending,
    /// Clauses worth telling: what had to be stopped, what was dropped.
    pub(crate) notes: Vec<String>,
    pub(crate) captured: Captured,
}

/// Runs the program. An error means that it could not be started.
pub(crate) async fn execute(
    order: &Order,
    mut cancel: Cancel,
    messages: &mpsc::Sender<Message>,
) -> io::Result<Execution> {
    let cookie = cookie();
    let (child, output) = spawn(order, &cookie)?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let group = group.ok_or_else(|| io::Error::other("it ended before it was started"))?;
    let mut running = Running {
        index: order.index,
        child,
        family: Family::new(group, &cookie),
        output: Some(output),
        capture: Capture::new(&order.log, &order.masker),
        messages,
        buffer: vec![0; CHUNK_BYTES],
        notes: Vec::new(),
        closed: false,
    };
    // The scheduler is gone only when the run was dropped, which ends this task as well.
    drop(messages.send(Message::Started(order.index)).await);
    let ending = running.watch(order, &mut cancel).await;
    running.stop_strays(ending).await;
    running.drain().await;
    Ok(running.close(ending).await)
}

/// Unique among the processes of this machine.
fn cookie() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[expect(clippy::disallowed_methods, reason = "this module owns the starting of tasks' processes")]
fn spawn(order: &Order, cookie: &str) -> io::Result<(Child, Receiver)> {
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(&order.program);
    command
        .arg0(&order.command[0])
        .args(&order.command[1..])
        .current_dir(&order.directory)
        .env_clear()
        .envs(&order.environment)
        .env("TRIMTAB_TASK", order.task.as_str())
        .env(COOKIE, cookie)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .kill_on_drop(true);
    let child = command.spawn()?;
    // The command holds our copies of the writing end; the pipe ends only when they are closed.
    drop(command);
    Ok((child, Receiver::from_owned_fd(OwnedFd::from(reader))?))
}

struct Running<'m> {
    index: usize,
    child: Child,
    family: Family,
    /// `None` once it ended.
    output: Option<Receiver>,
    capture: Capture,
    messages: &'m mpsc::Sender<Message>,
    buffer: Vec<u8>,
    notes: Vec<String>,
    closed: bool,
}

/// If the run is dropped, the family goes with it.
impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.closed {
            self.family.signal(Signal::KILL);
        }
    }
}

/// How far stopping has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    Asked,
    Killed,
}

impl Running<'_> {
    /// Waits for the main process, and stops it when it is time.
    async fn watch(&mut self, order: &Order, cancel: &mut Cancel) -> Ending {
        let mut stage = Stage::Running;
        let mut seen = CancelLevel::Run;
        let mut cause = None;
        let mut deadline = Instant::now() + order.timeout;
        let mut lines = Vec::new();
        loop {
            tokio::select! {
                status = self.child.wait() => {
                    self.deliver(lines).await;
                    // A failure to wait can't be told from a lost process.
                    return match (cause, status) {
                        (Some(cause), _) => cause,
                        (None, Ok(status)) => Ending::Exited(status),
                        (None, Err(_)) => Ending::Cancelled,
                    };
                }
                () = sleep_until(deadline) => {
                    if stage == Stage::Killed {
                        self.notes.push("it could not be killed and was given up".into());
                        return cause.unwrap_or(Ending::TimedOut);
                    }
                    cause.get_or_insert(Ending::TimedOut);
                    (stage, deadline) = self.stop(stage);
                }
                level = cancel.above(seen) => {
                    seen = level;
                    cause.get_or_insert(Ending::Cancelled);
                    let target = if level == CancelLevel::Kill { Stage::Asked } else { Stage::Running };
                    if stage <= target {
                        (stage, deadline) = self.stop(target);
                    }
                }
                permit = self.messages.reserve(), if !lines.is_empty() => {
                    let taken = std::mem::take(&mut lines);
                    if let Ok(permit) = permit {
                        permit.send(Message::Lines(self.index, taken));
                    }
                }
                length = read(&mut self.output, &mut self.buffer), if self.output.is_some() && lines.is_empty() => {
                    lines = self.took(length);
                }
            }
        }
    }

    /// The next stage of stopping, and how long to wait for its effect.
    fn stop(&mut self, stage: Stage) -> (Stage, Instant) {
        if stage == Stage::Running {
            self.family.signal(Signal::TERM);
            // A stopped process would not notice.
            self.family.signal(Signal::CONT);
            return (Stage::Asked, Instant::now() + STOP_GRACE);
        }
        self.notes.push("it had to be killed".into());
        self.family.signal(Signal::KILL);
        (Stage::Killed, Instant::now() + KILL_GRACE)
    }

    fn took(&mut self, length: usize) -> Vec<String> {
        if length == 0 {
            self.output = None;
        }
        self.capture.take(&self.buffer[..length])
    }

    async fn deliver(&self, lines: Vec<String>) {
        if !lines.is_empty() {
            drop(self.messages.send(Message::Lines(self.index, lines)).await);
        }
    }

    /// Reads until the pipe ends or the time comes.
    async fn read_until(&mut self, deadline: Instant) {
        while self.output.is_some() {
            let Ok(length) = timeout_at(deadline, read(&mut self.output, &mut self.buffer)).await else {
                return;
            };
            let lines = self.took(length);
            self.deliver(lines).await;
        }
        sleep_until(deadline).await;
    }

    /// Stops what the main process left behind.
    async fn stop_strays(&mut self, ending: Ending) {
        let left = self.family.living();
        if left == 0 {
            return;
        }
        let gentle = matches!(ending, Ending::Exited(_));
        if gentle && self.gone_within(LINGER).await {
            return;
        }
        let left = self.family.living();
        if gentle && left > 0 {
            self.notes.push(format!(
                "it left {} behind, stopped now",
                delivery::text::count(left as u64, "process group")
            ));
        }
        self.family.signal(Signal::TERM);
        if self.gone_within(if gentle { STRAY_GRACE } else { LINGER }).await {
            return;
        }
        // Each round may free the children of those it killed.
        let deadline = Instant::now() + KILL_GRACE;
        while Instant::now() < deadline {
            self.family.signal(Signal::KILL);
            if self.gone_within(POLL).await {
                return;
            }
        }
        self.notes.push("some of it could not be killed and was given up".into());
    }

    async fn gone_within(&mut self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        let mut pause = Duration::from_millis(1);
        loop {
            if self.family.living() == 0 {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            self.read_until(Instant::now() + pause).await;
            pause = (pause * 2).min(POLL);
        }
    }

    /// Reads what is still in the pipe.
    async fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN_GRACE;
        while self.output.is_some() {
            let Ok(length) = timeout_at(deadline, read(&mut self.output, &mut self.buffer)).await else {
                self.notes.push("a process that can't be told as its own still holds its output open".into());
                return;
            };
            let lines = self.took(length);
            self.deliver(lines).await;
        }
    }

    async fn close(mut self, ending: Ending) -> Execution {
        self.closed = true;
        let empty = Capture::closed();
        let (lines, captured) = std::mem::replace(&mut self.capture, empty).finish();
        self.deliver(lines).await;
        let mut notes = std::mem::take(&mut self.notes);
        if captured.dropped > 0 {
            notes.push(format!("{} bytes of its output were dropped", captured.dropped));
        }
        Execution { ending, notes, captured }
    }
}

/// The next bytes' count; 0 when the pipe ended or can't be read.
async fn read(output: &mut Option<Receiver>, buffer: &mut [u8]) -> usize {
    match output {
        Some(output) => output.read(buffer).await.unwrap_or(0),
        None => 0,
    }
}
