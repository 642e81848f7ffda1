//! One instance of a revision, with the connections that are kept to it.
//!
//! Kept connections are per shard, last in first out, so that surplus ones age out. Invariant: after [`Endpoint::close`] none is
//! kept; connections in use then end with their request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::counters::Counters;
use super::limits::{IDLE_PER_SHARD_MAX, UPSTREAM_IDLE_MAX};
use super::shard::Sharded;
use super::upstream::Upstream;

pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) counters: Arc<Counters>,
    idle: Sharded<Mutex<Vec<Upstream>>>,
    closed: AtomicBool,
}

impl Endpoint {
    pub(super) fn new(address: SocketAddr, counters: Arc<Counters>) -> Self {
        Self {
            address,
            counters,
            idle: Sharded::new(|| Mutex::new(Vec::new())),
            closed: AtomicBool::new(false),
        }
    }

    /// A kept connection: this shard's youngest, else another shard's that is not being used just now.
    pub(super) fn take(&self, now: Instant) -> Option<Upstream> {
        let fresh = |upstream: &Upstream| now.duration_since(upstream.idle_since()) < UPSTREAM_IDLE_MAX;
        if let Some(upstream) = lock(self.idle.local()).pop() {
            return Some(upstream).filter(fresh);
        }
        self.idle.iter().find_map(|shard| shard.try_lock().ok()?.pop()).filter(fresh)
    }

    /// Keeps a connection, unless there are enough.
    pub(super) fn keep(&self, upstream: Upstream) {
        let mut idle = lock(self.idle.local());
        // Read under the lock: `close` sets it before it takes the lock, so nothing slips in behind it.
        if !self.closed.load(Ordering::Acquire) && idle.len() < IDLE_PER_SHARD_MAX {
            idle.push(upstream);
        }
    }

    /// Drops the connections that have been idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        for shard in self.idle.iter() {
            lock(shard).retain(|upstream| now.duration_since(upstream.idle_since()) < UPSTREAM_IDLE_MAX);
        }
    }

    /// No more kept connections: the instance is gone.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.clear();
    }

    /// Drops the connections that are kept now.
    pub(super) fn clear(&self) {
        for shard in self.idle.iter() {
            lock(shard).clear();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
