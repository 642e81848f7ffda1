//! The one thread that writes, and its group commit.
//!
//! While one commit waits for its fsync, callers queue up; the next commit takes them all, up to `BATCH_RECORDS_MAX`
//! records. Each caller's events stay together, and a caller whose condition fails does not disturb the others.
//!
//! After any failure the connection is thrown away. Before the next answer the file is opened anew, its log is
//! carried over into the database and synced (a failed fsync may have dropped log pages that look written), and its tail is
//! verified, including that everything acknowledged before is still there.
//!
//! Invariant: `Ok` is sent only after the commit that holds the caller's records returned, with `synchronous=FULL`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::limits::BATCH_RECORDS_MAX;
use delivery::{Actor, Event, Recorded, Timestamp};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::watch;

use super::basis::Basis;
use super::head::{self, HeadRow};
use super::{schema, wire};
use crate::error::Error;
use crate::merkle::leaf_hash;

/// Callers that may wait at once.
const REQUESTS_MAX: usize = 8_192;

/// What a caller gets.
pub(super) type Answer = Result<Vec<Recorded>, Error>;
/// How a caller gets it.
pub(super) type Reply = Box<dyn FnOnce(Answer) + Send>;

/// One caller's batch.
pub(super) struct Request {
    /// What must still hold.
    pub(super) basis: Option<Basis>,
    pub(super) actor: Actor,
    /// Microseconds since 1970.
    pub(super) at: i64,
    pub(super) events: Vec<Event>,
    pub(super) reply: Reply,
}

/// Tells waiters about the size; it never goes down.
pub(super) fn publish(sizes: &watch::Sender<u64>, size: u64) {
    sizes.send_if_modified(|known| {
        let grown = size > *known;
        *known = size.max(*known);
        grown
    });
}

/// The running thread. Dropping it lets it finish what is queued, and waits for that.
pub(super) struct WriterThread {
    queue: Option<Sender<Request>>,
    waiting: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl WriterThread {
    /// Opens the file for writing and starts the thread. A damaged ledger is opened all the same; its appends fail.
    pub(super) fn start(path: &Utf8Path, sizes: watch::Sender<u64>) -> Result<Self, Error> {
        let mut writer = Writer::new(path, sizes);
        match writer.connect() {
            Ok(()) | Err(Error::Damaged { .. }) => {}
            Err(other) => return Err(other),
        }
        let (queue, requests) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&waiting);
        let thread = std::thread::Builder::new()
            .name("ledger-writer".to_owned())
            .spawn(move || writer.run(&requests, &counter))
            .map_err(|error| Error::from_io(path, &error))?;
        Ok(Self { queue: Some(queue), waiting, thread: Some(thread) })
    }

    /// Queues a batch, or refuses it when too many wait.
    pub(super) fn send(&self, request: Request) -> Result<(), Error> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= REQUESTS_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::Overloaded);
        }
        let queue = self.queue.as_ref().ok_or(Error::Stopped)?;
        queue.send(request).map_err(|_| Error::Stopped)
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's state.
pub(super) struct Writer {
    path: Utf8PathBuf,
    /// `None` after a failure.
    pub(super) connection: Option<Connection>,
    /// The head as of the last commit or check: what must still be there.
    known: Option<HeadRow>,
    /// Whether a commit has failed since the last check.
    pub(super) failed: bool,
    sizes: watch::Sender<u64>,
}

impl Writer {
    /// Not yet connected.
    pub(super) fn new(path: &Utf8Path, sizes: watch::Sender<u64>) -> Self {
        Self { path: path.to_owned(), connection: None, known: None, failed: false, sizes }
    }

    fn run(mut self, requests: &Receiver<Request>, waiting: &AtomicUsize) {
        let mut held: Option<Request> = None;
        while let Some(first) = held.take().or_else(|| requests.recv().ok()) {
            let mut records = first.events.len();
            let mut batch = vec![first];
            while let Ok(next) = requests.try_recv() {
                records += next.events.len();
                // Requests without events count too, so that a batch is bounded in any case.
                if records > BATCH_RECORDS_MAX || batch.len() >= BATCH_RECORDS_MAX {
                    held = Some(next);
                    break;
                }
                batch.push(next);
            }
            waiting.fetch_sub(batch.len(), Ordering::Relaxed);
            self.serve(batch);
        }
    }

