//! The ledger's rows in one SQLite file.
//!
//! How the file is made, opened and migrated is in `schema`. SQLite's lock orders the writers of all processes, and WAL
//! lets readers look at whole commits meanwhile.
//!
//! Invariant: a commit has returned from its fsync (`synchronous=FULL`). After a failed one the log is carried over into
//! the database and synced before anything else, because a failed fsync may have dropped log pages that look written.

pub(super) mod copy;
mod holder;
mod schema;
pub(super) mod upgrade;

use std::ops::{ControlFlow, Range};

use camino::{Utf8Path, Utf8PathBuf};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior};

use self::upgrade::Schema;
use super::database::{
    Database, Found, Passage, ReadingConnection, StoredHead, StoredPerson, Transaction, View, Visitor,
    WritingConnection,
};
use super::file::FileId;
use super::wire::Row;
use crate::error::Error;
use crate::merkle::Hash;

const COLUMNS: &str = "sequence, at, format, body, leaf";
/// A person's row is overwritten in its place with as many zeros, not deleted: where rows go, SQLite moves their neighbours
/// within and between pages, and the bytes that it moved stay where they were, out of reach of `secure_delete`.
const REMOVE_PERSON: &str = "UPDATE person SET salt = zeroblob(length(salt)),
    email = CAST(zeroblob(length(CAST(email AS BLOB))) AS TEXT) WHERE salt = ?1 AND email = ?2";

/// A file, and who keeps it.
#[derive(Debug, Clone)]
pub(super) struct Sqlite {
    path: Utf8PathBuf,
    /// The SQLite VFS that the file belongs to. With one, no other call touches the path.
    vfs: Option<String>,
    schema: Schema,
}

impl Sqlite {
    /// A file of the operating system.
    pub(super) fn file(path: &Utf8Path) -> Self {
        Self::file_as(path, Schema::RELEASED)
    }

    /// [`Sqlite::file`], as a Trimtab opens it that knows these schemas.
    pub(super) fn file_as(path: &Utf8Path, schema: Schema) -> Self {
        Self { path: path.to_owned(), vfs: None, schema }
    }

    /// A file of the VFS that is registered under that name.
    pub(super) fn file_of(vfs: &str, path: &Utf8Path) -> Self {
        Self { path: path.to_owned(), vfs: Some(vfs.to_owned()), schema: Schema::RELEASED }
    }

    /// Which file has the name now; `None` where only the VFS knows.
    fn id(&self) -> Option<FileId> {
        self.vfs.is_none().then(|| FileId::of(&self.path)).flatten()
    }

    /// [`Database::open_writer`], as what it is.
    pub(super) fn writer(&self, after_failure: bool) -> Result<Writing, Error> {
        let connection = schema::open_writer(&self.path, self.vfs.as_deref(), self.schema)?;
        let writing = Writing { file: self.clone(), id: self.id(), connection };
        if after_failure {
            writing.settle()?;
        }
        Ok(writing)
    }

    /// [`Database::open_reader`], as what it is.
    pub(super) fn reader(&self) -> Result<Reading, Error> {
        let (connection, lasting) = schema::open_reader(&self.path, self.vfs.as_deref(), self.schema)?;
        Ok(Reading { file: self.clone(), id: self.id(), connection, lasting })
    }
}

impl Database for Sqlite {
    fn place(&self) -> &Utf8Path {
        &self.path
    }

    fn open_writer(&self, after_failure: bool) -> Result<Box<dyn WritingConnection>, Error> {
        Ok(Box::new(self.writer(after_failure)?))
    }

    fn open_reader(&self) -> Result<Box<dyn ReadingConnection>, Error> {
        Ok(Box::new(self.reader()?))
    }

    fn witness(&self) -> Option<Utf8PathBuf> {
        self.vfs.is_none().then(|| Utf8PathBuf::from(format!("{}.seen", self.path)))
    }
}

/// What SQLite's error means. What is neither the disk nor a lock is damage: our statements are fixed and known to be good.
pub(crate) fn meaning(path: &Utf8Path, error: &rusqlite::Error) -> Error {
    let path = path.to_owned();
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full { path },
        Some(ErrorCode::ReadOnly) => Error::ReadOnly { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => locked(&path),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => Error::Unavailable { path, detail },
        Some(ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory | ErrorCode::FileLockingProtocolFailed) => {
            Error::Disk { path, detail }
        }
        _ => Error::Damaged { detail },
    }
}

/// Somebody else kept a lock for longer than we wait.
fn locked(path: &Utf8Path) -> Error {
    Error::Locked { waited_ms: schema::BUSY_TIMEOUT.as_millis() as u64, holder: holder::holders(path) }
}

