//! A lease as a row in the ledger's database, for controllers on several machines.
//!
//! The row holds who has the lease, until when by the database's clock, and a generation that rises with every take-over. The
//! holder renews it three times in its lifetime. It counts its own time from before it asked, so it stops believing in the lease
//! before the database lets anybody else have it.
//!
//! A process that is stopped and goes on later can't be warned while it is stopped, so a lease alone never makes an effect
//! safe: effects carry the ledger's epoch, and the edge refuses lower ones.
//!
//! Invariant: a generation has one holder, ever; nobody renews a lease that has run out or was taken over.

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::LeaseError;
use crate::error::Error;
use crate::postgres::{Address, Background, Link, Value};

/// The wait before a renewal that failed is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// How long giving a lease back may take; after that it runs out by itself.
const RELEASE: Duration = Duration::from_secs(2);
/// Statements must not outlive the lease that they are about.
const SETTINGS: &str =
    "SET statement_timeout = '5s'; SET lock_timeout = '2s'; SET client_min_messages = 'error'";

const TAKE: &str = "INSERT INTO trimtab_lease AS lease (name, holder, generation, expires_at)
    VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 millisecond')
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, generation = lease.generation + 1,
        expires_at = clock_timestamp() + $3 * interval '1 millisecond'
    WHERE lease.expires_at <= clock_timestamp()
    RETURNING generation";
const HOLDER: &str = "SELECT holder FROM trimtab_lease WHERE name = $1 AND expires_at > clock_timestamp()";
const RENEW: &str = "UPDATE trimtab_lease SET expires_at = clock_timestamp() + $3 * interval '1 millisecond'
    WHERE name = $1 AND generation = $2 AND expires_at > clock_timestamp() RETURNING generation";
const RELEASED: &str = "UPDATE trimtab_lease SET expires_at = clock_timestamp()
    WHERE name = $1 AND generation = $2 AND expires_at > clock_timestamp() RETURNING generation";

/// The leases of one database.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    address: Address,
    background: Arc<Background>,
    ttl: Duration,
}

impl Rows {
    pub(super) fn new(address: &Address, ttl: Duration) -> Result<Self, Error> {
        Ok(Self { address: address.clone(), background: Background::start(address.name())?, ttl })
    }

    fn link(&self) -> Result<Link, Error> {
        Link::open(&self.address, &self.background, SETTINGS)
    }

    fn ttl_ms(&self) -> Value {
        (Box::new(self.ttl.as_millis() as f64), Type::FLOAT8)
    }

    /// See [`super::Leases::acquire`].
    pub(super) fn acquire(&self, name: &str, holder: &str) -> Result<Row, LeaseError> {
        let link = self.link()?;
        let asked = now();
        let values = vec![text(name), text(holder), self.ttl_ms()];
        let taken = link.query(TAKE, values)?;
        let Some(row) = taken.first() else {
            let there = link.query(HOLDER, vec![text(name)])?;
            let holder = there.first().map_or_else(|| "another process".to_owned(), |row| row.get(0));
            return Err(LeaseError::Held { holder });
        };
        let generation = row.get(0);
        let (valid, until) = watch::channel(asked + self.ttl);
        let (given_back, end) = oneshot::channel();
        let renewal =
            Renewal { rows: self.clone(), link: Some(link), name: name.to_owned(), generation, valid };
        let (released, done) = sync_channel(1);
        let handle = self.background.handle().ok_or(Error::Stopped)?;
        handle.spawn(async move {
            renewal.run(end).await;
            let _ = released.send(());
        });
        Ok(Row {
            generation,
            until,
            given_back: Some(given_back),
            done: Mutex::new(done),
            _rows: self.clone(),
        })
    }

    /// See [`super::Leases::holder`].
    pub(super) fn holder(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(self.link()?.query(HOLDER, vec![text(name)])?.first().map(|row| row.get(0)))
    }
}

fn text(value: &str) -> Value {
    (Box::new(value.to_owned()), Type::TEXT)
}

fn now() -> Instant {
    Instant::now()
}

/// A held lease.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) generation: i64,
    /// Until when it is ours, as far as we know.
    until: watch::Receiver<Instant>,
    given_back: Option<oneshot::Sender<()>>,
    /// Of the renewal; in a lock so that the lease can be shared.
    done: Mutex<Receiver<()>>,
    /// Keeps the runtime that renews.
    _rows: Rows,
}

impl Row {
    pub(super) fn is_held(&self) -> bool {
        now() < *self.until.borrow()
    }

    /// Ends when the lease is lost.
    pub(super) async fn lost(&self) {
        let mut until = self.until.clone();
        let mut deadline = *until.borrow_and_update();
        let mut pause = std::pin::pin!(tokio::time::sleep_until(deadline));
        let mut changed = std::pin::pin!(changes(until));
        // The clock is asked each time that anything happens: a process that was stopped may hear of much else before its
        // timers.
        std::future::poll_fn(|context| {
            while let std::task::Poll::Ready(later) = changed.as_mut().poll(context) {
                deadline = later.1;
                pause.as_mut().reset(deadline);
                changed.set(changes(later.0));
            }
            let over = pause.as_mut().poll(context).is_ready() || now() >= deadline;
            if over { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    pub(super) fn release(&mut self) {
        if let Some(given_back) = self.given_back.take() {
            let _ = given_back.send(());
            let done = self.done.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = done.recv_timeout(RELEASE);
        }
    }
}

/// The next deadline, and the receiver to hear of the one after it.
async fn changes(mut until: watch::Receiver<Instant>) -> (watch::Receiver<Instant>, Instant) {
    match until.changed().await {
        Ok(()) => {
            let deadline = *until.borrow_and_update();
            (until, deadline)
        }
        // Nobody renews any more; the last deadline stays.
        Err(_) => std::future::pending().await,
    }
}

/// What renews a lease, on the connections' runtime.
struct Renewal {
    rows: Rows,
    link: Option<Link>,
    name: String,
    generation: i64,
    valid: watch::Sender<Instant>,
}

impl Renewal {
    async fn run(mut self, mut end: oneshot::Receiver<()>) {
        let mut pause = self.rows.ttl / 3;
        loop {
            tokio::select! {
                biased;
                _ = &mut end => {
                    let _ = self.ask(RELEASED, false).await;
                    return;
                }
                () = tokio::time::sleep(pause) => {}
            }
            let asked = now();
            pause = match self.ask(RENEW, true).await {
                Ok(true) => {
                    self.valid.send_replace(asked + self.rows.ttl);
                    self.rows.ttl / 3
                }
                Ok(false) => {
                    self.valid.send_replace(asked);
                    return;
                }
                // Whoever holds it finds out by its own clock when this goes on for too long.
                Err(_) => RETRY,
            };
        }
    }

    /// Runs a statement about the lease; whether it was still ours.
    async fn ask(&mut self, statement: &'static str, lasting: bool) -> Result<bool, Error> {
        let link = match self.link.take().filter(|link| !link.is_closed()) {
            Some(link) => link,
            None => Link::open_there(&self.rows.address, &self.rows.background, SETTINGS).await?,
        };
        let mut values = vec![text(&self.name), (Box::new(self.generation) as Box<_>, Type::INT8)];
        if lasting {
            values.push(self.rows.ttl_ms());
        }
        let rows = link.query_there(statement, values).await?;
        self.link = Some(link);
        Ok(!rows.is_empty())
    }
}
