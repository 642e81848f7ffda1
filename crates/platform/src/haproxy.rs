//! HAProxy as the splitter: what is asked of its runtime API, and what its statistics say.
//!
//! The backend has two groups of server slots, one named for stable and one for the canary (`stable1`, `stable2`, `canary1`,
//! ...). A promotion moves addresses from one group to the other, so that a slot's name alone says whose traffic it has: who
//! drains the canary's slots never hits a release that was promoted meanwhile. It leaves out who may do what when: the edge
//! ([`crate::edge`]) fills slots, the guard ([`crate::guard`]) only lowers.
//!
//! Source: HAProxy 2.6, management.txt, section 9.1 (statistics format) and 9.3 (commands `show stat`, `set server`).
//! Invariants: what is read is what HAProxy says, never what was asked; a share is rounded down to what its weights of 0 to
//! 256 can say, so that the canary never has more than was asked.

use camino::Utf8PathBuf;
use delivery::Problem;
use delivery::code::Code;
use serde::{Deserialize, Serialize};

mod reading;
mod runtime;
pub mod share;
mod slots;

pub use reading::{Backend, Server, State, totals};
pub use slots::Wanted;

/// The most servers of one group that are looked at.
pub const SLOTS_MAX: usize = 64;

/// A backend of an HAProxy on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Haproxy {
    /// The unix socket of its runtime API, with level `admin`.
    pub socket: Utf8PathBuf,
    /// The backend's name.
    pub backend: String,
    /// What the names of the stable release's servers begin with; a number follows.
    pub stable: String,
    /// The same for the canary's.
    pub canary: String,
}

/// Why HAProxy could not be asked, or is not fit for this.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers on the socket.
    #[error("HAProxy does not answer on {socket}")]
    Unreachable {
        /// The socket.
        socket: Utf8PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// There is no such backend.
    #[error("HAProxy has no backend {backend:?}")]
    BackendUnknown {
        /// Its name.
        backend: String,
    },
    /// The backend can't be used for canaries as it is.
    #[error("HAProxy's backend {backend:?} can't be used: {reason}")]
    Unfit {
        /// Its name.
        backend: String,
        /// Why not, one clause.
        reason: String,
    },
    /// A command was answered with something else than success.
    #[error("HAProxy refused a command: {answer}")]
    Refused {
        /// What it said.
        answer: String,
    },
    /// The slots are still not as they should be after the commands.
    #[error("HAProxy took the commands, but its servers are not as asked")]
    Unsettled,
}

impl Error {
    /// As a person is told it.
    pub fn problem(&self) -> Problem {
        let (code, hint) = match self {
            Self::Unreachable { .. } => (
                Code::HaproxyUnreachable,
                "start HAProxy with `stats socket PATH level admin`, and let this user write to it",
            ),
            Self::BackendUnknown { .. } => {
                (Code::HaproxyUnfit, "name the backend in the environment's `haproxy` table")
            }
            _ => (Code::HaproxyUnfit, "see: trimtab explain TRM-0705"),
        };
        let problem = Problem::new(code, self.to_string()).hint(hint);
        match std::error::Error::source(self) {
            Some(source) => problem.because(source),
            None => problem,
        }
    }

    /// With its cause, in one line.
    pub fn words(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

impl Haproxy {
    /// What the backend's servers are now.
    pub async fn read(&self) -> Result<Backend, Error> {
        let commands = ["show info typed".to_owned(), format!("show stat {} 6 -1 typed", self.backend)];
        let text = runtime::ask(&self.socket, &commands).await?;
        reading::parse(&text, self)
    }

    /// Makes the servers what is wanted, and looks whether they are. What lowers the canary goes first.
    pub async fn apply(&self, now: &Backend, wanted: &Wanted) -> Result<Backend, Error> {
        self.carry_out(&slots::changes(self, now, wanted)?).await?;
        let after = self.read().await?;
        if slots::changes(self, &after, wanted)?.is_empty() { Ok(after) } else { Err(Error::Unsettled) }
    }

    /// Whether making the servers what is wanted gives the canary more than it has.
    pub fn raises(&self, now: &Backend, wanted: &Wanted) -> Result<bool, Error> {
        Ok(slots::target(self, now, wanted)? > now.share())
    }

    /// Lowers the canary's share to `ceiling` if it is above, and looks whether it is. Never raises it.
    pub async fn lower(&self, now: &Backend, ceiling: delivery::traffic::Weight) -> Result<Backend, Error> {
        self.carry_out(&slots::lowering(self, now, ceiling)).await?;
        let after = self.read().await?;
        if after.exceeds(ceiling) { Err(Error::Unsettled) } else { Ok(after) }
    }

    async fn carry_out(&self, commands: &[String]) -> Result<(), Error> {
        for line in runtime::lines(commands) {
            runtime::set(&self.socket, line).await?;
        }
        Ok(())
    }
}
