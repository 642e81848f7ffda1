//! Places for requests: how many of a kind are worked on at once, how many wait, and what is refused.
//!
//! Leaves out who may ask (`guard`), which comes first: nobody without a token takes a place of those who have one. Invariant:
//! a rollback waits for no other kind of work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use delivery::limits::REQUEST_BODY_BYTES_MAX;
use futures_util::StreamExt as _;
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::Limits;
use crate::refusal::Refusal;

/// How long a request's body is read on that was refused.
const DISCARDED_WITHIN: Duration = Duration::from_millis(250);

/// See the module.
pub(crate) struct Admission {
    limits: Limits,
    reads: Arc<Semaphore>,
    reads_waiting: AtomicUsize,
    changes: Arc<Semaphore>,
    reports: Arc<Semaphore>,
    report_bytes: Arc<Semaphore>,
}

/// What a request holds while it is worked on.
#[derive(Debug)]
#[expect(dead_code, reason = "it is held, not looked at")]
pub(crate) struct Hold {
    place: OwnedSemaphorePermit,
    bytes: Vec<OwnedSemaphorePermit>,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        let places = |number: usize| Arc::new(Semaphore::new(number));
        Self {
            limits,
            reads: places(limits.reads),
            reads_waiting: AtomicUsize::new(0),
            changes: places(limits.changes),
            reports: places(limits.reports),
            report_bytes: places(limits.report_bytes),
        }
    }

    /// A place to read. A few wait for one; nobody waits in vain for long, because answers are quick.
    pub(crate) async fn read(&self) -> Result<Hold, Refusal> {
        let place = if let Ok(place) = self.reads.clone().try_acquire_owned() {
            place
        } else {
            let _waiting = Waiting::of(&self.reads_waiting, self.limits.reads_waiting)?;
            // Never closed, so a place always comes.
            self.reads.clone().acquire_owned().await.map_err(|_| Refusal::internal())?
        };
        Ok(Hold { place, bytes: Vec::new() })
    }

    /// A place for a request that changes something, and its body.
    pub(crate) async fn change(&self, request: Request) -> Result<(Request, Bytes, Hold), Refusal> {
        let place =
            self.changes.clone().try_acquire_owned().map_err(|_| busy("requests that change something"))?;
        let mut hold = Hold { place, bytes: Vec::new() };
        let (request, bytes) = self.body(request, None, &mut hold).await?;
        Ok((request, bytes, hold))
    }

    /// A place for a request that reports, and its body, which shares the room of all reports' bodies.
    pub(crate) async fn report(&self, request: Request) -> Result<(Request, Hold), Refusal> {
        let Ok(place) = self.reports.clone().try_acquire_owned() else {
            discard(request.into_body()).await;
            return Err(busy("reports"));
        };
        let mut hold = Hold { place, bytes: Vec::new() };
        let (request, _) = self.body(request, Some(&self.report_bytes), &mut hold).await?;
        Ok((request, hold))
    }

    /// Reads the body, within its time and its size; with a room, as far as that has place for what really arrives.
    async fn body(
        &self,
        request: Request,
        room: Option<&Arc<Semaphore>>,
        hold: &mut Hold,
    ) -> Result<(Request, Bytes), Refusal> {
        let (parts, body) = request.into_parts();
        let read = async {
            let mut bytes = Vec::new();
            let mut chunks = body.into_data_stream();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|_| broken_off())?;
                if bytes.len() + chunk.len() > REQUEST_BODY_BYTES_MAX {
                    return Err(too_large());
                }
                if let Some(room) = room {
                    let size = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
                    let taken = room.clone().try_acquire_many_owned(size);
                    hold.bytes.push(taken.map_err(|_| busy("bodies of reports"))?);
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(Bytes::from(bytes))
        };
        let within = self.limits.body_within;
        let bytes = tokio::time::timeout(within, read).await.unwrap_or_else(|_| Err(too_slow()))?;
        Ok((Request::from_parts(parts, Body::from(bytes.clone())), bytes))
    }
}

/// Reads on without keeping anything, so that the peer hears why it is refused: when a socket is closed while something of the request
/// is not read, the system throws the answer away. Bounded in size and time.
pub(crate) async fn discard(body: Body) {
    let read = async {
        let (mut chunks, mut bytes) = (body.into_data_stream(), 0);
        while let Some(Ok(chunk)) = chunks.next().await {
            bytes += chunk.len();
            if bytes > REQUEST_BODY_BYTES_MAX {
                return;
            }
        }
    };
    // Too slow: then it is closed.
    let _ = tokio::time::timeout(DISCARDED_WITHIN, read).await;
}

/// One of those that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn of(waiting: &'a AtomicUsize, most: usize) -> Result<Self, Refusal> {
        let one = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) < most { Ok(one) } else { Err(busy("requests")) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn busy(what: &str) -> Refusal {
    Refusal::busy(format!("there are more {what} than the server takes at once"))
        .hint("try again in a few seconds")
}

fn too_large() -> Refusal {
    let sentence = format!("the request's body is larger than {REQUEST_BODY_BYTES_MAX} bytes");
    Refusal::invalid(StatusCode::PAYLOAD_TOO_LARGE, sentence)
}

fn broken_off() -> Refusal {
    Refusal::invalid(StatusCode::BAD_REQUEST, "the request's body broke off")
}

fn too_slow() -> Refusal {
    Refusal::invalid(StatusCode::REQUEST_TIMEOUT, "the request's body does not come")
}
