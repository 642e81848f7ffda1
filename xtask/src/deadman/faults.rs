//! What is done to the control plane, and how it is undone.
//!
//! A partition is a black hole in the place of a unix socket: whoever connects is let in and never answered, as over a network
//! that drops packets. Invariant: whatever was stopped or cut off is woken and mended when the fault is dropped.

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use crate::figures::process;

/// What happens in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The controller is killed.
    Kill,
    /// The controller and the edge are killed.
    KillBoth,
    /// The controller is stopped, and woken when the canary was taken back.
    Stop,
    /// The controller and the edge are stopped, and woken.
    StopBoth,
    /// The controller can't reach the edge any more.
    Partition,
    /// The edge can't reach the guard any more.
    PartitionGuard,
    /// The guard is killed, then controller and edge; somebody starts the guard again.
    KillGuard,
    /// Traffic ends, then the control plane is killed.
    Mute,
    /// Traffic ends, the control plane lives.
    Silence,
}

impl Fault {
    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "controller killed",
            Self::KillBoth => "controller and edge killed",
            Self::Stop => "controller stopped",
            Self::StopBoth => "controller and edge stopped",
            Self::Partition => "controller cut off from the edge",
            Self::PartitionGuard => "edge cut off from the guard",
            Self::KillGuard => "controller, edge and guard killed, guard restarted",
            Self::Mute => "traffic ended, controller killed",
            Self::Silence => "traffic ended",
        }
    }

    /// Whether the control plane is killed by it.
    pub(super) fn kills(self) -> bool {
        matches!(self, Self::Kill | Self::KillBoth)
    }

    /// Whether users' requests end.
    pub(super) fn silences(self) -> bool {
        matches!(self, Self::Mute | Self::Silence)
    }
}

/// Sends a signal by its name.
pub(super) fn signal(id: u32, name: &str) -> Result<(), String> {
    process::ask(Utf8Path::new("kill"), &[&format!("-{name}"), &id.to_string()], Utf8Path::new("/")).map(drop)
}

/// Processes that are stopped until this is dropped.
#[derive(Debug)]
pub(super) struct Stopped(Vec<u32>);

impl Stopped {
    pub(super) fn of(ids: Vec<u32>) -> Result<Self, String> {
        let stopped = Self(ids);
        stopped.0.iter().try_for_each(|id| signal(*id, "STOP"))?;
        Ok(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for id in &self.0 {
            let _ = signal(*id, "CONT");
        }
    }
}

/// A socket that leads nowhere until this is dropped.
#[derive(Debug)]
pub(super) struct BlackHole {
    path: Utf8PathBuf,
    /// Where the socket can be reached meanwhile.
    pub(super) away: Utf8PathBuf,
    done: Arc<AtomicBool>,
    swallower: Option<std::thread::JoinHandle<()>>,
}

impl BlackHole {
    pub(super) fn at(path: &Utf8Path) -> Result<Self, String> {
        let wrong = |error: std::io::Error| format!("{path}: {error}");
        let away = path.with_extension("away");
        std::fs::rename(path, &away).map_err(wrong)?;
        let listener = UnixListener::bind(path).map_err(wrong)?;
        listener.set_nonblocking(true).map_err(wrong)?;
        let done = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&done);
        let swallower = std::thread::spawn(move || {
            let mut held = Vec::new();
            while !over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => held.push(stream),
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(Self { path: path.to_owned(), away, done, swallower: Some(swallower) })
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(swallower) = self.swallower.take() {
            let _ = swallower.join();
        }
        let _ = std::fs::rename(&self.away, &self.path);
    }
}
