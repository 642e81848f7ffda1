//! What one server takes on at once. Each kind of work has places of its own, so that none keeps another waiting.
//!
//! The values are `delivery::limits`'; tests take smaller ones. Invariant: what has no place is refused at once or after a
//! bounded wait, with the time after which to come again.

use std::time::Duration;

use delivery::limits;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections; more wait for a place.
    pub connections: usize,
    /// How long a request's head may take, also when the connection was used before.
    pub head_within: Duration,
    /// How long a request's body may take.
    pub body_within: Duration,
    /// How long a peer may take nothing of what it is sent.
    pub stalled_within: Duration,
    /// Live streams.
    pub streams: usize,
    /// Live streams that are told each record, however far back.
    pub streams_exact: usize,
    /// Requests that only read.
    pub reads: usize,
    /// Requests that wait until others have read.
    pub reads_waiting: usize,
    /// Requests that change something.
    pub changes: usize,
    /// Requests that report.
    pub reports: usize,
    /// Bytes of the bodies of all requests that report.
    pub report_bytes: usize,
    /// Reported events that wait to be recorded.
    pub reports_waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS_MAX,
            head_within: Duration::from_secs(10),
            body_within: Duration::from_secs(10),
            stalled_within: Duration::from_secs(30),
            streams: limits::STREAMS_MAX,
            streams_exact: limits::STREAMS_EXACT_MAX,
            reads: limits::READS_MAX,
            reads_waiting: limits::READS_WAITING_MAX,
            changes: limits::CHANGES_MAX,
            reports: limits::REPORTS_MAX,
            report_bytes: limits::REPORT_BODIES_BYTES_MAX,
            reports_waiting: limits::REPORTS_WAITING_MAX,
        }
    }
}
