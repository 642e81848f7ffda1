//! The ledger's head: size, root and the Merkle frontier, kept in one row that every commit replaces.
//!
//! Invariant: a [`HeadRow`] in hand agrees with itself (the frontier has the size's peaks and gives the root); [`tail`]
//! also holds it against the last records.

use camino::Utf8Path;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::error::Error;
use crate::merkle::{Frontier, Hash, leaf_hash};

/// How many of the last records are checked whenever a writer opens the ledger.
const TAIL_RECORDS: u64 = 1_024;

/// The head, checked against itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeadRow {
    pub(super) frontier: Frontier,
    /// Microseconds since 1970; `None` in an empty ledger.
    pub(super) last_at: Option<i64>,
}

fn damaged(detail: impl Into<String>) -> Error {
    Error::Damaged { detail: detail.into() }
}

impl HeadRow {
    /// Reads and checks the row.
    pub(super) fn read(path: &Utf8Path, connection: &Connection) -> Result<Self, Error> {
        connection
            .query_row("SELECT size, root, frontier, last_at FROM head WHERE id = 1", [], |row| {
                Ok(Self::from_row(row))
            })
            .optional()
            .map_err(|error| Error::from_sqlite(path, &error))?
            .ok_or_else(|| damaged("its head is missing"))?
    }

    fn from_row(row: &Row<'_>) -> Result<Self, Error> {
        let unreadable = |error: rusqlite::Error| damaged(format!("its head can't be read: {error}"));
        let size: i64 = row.get(0).map_err(unreadable)?;
        let root: Vec<u8> = row.get(1).map_err(unreadable)?;
        let packed: Vec<u8> = row.get(2).map_err(unreadable)?;
        let last_at: Option<i64> = row.get(3).map_err(unreadable)?;
        let size = u64::try_from(size).map_err(|_| damaged("its head has a negative size"))?;
        let (peaks, rest) = packed.as_chunks::<32>();
        let frontier = Frontier::from_parts(size, peaks.to_vec())
            .filter(|_| rest.is_empty())
            .ok_or_else(|| damaged("its head's frontier does not fit its size"))?;
        if frontier.root() != *root {
            return Err(damaged("its head's root is not the frontier's"));
        }
        if last_at.is_none() != (size == 0) {
            return Err(damaged("its head's time does not fit its size"));
        }
        Ok(Self { frontier, last_at })
    }

    /// Replaces the row.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let changed = connection.execute(
            "UPDATE head SET size = ?1, root = ?2, frontier = ?3, last_at = ?4 WHERE id = 1",
            rusqlite::params![
                self.frontier.size() as i64,
                self.frontier.root(),
                self.frontier.peaks().concat(),
                self.last_at
            ],
        )?;
        if changed == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(changed)) }
    }

    /// The cheap check of every commit: the last record is the one that the head counts.
    pub(super) fn agrees(&self, path: &Utf8Path, connection: &Connection) -> Result<(), Error> {
        let last = last_sequence(connection).map_err(|error| Error::from_sqlite(path, &error))?;
        if last == self.frontier.size() {
            return Ok(());
        }
        Err(damaged(format!("its head counts {} records, but the last one is {last}", self.frontier.size())))
    }
}

/// The highest sequence number; 0 when there are no records.
pub(super) fn last_sequence(connection: &Connection) -> rusqlite::Result<u64> {
    let last: Option<i64> = connection.query_row("SELECT max(sequence) FROM record", [], |row| row.get(0))?;
    Ok(last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0))
}

/// Reads the head and holds it against the last records: their bodies, leaf hashes, and those peaks that lie entirely
/// within them. Bounded work, whatever the ledger's size.
pub(super) fn tail(path: &Utf8Path, connection: &mut Connection) -> Result<HeadRow, Error> {
    let fault = |error: rusqlite::Error| Error::from_sqlite(path, &error);
    let transaction = connection.transaction().map_err(fault)?;
    let head = HeadRow::read(path, &transaction)?;
    head.agrees(path, &transaction)?;
    let size = head.frontier.size();
    let first = size - size.min(TAIL_RECORDS);
    let mut leaves: Vec<Hash> = Vec::with_capacity((size - first) as usize);
    let mut statement = transaction
        .prepare("SELECT sequence, at, body, leaf FROM record WHERE sequence > ?1 ORDER BY sequence")
        .map_err(fault)?;
    let mut rows = statement.query([first as i64]).map_err(fault)?;
    let mut last_at = None;
    while let Some(row) = rows.next().map_err(fault)? {
        let sequence: i64 = row.get(0).map_err(fault)?;
        let expected = first + leaves.len() as u64 + 1;
        if u64::try_from(sequence) != Ok(expected) {
            return Err(damaged(format!("record {expected} is missing")));
        }
        last_at = Some(row.get(1).map_err(fault)?);
        let body: Vec<u8> = row.get(2).map_err(fault)?;
        let leaf: Vec<u8> = row.get(3).map_err(fault)?;
        let computed = leaf_hash(&body);
        if leaf != computed {
            return Err(damaged(format!("record {sequence} was changed")));
        }
        leaves.push(computed);
    }
    if last_at != head.last_at {
        return Err(damaged("its head's time is not the last record's"));
    }
    let peaks = head.frontier.peak_ranges().into_iter().zip(head.frontier.peaks());
    for (range, peak) in peaks.filter(|(range, _)| range.start >= first) {
        let within = &leaves[(range.start - first) as usize..(range.end - first) as usize];
        if crate::merkle::root(within) != *peak {
            let detail =
                format!("records {} to {} are not those that the head covers", range.start + 1, range.end);
            return Err(damaged(detail));
        }
    }
    Ok(head)
}
