//! What the ledger asks of a database, and all that it asks: a moment to look at, and one writer at a time.
//!
//! Everything that makes these rows a ledger (sequences, times, hashes, the tree, what a decision was based on, what is
//! damage) is above this line and the same for every database. Below it is only how rows are kept, whom a writer
//! excludes, and which failure means what.
//!
//! Invariant: a [`Transaction`] sees what the last committed one left, and nobody else commits until it is dropped. When
//! [`Transaction::commit`] answers `Ok`, all of it is durable; when it answers `Err`, all of it or nothing is there.

use std::ops::{ControlFlow, Range};

use camino::{Utf8Path, Utf8PathBuf};

use super::wire::Row;
use crate::error::Error;
use crate::merkle::Hash;

/// Where a ledger's rows are kept.
pub(super) trait Database: Send + Sync {
    /// How messages name it: a file, or the address of a server.
    fn place(&self) -> &Utf8Path;

    /// Opens it for the one that writes: makes what is missing, and brings an older schema to the present one. After a
    /// failure of the connection before, whatever that one left undecided is settled first.
    fn open_writer(&self, after_failure: bool) -> Result<Box<dyn WritingConnection>, Error>;

    /// Opens it for reading. Makes and changes nothing.
    fn open_reader(&self) -> Result<Box<dyn ReadingConnection>, Error>;

    /// The file that says how much of the ledger was seen here, where an older one could be put in its place behind our back
    /// ([`super::seen`]).
    fn witness(&self) -> Option<Utf8PathBuf> {
        None
    }
}

/// A connection that reads.
pub(super) trait ReadingConnection: Send {
    /// The ledger at this moment; what is committed later is not in it.
    fn view(&mut self) -> Result<Box<dyn View + '_>, Error>;

    /// Whether a later view sees later commits. If not, the connection serves one read only.
    fn lasting(&self) -> bool {
        true
    }

    /// Whether the ledger's place still holds what was opened.
    fn current(&self) -> bool {
        true
    }
}

/// A connection that writes.
pub(super) trait WritingConnection: ReadingConnection {
    /// Begins to write: waits for other writers, and excludes them until the transaction ends.
    fn begin(&mut self) -> Result<Box<dyn Transaction + '_>, Error>;

    /// Takes what was removed out of the files too, as far as the database can do that by itself.
    fn purge(&mut self) -> Result<(), Error>;
}

/// What the head's row holds, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredHead {
    /// Number of records.
    pub(super) size: i64,
    /// Root of the tree.
    pub(super) root: Vec<u8>,
    /// The frontier's peaks, one after the other.
    pub(super) frontier: Vec<u8>,
    /// Microseconds since 1970.
    pub(super) last_at: Option<i64>,
}

/// Who is behind a pseudonym, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StoredPerson {
    /// Random bytes, of this person alone.
    pub(super) salt: Vec<u8>,
    /// The e-mail address.
    pub(super) email: String,
}

/// What is found where a row should be.
pub(super) enum Found<'a> {
    /// A row, not yet looked into.
    Row(Row<'a>),
    /// A row whose columns are not what they should be.
    Unreadable { sequence: i64, detail: String },
}

/// How going through rows has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// There are no more, or the visitor had enough.
    Through,
    /// The database can't read on from here, but may be able to read single rows ([`View::row`]).
    Broken(String),
}

/// Looks at a row; breaks when it has seen enough.
pub(super) type Visitor<'a> = dyn FnMut(Found<'_>) -> ControlFlow<()> + 'a;

/// The ledger at one moment.
pub(super) trait View {
    /// The head's row, if there is one.
    fn head(&mut self) -> Result<Option<StoredHead>, Error>;

    /// The highest sequence; 0 when there are no records.
    fn last_sequence(&mut self) -> Result<u64, Error>;

    /// Visits the rows after a sequence in ascending order, in bounded memory.
    fn rows(&mut self, after: i64, visit: &mut Visitor<'_>) -> Result<Passage, Error>;

    /// Visits the row of that sequence, if there is one. [`Error::Damaged`] when just this row can't be read.
    fn row(&mut self, sequence: i64, visit: &mut Visitor<'_>) -> Result<(), Error>;

    /// The stored leaf hashes of the records in a range of the tree's indices (from 0, end excluded), in order.
    fn leaves(&mut self, range: Range<u64>, visit: &mut dyn FnMut(Hash)) -> Result<(), Error>;

    /// How many rows have a sequence below 1, where no record can be.
    fn misplaced(&mut self) -> Result<u64, Error>;

    /// Everybody who has a pseudonym and was not erased, in any order. None in a database of a schema that had no people.
    fn people(&mut self) -> Result<Vec<StoredPerson>, Error>;
}

/// The ledger while nobody else writes. Dropping it takes everything back.
pub(super) trait Transaction: View {
    /// Adds rows.
    fn insert(&mut self, rows: &[Row<'_>]) -> Result<(), Error>;

    /// Adds a person.
    fn add_person(&mut self, person: &StoredPerson) -> Result<(), Error>;

    /// Removes the person, so that after [`WritingConnection::purge`] none of its bytes are left.
    fn remove_person(&mut self, person: &StoredPerson) -> Result<(), Error>;

    /// Puts the head in the place of the one that is there.
    fn replace_head(&mut self, head: &StoredHead) -> Result<(), Error>;

    /// Makes all of it durable.
    fn commit(self: Box<Self>) -> Result<(), Error>;
}
