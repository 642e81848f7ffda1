//! The one thread that writes, and its group commit.
//!
//! While one commit waits for its fsync, callers queue up; the next commit takes them all, up to `BATCH_RECORDS_MAX`
//! records. Each caller's events stay together, and a caller whose condition fails does not disturb the others.
//!
//! After any failure the connection is thrown away. Before the next answer the database is opened anew, what the failure
//! left undecided is settled, and the tail is verified, including that everything acknowledged before is still there. A batch
//! that is known not to have been recorded ([`Error::Interrupted`]) is then tried again, without the callers' noticing.
//!
//! Invariant: `Ok` is sent only after the commit that holds the caller's records returned, and is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use delivery::limits::BATCH_RECORDS_MAX;
use delivery::seeded::{self, Bug};
use delivery::{Actor, Event, Recorded, Timestamp};

use super::basis::Basis;
use super::database::{Database, Transaction, WritingConnection};
use super::growth::Growth;
use super::head::{self, HeadRow};
use super::people::{Register, Salts};
use super::seen::Witness;
use super::wire::{self, Row};
use crate::error::Error;
use crate::merkle::leaf_hash;

/// How often a batch is tried when the database goes away under it without having recorded it.
const TRIES: u32 = 4;
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

impl Request {
    fn answer(self, placed: Result<Placed, Error>) {
        let Self { actor, events, reply, .. } = self;
        reply(placed.map(|Placed { after, at }| {
            let numbered = (after + 1..).zip(events);
            numbered.map(|(sequence, event)| Recorded { sequence, at, actor: actor.clone(), event }).collect()
        }));
    }
}

/// Where a request's events went.
struct Placed {
    /// The sequence of the record before them.
    after: u64,
    at: Timestamp,
}

