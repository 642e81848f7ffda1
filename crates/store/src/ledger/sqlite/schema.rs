//! The ledger's file: how it is made, opened and brought to the present schema.
//!
//! Durability is decided here: WAL with `synchronous=FULL` means that a commit returns after its fsync. Each connection
//! is checked to really have it, because a file system without shared memory silently keeps another journal mode.
//!
//! What brings an older file to the present schema is in [`super::upgrade`].
//!
//! Invariant: a file of a newer schema, or of another program, is never written to.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use camino::Utf8Path;
use delivery::seeded::{self, Bug};
use rusqlite::{Connection, OpenFlags, Transaction};
use rustix::fs::Access;

use super::meaning;
use super::upgrade::{self, Schema};
use crate::error::Error;

/// How long we wait for another process's lock.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The first SQLite without the WAL-reset bug, which could lose commits.
const SQLITE_MIN: i32 = 3_051_003;
/// `FULL`: a commit returns after its fsync. `NORMAL` only in the control of `cargo xtask powercut`, which must lose events;
/// a feature and no variable, so that nobody's binary can be told to.
const SYNCHRONOUS: i64 = if cfg!(feature = "control-synchronous-normal") { 1 } else { 2 };
/// Tells this process's attempts to make a file apart.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// Marks the file as ours: "TRIM" in ASCII.
pub(super) const APPLICATION: i64 = 0x5452_494d;

/// Schema changes by number, from 1. Never edited once released; a new one is added at the end, with a golden store of what
/// it makes (`cargo xtask golden`).
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE record (
        sequence INTEGER PRIMARY KEY,
        at       INTEGER NOT NULL,
        format   INTEGER NOT NULL,
        body     BLOB NOT NULL,
        leaf     BLOB NOT NULL
    ) STRICT;
    CREATE TABLE head (
        id       INTEGER PRIMARY KEY CHECK (id = 1),
        size     INTEGER NOT NULL,
        root     BLOB NOT NULL,
        frontier BLOB NOT NULL,
        last_at  INTEGER
    ) STRICT;
    INSERT INTO head VALUES
        (1, 0, x'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', x'', NULL);
",
    // Who is behind the pseudonyms in the records. Rows are only added, and overwritten in their places: see `remove_person`.
    // No index: one would keep a second copy of each address.
    "
    CREATE TABLE person (
        salt  BLOB NOT NULL,
        email TEXT NOT NULL
    ) STRICT;
",
];

fn check_library() -> Result<(), Error> {
    if rusqlite::version_number() < SQLITE_MIN {
        return Err(Error::SqliteTooOld { version: rusqlite::version().to_owned() });
    }
    Ok(())
}

/// A connection for the writer: makes directories (0700) and the file (0600) when they are missing, and migrates. A file of
/// a VFS is made by the VFS.
pub(super) fn open_writer(path: &Utf8Path, vfs: Option<&str>, schema: Schema) -> Result<Connection, Error> {
    check_library()?;
    let fault = |error: rusqlite::Error| meaning(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = match vfs {
        None => {
            create(path)?;
            Connection::open_with_flags(path, flags).map_err(fault)?
        }
        Some(vfs) => {
            let flags = flags | OpenFlags::SQLITE_OPEN_CREATE;
            Connection::open_with_flags_and_vfs(path, flags, vfs).map_err(fault)?
        }
    };
    connection.busy_timeout(BUSY_TIMEOUT).map_err(fault)?;
    refuse_foreign(path, &connection, schema)?;
    let journal: String =
        retry_busy(|| connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)))
            .map_err(fault)?;
    // 64 MiB: what a WAL that once grew large is cut back to.
    let level = if seeded::is(Bug::AckBeforeSync) { 0 } else { SYNCHRONOUS };
    connection
        .execute_batch(&format!(
            "PRAGMA synchronous={level}; PRAGMA journal_size_limit=67108864; PRAGMA trusted_schema=OFF;
             PRAGMA secure_delete=ON;"
        ))
        .map_err(fault)?;
    let synchronous = pragma(&connection, "synchronous").map_err(fault)?;
    if journal != "wal" || synchronous != level {
        return Err(Error::Unavailable {
            path: path.to_owned(),
            detail: format!("the file system gives journal mode {journal}, not wal"),
        });
    }
    upgrade::migrate(path, vfs, &mut connection, schema)?;
    Ok(connection)
}

