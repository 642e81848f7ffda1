//! The rows of a ledger, byte for byte, as SQLite gives them: what every image is compared with.
//!
//! Reads behind the store's back, on purpose: what is compared are the bytes on the disk, not what the code under test makes of
//! them. Invariant: reads a copy, and never changes what it was given.

use camino::Utf8Path;
use rusqlite::{Connection, OpenFlags};

/// One row of the table of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    sequence: i64,
    at: i64,
    format: i64,
    body: Vec<u8>,
    leaf: Vec<u8>,
}

/// All rows in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reference {
    rows: Vec<Row>,
}

impl Reference {
    /// Reads the ledger in that file; its log must have been carried over, or lie beside it.
    pub(crate) fn read(path: &Utf8Path) -> Result<Self, String> {
        let fault = |error: rusqlite::Error| format!("{path}: {error}");
        let connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(fault)?;
        let sql = "SELECT sequence, at, format, body, leaf FROM record ORDER BY sequence";
        let mut statement = connection.prepare(sql).map_err(fault)?;
        let row = |row: &rusqlite::Row<'_>| {
            let [sequence, at, format] = [row.get(0)?, row.get(1)?, row.get(2)?];
            Ok(Row { sequence, at, format, body: row.get(3)?, leaf: row.get(4)? })
        };
        let rows = statement.query_map([], row).map_err(fault)?.collect::<Result<_, _>>().map_err(fault)?;
        Ok(Self { rows })
    }

    /// How many rows.
    pub(crate) fn size(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Whether the first rows are the other's, byte for byte; else the first that is not.
    pub(crate) fn begins_with(&self, other: &Self, upto: usize) -> Result<(), String> {
        let pairs = self.rows.iter().zip(&other.rows).take(upto);
        match pairs.enumerate().find(|(_, (own, others))| own != others) {
            Some((index, _)) => Err(format!("record {} is not what was recorded", index + 1)),
            None => Ok(()),
        }
    }

    fn body(row: &Row) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&row.body)
    }

    /// The last record about a run of tasks.
    pub(crate) fn last_of_run(&self, run: &str) -> Option<u64> {
        let about = |row: &&Row| {
            let body = Self::body(row);
            body.contains(run) && (body.contains("\"pipelinerun.") || body.contains("\"taskrun."))
        };
        self.rows.iter().rev().find(about).map(|row| row.sequence as u64)
    }

    /// The first record of a time of day, `HH:MM:SS.mmm` (UTC).
    pub(crate) fn first_at(&self, stamp: &str) -> Option<u64> {
        let same = |row: &&Row| {
            let at = delivery::Timestamp::from_microsecond(row.at).ok();
            at.is_some_and(|at| at.strftime("%H:%M:%S%.3f").to_string() == stamp)
        };
        self.rows.iter().find(same).map(|row| row.sequence as u64)
    }

    /// Whether the record of this sequence holds these words.
    pub(crate) fn holds(&self, sequence: u64, words: &str) -> bool {
        let row = sequence.checked_sub(1).and_then(|index| self.rows.get(index as usize));
        row.is_some_and(|row| Self::body(row).contains(words))
    }

    /// The first record that holds these words.
    pub(crate) fn first_naming(&self, words: &str) -> Option<u64> {
        self.rows.iter().find(|row| Self::body(row).contains(words)).map(|row| row.sequence as u64)
    }

    /// The bodies, for who looks for something in them.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        self.rows.iter().map(|row| row.body.as_slice())
    }
}
