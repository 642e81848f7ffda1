//! The proxy's limits, by name and with their units, and the ones that can be set.

use std::time::Duration;

/// Bytes after which an incomplete head, of a request (431) or a response (502), is given up. One that is complete when they
/// are read may be longer by what one read brings.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Header lines of one message.
pub const HEADERS_MAX: usize = 100;
/// Client connections at once, tunnels included; further ones wait in the listener's backlog. As many connections to
/// instances may be open; who needs one more waits for a moment, then 503. An edge with fewer file descriptors has less.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Concurrent streams of one HTTP/2 connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 100;
/// Bytes of responses that wait in one HTTP/2 stream for the client to take them.
pub const STREAM_SEND_BYTES_MAX: usize = 16 << 10;
/// Connections kept idle towards one instance by one shard.
pub const IDLE_PER_SHARD_MAX: usize = 128;
/// How long a connection to an instance is kept idle. Below the 5 s after which Node.js, the commonest strict server,
/// closes its side, so that a request seldom meets a connection that is just being closed.
pub const UPSTREAM_IDLE_MAX: Duration = Duration::from_secs(4);
/// How long a connection attempt may take; then 504.
pub const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long an instance may take until its response's head is complete; then 504.
pub const RESPONSE_HEAD_MAX: Duration = Duration::from_secs(30);
/// How long a client may take to send a connection's first bytes; to send a request's head, the idle time of a kept
/// connection included; and to send each part of a request's body before the response's head, then 408.
pub const REQUEST_HEAD_MAX: Duration = Duration::from_mins(1);
/// How often one request is sent back to choosing because routes changed or kept connections turned out dead; then 503.
pub const ROUTINGS_MAX: u32 = 8;
/// How long a client may leave a written response in the socket without taking any of it; then its connection ends.
pub const WRITE_STALL_MAX: Duration = Duration::from_mins(1);
/// How long a tunnel whose one direction has ended may go on with the other.
pub const HALF_TUNNEL_MAX: Duration = Duration::from_secs(10);
/// A kept connection that was idle for at least this long may be closing for that reason.
pub const IDLE_CLOSE_AFTER: Duration = Duration::from_secs(1);
/// A request that meets such a close is turned away within this time, because nobody reads it.
pub const IDLE_CLOSE_WITHIN: Duration = Duration::from_millis(50);
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
    /// See [`WRITE_STALL_MAX`].
    pub write_stall: Duration,
    /// See [`HALF_TUNNEL_MAX`].
    pub half_tunnel: Duration,
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
            write_stall: WRITE_STALL_MAX,
            half_tunnel: HALF_TUNNEL_MAX,
            stop: STOP_MAX,
        }
    }
}
