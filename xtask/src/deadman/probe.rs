//! A user who asks again and again, and writes down what came of it.
//!
//! Leaves out load (`trimtab load` makes that). Invariant: a request that was not answered with 2xx within a second has
//! failed.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::figures::process;

const PAUSE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(1);

/// A user at work until this is dropped.
#[derive(Debug)]
pub(super) struct Probe {
    told: Arc<Mutex<Vec<(Instant, bool)>>>,
    paused: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Probe {
    pub(super) fn of(address: SocketAddr) -> Self {
        let (told, paused, done) =
            (Arc::default(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let probe: Self = Self {
            told: Arc::clone(&told),
            paused: Arc::clone(&paused),
            done: Arc::clone(&done),
            thread: None,
        };
        let thread = std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                if !paused.load(Ordering::Relaxed) {
                    let at = process::now();
                    let answered = ask(address).is_ok_and(|good| good);
                    told.lock().unwrap_or_else(PoisonError::into_inner).push((at, answered));
                }
                std::thread::sleep(PAUSE);
            }
        });
        Self { thread: Some(thread), ..probe }
    }

    /// Asks no more, or again.
    pub(super) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Requests sent between two times, and those that failed.
    pub(super) fn between(&self, from: Instant, until: Instant) -> (u64, u64) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let within = told.iter().filter(|(at, _)| *at >= from && *at <= until);
        within.fold((0, 0), |(all, failed), (_, good)| (all + 1, failed + u64::from(!good)))
    }

    pub(super) fn end(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ask(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n")?;
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head)?;
    Ok(head.starts_with(b"HTTP/1.1 2"))
}