/// A connection for reading.
pub(super) struct Reading {
    file: Sqlite,
    /// Which file it has open: a restore puts another one under the ledger's name.
    id: Option<FileId>,
    pub(super) connection: Connection,
    /// An immutable view of read-only media sees no later commits.
    lasting: bool,
}

impl ReadingConnection for Reading {
    fn view(&mut self) -> Result<Box<dyn View + '_>, Error> {
        Ok(Box::new(Moment::begin(&self.file, &mut self.connection, TransactionBehavior::Deferred)?))
    }

    fn lasting(&self) -> bool {
        self.lasting
    }

    fn current(&self) -> bool {
        self.id == self.file.id()
    }
}

/// A connection for writing.
pub(super) struct Writing {
    file: Sqlite,
    id: Option<FileId>,
    pub(super) connection: Connection,
}

impl Writing {
    /// Carries the log over into the database and syncs it.
    fn settle(&self) -> Result<(), Error> {
        let busy: i64 = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .map_err(|error| meaning(&self.file.path, &error))?;
        if busy == 0 { Ok(()) } else { Err(locked(&self.file.path)) }
    }
}

impl ReadingConnection for Writing {
    fn view(&mut self) -> Result<Box<dyn View + '_>, Error> {
        Ok(Box::new(Moment::begin(&self.file, &mut self.connection, TransactionBehavior::Deferred)?))
    }
}

impl WritingConnection for Writing {
    fn begin(&mut self) -> Result<Box<dyn Transaction + '_>, Error> {
        let moment = Moment::begin(&self.file, &mut self.connection, TransactionBehavior::Immediate)?;
        if self.id == self.file.id() {
            return Ok(Box::new(moment));
        }
        // What is written to a file that has lost its name is lost.
        let detail = format!("another file was put in the place of {} while it was open", self.file.path);
        Err(Error::Older { detail })
    }

    /// The pages were overwritten; the log still holds how they were before.
    fn purge(&mut self) -> Result<(), Error> {
        self.settle()
    }
}

/// A transaction of either kind.
struct Moment<'a> {
    path: &'a Utf8Path,
    transaction: rusqlite::Transaction<'a>,
}

impl<'a> Moment<'a> {
    fn begin(
        file: &'a Sqlite,
        connection: &'a mut Connection,
        behavior: TransactionBehavior,
    ) -> Result<Self, Error> {
        let path = &file.path;
        let transaction =
            connection.transaction_with_behavior(behavior).map_err(|error| meaning(path, &error))?;
        // A newer Trimtab may have migrated the file since it was opened. From here on it can't.
        upgrade::still(path, &transaction, file.schema)?;
        Ok(Self { path, transaction })
    }

    fn meaning(&self, error: &rusqlite::Error) -> Error {
        meaning(self.path, error)
    }

    fn number(&self, sql: &str) -> Result<Option<i64>, Error> {
        self.transaction.query_row(sql, [], |row| row.get(0)).map_err(|error| self.meaning(&error))
    }
}