    /// Commits the batch and answers everybody in it.
    pub(super) fn serve(&mut self, batch: Vec<Request>) {
        let (requests, replies): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|request| ((request.basis, request.actor, request.at, request.events), request.reply))
            .unzip();
        match self.commit(requests) {
            Ok(answers) => {
                if let Some(head) = &self.known {
                    publish(&self.sizes, head.frontier.size());
                }
                for (reply, answer) in replies.into_iter().zip(answers) {
                    reply(answer);
                }
            }
            Err(error) => {
                // Waiting for a lock in vain has changed nothing; anything else may have.
                if !matches!(error, Error::Locked { .. }) {
                    self.connection = None;
                    self.failed = true;
                }
                for reply in replies {
                    reply(Err(error.clone()));
                }
            }
        }
    }

    fn commit(
        &mut self,
        requests: Vec<(Option<Basis>, Actor, i64, Vec<Event>)>,
    ) -> Result<Vec<Answer>, Error> {
        self.connect()?;
        let Self { path, connection, known, .. } = self;
        let Some(connection) = connection else { return Err(Error::Stopped) };
        let fault = |error: rusqlite::Error| Error::from_sqlite(path, &error);
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
        let mut head = HeadRow::read(path, &transaction)?;
        head.agrees(path, &transaction)?;
        continues(known.as_ref(), &head)?;
        let before = head.frontier.size();
        let mut answers = Vec::with_capacity(requests.len());
        for (basis, actor, at, events) in requests {
            let size = head.frontier.size();
            let holds = basis.map_or(Ok(true), |basis| basis.holds(path, &transaction, size))?;
            answers.push(if holds {
                Ok(stage(path, &transaction, &mut head, &actor, at, events)?)
            } else {
                Err(Error::Conflict { size })
            });
        }
        if head.frontier.size() == before {
            drop(transaction);
        } else {
            head.write(&transaction).map_err(fault)?;
            transaction.commit().map_err(fault)?;
        }
        *known = Some(head);
        Ok(answers)
    }

    /// Opens the file unless it is open, and checks its tail.
    pub(super) fn connect(&mut self) -> Result<(), Error> {
        if self.connection.is_some() {
            return Ok(());
        }
        let mut connection = schema::open_writer(&self.path)?;
        if self.failed {
            let busy: i64 = connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
                .map_err(|error| Error::from_sqlite(&self.path, &error))?;
            if busy != 0 {
                return Err(Error::Locked { waited_ms: schema::BUSY_TIMEOUT.as_millis() as u64 });
            }
        }
        let head = head::tail(&self.path, &mut connection)?;
        continues(self.known.as_ref(), &head)?;
        publish(&self.sizes, head.frontier.size());
        self.known = Some(head);
        self.failed = false;
        self.connection = Some(connection);
        Ok(())
    }
}

/// Whether the head can have grown out of the one that we know.
fn continues(known: Option<&HeadRow>, head: &HeadRow) -> Result<(), Error> {
    let Some(known) = known else { return Ok(()) };
    let (before, now) = (known.frontier.size(), head.frontier.size());
    if now < before {
        let detail =
            format!("it has {now} records where {before} were acknowledged; was a backup put in its place?");
        return Err(Error::Damaged { detail });
    }
    if now == before && known != head {
        return Err(Error::Damaged { detail: "its head was changed without a new record".to_owned() });
    }
    Ok(())
}

/// Inserts one caller's events after the head and moves it on.
fn stage(
    path: &Utf8Path,
    transaction: &Transaction<'_>,
    head: &mut HeadRow,
    actor: &Actor,
    at: i64,
    events: Vec<Event>,
) -> Result<Vec<Recorded>, Error> {
    let fault = |error: rusqlite::Error| Error::from_sqlite(path, &error);
    let mut statement = transaction
        .prepare("INSERT INTO record (sequence, at, format, body, leaf) VALUES (?1, ?2, ?3, ?4, ?5)")
        .map_err(fault)?;
    let at = head.last_at.map_or(at, |last| last.max(at));
    let stamp =
        Timestamp::from_microsecond(at).map_err(|error| Error::Damaged { detail: error.to_string() })?;
    let mut recorded = Vec::with_capacity(events.len());
    for event in events {
        let sequence = head.frontier.size() + 1;
        let body = wire::encode(sequence, at, actor, &event)?;
        let leaf = leaf_hash(&body);
        statement.execute(rusqlite::params![sequence as i64, at, wire::FORMAT, body, leaf]).map_err(fault)?;
        head.frontier.push(leaf);
        head.last_at = Some(at);
        recorded.push(Recorded { sequence, at: stamp, actor: actor.clone(), event });
    }
    Ok(recorded)
}
