//! What can go wrong with the ledger, for programs (the variants) and for people ([`Error::problem`]).
//!
//! The errors hold text rather than SQLite's own error values, because one failed commit answers many callers.

use camino::{Utf8Path, Utf8PathBuf};
use delivery::Problem;
use delivery::code::Code;
use delivery::limits::{BATCH_RECORDS_MAX, RECORD_BYTES_MAX};

/// Why the ledger did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no ledger at the path.
    #[error("there is no ledger at {path}")]
    Missing {
        /// Where it was looked for.
        path: Utf8PathBuf,
    },
    /// What names the database can't be understood: the address, or a variable that completes it. Nobody was asked.
    #[error("the ledger's address {address} can't be used: {detail}")]
    Address {
        /// The address, without a password.
        address: Utf8PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// It can't be opened: permissions, a directory in its place, a file of another program.
    #[error("the ledger at {path} can't be opened: {detail}")]
    Unavailable {
        /// Where.
        path: Utf8PathBuf,
        /// What the system said.
        detail: String,
    },
    /// It was opened for reading, or its place can't be written.
    #[error("the ledger at {path} can't be written")]
    ReadOnly {
        /// Where.
        path: Utf8PathBuf,
    },
    /// A newer Trimtab wrote it.
    #[error(
        "the ledger has schema {found}{}, this Trimtab knows up to {known}",
        needs.as_ref().map_or(String::new(), |version| format!(" of Trimtab {version}"))
    )]
    Newer {
        /// Its schema version.
        found: i64,
        /// The newest that we know.
        known: i64,
        /// The version of the Trimtab that made it so, where it says.
        needs: Option<String>,
        /// The newest copy that was kept before the change and that we could use.
        kept: Option<Utf8PathBuf>,
    },
    /// It is older and would be migrated, but a copy of it could not be kept first. Nothing was changed.
    #[error(
        "the ledger can't be brought to the present schema, because no copy of it could be kept: {detail}"
    )]
    NotKept {
        /// Why not.
        detail: String,
    },
    /// It lacks what was seen here: an older ledger, or another one, was put in its place. It can be read; nothing is
    /// appended.
    #[error("{detail}")]
    Older {
        /// What was seen and what is there, as a sentence.
        detail: String,
    },
    /// No space left. Nothing of the batch was recorded.
    #[error("there is no space left for the ledger at {path}")]
    Full {
        /// Where.
        path: Utf8PathBuf,
    },
    /// Its contents contradict each other. Reading goes on, writing does not.
    #[error("the ledger is damaged: {detail}")]
    Damaged {
        /// What does not agree.
        detail: String,
    },
    /// Another process kept it locked for longer than we wait.
    #[error("another process kept the ledger locked for {waited_ms} ms{}", holder.as_ref().map(|who| format!(": {who}")).unwrap_or_default())]
    Locked {
        /// How long we waited, in milliseconds.
        waited_ms: u64,
        /// Who holds it, for people, where the system tells.
        holder: Option<String>,
    },
    /// Input or output failed. Whether the batch is recorded is known only after the next successful call.
    #[error("the disk failed under the ledger at {path}: {detail}")]
    Disk {
        /// Where.
        path: Utf8PathBuf,
        /// What the system said.
        detail: String,
    },
    /// The connection to the database was lost, or the database gave up the transaction. Nothing of the batch was recorded.
    #[error("the connection to the ledger at {path} was lost: {detail}")]
    Interrupted {
        /// Where.
        path: Utf8PathBuf,
        /// What was said.
        detail: String,
    },
    /// The answer to a commit was lost, and then the database could not be asked. The batch is recorded, or it is not.
    #[error("whether the ledger at {path} has recorded it is not known: {detail}")]
    Undecided {
        /// Where.
        path: Utf8PathBuf,
        /// What was said.
        detail: String,
    },
    /// One event is larger than a record may be.
    #[error("the event {kind} takes more than {RECORD_BYTES_MAX} bytes")]
    RecordTooLarge {
        /// The event's name.
        kind: &'static str,
    },
    /// More events at once than one commit may hold.
    #[error("{events} events at once are more than {BATCH_RECORDS_MAX}")]
    BatchTooLarge {
        /// How many were given.
        events: usize,
    },
    /// The event would read back as something else: it holds a number that is not finite.
    #[error("the event {kind} can't be written so that it reads back the same: {detail}")]
    NotRepresentable {
        /// The event's name.
        kind: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// What the caller decided on no longer holds ([`crate::Ledger::append_if`]). Nothing was recorded.
    #[error(
        "the ledger has grown to {size} records meanwhile, and not all of them leave the decision as it was"
    )]
    Conflict {
        /// Its size now.
        size: u64,
    },
    /// More callers wait than the queue holds. Nothing was recorded.
    #[error("too many appends are waiting")]
    Overloaded,
    /// The ledger was closed, or its writer died, before the answer came.
    #[error("the ledger's writer has stopped")]
    Stopped,
    /// The linked SQLite has the WAL-reset bug, which can lose commits.
    #[error("SQLite {version} is older than 3.51.3 and can lose commits")]
    SqliteTooOld {
        /// The linked version.
        version: String,
    },
    /// No record has that sequence number.
    #[error("there is no record {sequence}")]
    NoSuchRecord {
        /// What was asked for.
        sequence: u64,
    },
}

