//! Where a ledger can lie, and who commits to it.
//!
//! Invariant: whatever the place, the same appends give the same bytes.

use std::sync::Arc;

use camino::Utf8PathBuf;

use super::database::Database;
use super::postgres::Postgres;
use super::sqlite::Sqlite;
use crate::error::Error;
use crate::postgres::Address;

/// Where a ledger is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In an SQLite file.
    File(Utf8PathBuf),
    /// In an SQLite file that belongs to a VFS which the program has registered: no call but the VFS's own touches the path.
    /// The VFS must support shared memory, as WAL does not work without.
    VfsFile {
        /// The VFS's name.
        vfs: String,
        /// The path that it is given.
        path: Utf8PathBuf,
    },
    /// In a PostgreSQL database.
    Postgres(Box<Address>),
}

impl Place {
    pub(super) fn database(&self) -> Result<Arc<dyn Database>, Error> {
        Ok(match self {
            Self::File(path) => Arc::new(Sqlite::file(path)),
            Self::VfsFile { vfs, path } => Arc::new(Sqlite::file_of(vfs, path)),
            Self::Postgres(address) => Arc::new(Postgres::new(address)?),
        })
    }
}

/// Who commits what is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committer {
    /// A thread of the ledger's own, which commits for many callers at once.
    Thread,
    /// The thread that appends, before the append returns. For a program that is one thread by design; the appends of several
    /// threads wait for each other.
    Caller,
}
