//! The nouns and events of delivery: what every other crate speaks.
//!
//! Holds names and ids, the event vocabulary that the ledger stores, the policy nouns (strategy, environment,
//! analysis), effects and samples that pass between planners and platforms, limits, error codes, and the clock and seed
//! traits. It deliberately does no I/O and decides nothing: engines decide, platforms act.
//!
//! Invariant: everything reachable from [`event::Event`] is a wire type. Its serialised form is version 1 of the ledger's
//! record format, so a change there is a format change (see `ARCHITECTURE.md`, "Records").

pub mod artifact;
pub mod change;
pub mod clock;
pub mod code;
pub mod effect;
pub mod environment;
pub mod event;
pub mod evidence;
pub mod exit;
pub mod finding;
pub mod id;
pub mod layout;
pub mod limits;
pub mod network;
pub mod people;
pub mod problem;
pub mod release;
pub mod report;
pub mod rollout;
pub mod seeded;
pub mod strategy;
pub mod text;
pub mod traffic;

pub use clock::{Clock, Seed};
pub use event::{Actor, Event, Recorded};
pub use id::{
    CommitId, Digest, EnvironmentName, GateName, ReleaseId, RevisionId, RolloutId, RunId, ServiceName,
    TaskName,
};
pub use jiff::Timestamp;
pub use problem::Problem;
