//! How a PostgreSQL server is reached: its address, a connection, and what its failures mean.
//!
//! The ledger (`ledger::postgres`) and the leases (`lease`) are built on it. Left out on purpose: a pool (the ledger keeps
//! its few connections itself).
//!
//! Invariant: no answer is waited for without end, and nothing here blocks a thread of the caller's runtime forever.

mod address;
mod failure;
mod link;
mod tls;

pub use address::Address;
pub(crate) use failure::is_corruption;
pub(crate) use link::{Background, Link, Value};
