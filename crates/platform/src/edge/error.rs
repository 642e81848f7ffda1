//! What can go wrong with an edge, for programs and for people.

use camino::Utf8PathBuf;
use delivery::Problem;
use delivery::code::Code;

use crate::process::Holder;

/// Why an edge can't be reached, started or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers on the control socket.
    #[error("no edge answers on {socket}")]
    NotRunning {
        /// The control socket.
        socket: Utf8PathBuf,
        /// What connecting said.
        #[source]
        source: std::io::Error,
    },
    /// Another process listens on the environment's address.
    #[error("{address} is taken{}", holder.as_ref().map_or(String::new(), |h| format!(" by {} (pid {})", h.program, h.pid)))]
    PortTaken {
        /// The address.
        address: String,
        /// Who listens there, if it can be seen.
        holder: Option<Holder>,
    },
    /// The environment's address can't be understood or belongs to no interface.
    #[error("can't listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// What binding said.
        #[source]
        source: std::io::Error,
    },
    /// The daemon's program can't be started.
    #[error("can't start {program}")]
    NotStarted {
        /// The program.
        program: String,
        /// What starting it said.
        #[source]
        source: std::io::Error,
    },
    /// The daemon ended before its socket answered.
    #[error("the edge ended while it started: {reason}")]
    Died {
        /// Its last words.
        reason: String,
        /// Its log.
        log: Utf8PathBuf,
    },
    /// An answer did not come in time.
    #[error("the edge did not {doing} within {within_ms} ms")]
    TimedOut {
        /// What was waited for.
        doing: &'static str,
        /// How long, in milliseconds.
        within_ms: u64,
    },
    /// The connection broke. The command may or may not have been applied: send it again, it is applied once.
    #[error("the connection to the edge broke while it was asked to {doing}")]
    Broken {
        /// What was asked.
        doing: &'static str,
        /// How it broke.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The edge could not do its part, such as writing its state: nothing was changed, try again.
    #[error("the edge could not {doing}: {reason}")]
    Failed {
        /// What was asked.
        doing: &'static str,
        /// What it said.
        reason: String,
    },
    /// Another edge holds the state directory.
    #[error("another edge runs on {directory}")]
    AlreadyRunning {
        /// The state directory.
        directory: Utf8PathBuf,
    },
    /// A file or folder can't be used.
    #[error("can't {doing} {path}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: Utf8PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The control socket's folder could be entered by others, or the path is too long.
    #[error("the control socket {socket} can't be used: {reason}")]
    Socket {
        /// The path.
        socket: Utf8PathBuf,
        /// Why.
        reason: String,
    },
    /// The state file is of a newer version or damaged.
    #[error("the edge's state {path} can't be read: {reason}")]
    State {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// As a person is told it.
    pub fn problem(&self) -> Problem {
        let (code, hint) = match self {
            Self::PortTaken { holder: Some(holder), .. } => (
                Code::PortTaken,
                format!("stop process {} or give the environment another `listen` address", holder.pid),
            ),
            Self::PortTaken { .. } | Self::Listen { .. } => {
                (Code::PortTaken, "give the environment another `listen` address in trimtab.toml".into())
            }
            Self::NotStarted { .. } => (Code::ProgramMissing, "run `trimtab doctor`".into()),
            Self::Died { log, .. } => (Code::PlatformUnavailable, format!("the whole log is in {log}")),
            Self::AlreadyRunning { .. } => {
                (Code::PlatformUnavailable, "it does not answer on its socket; stop it and try again".into())
            }
            Self::State { path, .. } => {
                (Code::PlatformUnavailable, format!("move {path} away; what runs now is then started anew"))
            }
            _ => (Code::PlatformUnavailable, "run the command again; `trimtab doctor` looks deeper".into()),
        };
        let problem = Problem::new(code, self.to_string()).hint(hint);
        match std::error::Error::source(self) {
            Some(source) => problem.because(source),
            None => problem,
        }
    }

    /// For `map_err` on file operations.
    pub(crate) fn file<'a>(
        doing: &'static str,
        path: &'a camino::Utf8Path,
    ) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }
}
