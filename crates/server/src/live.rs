//! Live updates: server-sent events whose id is the ledger's sequence.
//!
//! A reader that comes back with `Last-Event-ID` gets exactly what came since, also after the server was restarted, also
//! what other processes recorded. An event says that something happened, not what is true now: pages are fetched for that.
//! Records that can't be read have no event.
//!
//! Invariant: a stream holds at most a few hundred notices however slow its reader is, because it is pulled.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use delivery::limits::STREAMS_MAX;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use store::Entry;
use tokio::sync::OwnedSemaphorePermit;

use crate::app::{self, App};
use crate::chronicle::Notice;
use crate::refusal::Refusal;

const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a browser waits before it comes back.
const RETRY: Duration = Duration::from_secs(1);
/// Records that one refill reads.
const REFILL_RECORDS: usize = 64;

/// Where to begin, for a reader that has no last event yet.
#[derive(Deserialize)]
pub(crate) struct Begin {
    after: Option<u64>,
}

struct Cursor {
    app: Arc<App>,
    after: u64,
    queue: VecDeque<Notice>,
    _place: OwnedSemaphorePermit,
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
        Refusal::busy(format!("all {STREAMS_MAX} live streams are taken")).hint("try again in a few seconds")
    })?;
    let size = *app.folded.borrow();
    // A sequence that the ledger has not reached belongs to another ledger.
    let after = last.unwrap_or(size).min(size);
    let hello = Event::default().retry(RETRY).comment("after this, events as they are recorded");
    let cursor = Cursor { app, after, queue: VecDeque::new(), _place: place };
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
        if size > cursor.after {
            // Whoever can't be served ends here, and comes back with the last event that arrived.
            cursor.refill(size).await.ok()?;
            continue;
        }
        tokio::select! {
            changed = folded.changed() => changed.ok()?,
            _ = stopped.wait_for(|stop| *stop) => return None,
        }
    }
}

impl Cursor {
    /// Takes what is next, and moves on past what can't be read.
    async fn refill(&mut self, size: u64) -> Result<(), Refusal> {
        if let Some(notices) = self.app.chronicle().notices(self.after) {
            self.queue.extend(notices);
            if self.queue.is_empty() {
                self.after = size;
            }
            return Ok(());
        }
        let after = self.after;
        let (notices, last) = app::blocking(&self.app, move |app| {
            let entries = app.ledger.read(after, REFILL_RECORDS)?;
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
        Ok(())
    }
}