impl Error {
    /// As a person is told it.
    pub fn problem(&self) -> Problem {
        let (code, hint) = match self {
            Self::Missing { .. } => {
                (Code::StoreUnavailable, "run a command that records something first, such as 'trimtab run'")
            }
            Self::Address { .. } => (
                Code::StoreUnavailable,
                "mend the address ('ledger' in trimtab.toml, or TRIMTAB_LEDGER) or the PG… variable that the message names",
            ),
            Self::Unavailable { path, .. } if crate::Address::looks_like(path.as_str()) => (
                Code::StoreUnavailable,
                "check that the server runs, and what the address, PGHOST, PGUSER and ~/.pgpass say",
            ),
            Self::Unavailable { .. } => {
                (Code::StoreUnavailable, "check that the path is a ledger and that you may read it")
            }
            Self::Stopped | Self::Overloaded => {
                (Code::StoreUnavailable, "try again; nothing that was acknowledged is lost")
            }
            Self::SqliteTooOld { .. } => (Code::StoreUnavailable, "build Trimtab with its bundled SQLite"),
            Self::ReadOnly { .. } => {
                (Code::StoreReadOnly, "give yourself write permission on the ledger's directory and files")
            }
            Self::Newer { needs, kept, .. } => return self.newer(needs.as_deref(), kept.as_deref()),
            Self::NotKept { .. } => (
                Code::StoreFull,
                "make room for a second ledger in .trimtab/backups; the older Trimtab still works meanwhile",
            ),
            Self::Older { .. } => (
                Code::StoreOlder,
                "put the newest one back, or restore a backup as one: trimtab explain TRM-0313",
            ),
            Self::Full { .. } => (Code::StoreFull, "free some space; recording goes on by itself then"),
            Self::Damaged { .. } => (
                Code::StoreDamaged,
                "run 'trimtab ledger verify' to see what is damaged; keep a copy before you touch it",
            ),
            Self::Locked { .. } => (
                Code::StoreLocked,
                "let the other process finish (such as a backup or an SQLite shell); one that is stopped goes on with 'kill -CONT'",
            ),
            Self::Disk { .. } => {
                (Code::StoreUnavailable, "check the disk and the system's log, then try again")
            }
            Self::Interrupted { .. } => {
                (Code::StoreUnavailable, "check the database server and its log, then try again")
            }
            Self::Undecided { .. } => (
                Code::StoreUnavailable,
                "look at 'trimtab status' once the database server answers, before you try again",
            ),
            Self::RecordTooLarge { .. } | Self::BatchTooLarge { .. } | Self::NotRepresentable { .. } => {
                (Code::RecordTooLarge, "this is a fault in Trimtab; please report it with the event's name")
            }
            Self::Conflict { .. } => {
                (Code::StoreLocked, "run the command again; it decides anew on what is there now")
            }
            Self::NoSuchRecord { .. } => {
                (Code::ThingUnknown, "run 'trimtab status' to see how far the ledger goes")
            }
        };
        Problem::new(code, self.to_string()).hint(hint)
    }

    fn newer(&self, needs: Option<&str>, kept: Option<&Utf8Path>) -> Problem {
        let needs = needs.map_or("the newer Trimtab that wrote it".into(), |version| {
            format!("Trimtab {version} or a newer one")
        });
        let back = kept.map_or("restore a backup".into(), |kept| {
            format!("go back to what was kept before the change: trimtab ledger restore {kept} --replace")
        });
        Problem::new(Code::StoreNewer, self.to_string()).hint(format!("use {needs}, or {back}"))
    }

    /// From the file system's error.
    pub(crate) fn from_io(path: &Utf8Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let path = path.to_owned();
        match error.kind() {
            ErrorKind::NotFound => Self::Missing { path },
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { path },
            ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            _ => Self::Unavailable { path, detail: error.to_string() },
        }
    }
}
