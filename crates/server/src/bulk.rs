//! Threads for what may wait: reports from outside, and live updates.
//!
//! Both come in any number, and nobody is harmed when they are late. So they have threads of their own, which the system lets run
//! when the others leave it the time; a rollback, a page and a controller that asks don't stand in line behind them. A
//! connection is put there by what it asks first. Left out: how many of them there may be (`admission`). Invariant: nothing that
//! lowers risk is done on these threads.

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};

/// How much the threads give way, as nice(1) counts: they get about a tenth of what a thread gets that does not.
const NICE: i32 = 10;
const THREADS: usize = 2;
/// How requests begin that may wait.
const BEGINNINGS: [&[u8]; 2] = [b"POST /api/v1/events", b"GET /events"];
const BEGINNING_BYTES_MAX: usize = 32;

/// The threads, until it is dropped.
pub(crate) struct Bulk {
    runtime: Option<Runtime>,
}

impl Bulk {
    /// Starts the threads.
    pub(crate) fn start() -> std::io::Result<Self> {
        let give_way = || {
            // Refused or not: what matters is done all the same, later.
            let _ = rustix::process::nice(NICE);
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("bulk")
            .on_thread_start(give_way)
            .enable_all()
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Where to spawn; `None` only while it is dropped.
    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.runtime.as_ref().map(Runtime::handle)
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        // It may be dropped on another runtime's thread, which must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits for the first bytes of a connection, and says whether what it asks may wait. Takes nothing of them.
pub(crate) async fn may_wait(stream: &TcpStream) -> bool {
    let mut beginning = [0; BEGINNING_BYTES_MAX];
    // What comes in pieces is not held up for this.
    let read = stream.peek(&mut beginning).await.unwrap_or(0);
    begins_bulk(&beginning[..read])
}

fn begins_bulk(beginning: &[u8]) -> bool {
    BEGINNINGS.iter().any(|bulk| beginning.starts_with(bulk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reports_and_live_updates_may_wait() {
        assert!(begins_bulk(b"POST /api/v1/events HTTP/1.1\r\nHost"));
        assert!(begins_bulk(b"GET /events?after=1 HTTP/1.1\r\nHost"));
        for urgent in
            [&b"POST /api/v1/rollouts/ro-1/rollback"[..], b"GET / HTTP/1.1", b"GET /healthz", b"POST", b""]
        {
            assert!(!begins_bulk(urgent));
        }
    }

    #[test]
    fn its_threads_give_way() {
        let bulk = Bulk::start().unwrap();
        let own = || rustix::process::getpriority_process(None).unwrap();
        let there = bulk.handle().unwrap().spawn(async move { own() });
        let there = bulk.handle().unwrap().block_on(there).unwrap();
        assert!(there > own(), "{there}");
    }
}
