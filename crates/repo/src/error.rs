//! What can go wrong when a repository is read, and how a person is told.

use camino::Utf8PathBuf;
use delivery::Problem;
use delivery::code::Code;

/// Why a repository could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is not in a git work tree.
    #[error("{directory} is not inside a git work tree")]
    Missing {
        /// Where we looked.
        directory: Utf8PathBuf,
    },
    /// There is no `git` to start.
    #[error("the git program was not found")]
    GitMissing,
    /// There is a `git`, but it can't be started or spoken to.
    #[error("git {command} could not be run")]
    Start {
        /// The subcommand.
        command: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The branch has no commit yet.
    #[error("the repository has no commits")]
    Empty,
    /// History was asked for that a shallow clone does not hold.
    #[error("the repository is a shallow clone: its history is cut off")]
    Shallow,
    /// `user.name` or `user.email` is not set.
    #[error("git's {key} is not set")]
    IdentityMissing {
        /// The configuration key that is missing.
        key: &'static str,
    },
    /// A git command ended with an error.
    #[error("git {command} failed: {detail}")]
    Failed {
        /// The subcommand.
        command: String,
        /// The first line of its complaint.
        detail: String,
    },
    /// A git command printed something else than it is documented to.
    #[error("git {command} printed something unexpected: {detail}")]
    Unexpected {
        /// The subcommand.
        command: String,
        /// What was not understood.
        detail: String,
    },
    /// More came than the limit allows.
    #[error("git {command} printed more than {limit}")]
    TooMuch {
        /// The subcommand.
        command: String,
        /// The limit with its unit.
        limit: String,
    },
}

impl Error {
    /// The problem as a person is told it.
    pub fn problem(&self) -> Problem {
        let (code, hint) = match self {
            Self::Missing { .. } => (
                Code::RepositoryMissing,
                "run it inside a repository, or make one: git init && git add -A && git commit -m \"feat: begin\"",
            ),
            Self::GitMissing => (Code::GitMissing, "install git (Debian: apt-get install git) and try again"),
            Self::Start { .. } => (Code::GitMissing, "check that `git --version` works for this user"),
            Self::Empty => {
                (Code::RepositoryEmpty, "commit something first: git add -A && git commit -m \"feat: begin\"")
            }
            Self::Shallow => {
                (Code::RepositoryShallow, "fetch the rest of the history: git fetch --unshallow --tags")
            }
            Self::IdentityMissing { .. } => (
                Code::IdentityMissing,
                "tell git who you are: git config --global user.name NAME && git config --global user.email ADDRESS",
            ),
            Self::Failed { detail, .. } if detail.contains("dubious ownership") => (
                Code::GitFailed,
                "the repository belongs to another user; if you trust it: git config --global --add safe.directory DIRECTORY",
            ),
            Self::Failed { .. } => {
                (Code::GitFailed, "run the same git command by hand; `git fsck` finds a damaged repository")
            }
            Self::Unexpected { .. } => {
                (Code::GitFailed, "git 2.30 or newer and SHA-1 repositories are supported")
            }
            Self::TooMuch { .. } => {
                (Code::GitFailed, "the repository is larger than Trimtab reads in one go")
            }
        };
        let problem = Problem::new(code, self.to_string()).hint(hint);
        match std::error::Error::source(self) {
            Some(source) => problem.because(source),
            None => problem,
        }
    }
}
