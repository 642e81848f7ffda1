//! The embedded traffic-splitting proxy: one listening address, a stable and a canary revision behind it.
//!
//! HTTP/1.1 and HTTP/2 (cleartext, prior knowledge) in front, HTTP/1.1 with kept connections behind. Each request is given
//! an arm by the pure [`choose`] function, streams through in both directions, and is counted for its revision when it
//! ends. It leaves out TLS (a terminator stands in front), caching, active health checks (the supervisor tells it which
//! instances there are) and bodies' rewriting.
//!
//! # What is promised, and why it holds
//!
//! *No canary request starts after weight 0 was acknowledged.* A request starts when its head is written to the upstream's
//! socket. Choosing the arm, taking a connection and writing the head are one synchronous section under a read lock of the
//! routes; a connection that must first be made sends the request back to choosing. A change of routes takes the write lock
//! of every shard in turn and is acknowledged after the last, so no section that saw the old routes is still running.
//!
//! *Exposure is monotone.* A sticky request is a fixed point in 0..10,000; it is the canary's when the point is below the
//! weight. See [`choose`].
//!
//! # How requests are counted
//!
//! A request is counted once, when it ends, for the revision that it was sent to; an upgrade (WebSocket) when the 101 arrives.
//! Its latency is the time from the request's head to the *response's head*: the body's pace is often the client's.
//! It is an error when the status is 500 or above, or the connection is refused, reset, closed early, answers what is
//! not HTTP, or times out, before the head or in the middle of the body. A request that the client gave up is not an
//! error; it counts with the time it had waited, so that an arm that hangs shows as slow instead of silent.
//! A request that broke a busy kept connection counts as an error, and its second try as another request.
//! A request without any revision or connection to go to is answered 503 and counted for none. One that chose its arm by the
//! override header is counted apart: it was not drawn, and anyone may be able to send it.
//!
//! # Limits
//!
//! Bodies have no time limit, because event streams and long polls may be silent for long; while a request's body is sent, the
//! side that stalls before the response's head is the one whose limit runs. Tunnels live until either side ends: weight 0
//! stops new ones only, and retiring the revision ends the rest. Interim responses (1xx) of instances end here, early hints
//! too.
//!
//! See [`limits`]; every one is checked before memory is taken for what it limits.

mod body;
pub mod choose;
mod clock;
mod counters;
mod endpoint;
mod exchange;
mod facts;
mod forward;
mod head_timer;
mod headers;
pub mod limits;
mod pause;
mod refusal;
mod routes;
mod serve;
mod shard;
mod splitter;
mod tunnel;
mod upstream;

pub use clock::boottime;
pub use limits::ProxyLimits;
pub use routes::{Arm, RetryPolicy, Routes};
pub use serve::serve;
pub use splitter::Splitter;