/// The running thread. Dropping it lets it finish what is queued, and waits for that.
pub(super) struct WriterThread {
    queue: Option<Sender<Request>>,
    waiting: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl WriterThread {
    /// Starts the thread for a writer.
    pub(super) fn start(writer: Writer) -> Result<Self, Error> {
        let (queue, requests) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&waiting);
        let database = Arc::clone(&writer.database);
        let thread = std::thread::Builder::new()
            .name("ledger-writer".to_owned())
            .spawn(move || writer.run(&requests, &counter))
            .map_err(|error| Error::from_io(database.place(), &error))?;
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

/// What writes: the connection, and what is known about the ledger.
pub(super) struct Writer {
    database: Arc<dyn Database>,
    /// `None` after a failure.
    pub(super) connection: Option<Box<dyn WritingConnection>>,
    /// The head as of the last commit or check: what must still be there.
    known: Option<HeadRow>,
    /// Whether a commit has failed since the last check.
    pub(super) failed: bool,
    witness: Option<Witness>,
    growth: Growth,
    /// For people who are new.
    salts: Salts,
}

impl Writer {
    /// Opens the database for writing. A damaged ledger, and one that is older than what was seen here, is opened all the same;
    /// its appends fail.
    pub(super) fn open(database: Arc<dyn Database>, growth: Growth, salts: Salts) -> Result<Self, Error> {
        let witness = database.witness().map(Witness::at);
        let mut writer =
            Self { database, connection: None, known: None, failed: false, witness, growth, salts };
        let opened = patiently(|| {
            let connected = writer.connect();
            if matches!(connected, Err(Error::Interrupted { .. })) {
                writer.distrust();
            }
            connected
        });
        match opened {
            Ok(()) | Err(Error::Damaged { .. } | Error::Older { .. }) => Ok(writer),
            Err(other) => Err(other),
        }
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
        match self.commit_patiently(&batch) {
            Ok(placed) => {
                if let Some(head) = &self.known {
                    self.growth.publish(head.frontier.size());
                    self.witness.iter_mut().for_each(|witness| witness.note(head));
                }
                batch.into_iter().zip(placed).for_each(|(request, placed)| request.answer(placed));
            }
            Err(error) => {
                // Waiting for a lock in vain has changed nothing; anything else may have.
                if !matches!(error, Error::Locked { .. }) {
                    self.distrust();
                }
                let after = self.known.as_ref().map_or(0, |head| head.frontier.size());
                let error =
                    if seeded::is(Bug::FailureIsConflict) { Error::Conflict { size: after } } else { error };
                for request in batch {
                    let at = Timestamp::from_microsecond(request.at).unwrap_or(Timestamp::UNIX_EPOCH);
                    let acknowledged = seeded::is(Bug::AckAfterFailure);
                    request.answer(if acknowledged { Ok(Placed { after, at }) } else { Err(error.clone()) });
                }
            }
        }
    }

    fn distrust(&mut self) {
        self.connection = None;
        self.failed = true;
    }

    fn commit_patiently(&mut self, batch: &[Request]) -> Result<Vec<Result<Placed, Error>>, Error> {
        for _ in 1..TRIES {
            match self.commit(batch) {
                Err(Error::Interrupted { .. }) => self.distrust(),
                other => return other,
            }
        }
        self.commit(batch)
    }

    fn commit(&mut self, batch: &[Request]) -> Result<Vec<Result<Placed, Error>>, Error> {
        self.connect()?;
        let Self { connection, known, salts, .. } = self;
        let Some(connection) = connection else { return Err(Error::Stopped) };
        let mut transaction = connection.begin()?;
        let mut head = match known {
            Some(known) if seeded::is(Bug::HeadFromMemory) => known.clone(),
            _ => HeadRow::read(&mut *transaction)?,
        };
        head.agrees(&mut *transaction)?;
        continues(known.as_ref(), &head)?;
        let before = head.frontier.size();
        let mut register = Register::new(salts);
        let mut placed = Vec::with_capacity(batch.len());
        for request in batch {
            let size = head.frontier.size();
            let basis = request.basis.as_ref();
            let holds = basis.map_or(Ok(true), |basis| basis.holds(&mut *transaction, size))?;
            placed.push(if holds {
                Ok(stage(&mut *transaction, &mut head, &mut register, request)?)
            } else {
                Err(Error::Conflict { size })
            });
        }
        let erased = register.erased;
        if head.frontier.size() == before {
            drop(transaction);
        } else {
            transaction.replace_head(&head.stored())?;
            transaction.commit()?;
        }
        if erased {
            // What was asked is recorded and done. A reader that keeps the log from being emptied only puts off the rest:
            // the log goes when the last connection closes.
            let _ = connection.purge();
        }
        *known = Some(head);
        Ok(placed)
    }

    /// Opens the database unless it is open, and checks its tail.
    fn connect(&mut self) -> Result<(), Error> {
        if self.connection.is_some() {
            return Ok(());
        }
        // Read before the ledger is: others append meanwhile, and note it after that.
        let seen = self.witness.as_ref().and_then(Witness::read);
        let mut connection = self.database.open_writer(self.failed)?;
        let mut view = connection.view()?;
        let head = head::tail(&mut *view)?;
        continues(self.known.as_ref(), &head)?;
        seen.map_or(Ok(()), |seen| seen.check(&mut *view, &head))?;
        drop(view);
        self.witness.iter_mut().for_each(|witness| witness.note(&head));
        self.growth.publish(head.frontier.size());
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
    transaction: &mut dyn Transaction,
    head: &mut HeadRow,
    register: &mut Register<'_>,
    request: &Request,
) -> Result<Placed, Error> {
    let after = head.frontier.size();
    let last_at = head.last_at.filter(|_| !seeded::is(Bug::TimeGoesBack));
    let at = last_at.map_or(request.at, |last| last.max(request.at));
    let stamp =
        Timestamp::from_microsecond(at).map_err(|error| Error::Damaged { detail: error.to_string() })?;
    let mut bodies = Vec::with_capacity(request.events.len());
    for (sequence, event) in (after + 1..).zip(&request.events) {
        let (mut actor, mut event) = (request.actor.clone(), event.clone());
        register.hide(transaction, &mut actor, &mut event)?;
        let body = wire::encode(sequence, at, &actor, &event)?;
        bodies.push((sequence as i64, leaf_hash(&body), body));
    }
    let format = wire::FORMAT;
    let rows: Vec<_> = bodies
        .iter()
        .map(|(sequence, leaf, body)| Row { sequence: *sequence, at, format, body, leaf })
        .collect();
    if rows.is_empty() {
        return Ok(Placed { after, at: stamp });
    }
    transaction.insert(&rows)?;
    let lacking = usize::from(seeded::is(Bug::HeadLacksLast) && bodies.len() > 1);
    bodies[..bodies.len() - lacking].iter().for_each(|(_, leaf, _)| head.frontier.push(*leaf));
    head.last_at = Some(at);
    request.events.iter().try_for_each(|event| register.heed(transaction, event))?;
    Ok(Placed { after, at: stamp })
}

/// Does again what was interrupted before anything was recorded, a few times.
pub(super) fn patiently<T>(mut work: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..TRIES {
        match work() {
            Err(Error::Interrupted { .. }) => {}
            other => return other,
        }
    }
    work()
}
