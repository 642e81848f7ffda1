//! The ledger: an append-only sequence of events with a Merkle tree over it.
//!
//! One writer thread per open ledger commits for all callers together (`writer`); readers have their own connections and
//! see whole commits only (`scan`, `verify`). Several processes may have the same ledger open: the database (`database`,
//! with SQLite in `sqlite`, PostgreSQL in `postgres`) orders their commits, and each continues from the head that the other left.
//!
//! Invariant: sequences are 1, 2, 3, ... without gaps; times never decrease; an append that was answered with `Ok` is on
//! the disk.

pub mod backup;
mod basis;
mod database;
mod file;
mod growth;
mod head;
mod migrate;
mod people;
mod place;
mod postgres;
mod proof;
pub mod restore;
mod scan;
mod seen;
pub(crate) mod sqlite;
mod standing;
pub mod verify;
mod wire;
mod writer;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use camino::Utf8Path;
use delivery::limits::BATCH_RECORDS_MAX;
use delivery::people::identity;
use delivery::{Actor, Event, Recorded, Seed, Timestamp};

pub use self::basis::{BASIS_RECORDS_MAX, Basis};
use self::database::{Database, ReadingConnection, View};
use self::growth::Growth;
use self::head::HeadRow;
pub use self::migrate::{MigrateError, Migration, migrate};
pub use self::people::Revealed;
use self::people::{People, Salts};
pub use self::place::{Committer, Place};
pub use self::proof::{ConsistencyProof, InclusionProof};
use self::scan::Scanned;
use self::sqlite::Sqlite;
pub use self::sqlite::upgrade::{Schema, Step};
pub use self::standing::Standing;
use self::verify::{Fault, Verification};
use self::writer::{Request, Writer, WriterThread};
use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::merkle::Hash;

/// How often a waiter looks for records that another process appended.
const POLL: Duration = Duration::from_millis(50);
/// Reading connections that are kept open for the next reader.
const READERS_KEPT: usize = 8;

/// What the ledger is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Appending and reading; makes the ledger when there is none.
    ReadWrite,
    /// Reading only; works on a read-only file system.
    ReadOnly,
}

/// What reading finds at a place in the sequence.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every entry is a record; a box for each would only cost"
)]
pub enum Entry {
    /// A record.
    Record(Recorded),
    /// Something that can't be used: a damaged, missing or unknown record. Of a run of missing ones, the last.
    Quarantined {
        /// Its place.
        sequence: u64,
        /// What is wrong with it.
        reason: String,
    },
}

impl Entry {
    /// Its place: the `after` of the next read.
    pub fn sequence(&self) -> u64 {
        match self {
            Self::Record(record) => record.sequence,
            Self::Quarantined { sequence, .. } => *sequence,
        }
    }
}

/// The ledger's size and root at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of records, and the last one's sequence.
    pub size: u64,
    /// Root of the Merkle tree over them (RFC 6962).
    pub root: Hash,
    /// When the last one was recorded.
    pub last_at: Option<Timestamp>,
}

/// An open ledger. Clones share it; it is closed when the last one is dropped.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    database: Arc<dyn Database>,
    readers: Mutex<Vec<Box<dyn ReadingConnection>>>,
    /// The highest sequence known in this process.
    growth: Growth,
    polled: Mutex<Option<tokio::time::Instant>>,
    appender: Option<Appender>,
}

/// See [`Committer`].
enum Appender {
    Thread(WriterThread),
    Caller(Mutex<Writer>),
}

