//! The guard: the dead man's switch for a splitter that is not ours.
//!
//! A process of its own beside HAProxy. It holds the grant of a raised weight {rollout, epoch, ceiling, length} on its own boot
//! clock, and keeps the canary's share at HAProxy at or below what is granted: nothing, when nobody renewed. It needs neither
//! the controller, nor the edge, nor the ledger. It leaves out raising: there is no command for it.
//!
//! It goes by what HAProxy says, again and again, not by what it did once: a weight that a controller raises late, after it was
//! stopped and woken, is lowered at the next look ([`LOOK_MS`]). A drain that HAProxy did not confirm stays owed, over
//! restarts too.
//!
//! Invariants: the canary's share only falls by it; a grant that ran out or was taken back is never given to that rollout
//! again; a guard that was restarted trusts the grant on disk only in the same boot of the machine, with the time that was left.

use camino::{Utf8Path, Utf8PathBuf};
use delivery::{EnvironmentName, Problem, ServiceName, code::Code};
use serde::{Deserialize, Serialize};

use crate::haproxy::Haproxy;

mod client;
mod daemon;
mod launch;
mod storage;
mod watchman;
mod wire;

pub use client::Guard;
pub use daemon::run;
pub use launch::ensure;
pub use storage::{Action, Entry};
pub use watchman::{Cause, Ended, Held, Requested};
pub use wire::{Answer, Owed, Status};

/// The wait between two looks at HAProxy, in milliseconds: how long a weight that nobody granted can last.
pub const LOOK_MS: u64 = 200;

/// What one guard watches and where it keeps its things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardConfig {
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The splitter.
    pub haproxy: Haproxy,
    /// Its own unix socket, in a folder that only this user may enter.
    pub socket: Utf8PathBuf,
    /// Holds `state.json`, `actions.jsonl` and `guard.json`. One guard at a time.
    pub state_directory: Utf8PathBuf,
    /// Its log, when it is started by somebody else than a person.
    pub log: Utf8PathBuf,
}

/// Why a guard can't be reached, started or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers on its socket.
    #[error("no guard answers on {socket}")]
    NotRunning {
        /// The socket.
        socket: Utf8PathBuf,
    },
    /// It answers, but not as it should.
    #[error("the guard could not {doing}: {reason}")]
    Failed {
        /// What was asked.
        doing: &'static str,
        /// What it said, or how the way there broke.
        reason: String,
    },
    /// It can't start.
    #[error("the guard can't start: {reason}")]
    Start {
        /// Why not.
        reason: String,
        /// Where more is said.
        log: Utf8PathBuf,
    },
    /// Another guard has the state directory.
    #[error("another guard runs on {directory}")]
    AlreadyRunning {
        /// The state directory.
        directory: Utf8PathBuf,
    },
}

impl Error {
    /// As a person is told it.
    pub fn problem(&self) -> Problem {
        let hint = match self {
            Self::NotRunning { .. } => "start it with: trimtab guard run --environment NAME".to_owned(),
            Self::Start { log, .. } => format!("its log is {log}"),
            Self::AlreadyRunning { .. } => "see it with: trimtab guard status".to_owned(),
            Self::Failed { .. } => "run the command again; `trimtab guard status` tells more".to_owned(),
        };
        Problem::new(Code::GuardUnavailable, self.to_string()).hint(hint)
    }

    fn start<'a, E: std::fmt::Display>(
        doing: &'a str,
        path: &'a Utf8Path,
        log: &'a Utf8Path,
    ) -> impl FnOnce(E) -> Self + 'a {
        move |error| Self::Start { reason: format!("can't {doing} {path}: {error}"), log: log.to_owned() }
    }
}
