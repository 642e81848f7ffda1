//! The ledger's tables in PostgreSQL, and what a server must promise.
//!
//! The tables are made in the connection's current schema, so that one database may hold several ledgers, each in a schema of
//! its own (`options=-csearch_path=NAME` in the address).
//!
//! Invariant: tables of a newer schema are never written to, and nothing is written where an acknowledged record could be lost.

use crate::error::Error;
use crate::postgres::{Address, Link};

/// The first schema here. A schema has the number of the file's that holds the same; the first one had no people.
const FIRST: i64 = 2;

/// Schema changes by number, from [`FIRST`]. Never edited once released; a new one is added at the end.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE trimtab_schema (
        id       integer PRIMARY KEY CHECK (id = 1),
        version  bigint NOT NULL
    );
    INSERT INTO trimtab_schema VALUES (1, 0);
    CREATE TABLE trimtab_record (
        sequence bigint PRIMARY KEY,
        at       bigint NOT NULL,
        format   bigint NOT NULL,
        body     bytea NOT NULL,
        leaf     bytea NOT NULL,
        batch    uuid NOT NULL
    );
    CREATE TABLE trimtab_head (
        id       integer PRIMARY KEY CHECK (id = 1),
        size     bigint NOT NULL,
        root     bytea NOT NULL,
        frontier bytea NOT NULL,
        last_at  bigint
    );
    INSERT INTO trimtab_head VALUES
        (1, 0, '\\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', '', NULL);
    CREATE TABLE trimtab_person (
        salt  bytea NOT NULL,
        email text NOT NULL
    );
    CREATE TABLE trimtab_lease (
        name       text PRIMARY KEY,
        holder     text NOT NULL,
        generation bigint NOT NULL,
        expires_at timestamptz NOT NULL
    );
"];

/// The schema version that this build writes.
const SCHEMA: i64 = FIRST + MIGRATIONS.len() as i64 - 1;

/// The first server with `gen_random_uuid`, as `server_version_num` has it.
const SERVER_MIN: i64 = 130_000;

fn refused(address: &Address, detail: String) -> Error {
    Error::Unavailable { path: address.name().to_owned(), detail }
}

/// Whether the server keeps what it has answered: flushes its log before it answers, and can be written.
pub(super) fn require_durable(address: &Address, link: &Link) -> Result<(), Error> {
    // Set to what it is, it stays so for this session, whatever the server's configuration becomes.
    let rows = link.query(
        "SELECT current_setting('fsync'), \
         set_config('synchronous_commit', current_setting('synchronous_commit'), false), \
         current_setting('server_version_num')::bigint, pg_is_in_recovery()",
        Vec::new(),
    )?;
    let Some(row) = rows.first() else { return Err(refused(address, "it gives no settings".to_owned())) };
    let version: i64 = row.get(2);
    if version < SERVER_MIN {
        return Err(refused(address, format!("PostgreSQL {} is older than 13", version / 10_000)));
    }
    if row.get(3) {
        return Err(Error::ReadOnly { path: address.name().to_owned() });
    }
    require_flushing(address, row.get(0), row.get(1))
}

/// Whether these settings let an acknowledged record survive a crash and a power cut.
pub(super) fn require_flushing(address: &Address, fsync: &str, synchronous: &str) -> Result<(), Error> {
    let detail = if fsync != "on" {
        "it has fsync = off: a power cut would lose or damage acknowledged records; set it to on"
    } else if synchronous == "off" {
        "it has synchronous_commit = off: it would acknowledge records that a crash loses; set it to on"
    } else {
        return Ok(());
    };
    Err(refused(address, detail.to_owned()))
}

fn version(link: &Link) -> Result<Option<i64>, Error> {
    // Not `to_regclass`: it may answer from what the session knew before it waited for another that made the tables.
    let there = link.query(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class \
         WHERE relname = 'trimtab_schema' AND pg_catalog.pg_table_is_visible(oid))",
        Vec::new(),
    )?;
    if !there.first().is_some_and(|row| row.get(0)) {
        return Ok(None);
    }
    let rows = link.query("SELECT version FROM trimtab_schema WHERE id = 1", Vec::new())?;
    let version = rows.first().map(|row| row.get(0));
    version.map(Some).ok_or_else(|| Error::Damaged { detail: "its schema's version is missing".to_owned() })
}

/// Whether there is a ledger that we can read.
pub(super) fn require_present(address: &Address, link: &Link) -> Result<(), Error> {
    match version(link)? {
        None | Some(0) => Err(Error::Missing { path: address.name().to_owned() }),
        Some(found) if found > SCHEMA => Err(newer(found)),
        Some(_) => Ok(()),
    }
}

/// Nothing is kept of an older schema here: the way back is the database's own backup.
fn newer(found: i64) -> Error {
    Error::Newer { found, known: SCHEMA, needs: None, kept: None }
}

/// Makes the tables, or brings them to the present schema.
pub(super) fn migrate(address: &Address, link: &Link) -> Result<(), Error> {
    if version(link)? == Some(SCHEMA) {
        return Ok(());
    }
    link.run("BEGIN ISOLATION LEVEL READ COMMITTED")?;
    let migrated = migrate_alone(address, link);
    link.run(if migrated.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    migrated
}

fn migrate_alone(address: &Address, link: &Link) -> Result<(), Error> {
    // Another process may be at the same thing; "TRIM" in ASCII is what we agree on.
    link.query("SELECT pg_advisory_xact_lock(1414678861)", Vec::new())?;
    let version = version(link)?.unwrap_or(0);
    if version > SCHEMA {
        return Err(newer(version));
    }
    for (number, migration) in (FIRST..).zip(MIGRATIONS) {
        if number > version {
            link.run(migration).map_err(|error| match error {
                Error::Damaged { detail } => refused(address, detail),
                other => other,
            })?;
        }
    }
    let known = (Box::new(SCHEMA) as Box<_>, tokio_postgres::types::Type::INT8);
    link.query("UPDATE trimtab_schema SET version = $1 WHERE id = 1", vec![known])?;
    Ok(())
}
