//! A deterministic simulation of delivery under faults.
//!
//! From one seed it makes a world: a few controllers with the real driver, planner, fold and analysis; the real ledger on SQLite on a disk
//! that fails; sites whose grants are the real ones; people; and a network, clocks and metrics that can't be trusted. An oracle
//! checks what we promise after every record and every effect, and that everything ends once nothing fails any more.
//!
//! Left out: the edge's processes and its proxy (tests with real processes do that), and PostgreSQL.
//!
//! Invariant: a seed gives the same trace, byte for byte, on every machine and in every run.

#[cfg(feature = "seeded-bugs")]
pub mod bugs;
mod chaos;
mod clock;
mod controller;
pub mod coverage;
mod dice;
mod disk;
pub mod fault;
mod link;
mod office;
mod oracle;
mod profile;
pub mod run;
mod site;
mod universe;
mod vfs;
