//! The ledger from outside: what callers are promised, and what happens when the file, the disk or a process fails.

#![expect(clippy::unwrap_used, reason = "tests")]

mod append;
mod backup;
mod damage;
mod opening;
mod people;
mod processes;
mod standing;
mod upgrade;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::{Actor, Event, Recorded, Timestamp};
use store::{Access, Entry, Ledger};

/// A folder with room for a ledger; removed when dropped.
pub(crate) struct Folder {
    keep: tempfile::TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self { keep: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.keep.path()).unwrap()
    }

    pub(crate) fn file(&self) -> Utf8PathBuf {
        self.path().join("ledger.db")
    }

    /// A closed ledger of so many records.
    pub(crate) fn with_records(count: u64) -> Self {
        let folder = Self::new();
        let ledger = folder.open();
        for first in (1..=count).step_by(50) {
            let events = (first..=count.min(first + 49)).map(|number| event(&format!("incident {number}")));
            ledger.append_blocking(&actor(), at(first as i64), events.collect()).unwrap();
        }
        drop(ledger);
        folder
    }

    pub(crate) fn open(&self) -> Ledger {
        Ledger::open(&self.file(), Access::ReadWrite).unwrap()
    }

    pub(crate) fn open_to_read(&self) -> Ledger {
        Ledger::open(&self.file(), Access::ReadOnly).unwrap()
    }

    /// The file as SQLite sees it, behind the ledger's back.
    pub(crate) fn sqlite(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.file()).unwrap();
        // What a test does to the file need not outlive a power cut.
        connection.execute_batch("PRAGMA synchronous=OFF").unwrap();
        connection
    }
}

pub(crate) fn actor() -> Actor {
    Actor::Machine("test".into())
}

pub(crate) fn event(incident: &str) -> Event {
    Event::IncidentResolved { incident: incident.into() }
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).unwrap()
}

/// All records; a quarantined one fails the test.
pub(crate) fn records(ledger: &Ledger) -> Vec<Recorded> {
    let entries = ledger.read(0, usize::MAX).unwrap();
    entries
        .into_iter()
        .map(|entry| match entry {
            Entry::Record(record) => record,
            Entry::Quarantined { sequence, reason } => panic!("record {sequence}: {reason}"),
        })
        .collect()
}

/// The sequences that are quarantined.
pub(crate) fn quarantined(ledger: &Ledger) -> Vec<u64> {
    let entries = ledger.read(0, usize::MAX).unwrap();
    entries.iter().filter(|entry| matches!(entry, Entry::Quarantined { .. })).map(Entry::sequence).collect()
}

/// SplitMix64: enough randomness for tests that name their seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0..end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
