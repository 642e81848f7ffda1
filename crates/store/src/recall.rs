//! Which reports from outside are on record, and where: so that one that is sent again is not recorded again.
//!
//! A projection of the ledger in a file of its own, because there may be more reports than fit into memory. It is committed
//! together with how far it has read, so after a crash it goes on from there; where it is missing, damaged or of another
//! ledger it is made anew. It is not synced at each commit: what a power cut takes from it is read again.
//!
//! Invariant: after [`Recall::catch_up`] has returned `size`, [`Recall::first`] knows every report among the ledger's first
//! `size` records.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::report::Origin;
use delivery::{Digest, Event};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::ledger::sqlite::meaning;
use crate::{Entry, Ledger};

/// How long another process of the same project is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Records that are read at once.
const READ_RECORDS: usize = 1_024;
/// Of a digest: enough that no two reports ever meet.
const KEY_BYTES: usize = 16;
/// A file with another number is made anew.
const VERSION: i64 = 1;

const SCHEMA: &str = "
    DROP TABLE IF EXISTS report;
    DROP TABLE IF EXISTS progress;
    CREATE TABLE report (key BLOB PRIMARY KEY, sequence INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE progress (id INTEGER PRIMARY KEY CHECK (id = 1), size INTEGER NOT NULL, mark TEXT NOT NULL) STRICT;
    INSERT INTO progress VALUES (1, 0, '');
";

/// See the module.
pub struct Recall {
    path: Utf8PathBuf,
    connection: Connection,
}

impl Recall {
    /// Opens the file for this ledger, or makes it anew. It knows nothing that [`Recall::catch_up`] has not read.
    pub fn open(path: &Utf8Path, ledger: &Ledger) -> Result<Self, Error> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| Error::from_io(path, &error))?;
        }
        match Self::opened(path, ledger) {
            // It holds nothing that the ledger does not: what can't be read is thrown away.
            Err(Error::Damaged { .. }) => {
                for suffix in ["", "-wal", "-shm"] {
                    let _ = std::fs::remove_file(format!("{path}{suffix}"));
                }
                Self::opened(path, ledger)
            }
            other => other,
        }
    }

    fn opened(path: &Utf8Path, ledger: &Ledger) -> Result<Self, Error> {
        let fault = |error: rusqlite::Error| meaning(path, &error);
        let connection = Connection::open(path).map_err(fault)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(fault)?;
        connection
            .execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA trusted_schema=OFF;")
            .map_err(fault)?;
        let mut recall = Self { path: path.to_owned(), connection };
        let transaction =
            recall.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
        let version: i64 =
            transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(fault)?;
        if version != VERSION || !is_of(&transaction, ledger, path)? {
            transaction.execute_batch(SCHEMA).map_err(fault)?;
            transaction.execute_batch(&format!("PRAGMA user_version={VERSION};")).map_err(fault)?;
        }
        transaction.commit().map_err(fault)?;
        Ok(recall)
    }

    /// Reads what was recorded since, and says how many records it knows now.
    pub fn catch_up(&mut self, ledger: &Ledger) -> Result<u64, Error> {
        let path = &self.path;
        let fault = |error: rusqlite::Error| meaning(path, &error);
        loop {
            let (known, _) = progress(&self.connection).map_err(fault)?;
            let entries = ledger.read(known, READ_RECORDS)?;
            let Some(last) = entries.last() else { return Ok(known) };
            let (size, mark) = (last.sequence(), mark(last));
            let transaction =
                self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
            // Another process that serves the same project may have come further.
            if progress(&transaction).map_err(fault)?.0 == known {
                note(&transaction, &entries).map_err(fault)?;
                transaction
                    .execute("UPDATE progress SET size = ?1, mark = ?2", rusqlite::params![size as i64, mark])
                    .map_err(fault)?;
                transaction.commit().map_err(fault)?;
            }
        }
    }

    /// The sequence under which the report was recorded, if it is among what was read.
    pub fn first(&self, origin: &Origin) -> Result<Option<u64>, Error> {
        let found = self
            .connection
            .prepare("SELECT sequence FROM report WHERE key = ?1")
            .and_then(|mut statement| {
                statement.query_row([key(origin)], |row| row.get::<_, i64>(0)).optional()
            })
            .map_err(|error| meaning(&self.path, &error))?;
        Ok(found.map(|sequence| sequence as u64))
    }
}

fn note(transaction: &Transaction<'_>, entries: &[Entry]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare("INSERT OR IGNORE INTO report VALUES (?1, ?2)")?;
    for entry in entries {
        if let Entry::Record(recorded) = entry
            && let Event::Reported { origin, .. } = &recorded.event
        {
            insert.execute(rusqlite::params![key(origin), recorded.sequence as i64])?;
        }
    }
    Ok(())
}

/// How many records were read, and what marks the last of them.
fn progress(connection: &Connection) -> rusqlite::Result<(u64, String)> {
    connection.query_row("SELECT size, mark FROM progress", [], |row| {
        Ok((row.get::<_, i64>(0)? as u64, row.get(1)?))
    })
}

/// Whether what was read are the first records of this ledger. A backup that was put in its place differs in the last one.
fn is_of(transaction: &Transaction<'_>, ledger: &Ledger, path: &Utf8Path) -> Result<bool, Error> {
    let (known, marked) = progress(transaction).map_err(|error| meaning(path, &error))?;
    let Some(before) = known.checked_sub(1) else { return Ok(true) };
    let entries = ledger.read(before, 1)?;
    Ok(entries.first().is_some_and(|entry| entry.sequence() == known && mark(entry) == marked))
}

fn mark(entry: &Entry) -> String {
    Digest::of(format!("{entry:?}").as_bytes()).into()
}

fn key(origin: &Origin) -> [u8; KEY_BYTES] {
    let Origin { source, id } = origin;
    let digest = Sha256::digest(format!("{}:{source}{id}", source.len()));
    std::array::from_fn(|index| digest[index])
}

#[cfg(test)]
mod tests;
