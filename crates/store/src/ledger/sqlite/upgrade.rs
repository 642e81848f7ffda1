//! How an older ledger becomes one of the present schema, and what is said of a newer one.
//!
//! All steps are one transaction, so whoever is killed in it leaves the old ledger whole. Before the first step the old
//! ledger is copied to `backups/` beside it, and the copy stays there until a person deletes it: it is the way back to the
//! older Trimtab. The copy is made under the write lock, so it holds every record that was there when the schema changed.
//! Left out: changes that can't be undone by going back to that copy.
//!
//! Invariant: a ledger is never migrated before a whole copy of it is on the disk, and who knows only the older schema
//! neither writes to nor reads from the newer one.

use camino::{Utf8Path, Utf8PathBuf};
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::{Batch, Connection, Transaction, TransactionBehavior};

use super::meaning;
use super::schema::{self, APPLICATION, MIGRATIONS, identify, pragma};
use crate::error::Error;
use crate::ledger::backup::{self, BackupError};

/// The schemas that a Trimtab knows, oldest first. Another list than [`Schema::RELEASED`] plays an older or a newer Trimtab in
/// tests of upgrades.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    migrations: &'static [&'static str],
    watch: fn(Step),
}

/// How far a migration has come. What a test that kills it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It has the write lock.
    Locked,
    /// Some more pages of the old ledger are in the copy.
    Copying,
    /// The copy has its name and is on the disk.
    Kept,
    /// One more statement has run.
    Statement,
    /// The new schema's number is in the file; the commit comes next.
    Marked,
    /// The new schema is on the disk.
    Committed,
}

impl Schema {
    /// What this Trimtab knows.
    pub const RELEASED: Self = Self::of(MIGRATIONS);

    /// The schemas that these changes make, the first of which makes schema 1 out of an empty file.
    pub const fn of(migrations: &'static [&'static str]) -> Self {
        Self { migrations, watch: |_| {} }
    }

    /// As the Trimtab knew them whose newest was `number`.
    #[must_use]
    pub fn until(self, number: usize) -> Self {
        Self { migrations: &self.migrations[..number.min(self.migrations.len())], ..self }
    }

    /// Calls the function after each step of a migration.
    #[must_use]
    pub fn watched(self, watch: fn(Step)) -> Self {
        Self { watch, ..self }
    }

    /// The newest schema's number.
    pub const fn number(self) -> i64 {
        self.migrations.len() as i64
    }

    /// The changes, oldest first.
    pub const fn migrations(self) -> &'static [&'static str] {
        self.migrations
    }
}

/// Which Trimtab brought which schema. Part of no schema: it is what an older one reads to say what it needs.
const UPGRADES: &str = "CREATE TABLE IF NOT EXISTS upgrade (
    schema  INTEGER PRIMARY KEY,
    trimtab TEXT NOT NULL,
    records INTEGER NOT NULL
) STRICT";

/// Brings the file to the newest schema of the list, if it is older.
pub(super) fn migrate(
    path: &Utf8Path,
    vfs: Option<&str>,
    connection: &mut Connection,
    schema: Schema,
) -> Result<(), Error> {
    let fault = |error: rusqlite::Error| meaning(path, &error);
    if pragma(connection, "user_version").map_err(fault)? == schema.number() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
    // Again under the lock: another process may have migrated meanwhile.
    let version = identify(&transaction).map_err(fault)?.version(path, &transaction, schema)?;
    if version == schema.number() {
        return Ok(());
    }
    (schema.watch)(Step::Locked);
    // A VFS keeps its files to itself; whoever registers one answers for copies.
    if version > 0 && vfs.is_none() {
        keep(path, version, schema)?;
        (schema.watch)(Step::Kept);
    }
    run(&transaction, version, schema).map_err(fault)?;
    (schema.watch)(Step::Marked);
    transaction.commit().map_err(fault)?;
    (schema.watch)(Step::Committed);
    Ok(())
}

fn run(transaction: &Transaction<'_>, version: i64, schema: Schema) -> rusqlite::Result<()> {
    for (number, migration) in (1_i64..).zip(schema.migrations) {
        if number > version {
            let mut statements = Batch::new(transaction, migration);
            while let Some(mut statement) = statements.next()? {
                statement.raw_execute()?;
                (schema.watch)(Step::Statement);
            }
        }
    }
    if version > 0 {
        transaction.execute_batch(UPGRADES)?;
        let note = "INSERT OR REPLACE INTO upgrade SELECT ?1, ?2, max(size) FROM head";
        transaction.execute(note, (schema.number(), env!("CARGO_PKG_VERSION")))?;
    }
    let number = schema.number();
    transaction.execute_batch(&format!("PRAGMA application_id={APPLICATION}; PRAGMA user_version={number};"))
}

/// Copies the ledger as it is under the lock that the caller holds.
fn keep(path: &Utf8Path, version: i64, schema: Schema) -> Result<(), Error> {
    let refuse = |error: BackupError| Error::NotKept { detail: error.detail() };
    let (reader, _) = schema::open_reader(path, None, schema)?;
    backup::keep(path, &reader, version, &|| (schema.watch)(Step::Copying)).map_err(refuse)
}

/// An error if the file has got a newer schema than the list's since it was opened. Under a write lock it stays as it is
/// found.
pub(super) fn still(path: &Utf8Path, connection: &Connection, schema: Schema) -> Result<(), Error> {
    let found = pragma(connection, "user_version").map_err(|error| meaning(path, &error))?;
    match found {
        found if found > schema.number() => Err(newer(path, connection, found, schema)),
        // A reader may have an older one open, which the first writer migrates.
        _ => Ok(()),
    }
}

/// What is said of a newer ledger: which Trimtab it needs, and where the way back is.
pub(super) fn newer(path: &Utf8Path, connection: &Connection, found: i64, schema: Schema) -> Error {
    let needs = "SELECT trimtab FROM upgrade WHERE schema = ?1";
    let needs = connection.query_row(needs, [found], |row| row.get(0)).ok();
    Error::Newer { found, known: schema.number(), needs, kept: kept(path, schema) }
}

/// The newest copy that was kept of a schema that the list has.
fn kept(path: &Utf8Path, schema: Schema) -> Option<Utf8PathBuf> {
    let entries = backup::folder(path).read_dir_utf8().ok()?;
    let backups = entries.flatten().filter_map(|entry| {
        let about = backup::About::read(entry.path()).ok()?;
        (about.schema <= schema.number()).then(|| (about.size, entry.path().to_owned()))
    });
    backups.max().map(|(_, path)| path)
}
