//! The proxy's limits, by name and with their units, and the ones that can be set.

use std::time::Duration;

/// Bytes of one request's or response's head, request line included. More is answered 431 (requests) or 502 (responses).
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Header lines of one message.
pub const HEADERS_MAX: usize = 100;
/// Client connections at once; further ones wait in the listener's backlog.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Concurrent streams of one HTTP/2 connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 250;
/// Connections kept idle towards one instance by one shard.
pub const IDLE_PER_SHARD_MAX: usize = 128;
/// How long a connection to an instance is kept idle. Below the 5 s after which Node.js, the commonest strict server,
/// closes its side, so that a request seldom meets a connection that is just being closed.
pub const UPSTREAM_IDLE_MAX: Duration = Duration::from_secs(4);
/// How long a connection attempt may take; then 504.
pub const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long an instance may take until its response's head is complete; then 504.
pub const RESPONSE_HEAD_MAX: Duration = Duration::from_secs(30);
/// How long a client may take to send a request's head, the idle time of a kept connection included; and to send each
/// part of a request's body before the response's head, then 408.
pub const REQUEST_HEAD_MAX: Duration = Duration::from_mins(1);
/// How often one request is sent back to choosing because routes changed or kept connections turned out dead; then 503.
pub const ROUTINGS_MAX: u32 = 8;
/// How long connections may take to end when the proxy stops.
pub const STOP_MAX: Duration = Duration::from_secs(10);

/// The limits that can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyLimits {
    /// See [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// See [`CONNECT_MAX`].
    pub connect: Duration,
    /// See [`RESPONSE_HEAD_MAX`].
    pub response_head: Duration,
    /// See [`REQUEST_HEAD_MAX`].
    pub request_head: Duration,
    /// See [`STOP_MAX`].
    pub stop: Duration,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX,
            connect: CONNECT_MAX,
            response_head: RESPONSE_HEAD_MAX,
            request_head: REQUEST_HEAD_MAX,
            stop: STOP_MAX,
        }
    }
}
