//! What one revision's requests came to: sharded running totals, and the ticket that each request holds.
//!
//! Invariant: every ticket ends exactly once, so `started - ended` is the number under way; and a reading never shows more
//! errors than requests, because an error is published after its request and read before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use delivery::RevisionId;
use delivery::traffic::{ArmTotals, LATENCY_BUCKETS, latency_bucket};
use tokio::time::Instant;

use super::shard::Sharded;

#[derive(Debug)]
struct Counts {
    started: AtomicU64,
    ended: AtomicU64,
    sent: AtomicU64,
    errors: AtomicU64,
    latency: [AtomicU64; LATENCY_BUCKETS],
}

impl Counts {
    fn zero() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            started: zero(),
            ended: zero(),
            sent: zero(),
            errors: zero(),
            latency: std::array::from_fn(|_| zero()),
        }
    }
}

/// A revision's totals.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) revision: RevisionId,
    shards: Sharded<Counts>,
}

impl Counters {
    pub(super) fn new(revision: RevisionId) -> Self {
        Self { revision, shards: Sharded::new(Counts::zero) }
    }

    pub(super) fn totals(&self) -> ArmTotals {
        let mut totals = ArmTotals::zero();
        for shard in self.shards.iter() {
            totals.errors += shard.errors.load(Ordering::Acquire);
            for (total, bucket) in totals.latency.iter_mut().zip(&shard.latency) {
                *total += bucket.load(Ordering::Relaxed);
            }
        }
        totals.requests = totals.latency.iter().sum();
        totals.in_flight = self.in_flight();
        totals
    }

    /// Requests under way. `ended` is read first, so the difference never falls below the truth.
    pub(super) fn in_flight(&self) -> u64 {
        let ended: u64 = self.shards.iter().map(|shard| shard.ended.load(Ordering::Acquire)).sum();
        let started: u64 = self.shards.iter().map(|shard| shard.started.load(Ordering::Acquire)).sum();
        started.saturating_sub(ended)
    }

    /// Request heads written to an instance so far.
    pub(super) fn sent(&self) -> u64 {
        self.shards.iter().map(|shard| shard.sent.load(Ordering::Acquire)).sum()
    }

    /// A request's head is being written.
    pub(super) fn count_sent(&self) {
        self.shards.local().sent.fetch_add(1, Ordering::Release);
    }
}

/// A request under way. Dropped unfinished, it counts as given up by the client: no error, and as slow as it had waited.
#[derive(Debug)]
pub(super) struct Ticket {
    counters: Arc<Counters>,
    began: Instant,
    micros: Option<u64>,
    open: bool,
    counted: bool,
}

impl Ticket {
    pub(super) fn new(counters: Arc<Counters>, began: Instant) -> Self {
        counters.shards.local().started.fetch_add(1, Ordering::Release);
        Self { counters, began, micros: None, open: true, counted: false }
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The response's head has arrived.
    pub(super) fn answered(&mut self) {
        self.micros = Some(self.waited());
    }

    /// Counts the request, once; it stays under way. For upgrades, whose connection lives on.
    pub(super) fn count(&mut self, error: bool) {
        if self.counted {
            return;
        }
        self.counted = true;
        let micros = self.micros.unwrap_or_else(|| self.waited());
        let shard = self.counters.shards.local();
        shard.latency[latency_bucket(micros)].fetch_add(1, Ordering::Relaxed);
        if error {
            shard.errors.fetch_add(1, Ordering::Release);
        }
    }

    /// Counts the request, if that has not been done, and ends it.
    pub(super) fn finish(mut self, error: bool) {
        self.count(error);
        self.close();
    }

    /// Ends it uncounted: it never was this revision's request, because the routes changed before it was sent.
    pub(super) fn withdraw(mut self) {
        self.close();
    }

    fn close(&mut self) {
        if self.open {
            self.open = false;
            self.counters.shards.local().ended.fetch_add(1, Ordering::Release);
        }
    }

    fn waited(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.open {
            self.count(false);
            self.close();
        }
    }
}
