//! Live updates: server-sent events whose id is the ledger's sequence.
//!
//! A reader that comes back with `Last-Event-ID` gets exactly what came since, also after the server was restarted, also
//! what other processes recorded. An event says that something happened, not what is true now: pages are fetched for that.
//! Records that can't be read have no event.
//!
//! Thousands of streams can't each be told thousands of records a second. So the more streams there are, the more seldom each
//! is served. With many of them they are not served all at once, which would keep everything else waiting, but one after the
//! other; and whoever has more than a few records to hear of is told that there is a gap and where it ends, instead of all that
//! is in it. With few streams everything is told at once, from the ledger where it must be.
//!
//! Invariants: a stream holds at most [`TOLD_AT_ONCE`] notices however slow its reader is, because it is pulled. What a reader
//! was not told it was told the bounds of.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use store::Entry;
use tokio::sync::OwnedSemaphorePermit;

use crate::app::{self, App};
use crate::chronicle::Notice;
use crate::refusal::Refusal;

const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a browser waits before it comes back.
const RETRY: Duration = Duration::from_secs(1);
/// Notices that a stream holds.
const TOLD_AT_ONCE: usize = 32;
/// With many streams, more new records than these are told as a gap.
const TOLD_TO_MANY: u64 = 4;
/// Streams are spread over this many places in the time between two times that one is served.
const PHASES: u32 = 1_024;
/// What each open stream adds to the wait of all between two times that they are served: 10,000 streams are served every two
/// seconds, ten every two milliseconds.
const PACE: Duration = Duration::from_micros(200);

/// Where to begin, for a reader that has no last event yet.
#[derive(Deserialize)]
pub(crate) struct Begin {
    after: Option<u64>,
}

struct Cursor {
    app: Arc<App>,
    after: u64,
    queue: VecDeque<Notice>,
    /// How long it waits before it is served next, in parts of the pace; `None` when it need not.
    rest: Option<u32>,
    /// Its place among others, so that not all are served at once.
    phase: u32,
    _place: OwnedSemaphorePermit,
}

/// Records that a reader is not told one by one.
#[derive(Serialize)]
struct Gap {
    /// They begin after this sequence,
    after: u64,
    /// and end with this one.
    sequence: u64,
}

/// What a stream does next.
enum Turn {
    /// It tells what is in its queue.
    Tell,
    /// It tells of records that it passes over.
    Skip(Gap),
}

/// `GET /events`.
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    query: Result<Query<Begin>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(begin) = query
        .map_err(|_| Refusal::invalid(StatusCode::BAD_REQUEST, "after is not a sequence of the ledger"))?;
    let last = match headers.get("last-event-id") {
        None => begin.after,
        Some(id) => Some(id.to_str().ok().and_then(|id| id.parse().ok()).ok_or_else(|| {
            Refusal::invalid(StatusCode::BAD_REQUEST, "Last-Event-ID is not a sequence of the ledger")
        })?),
    };
    let place = app.streams.clone().try_acquire_owned().map_err(|_| {
        Refusal::busy(format!("all {} live streams are taken", app.limits.streams))
            .hint("try again in a few seconds")
    })?;
    let size = *app.folded.borrow();
    // A sequence that the ledger has not reached belongs to another ledger.
    let after = last.unwrap_or(size).min(size);
    let phase = app.streams_opened.fetch_add(1, Ordering::Relaxed) % PHASES;
    let hello = Event::default().retry(RETRY).comment("after this, events as they are recorded");
    let cursor = Cursor { app, after, queue: VecDeque::new(), rest: None, phase, _place: place };
    let first = futures_util::stream::iter([Ok::<_, Infallible>(hello)]);
    let rest = futures_util::stream::unfold(cursor, next);
    let stream = futures_util::StreamExt::chain(first, rest);
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("still here")).into_response())
}

async fn next(mut cursor: Cursor) -> Option<(Result<Event, Infallible>, Cursor)> {
    let mut folded = cursor.app.folded.subscribe();
    let mut stopped = cursor.app.stopped.clone();
    loop {
        if *stopped.borrow() {
            return None;
        }
        if let Some(notice) = cursor.queue.pop_front() {
            cursor.after = notice.sequence;
            let event = Event::default().id(notice.sequence.to_string()).data(&notice.data);
            return Some((Ok(event), cursor));
        }
        let size = *folded.borrow_and_update();
        let rest = cursor.rest.take();
        if size > cursor.after && rest.is_none() {
            cursor.rest = Some(PHASES);
            // Whoever can't be served ends here, and comes back with the last event that arrived.
            match cursor.refill(size).await.ok()? {
                Turn::Tell => continue,
                Turn::Skip(gap) => {
                    cursor.after = gap.sequence;
                    // Numbers only: this can't fail.
                    let data = serde_json::to_string(&gap).unwrap_or_default();
                    let event = Event::default().event("gap").data(data).id(gap.sequence.to_string());
                    return Some((Ok(event), cursor));
                }
            }
        }
        tokio::select! {
            changed = folded.changed(), if rest.is_none() => {
                changed.ok()?;
                cursor.rest = cursor.is_one_of_many().then_some(cursor.phase);
            }
            () = tokio::time::sleep(cursor.pace() * rest.unwrap_or_default() / PHASES), if rest.is_some() => {}
            _ = stopped.wait_for(|stop| *stop) => return None,
        }
    }
}

impl Cursor {
    /// The time between two times that a stream is served.
    fn pace(&self) -> Duration {
        PACE * u32::try_from(self.open()).unwrap_or(u32::MAX)
    }

    fn is_one_of_many(&self) -> bool {
        self.open() > self.app.limits.streams_exact
    }

    fn open(&self) -> usize {
        self.app.limits.streams.saturating_sub(self.app.streams.available_permits())
    }

    /// Takes what is next, and moves on past what can't be read.
    async fn refill(&mut self, size: u64) -> Result<Turn, Refusal> {
        let after = self.after;
        let many = self.is_one_of_many();
        if many && size - after > TOLD_TO_MANY {
            return Ok(Turn::Skip(Gap { after, sequence: size }));
        }
        if let Some(notices) = self.app.chronicle().notices(after, TOLD_AT_ONCE) {
            self.queue.extend(notices);
            if self.queue.is_empty() {
                self.after = size;
            }
            return Ok(Turn::Tell);
        }
        if many {
            return Ok(Turn::Skip(Gap { after, sequence: size }));
        }
        let (notices, last) = app::blocking(&self.app, move |app| {
            let entries = app.ledger.read(after, TOLD_AT_ONCE)?;
            let last = entries.last().map_or(size, Entry::sequence);
            let notices: Vec<Notice> = entries
                .iter()
                .filter_map(|entry| match entry {
                    Entry::Record(recorded) => Some(Notice::of(recorded)),
                    Entry::Quarantined { .. } => None,
                })
                .collect();
            Ok((notices, last))
        })
        .await?;
        if notices.is_empty() {
            self.after = last;
        }
        self.queue.extend(notices);
        Ok(Turn::Tell)
    }
}
