//! Whole copies of a ledger's file, and the right to put another file in its place.
//!
//! A copy is made with SQLite's online backup over one snapshot, so appends go on meanwhile and none is half in it. It is one
//! file without a log beside it.
//!
//! Invariant: the source is only read.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use camino::Utf8Path;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema::{open_reader, pragma};
use super::upgrade::Schema;
use super::{Moment, REMOVE_PERSON, meaning};
use crate::error::Error;
use crate::ledger::database::{StoredHead, StoredPerson, View};

/// Pages between two calls of `step`: 4 MiB.
const PAGES: i32 = 1_024;

/// Copies the ledger at `from`; see [`copy_of`].
pub(in crate::ledger) fn copy(from: &Utf8Path, to: &Utf8Path) -> Result<(), Error> {
    let (source, _) = open_reader(from, None, Schema::RELEASED)?;
    copy_of(from, &source, to, &|| {})
}

/// Copies the ledger behind a connection to a new file, not yet synced. Calls `step` now and then.
pub(in crate::ledger) fn copy_of(
    from: &Utf8Path,
    source: &Connection,
    to: &Utf8Path,
    step: &dyn Fn(),
) -> Result<(), Error> {
    let reading = |error: rusqlite::Error| meaning(from, &error);
    let writing = |error: rusqlite::Error| meaning(to, &error);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| Error::from_io(to, &error))?;
    let mut target =
        Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(writing)?;
    // Nobody needs half a copy: it is made anew after a crash.
    target.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF").map_err(writing)?;
    // One snapshot for all steps; without it every commit of others would begin the copy anew.
    let snapshot = source.unchecked_transaction().map_err(reading)?;
    pragma(source, "user_version").map_err(reading)?;
    {
        let backup = Backup::new(source, &mut target).map_err(writing)?;
        loop {
            let copied = backup.step(PAGES).map_err(writing)?;
            step();
            match copied {
                StepResult::Done => break,
                StepResult::Busy | StepResult::Locked => {
                    return Err(super::locked(from));
                }
                _ => {}
            }
        }
    }
    drop(snapshot);
    unlog(&target).map_err(writing)?;
    Ok(())
}

/// Makes the database one file without a log; false when somebody else has it open.
fn unlog(connection: &Connection) -> rusqlite::Result<bool> {
    let mode = connection.query_row("PRAGMA journal_mode=DELETE", [], |row| row.get::<_, String>(0));
    match mode {
        Ok(mode) => Ok(mode == "delete"),
        Err(error) if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the records after the head's size and the people whom only those name, and puts the head in place.
pub(in crate::ledger) fn cut(
    path: &Utf8Path,
    head: &StoredHead,
    strangers: &[StoredPerson],
) -> Result<(), Error> {
    let fault = |error: rusqlite::Error| meaning(path, &error);
    let mut connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(fault)?;
    let transaction = connection.transaction().map_err(fault)?;
    transaction.execute("DELETE FROM record WHERE sequence > ?1", [head.size]).map_err(fault)?;
    for person in strangers {
        let values = rusqlite::params![person.salt, person.email];
        transaction.execute(REMOVE_PERSON, values).map_err(fault)?;
    }
    let values = rusqlite::params![head.size, head.root, head.frontier, head.last_at];
    transaction
        .execute("UPDATE head SET size = ?1, root = ?2, frontier = ?3, last_at = ?4 WHERE id = 1", values)
        .map_err(fault)?;
    transaction.commit().map_err(fault)
}

/// Ends with one whole file, whose name may be changed: what lies in the log is carried over.
pub(in crate::ledger) fn close(path: &Utf8Path) -> Result<(), Error> {
    let fault = |error: rusqlite::Error| meaning(path, &error);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(fault)?;
    if unlog(&connection).map_err(fault)? {
        return Ok(());
    }
    Err(Error::Locked { waited_ms: 0, holder: None })
}

/// A ledger that nobody else has open, and that nobody can open, for as long as this lives.
pub(in crate::ledger) struct Hold {
    connection: Option<Connection>,
}

impl Hold {
    /// Takes it. [`Error::Locked`] when another process has it open. A file that is no database any more can't be held, but
    /// nobody can use it either.
    pub(in crate::ledger) fn take(path: &Utf8Path) -> Result<Self, Error> {
        let fault = |error: rusqlite::Error| meaning(path, &error);
        let connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(fault)?;
        match unlog(&connection).map_err(fault) {
            Ok(true) => {}
            Ok(false) => return Err(Error::Locked { waited_ms: 0, holder: None }),
            Err(Error::Damaged { .. }) => return Ok(Self { connection: None }),
            Err(other) => return Err(other),
        }
        // In this mode the lock stays after the transaction has ended, which leaves the connection free to be copied from.
        connection.execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT").map_err(fault)?;
        Ok(Self { connection: Some(connection) })
    }

    /// Copies it to a new file.
    pub(in crate::ledger) fn copy(&self, from: &Utf8Path, to: &Utf8Path) -> Result<(), Error> {
        match &self.connection {
            Some(connection) => copy_of(from, connection, to, &|| {}),
            None => Err(Error::Damaged { detail: "it is no database".to_owned() }),
        }
    }

    /// The ledger as it is; `None` when it is no database.
    pub(in crate::ledger) fn view<'a>(
        &'a self,
        path: &'a Utf8Path,
    ) -> Result<Option<Box<dyn View + 'a>>, Error> {
        let Some(connection) = &self.connection else { return Ok(None) };
        let transaction = connection.unchecked_transaction().map_err(|error| meaning(path, &error))?;
        Ok(Some(Box::new(Moment { path, transaction })))
    }

    /// What its head says, whatever its schema; `None` when that can't be read.
    pub(in crate::ledger) fn head(&self) -> Option<StoredHead> {
        let columns = |row: &rusqlite::Row<'_>| {
            let (size, root) = (row.get(0)?, row.get(1)?);
            Ok(StoredHead { size, root, frontier: row.get(2)?, last_at: row.get(3)? })
        };
        let sql = "SELECT size, root, frontier, last_at FROM head";
        self.connection.as_ref()?.query_row(sql, [], columns).ok()
    }
}
