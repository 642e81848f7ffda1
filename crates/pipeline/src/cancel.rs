//! Stopping a run from outside, in two steps: first gracefully, then at once.
//!
//! Leaves out signals: the binary turns the first and second Ctrl-C into [`CancelHandle::escalate`].
//! Invariant: a level never falls.

use tokio::sync::watch;

/// How urgently a run should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CancelLevel {
    /// Not at all.
    Run,
    /// Start nothing more; ask running tasks to end (SIGTERM), then kill them after their grace.
    Stop,
    /// Kill running tasks now.
    Kill,
}

/// The asking side.
#[derive(Debug, Clone)]
pub struct CancelHandle(watch::Sender<CancelLevel>);

/// The asked side. Clones see the same level.
#[derive(Debug, Clone)]
pub struct Cancel {
    level: watch::Receiver<CancelLevel>,
    /// Keeps a [`Cancel::never`] channel open.
    _held: Option<watch::Sender<CancelLevel>>,
}

impl CancelHandle {
    /// One level up: run, stop, kill.
    pub fn escalate(&self) {
        self.0.send_modify(|level| {
            *level = if *level == CancelLevel::Run { CancelLevel::Stop } else { CancelLevel::Kill };
        });
    }
}

impl Cancel {
    /// A connected pair.
    pub fn channel() -> (CancelHandle, Self) {
        let (sender, level) = watch::channel(CancelLevel::Run);
        (CancelHandle(sender), Self { level, _held: None })
    }

    /// One that never asks.
    pub fn never() -> Self {
        let (sender, level) = watch::channel(CancelLevel::Run);
        Self { level, _held: Some(sender) }
    }

    /// The present level.
    pub fn level(&self) -> CancelLevel {
        *self.level.borrow()
    }

    /// Waits until the level is above `level`; for ever when nobody can raise it any more.
    pub async fn above(&mut self, level: CancelLevel) -> CancelLevel {
        let reached = self.level.wait_for(|now| *now > level).await.map(|now| *now);
        match reached {
            Ok(now) => now,
            Err(_) => std::future::pending().await,
        }
    }
}
