//! One HTTP/1.1 connection to an instance, driven by the request that uses it.
//!
//! hyper's connection is a future of its own that is usually spawned. Here the request's task polls it, so that a response
//! does not hop between tasks; an idle connection is not polled at all, and is asked whether it still lives when it is
//! taken. Everything that concerns one exchange happens inside [`Upstream::poll`], which is why the other futures may be
//! polled with a waker that does nothing.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::body::{RequestBody, Turn, Upload};
use super::limits::{HEAD_BYTES_MAX, HEADERS_MAX, IDLE_CLOSE_AFTER, IDLE_CLOSE_WITHIN, ProxyLimits};
use super::pause::Pause;
use super::refusal::Refusal;

/// Why an exchange has no response.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client's body broke off: not the instance's fault.
    Client,
    /// The client did not send the next part of its body in time.
    ClientLate,
    /// The instance did not answer in time.
    Late,
    /// The connection was closed or reset before the response's head was complete.
    Broken,
    /// The answer was not HTTP, or its head was too large.
    Malformed,
}

impl Failure {
    fn of(error: &hyper::Error) -> Self {
        if error.is_user() {
            Self::Client
        } else if error.is_parse() {
            Self::Malformed
        } else {
            Self::Broken
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Client => Self::ClientBody,
            Failure::ClientLate => Self::ClientTimeout,
            Failure::Late => Self::ResponseTimeout,
            Failure::Broken => Self::Broken,
            Failure::Malformed => Self::Malformed,
        }
    }
}

struct Link {
    sender: SendRequest<RequestBody>,
    connection: Connection<TokioIo<TcpStream>, RequestBody>,
    /// The connection's future is complete: it must not be polled again.
    done: bool,
    /// It has carried a request before.
    used: bool,
    idle_since: Instant,
    pause: Pause,
    /// Its place among the connections to instances.
    slot: OwnedSemaphorePermit,
}

/// An upgraded connection's socket.
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    /// What was read from it already.
    pub(super) early: Bytes,
    pub(super) slot: OwnedSemaphorePermit,
}

/// A connection to an instance.
pub(super) struct Upstream(Box<Link>);

impl Upstream {
    pub(super) async fn connect(
        address: SocketAddr,
        deadline: Instant,
        slot: OwnedSemaphorePermit,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let now = Instant::now();
        let pause = Pause::until(deadline);
        let link = Link { sender, connection, done: false, used: false, idle_since: now, pause, slot };
        Ok(Self(Box::new(link)))
    }

    /// Whether it has carried a request before: such a connection may be closing just as the next request is written.
    pub(super) fn used(&self) -> bool {
        self.0.used
    }

    /// Whether a kept connection that broke without an answer to what was sent at `sent` was, as far as can be told, just
    /// being closed for idleness. A busy connection, or one that broke later, was broken by the request.
    pub(super) fn was_closing(&self, sent: Instant) -> bool {
        sent.duration_since(self.0.idle_since) >= IDLE_CLOSE_AFTER && sent.elapsed() <= IDLE_CLOSE_WITHIN
    }

    pub(super) fn idle_since(&self) -> Instant {
        self.0.idle_since
    }

    /// Whether another request can be sent on it.
    pub(super) fn is_open(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll(cx);
        !self.0.done && self.0.sender.is_ready()
    }

    /// Writes the request's head, and as much of the body as there is, before it returns.
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
        cx: &mut Context<'_>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        let answer = self.0.sender.send_request(request);
        self.poll(cx);
        answer
    }

    /// The response's head. The instance's time runs from `sent`, or from the last part of the body that it was offered.
    pub(super) async fn answer(
        &mut self,
        answer: impl Future<Output = hyper::Result<Response<Incoming>>>,
        sent: Instant,
        upload: Option<&Upload>,
        limits: &ProxyLimits,
    ) -> Result<Response<Incoming>, Failure> {
        let mut answer = std::pin::pin!(answer);
        std::future::poll_fn(|cx| {
            self.poll(cx);
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(Failure::of(&error))),
                Poll::Pending if self.0.done => Poll::Ready(Err(Failure::Broken)),
                Poll::Pending => {
                    let (turn, since) = upload.map_or((Turn::Instance, sent), Upload::turn);
                    let (within, failure) = match turn {
                        Turn::Client => (limits.request_head, Failure::ClientLate),
                        Turn::Instance => (limits.response_head, Failure::Late),
                    };
                    self.0.pause.poll(cx, since + within).map(|()| Err(failure))
                }
            }
        })
        .await
    }

    /// The next part of the response's body.
    pub(super) fn poll_frame(
        &mut self,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut quiet = Context::from_waker(Waker::noop());
        // Asking first tells the connection that there is room; polling it then may read a part.
        if let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(&mut quiet) {
            return Poll::Ready(frame);
        }
        self.poll(cx);
        Pin::new(&mut *incoming).poll_frame(&mut quiet)
    }

    /// After a complete exchange: itself, if it can carry another request.
    pub(super) fn into_idle(mut self) -> Option<Self> {
        let mut quiet = Context::from_waker(Waker::noop());
        if !self.0.sender.is_ready() {
            self.poll(&mut quiet);
        }
        if self.0.done || !self.0.sender.is_ready() {
            return None;
        }
        self.0.used = true;
        self.0.idle_since = Instant::now();
        Some(self)
    }

    /// After a 101: the socket.
    pub(super) async fn into_socket(mut self) -> Socket {
        std::future::poll_fn(|cx| {
            self.poll(cx);
            if self.0.done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        let Link { connection, slot, .. } = *self.0;
        let parts = connection.into_parts();
        Socket { stream: parts.io.into_inner(), early: parts.read_buf, slot }
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        if !self.0.done {
            // Its errors reach the exchange through the answer or the body.
            self.0.done = self.0.connection.poll_without_shutdown(cx).is_ready();
        }
    }
}
