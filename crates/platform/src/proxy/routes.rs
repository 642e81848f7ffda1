//! What the edge tells the splitter: which revisions there are, where they listen, and who goes where.

use std::net::SocketAddr;

use delivery::RevisionId;
use delivery::strategy::Sticky;
use delivery::traffic::Weight;
use http::HeaderName;

/// A revision and where its instances listen. The list changes when a process is restarted elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arm {
    /// The revision.
    pub revision: RevisionId,
    /// Its ready instances. Empty means that requests for it are answered 503, as its errors.
    pub instances: Vec<SocketAddr>,
}

/// What happens to a request that failed on the canary before any of its response was delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RetryPolicy {
    /// The client gets the error.
    #[default]
    Off,
    /// When its method is idempotent (RFC 9110, 9.2.2) and it has no body, it is sent to stable once. It still counts as
    /// the canary's error. Failures are broken connections and time-outs; a complete response, 5xx included, is delivered.
    IdempotentOnStable,
}

/// The whole routing state; always replaced as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    /// What serves by default.
    pub stable: Option<Arm>,
    /// What is tried.
    pub canary: Option<Arm>,
    /// The canary's share of requests. Without a stable arm, any weight above zero gives it everything.
    pub weight: Weight,
    /// Who stays where.
    pub sticky: Sticky,
    /// See [`RetryPolicy`].
    pub retry: RetryPolicy,
    /// The request header whose value `canary` or `stable` chooses the arm, usually `x-trimtab-arm`. `None`: such a header is
    /// not looked at. It reaches a canary only while the weight is above zero, so that weight 0 means none at all.
    pub override_header: Option<HeaderName>,
}
