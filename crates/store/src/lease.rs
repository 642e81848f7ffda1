//! A lease: the right to be the only one who does something.
//!
//! Where the ledger is a file, a lease is a lock that the kernel gives back at the holder's death (`file`). Where it is in
//! PostgreSQL, so that several machines can work on it, it is a row with a time to live (`rows`). Neither is a fencing token:
//! effects carry the ledger's epoch for that.
//!
//! Invariant: of all holders of one name in one place, at most one has it.

mod file;
mod rows;

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::Problem;
use delivery::code::Code;

use self::file::Lock;
use self::rows::{Row, Rows};
use crate::error::Error;
use crate::ledger::Place;

/// How long a lease in a database lives without being renewed, unless said otherwise.
pub const LEASE_TTL: Duration = Duration::from_secs(15);

/// Why a lease was not got.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody else has it.
    #[error("it is held by {holder}")]
    Held {
        /// What they call themselves.
        holder: String,
    },
    /// The file can't be made or locked, or the name is not a plain file name.
    #[error("the lock file can't be used")]
    Io(#[from] std::io::Error),
    /// The database that the leases are in failed.
    #[error("the lease can't be taken: {0}")]
    Store(#[from] Error),
}

impl LeaseError {
    /// As a person is told it.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Held { holder } => {
                Problem::new(Code::StoreLocked, format!("{holder} is at work here already"))
                    .hint("wait until it has finished, or end that process")
            }
            Self::Store(error) => error.problem(),
            Self::Io(error) => Problem::new(Code::StoreUnavailable, "the lock file can't be used")
                .because(error)
                .hint("check that you may write to the ledger's directory"),
        }
    }
}

/// Where leases are taken.
#[derive(Debug, Clone)]
pub struct Leases {
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Files(Utf8PathBuf),
    Rows(Box<Rows>),
}

impl Leases {
    /// The leases that belong to a ledger: files in the directory, or rows beside its records that live for `ttl`.
    pub fn of(place: &Place, directory: &Utf8Path, ttl: Duration) -> Result<Self, Error> {
        let kind = match place {
            Place::File(_) | Place::VfsFile { .. } => Kind::Files(directory.to_owned()),
            Place::Postgres(address) => Kind::Rows(Box::new(Rows::new(address, ttl)?)),
        };
        Ok(Self { kind })
    }

    /// Takes the lease without waiting. `holder` is what others are told who find it taken: process and purpose.
    pub fn acquire(&self, name: &str, holder: &str) -> Result<Lease, LeaseError> {
        Ok(match &self.kind {
            Kind::Files(directory) => Lease::acquire(directory, name, holder)?,
            Kind::Rows(rows) => Lease { held: Held::Row(Box::new(rows.acquire(name, holder)?)) },
        })
    }

    /// Who has the lease now; `None` when nobody has, as far as can be told. Only looks.
    pub fn holder(&self, name: &str) -> Result<Option<String>, Error> {
        match &self.kind {
            Kind::Files(directory) => Ok(Lock::holder(directory, name)),
            Kind::Rows(rows) => rows.holder(name),
        }
    }
}

/// A held lease. Dropping it gives it back.
#[derive(Debug)]
pub struct Lease {
    held: Held,
}

#[derive(Debug)]
enum Held {
    /// Kept for its lock.
    File {
        _lock: Lock,
    },
    Row(Box<Row>),
}

impl Lease {
    /// Takes the lease of that name in a directory, for this machine.
    pub fn acquire(directory: &Utf8Path, name: &str, holder: &str) -> Result<Self, LeaseError> {
        Lock::acquire(directory, name, holder).map(|lock| Self { held: Held::File { _lock: lock } })
    }

    /// Who has the lease of that name in a directory; see [`Leases::holder`].
    pub fn holder(directory: &Utf8Path, name: &str) -> Option<String> {
        Lock::holder(directory, name)
    }

    /// Whether it is still ours. A lock is, for as long as we live.
    pub fn is_held(&self) -> bool {
        match &self.held {
            Held::File { .. } => true,
            Held::Row(row) => row.is_held(),
        }
    }

    /// Ends when the lease is lost: it ran out, or somebody took it over. Whoever waits for it stops what the lease
    /// was for. Needs a runtime with time enabled.
    pub async fn lost(&self) {
        match &self.held {
            Held::File { .. } => std::future::pending().await,
            Held::Row(row) => row.lost().await,
        }
    }

    /// How often it has been taken over, from 1; `None` for a lock.
    pub fn generation(&self) -> Option<u64> {
        match &self.held {
            Held::File { .. } => None,
            Held::Row(row) => u64::try_from(row.generation).ok(),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Held::Row(row) = &mut self.held {
            row.release();
        }
    }
}
