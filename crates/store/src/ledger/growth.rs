//! How many records the ledger is known to have, and who waits for more.
//!
//! Invariants: the number never goes down; whoever waits is woken in the order of coming, so that a simulation can be repeated
//! (tokio's `watch` channel wakes its receivers in a random order).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Shared by the writer and everybody who waits. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Growth(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    size: AtomicU64,
    grown: Notify,
}

impl Growth {
    /// How many records are known.
    pub(super) fn size(&self) -> u64 {
        self.0.size.load(Ordering::Acquire)
    }

    /// Tells those who wait; a smaller number than the known one is no news.
    pub(super) fn publish(&self, size: u64) {
        if self.0.size.fetch_max(size, Ordering::AcqRel) < size {
            self.0.grown.notify_waiters();
        }
    }

    /// Waits until more than `after` records are known, and returns how many.
    pub(super) async fn beyond(&self, after: u64) -> u64 {
        loop {
            // Before the look, so that what is published between the look and the wait is not missed.
            let grown = self.0.grown.notified();
            let size = self.size();
            if size > after {
                return size;
            }
            grown.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_is_woken_in_the_order_of_coming() {
        let local = tokio::task::LocalSet::new();
        let (growth, woken) = (Growth::default(), Arc::new(Mutex::new(Vec::new())));
        for number in 0..50 {
            let (growth, woken) = (growth.clone(), Arc::clone(&woken));
            local.spawn_local(async move {
                assert_eq!(growth.beyond(3).await, 7);
                woken.lock().unwrap().push(number);
            });
        }
        local
            .run_until(async {
                for size in [1, 3, 2, 7] {
                    tokio::task::yield_now().await;
                    growth.publish(size);
                }
            })
            .await;
        assert_eq!(growth.size(), 7);
        local.await;
        assert_eq!(*woken.lock().unwrap(), (0..50).collect::<Vec<_>>());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_that_is_published_is_missed() {
        let growth = Growth::default();
        let teller = growth.clone();
        let told = tokio::task::spawn_blocking(move || (1..=10_000).for_each(|size| teller.publish(size)));
        let mut known = 0;
        while known < 10_000 {
            let size = growth.beyond(known).await;
            assert!(size > known);
            known = size;
        }
        told.await.unwrap();
    }
}