impl Appender {
    fn submit(&self, request: Request) -> Result<(), Error> {
        match self {
            Self::Thread(thread) => thread.send(request),
            Self::Caller(writer) => {
                writer.lock().unwrap_or_else(PoisonError::into_inner).serve(vec![request]);
                Ok(())
            }
        }
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("place", &self.inner.database.place()).finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens the ledger in that file. With [`Access::ReadWrite`] missing directories (0700) and the file (0600) are made.
    ///
    /// Damaged records or a damaged head don't fail it: records are quarantined when read, and a damaged head
    /// refuses appends with [`Error::Damaged`]. A ledger that is older than what was seen here is read as it is, and refuses
    /// appends with [`Error::Older`].
    ///
    /// A file of an older schema is brought to the present one by the first process that opens it for writing, after a copy
    /// of it was kept in `backups/` beside it.
    pub fn open(path: &Utf8Path, access: Access) -> Result<Self, Error> {
        Self::open_at(&Place::File(path.to_owned()), access, Committer::Thread)
    }

    /// [`Ledger::open`] for any place, and with a say in which thread commits.
    pub fn open_at(place: &Place, access: Access, committer: Committer) -> Result<Self, Error> {
        Self::open_in(place.database()?, access, committer, Salts::System)
    }

    /// [`Ledger::open_at`] with a seed for the pseudonyms of people who are new, so that the same appends give the same bytes
    /// each time. For tests and simulations: in a real ledger nobody may guess them.
    pub fn open_seeded(
        place: &Place,
        access: Access,
        committer: Committer,
        seed: Box<dyn Seed>,
    ) -> Result<Self, Error> {
        Self::open_in(place.database()?, access, committer, Salts::Seeded(seed))
    }

    /// [`Ledger::open`], as a Trimtab does that knows these schemas and no others.
    pub fn open_as(path: &Utf8Path, access: Access, schema: Schema) -> Result<Self, Error> {
        Self::open_in(Arc::new(Sqlite::file_as(path, schema)), access, Committer::Thread, Salts::System)
    }

    fn open_in(
        database: Arc<dyn Database>,
        access: Access,
        committer: Committer,
        salts: Salts,
    ) -> Result<Self, Error> {
        let growth = Growth::default();
        let appender = match access {
            Access::ReadOnly => None,
            Access::ReadWrite => {
                let writer = Writer::open(Arc::clone(&database), growth.clone(), salts)?;
                Some(match committer {
                    Committer::Thread => Appender::Thread(WriterThread::start(writer)?),
                    Committer::Caller => Appender::Caller(Mutex::new(writer)),
                })
            }
        };
        let reader = writer::patiently(|| database.open_reader())?;
        let readers = if reader.lasting() { vec![reader] } else { Vec::new() };
        let inner =
            Inner { database, readers: Mutex::new(readers), growth, polled: Mutex::new(None), appender };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The file; of a ledger in PostgreSQL, the server's address.
    pub fn path(&self) -> &Utf8Path {
        self.inner.database.place()
    }

    /// Appends the events as one unit: all of them, next to each other, or none. Returns after they are on the disk,
    /// with the sequence and time they got: `at`, or the last record's time where that is later, in whole microseconds.
    ///
    /// Dropping the future does not take the append back once it has been started.
    pub async fn append(
        &self,
        actor: &Actor,
        at: Timestamp,
        events: Vec<Event>,
    ) -> Result<Vec<Recorded>, Error> {
        self.submit(None, actor, at, events).await
    }

    /// Appends only if the basis still holds, else [`Error::Conflict`]: for callers whose events follow from what they have
    /// read. No events: only the question.
    pub async fn append_if(
        &self,
        basis: Basis,
        actor: &Actor,
        at: Timestamp,
        events: Vec<Event>,
    ) -> Result<Vec<Recorded>, Error> {
        self.submit(Some(basis), actor, at, events).await
    }

    /// [`Ledger::append`] for code that is not async. Blocks the thread for about one fsync.
    pub fn append_blocking(
        &self,
        actor: &Actor,
        at: Timestamp,
        events: Vec<Event>,
    ) -> Result<Vec<Recorded>, Error> {
        self.submit_blocking(None, actor, at, events)
    }

    /// [`Ledger::append_if`] for code that is not async.
    pub fn append_if_blocking(
        &self,
        basis: Basis,
        actor: &Actor,
        at: Timestamp,
        events: Vec<Event>,
    ) -> Result<Vec<Recorded>, Error> {
        self.submit_blocking(Some(basis), actor, at, events)
    }

    async fn submit(
        &self,
        basis: Option<Basis>,
        actor: &Actor,
        at: Timestamp,
        events: Vec<Event>,
    ) -> Result<Vec<Recorded>, Error> {
        if events.is_empty() && basis.is_none() {
            return Ok(Vec::new());
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let reply = Box::new(move |answer| {
            let _ = sender.send(answer);
        });
        self.enqueue(basis, actor, at, events, reply)?;
        receiver.await.unwrap_or(Err(Error::Stopped))
    }

    fn submit_blocking(
        &self,
        basis: Option<Basis>,
        actor: &Actor,
        at: Timestamp,
        events: Vec<Event>,
    ) -> Result<Vec<Recorded>, Error> {
        if events.is_empty() && basis.is_none() {
            return Ok(Vec::new());
        }
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let reply = Box::new(move |answer| {
            let _ = sender.send(answer);
        });
        self.enqueue(basis, actor, at, events, reply)?;
        receiver.recv().unwrap_or(Err(Error::Stopped))
    }

    /// Checks on the caller's thread whatever does not depend on the record's place, then queues the batch.
    fn enqueue(
        &self,
        basis: Option<Basis>,
        actor: &Actor,
        at: Timestamp,
        events: Vec<Event>,
        reply: writer::Reply,
    ) -> Result<(), Error> {
        let Some(appender) = &self.inner.appender else {
            return Err(Error::ReadOnly { path: self.inner.database.place().to_owned() });
        };
        if events.len() > BATCH_RECORDS_MAX {
            return Err(Error::BatchTooLarge { events: events.len() });
        }
        let actor = actor.clone().canonical();
        let events: Vec<Event> = events.into_iter().map(Event::canonical).collect();
        events.iter().try_for_each(|event| wire::check(&actor, event))?;
        appender.submit(Request { basis, actor, at: at.as_microsecond(), events, reply })
    }

    /// At most `limit` entries after the sequence `after`, in order; none when there are no more. What can't be used
    /// comes as [`Entry::Quarantined`], so a bad record never hides the ones behind it.
    pub fn read(&self, after: u64, limit: usize) -> Result<Vec<Entry>, Error> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.with_view(|view| {
            let size = HeadRow::read(view).ok().map(|head| head.frontier.size());
            let mut entries = Vec::new();
            scan::scan(view, after, size, &mut |item| {
                entries.push(entry(item));
                if entries.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            let records = entries.iter_mut().filter_map(|entry| match entry {
                Entry::Record(record) => Some(record),
                Entry::Quarantined { .. } => None,
            });
            people::show(view, records)?;
            Ok(entries)
        })
    }

    /// The size and root now. [`Error::Damaged`] when the head contradicts itself.
    pub fn head(&self) -> Result<Head, Error> {
        let row = self.with_view(|view| HeadRow::read(view))?;
        let last_at = row.last_at.map(Timestamp::from_microsecond).transpose();
        Ok(Head {
            size: row.frontier.size(),
            root: row.frontier.root(),
            last_at: last_at.map_err(|error| Error::Damaged { detail: error.to_string() })?,
        })
    }

    /// Waits until there are more than `after` records, whoever appends them, and returns how many there are. Appends of
    /// this process wake it at once, those of others within 50 ms. Needs a runtime with time enabled.
    pub async fn changed(&self, after: u64) -> Result<u64, Error> {
        loop {
            let known = self.inner.growth.size();
            if known > after {
                return Ok(known);
            }
            self.poll()?;
            tokio::select! {
                biased;
                size = self.inner.growth.beyond(after) => return Ok(size),
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Looks for others' appends, once per [`POLL`] however many wait.
    fn poll(&self) -> Result<(), Error> {
        let Ok(mut polled) = self.inner.polled.try_lock() else { return Ok(()) };
        let now = tokio::time::Instant::now();
        if polled.is_some_and(|last| now.duration_since(last) < POLL / 2) {
            return Ok(());
        }
        let last = self.with_view(|view| view.last_sequence())?;
        *polled = Some(now);
        self.inner.growth.publish(last);
        Ok(())
    }

    /// Recomputes everything (sequence, bodies, hashes, times, root, head) and reports each damage. Streams in constant
    /// memory; sees one moment of the ledger while appends go on. Blocks the thread: two to three seconds for a million records.
    pub fn verify(&self) -> Result<Verification, Error> {
        self.with_view(|view| verify::verify(view))
    }

    /// The proof that the record is in the ledger as it is now. Reads all leaf hashes.
    pub fn prove_inclusion(&self, sequence: u64) -> Result<InclusionProof, Error> {
        self.with_view(|view| proof::inclusion(view, sequence))
    }

    /// The proof that the ledger as it is now begins with the ledger as it was with `from_size` records (at least 1).
    pub fn prove_consistency(&self, from_size: u64) -> Result<ConsistencyProof, Error> {
        self.with_view(|view| proof::consistency(view, from_size))
    }

    /// The ledger's name, size and root now: what a checkpoint says. `None` when it is empty, for it has no name then.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>, Error> {
        self.with_view(|view| standing::checkpoint(view))
    }

    /// How the ledger stands to a checkpoint that was kept elsewhere. Reads all leaf hashes, not the bodies:
    /// [`Ledger::verify`] says whether those are what was hashed.
    pub fn standing(&self, kept: &Checkpoint) -> Result<Standing, Error> {
        self.with_view(|view| standing::standing(view, kept))
    }

    /// Who is behind the pseudonym, or has the e-mail address, with what proves that one belongs to the other. `None` when nobody
    /// of that name is on record, or it was erased.
    pub fn person(&self, name: &str) -> Result<Option<Revealed>, Error> {
        let name = identity(name);
        self.with_view(|view| Ok(People::read(view)?.reveal(&name)))
    }

    /// The bytes of at most `limit` records after the sequence `after`, as they were hashed; none when there are no more.
    /// [`Error::Damaged`] at a record that is missing, or is not what its hash says.
    pub fn bodies(&self, after: u64, limit: usize) -> Result<Vec<Vec<u8>>, Error> {
        self.with_view(|view| {
            let size = HeadRow::read(view)?.frontier.size();
            let mut bodies = Vec::new();
            let mut wrong = None;
            scan::scan(view, after, Some(size), &mut |item| {
                if bodies.len() == limit {
                    return ControlFlow::Break(());
                }
                match item.body() {
                    Ok(body) => bodies.push(body.to_vec()),
                    Err(detail) => wrong = Some(Error::Damaged { detail }),
                }
                if wrong.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            wrong.map_or(Ok(bodies), Err)
        })
    }

    /// What was seen here and is not in the ledger, as a sentence; `None` when it has all of it. See [`Error::Older`].
    pub fn older(&self) -> Result<Option<String>, Error> {
        let witness = self.inner.database.witness().map(seen::Witness::at);
        let Some(seen) = witness.and_then(|witness| witness.read()) else { return Ok(None) };
        match self.with_view(|view| HeadRow::read(view).and_then(|head| seen.check(view, &head))) {
            Ok(()) => Ok(None),
            Err(Error::Older { detail }) => Ok(Some(detail)),
            Err(other) => Err(other),
        }
    }

    /// Lends a view through a reading connection. One that met an error is not used again; one that was lost under the
    /// read is replaced once.
    fn with_view<T>(&self, read: impl Fn(&mut dyn View) -> Result<T, Error>) -> Result<T, Error> {
        match self.try_with_view(&read) {
            Err(Error::Interrupted { .. }) => self.try_with_view(&read),
            other => other,
        }
    }

    fn try_with_view<T>(&self, read: impl Fn(&mut dyn View) -> Result<T, Error>) -> Result<T, Error> {
        let pool = || self.inner.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = pool().pop();
        let mut reader = match kept.filter(|reader| reader.current()) {
            Some(reader) => reader,
            None => self.inner.database.open_reader()?,
        };
        let answer = read(&mut *reader.view()?)?;
        let mut pool = pool();
        if reader.lasting() && pool.len() < READERS_KEPT {
            pool.push(reader);
        }
        Ok(answer)
    }
}

fn entry(item: Scanned<'_>) -> Entry {
    let quarantined = |sequence, fault: &Fault| Entry::Quarantined { sequence, reason: fault.to_string() };
    match item {
        Scanned::Row(row) => match row.open().1 {
            Ok(record) => Entry::Record(record),
            Err(fault) => quarantined(row.sequence as u64, &fault),
        },
        Scanned::Missing { from, to } => {
            Entry::Quarantined { sequence: to, reason: format!("records {from} to {to} are missing") }
        }
        Scanned::Unreadable { sequence, detail } => quarantined(sequence, &Fault::Database(detail)),
    }
}

#[cfg(test)]
mod tests;
