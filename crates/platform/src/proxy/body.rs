//! The two bodies that stream through: the client's towards the instance, the instance's towards the client.
//!
//! Nothing is buffered here beyond the part in hand; each side's pace holds the other back. Invariant: a response body ends its
//! request's ticket exactly once: complete, broken (an error), or dropped (the client went away).

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, SizeHint};
use hyper::body::{Frame, Incoming};
use tokio::time::Instant;

use super::counters::Ticket;
use super::endpoint::Endpoint;
use super::upstream::Upstream;

/// Whose turn it is while a client's body is sent on, and since when: a stall is charged to the side that causes it.
#[derive(Debug)]
pub(super) struct Upload(Mutex<(Turn, Instant)>);

/// Who is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The client has not sent the next part.
    Client,
    /// The instance has not taken the last part, or has everything and has not answered.
    Instance,
}

impl Upload {
    pub(super) fn turn(&self) -> (Turn, Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, turn: Turn) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turn == Turn::Instance || state.0 != turn {
            *state = (turn, Instant::now());
        }
    }
}

/// What is sent to an instance.
pub(super) enum RequestBody {
    Empty,
    Streaming(Incoming, Arc<Upload>),
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        let upload = Upload(Mutex::new((Turn::Instance, Instant::now())));
        Self::Streaming(incoming, Arc::new(upload))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(incoming, upload) => {
                let frame = Pin::new(incoming).poll_frame(cx);
                upload.pass(if frame.is_pending() { Turn::Client } else { Turn::Instance });
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(incoming, _) => incoming.size_hint(),
        }
    }
}

/// A response's body with all that must be settled when it ends.
pub(super) struct Relay {
    pub(super) upstream: Upstream,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) ticket: Ticket,
    /// The status was 500 or above.
    pub(super) failed: bool,
}

impl Relay {
    /// The response is complete.
    pub(super) fn settle(self) {
        if let Some(idle) = self.upstream.into_idle() {
            self.endpoint.keep(idle);
        }
        self.ticket.finish(self.failed);
    }
}

/// What is sent to the client.
pub(super) enum ResponseBody {
    /// The proxy's own few words, or nothing.
    Whole(Option<Bytes>),
    /// An instance's.
    Relayed(Incoming, Option<Box<Relay>>),
}

impl ResponseBody {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// Streams the instance's body; an empty one is settled at once, because nobody would ask for its parts.
    pub(super) fn relay(incoming: Incoming, relay: Relay) -> Self {
        if incoming.is_end_stream() {
            relay.settle();
            return Self::Relayed(incoming, None);
        }
        Self::Relayed(incoming, Some(Box::new(relay)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let (incoming, slot) = match &mut *self {
            Self::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Relayed(incoming, slot) => (incoming, slot),
        };
        let Some(relay) = slot else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(relay.upstream.poll_frame(incoming, cx));
        let broken = matches!(frame, Some(Err(_)));
        if (broken || frame.is_none() || incoming.is_end_stream())
            && let Some(relay) = slot.take()
        {
            if broken {
                relay.ticket.finish(true);
            } else {
                relay.settle();
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Relayed(_, slot) => slot.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Relayed(incoming, _) => incoming.size_hint(),
        }
    }
}
