//! What others say happened: monitoring, incident tools, other deployers.
//!
//! Their names are kept as they gave them, because they follow other rules than ours. Invariant: a report moves no rollout of
//! ours, whatever it calls its things; it is evidence for the figures, and nothing that is decided on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::Event;

/// Who reported, and under which number. Together unique (CloudEvents 1.0, "source" and "id"): the same origin again is the
/// same report again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The reporter, a URI reference.
    pub source: String,
    /// Its number for the report.
    pub id: String,
}

/// An incident as its reporter names it; the same in all reports about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IncidentName {
    /// Whose incident, a URI reference.
    pub source: String,
    /// Its id there.
    pub id: String,
}

/// What another deployer did with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceStep {
    /// It runs where none of it ran before.
    Deployed,
    /// Another artifact took its predecessor's place.
    Upgraded,
    /// An earlier artifact was put back.
    RolledBack,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "data")]
pub enum Fact {
    /// Something is wrong with a service.
    IncidentDetected {
        /// The incident.
        incident: IncidentName,
        /// The service.
        service: String,
        /// The environment.
        environment: String,
        /// In the reporter's words; may be empty.
        summary: String,
    },
    /// It is right again.
    IncidentResolved {
        /// The incident.
        incident: IncidentName,
    },
    /// A service was changed by somebody else than us.
    ServiceChanged {
        /// How.
        step: ServiceStep,
        /// The service.
        service: String,
        /// The environment.
        environment: String,
        /// What serves there now: a package URL.
        artifact: String,
    },
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Who reported it.
    pub origin: Origin,
    /// When it happened, as the reporter says.
    pub occurred_at: Timestamp,
    /// What.
    pub fact: Fact,
}

impl From<Report> for Event {
    fn from(report: Report) -> Self {
        let Report { origin, occurred_at, fact } = report;
        Self::Reported { origin, occurred_at, fact }
    }
}
