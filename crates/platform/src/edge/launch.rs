//! Starts the edge's daemon detached from whoever starts it, and waits until it answers or is known to have failed.
//!
//! The daemon gets its own process group, no standard input, and its output goes to `edge.log`; it ignores SIGHUP. Two starts at
//! once are harmless: the daemon that comes second finds the state directory locked and ends, and both callers connect to
//! the first.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::client::Edge;
use super::{EdgeConfig, Error, private_folder};
use crate::process::{self, Holder};

/// From the start of the daemon to its socket's first answer.
const START_MS_MAX: u64 = 20_000;
/// How long a start waits for revisions that ran before.
const RESTORE_MS_MAX: u64 = 10_000;
/// How long a shutdown may take: draining and stopping every instance.
const STOP_MS_MAX: u64 = 150_000;
const POLL: Duration = Duration::from_millis(15);
/// Lines of the daemon's log in an error.
const TAIL_LINES: usize = 5;
/// The daemon's log is started anew beyond this.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// Why a daemon gave up, left in the state directory for whoever started it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LastWords {
    pub(super) message: String,
    /// Set when the environment's address was taken.
    pub(super) taken: Option<Taken>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Taken {
    pub(super) address: String,
    pub(super) holder: Option<Holder>,
}

pub(super) fn last_words_path(config: &EdgeConfig) -> Utf8PathBuf {
    config.state_directory.join("failure.json")
}

/// Starts the daemon and waits for it.
pub(super) async fn start(config: &EdgeConfig, program: &[String]) -> Result<Edge, Error> {
    for folder in [&config.state_directory, &config.log_directory] {
        private_folder(folder)?;
    }
    let config_path = config.state_directory.join("edge.json");
    let text = serde_json::to_vec_pretty(config)
        .map_err(|e| Error::State { path: config_path.clone(), reason: e.to_string() })?;
    super::state::write_atomically(&config_path, &text).map_err(Error::file("write", &config_path))?;
    let _ = std::fs::remove_file(last_words_path(config));
    let log_path = config.log_directory.join("edge.log");
    let mut child = spawn(program, &config_path, &log_path)?;
    let deadline = tokio::time::Instant::now() + Duration::from_millis(START_MS_MAX);
    let mut ended_at = None;
    loop {
        match Edge::connect(config).await {
            Ok(edge) => return Ok(wait_for_restore(edge).await),
            Err(Error::NotRunning { .. } | Error::Broken { .. }) => {}
            Err(other) => return Err(other),
        }
        let now = tokio::time::Instant::now();
        if ended_at.is_none() && !matches!(child.try_wait(), Ok(None)) {
            ended_at = Some(now);
        }
        // The one that got the state directory first may still be on its way to its socket.
        if let Some(reason) = ended_at.and_then(|_| failure(config, &log_path)) {
            return Err(reason);
        }
        if ended_at.is_some_and(|at| now > at + Duration::from_secs(2)) {
            return Err(Error::Died { reason: tail(&log_path), log: log_path });
        }
        if now > deadline {
            let _ = child.start_kill();
            return Err(Error::TimedOut { doing: "answer on its socket", within_ms: START_MS_MAX });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Starts `program... --config FILE` in a process group of its own, with its output in the log.
#[expect(clippy::disallowed_methods, reason = "this module owns the start of daemons")]
pub(crate) fn spawn(
    program: &[String],
    config: &Utf8Path,
    log: &Utf8Path,
) -> Result<tokio::process::Child, Error> {
    let fresh = std::fs::metadata(log).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX);
    let mut options = File::options();
    options.create(true);
    if fresh {
        options.write(true).truncate(true)
    } else {
        options.append(true)
    };
    let output = options.open(log).map_err(Error::file("open", log))?;
    let errors = output.try_clone().map_err(Error::file("open", log))?;
    let (first, rest) = program.split_first().ok_or_else(|| Error::NotStarted {
        program: String::new(),
        source: std::io::Error::from(std::io::ErrorKind::NotFound),
    })?;
    tokio::process::Command::new(first)
        .args(rest)
        .arg("--config")
        .arg(config.as_str())
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|source| Error::NotStarted { program: first.clone(), source })
}

/// Whatever ran before the restart comes up soon or not at all; either way the edge is there.
async fn wait_for_restore(edge: Edge) -> Edge {
    let deadline = tokio::time::Instant::now() + Duration::from_millis(RESTORE_MS_MAX);
    while tokio::time::Instant::now() < deadline && edge.status().await.is_ok_and(|status| status.restoring) {
        tokio::time::sleep(POLL).await;
    }
    edge
}

/// What the daemon left behind when it gave up; `None` when it only came second.
fn failure(config: &EdgeConfig, log: &Utf8Path) -> Option<Error> {
    let text = std::fs::read(last_words_path(config)).ok()?;
    let words: LastWords = serde_json::from_slice(&text).ok()?;
    Some(match words.taken {
        Some(Taken { address, holder }) => Error::PortTaken { address, holder },
        None => Error::Died { reason: words.message, log: log.to_owned() },
    })
}

fn tail(log: &Utf8Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(8 << 10)..]).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    match lines.len() {
        0 => "it said nothing".into(),
        n => lines[n.saturating_sub(TAIL_LINES)..].join("; "),
    }
}

/// Waits until the daemon's process is gone, and with it its lock and its address.
pub(super) async fn wait_for_end(config: &EdgeConfig, pid: u32) -> Result<(), Error> {
    let identity = process::identity(pid);
    let deadline = tokio::time::Instant::now() + Duration::from_millis(STOP_MS_MAX);
    while tokio::time::Instant::now() < deadline {
        let running = identity.is_some_and(process::is_running);
        if !running && !config.control_socket.exists() {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Error::TimedOut { doing: "shut down", within_ms: STOP_MS_MAX })
}