/// Opens a connection for reading, and says whether it sees later commits.
///
/// Falls back to an immutable view, which does not, where neither the file's directory nor its shared memory can be
/// written and no log is waiting: that is how a ledger on read-only media looks.
pub(super) fn open_reader(
    path: &Utf8Path,
    vfs: Option<&str>,
    schema: Schema,
) -> Result<(Connection, bool), Error> {
    check_library()?;
    let fault = |error: rusqlite::Error| meaning(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if let Some(vfs) = vfs {
        let opened = Connection::open_with_flags_and_vfs(path, flags, vfs).map_err(fault)?;
        return prepare_reader(path, opened, schema).map(|connection| (connection, true));
    }
    if let Err(error) = std::fs::metadata(path) {
        return Err(Error::from_io(path, &error));
    }
    let opened = Connection::open_with_flags(path, flags)
        .map_err(fault)
        .and_then(|connection| prepare_reader(path, connection, schema));
    let log = path.with_file_name(format!("{}-wal", path.file_name().unwrap_or_default()));
    let nothing_waits = std::fs::metadata(log).map_or(true, |log| log.len() == 0);
    match opened {
        Err(Error::Unavailable { .. } | Error::ReadOnly { .. }) if nothing_waits => {
            let escaped = path.as_str().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
            let uri = format!("file:{escaped}?immutable=1");
            let connection =
                Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI).map_err(fault)?;
            prepare_reader(path, connection, schema).map(|connection| (connection, false))
        }
        other => other.map(|connection| (connection, true)),
    }
}

fn prepare_reader(path: &Utf8Path, connection: Connection, schema: Schema) -> Result<Connection, Error> {
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| meaning(path, &error))?;
    let version = refuse_foreign(path, &connection, schema)?;
    if version == 0 {
        return Err(Error::Missing { path: path.to_owned() });
    }
    Ok(connection)
}

/// The schema version, if the file is ours (or empty) and not newer than we are.
fn refuse_foreign(path: &Utf8Path, connection: &Connection, schema: Schema) -> Result<i64, Error> {
    let fault = |error: rusqlite::Error| meaning(path, &error);
    let file = retry_busy(|| {
        // One snapshot: another process may be making the file at this moment.
        let snapshot = connection.unchecked_transaction()?;
        identify(&snapshot)
    });
    file.map_err(fault)?.version(path, connection, schema)
}

/// What tells whose file it is.
pub(super) struct Identity {
    version: i64,
    application: i64,
    tables: i64,
}

pub(super) fn identify(transaction: &Transaction<'_>) -> rusqlite::Result<Identity> {
    let count = "SELECT count(*) FROM sqlite_schema";
    Ok(Identity {
        version: pragma(transaction, "user_version")?,
        application: pragma(transaction, "application_id")?,
        tables: transaction.query_row(count, [], |row| row.get(0))?,
    })
}

impl Identity {
    pub(super) fn version(
        &self,
        path: &Utf8Path,
        connection: &Connection,
        schema: Schema,
    ) -> Result<i64, Error> {
        let fresh = self.version == 0 && self.application == 0 && self.tables == 0;
        if !fresh && self.application != APPLICATION {
            let detail = "it is a database of another program".to_owned();
            return Err(Error::Unavailable { path: path.to_owned(), detail });
        }
        if self.version > schema.number() {
            return Err(upgrade::newer(path, connection, self.version, schema));
        }
        Ok(self.version)
    }
}

pub(super) fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

/// Switching to WAL and recovering a log answer "busy" without waiting when two processes open at once.
fn retry_busy<T>(mut attempt: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    const PAUSE: Duration = Duration::from_millis(10);
    // By the clock: an attempt may wait as long by itself, so a number of attempts would be no bound.
    let deadline = now() + BUSY_TIMEOUT;
    loop {
        match attempt() {
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && now() < deadline =>
            {
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a lock is waited for; simulated time stands still meanwhile"
)]
fn now() -> Instant {
    Instant::now()
}

/// Makes the directory and the file when they are missing, and sees whether the file may be written.
///
/// The file itself is never opened here: POSIX takes all of a process's locks on a file away when it closes any
/// descriptor of it, also those that SQLite holds for another handle of this process. So a new file is made under
/// another name, and gets its own when it is closed.
fn create(path: &Utf8Path) -> Result<(), Error> {
    let writable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => Error::ReadOnly { path: path.to_owned() },
        _ => Error::from_io(path, &error),
    };
    let directory = path.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(writable)?;
    if !path.try_exists().map_err(writable)? {
        // Before there is a ledger that anybody could append to: a directory whose own name is lost takes all in it along.
        if let Some(above) = directory.parent() {
            let above = if above.as_str().is_empty() { Utf8Path::new(".") } else { above };
            File::open(above).and_then(|above| above.sync_all()).map_err(writable)?;
        }
        make_new(directory, path).map_err(writable)?;
    }
    // SQLite would fall back to a read-only connection and fail at the first write only.
    rustix::fs::access(path.as_std_path(), Access::READ_OK | Access::WRITE_OK)
        .map_err(|error| writable(error.into()))
}

/// An empty file of this name, unless another process was faster.
fn make_new(directory: &Utf8Path, path: &Utf8Path) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default();
    let attempt = NEXT.fetch_add(1, Ordering::Relaxed);
    let beside = directory.join(format!(".{name}.{}.{attempt}", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.sync_all()?;
    drop(file);
    let linked = std::fs::hard_link(&beside, path);
    std::fs::remove_file(&beside)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(directory)?.sync_all(),
    }
}
