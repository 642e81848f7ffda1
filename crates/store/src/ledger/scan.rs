//! Going through the records in order, past whatever is wrong with them.
//!
//! A missing record is reported as a gap. When a page of the database itself is broken, the scan goes on one record at a
//! time, so that one bad page hides only its own records.
//!
//! Invariant: ends, and never reports the same sequence twice, whatever the file holds.

use std::ops::ControlFlow;

use camino::Utf8Path;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row as SqlRow};

use super::wire::Row;
use crate::error::Error;

/// What the scan came upon.
pub(super) enum Scanned<'a> {
    /// A row, not yet looked into.
    Row(Row<'a>),
    /// No rows with these sequences (both ends included).
    Missing { from: u64, to: u64 },
    /// SQLite can't read this row.
    Unreadable { sequence: u64, detail: String },
}

const COLUMNS: &str = "sequence, at, format, body, leaf";

/// Visits what comes after `after`, in order, until the visitor breaks or the records end. `size` is the head's count,
/// where it is known: records up to there that are not found are reported as missing.
pub(super) fn scan(
    path: &Utf8Path,
    connection: &Connection,
    after: u64,
    size: Option<u64>,
    visit: &mut dyn FnMut(Scanned<'_>) -> ControlFlow<()>,
) -> Result<(), Error> {
    let fault = |error: rusqlite::Error| Error::from_sqlite(path, &error);
    let Ok(start) = i64::try_from(after) else { return Ok(()) };
    let sql = format!("SELECT {COLUMNS} FROM record WHERE sequence > ?1 ORDER BY sequence");
    let mut statement = connection.prepare(&sql).map_err(fault)?;
    let mut rows = statement.query([start]).map_err(fault)?;
    let mut done = after;
    let broken = loop {
        match rows.next() {
            Ok(Some(row)) => match visit_row(row, &mut done, visit) {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(()) => return Ok(()),
            },
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    match (broken, size) {
        (None, Some(size)) if size > done => {
            let _ = visit(Scanned::Missing { from: done + 1, to: size });
            Ok(())
        }
        (None, _) => Ok(()),
        (Some(error), Some(size)) if error.sqlite_error_code().is_some_and(is_damage) => {
            one_by_one(connection, done, size, visit).map_err(fault)
        }
        (Some(error), _) => Err(fault(error)),
    }
}

fn is_damage(code: rusqlite::ErrorCode) -> bool {
    matches!(code, rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
}

fn one_by_one(
    connection: &Connection,
    mut done: u64,
    size: u64,
    visit: &mut dyn FnMut(Scanned<'_>) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let sql = format!("SELECT {COLUMNS} FROM record WHERE sequence = ?1");
    let mut statement = connection.prepare(&sql)?;
    while done < size {
        let sequence = done + 1;
        let mut rows = statement.query([sequence as i64])?;
        let flow = match rows.next() {
            Ok(Some(row)) => visit_row(row, &mut done, visit),
            Ok(None) => visit(Scanned::Missing { from: sequence, to: sequence }),
            Err(error) => visit(Scanned::Unreadable { sequence, detail: error.to_string() }),
        };
        if flow.is_break() {
            return Ok(());
        }
        done = sequence;
    }
    Ok(())
}

fn visit_row(
    row: &SqlRow<'_>,
    done: &mut u64,
    visit: &mut dyn FnMut(Scanned<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let integer = |index| row.get_ref(index).ok().and_then(|value| value.as_i64().ok());
    let bytes = |index| match row.get_ref(index) {
        Ok(ValueRef::Blob(bytes)) => Some(bytes),
        _ => None,
    };
    // The key is a rowid, so it is an integer whatever the file holds, and ascends.
    let sequence = integer(0).unwrap_or(i64::MAX);
    let number = sequence as u64;
    if number > *done + 1 {
        visit(Scanned::Missing { from: *done + 1, to: number - 1 })?;
    }
    *done = number;
    match (integer(1), integer(2), bytes(3), bytes(4)) {
        (Some(at), Some(format), Some(body), Some(leaf)) => {
            visit(Scanned::Row(Row { sequence, at, format, body, leaf }))
        }
        _ => {
            visit(Scanned::Unreadable { sequence: number, detail: "a column has the wrong type".to_owned() })
        }
    }
}