impl View for Moment<'_> {
    fn head(&mut self) -> Result<Option<StoredHead>, Error> {
        let unreadable =
            |error: rusqlite::Error| Error::Damaged { detail: format!("its head can't be read: {error}") };
        let columns = |row: &rusqlite::Row<'_>| {
            let (size, root) = (row.get(0)?, row.get(1)?);
            Ok(StoredHead { size, root, frontier: row.get(2)?, last_at: row.get(3)? })
        };
        self.transaction
            .query_row("SELECT size, root, frontier, last_at FROM head WHERE id = 1", [], |row| {
                Ok(columns(row).map_err(unreadable))
            })
            .optional()
            .map_err(|error| self.meaning(&error))?
            .transpose()
    }

    fn last_sequence(&mut self) -> Result<u64, Error> {
        let last = self.number("SELECT max(sequence) FROM record")?;
        Ok(last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0))
    }

    fn rows(&mut self, after: i64, visit: &mut Visitor<'_>) -> Result<Passage, Error> {
        let sql = format!("SELECT {COLUMNS} FROM record WHERE sequence > ?1 ORDER BY sequence");
        let mut statement = self.transaction.prepare(&sql).map_err(|error| self.meaning(&error))?;
        let mut rows = statement.query([after]).map_err(|error| self.meaning(&error))?;
        loop {
            match rows.next() {
                Ok(Some(row)) if visit(found(row)).is_continue() => {}
                Ok(_) => return Ok(Passage::Through),
                Err(error) if error.sqlite_error_code().is_some_and(is_damage) => {
                    return Ok(Passage::Broken(error.to_string()));
                }
                Err(error) => return Err(self.meaning(&error)),
            }
        }
    }

    fn row(&mut self, sequence: i64, visit: &mut Visitor<'_>) -> Result<(), Error> {
        let sql = format!("SELECT {COLUMNS} FROM record WHERE sequence = ?1");
        let mut statement = self.transaction.prepare(&sql).map_err(|error| self.meaning(&error))?;
        let mut rows = statement.query([sequence]).map_err(|error| self.meaning(&error))?;
        if let Some(row) = rows.next().map_err(|error| self.meaning(&error))? {
            let _: ControlFlow<()> = visit(found(row));
        }
        Ok(())
    }

    fn leaves(&mut self, range: Range<u64>, visit: &mut dyn FnMut(Hash)) -> Result<(), Error> {
        let mut statement = self
            .transaction
            .prepare("SELECT leaf FROM record WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence")
            .map_err(|error| self.meaning(&error))?;
        let mut rows =
            statement.query([range.start as i64, range.end as i64]).map_err(|error| self.meaning(&error))?;
        while let Some(row) = rows.next().map_err(|error| self.meaning(&error))? {
            visit(row.get(0).map_err(|error| self.meaning(&error))?);
        }
        Ok(())
    }

    fn misplaced(&mut self) -> Result<u64, Error> {
        let count = self.number("SELECT count(*) FROM record WHERE sequence < 1")?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
    }

    fn people(&mut self) -> Result<Vec<StoredPerson>, Error> {
        let table = self.number("SELECT count(*) FROM sqlite_schema WHERE name = 'person'")?;
        if table == Some(0) {
            return Ok(Vec::new());
        }
        let read = || {
            let mut statement = self.transaction.prepare("SELECT salt, email FROM person")?;
            let person = |row: &rusqlite::Row<'_>| Ok(StoredPerson { salt: row.get(0)?, email: row.get(1)? });
            let people = statement.query_map([], person)?.filter(|person| !is_erased(person));
            people.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|error| self.meaning(&error))
    }
}

impl Transaction for Moment<'_> {
    fn insert(&mut self, rows: &[Row<'_>]) -> Result<(), Error> {
        let sql = format!("INSERT INTO record ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5)");
        let mut statement = self.transaction.prepare(&sql).map_err(|error| self.meaning(&error))?;
        for row in rows {
            let values = rusqlite::params![row.sequence, row.at, row.format, row.body, row.leaf];
            statement.execute(values).map_err(|error| self.meaning(&error))?;
        }
        Ok(())
    }

    fn add_person(&mut self, person: &StoredPerson) -> Result<(), Error> {
        let values = rusqlite::params![person.salt, person.email];
        let added = self.transaction.execute("INSERT INTO person (salt, email) VALUES (?1, ?2)", values);
        added.map(drop).map_err(|error| self.meaning(&error))
    }

    fn remove_person(&mut self, person: &StoredPerson) -> Result<(), Error> {
        let removed = self.transaction.execute(REMOVE_PERSON, rusqlite::params![person.salt, person.email]);
        removed.map(drop).map_err(|error| self.meaning(&error))
    }

    fn replace_head(&mut self, head: &StoredHead) -> Result<(), Error> {
        let sql = "UPDATE head SET size = ?1, root = ?2, frontier = ?3, last_at = ?4 WHERE id = 1";
        let values = rusqlite::params![head.size, head.root, head.frontier, head.last_at];
        match self.transaction.execute(sql, values).map_err(|error| self.meaning(&error))? {
            1 => Ok(()),
            changed => Err(self.meaning(&rusqlite::Error::StatementChangedRows(changed))),
        }
    }

    fn commit(self: Box<Self>) -> Result<(), Error> {
        let Self { path, transaction } = *self;
        transaction.commit().map_err(|error| meaning(path, &error))
    }
}

/// Whether the row is what [`Transaction::remove_person`] left.
fn is_erased(person: &rusqlite::Result<StoredPerson>) -> bool {
    let zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    person.as_ref().is_ok_and(|person| zeros(&person.salt) && zeros(person.email.as_bytes()))
}

fn is_damage(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
}

fn found<'a>(row: &'a rusqlite::Row<'_>) -> Found<'a> {
    let integer = |index| row.get_ref(index).ok().and_then(|value| value.as_i64().ok());
    let bytes = |index| match row.get_ref(index) {
        Ok(ValueRef::Blob(bytes)) => Some(bytes),
        _ => None,
    };
    // The key is a rowid, so it is an integer whatever the file holds, and ascends.
    let sequence = integer(0).unwrap_or(i64::MAX);
    match (integer(1), integer(2), bytes(3), bytes(4)) {
        (Some(at), Some(format), Some(body), Some(leaf)) => {
            Found::Row(Row { sequence, at, format, body, leaf })
        }
        _ => Found::Unreadable { sequence, detail: "a column has the wrong type".to_owned() },
    }
}
