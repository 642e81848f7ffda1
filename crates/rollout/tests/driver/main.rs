//! The driver against a real ledger and a platform that fails as it pleases, under tokio's paused time: whatever dies, wherever,
//! every rollout ends and every promise holds.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod bench;
mod fault;
mod hold;
mod kill;
mod person;
mod world;
