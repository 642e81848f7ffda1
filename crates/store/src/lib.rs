//! One ledger over SQLite or PostgreSQL with a Merkle tree over its records, leases, and content-addressed blobs.
//!
//! The ledger is the only truth: every durable fact is an event in it, and all state is a fold over it. Left out on
//! purpose: projections that fit into memory (each engine folds what it needs), and the signatures on checkpoints.
//!
//! Invariant: nothing is acknowledged before it is durable, and nothing that was acknowledged is ever changed or lost
//! without [`Ledger::verify`] saying so.

pub mod artifact;
mod blob;
pub mod bundle;
pub mod checkpoint;
mod error;
mod lease;
pub mod ledger;
pub mod merkle;
mod postgres;
mod recall;
pub mod tiles;

pub use blob::{BLOB_BYTES_MAX, BlobError, BlobId, Blobs};
pub use bundle::{Bundle, BundleError};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use error::Error;
pub use lease::{LEASE_TTL, Lease, LeaseError, Leases};
pub use ledger::verify::{Damage, Fault, Verification};
pub use ledger::{
    Access, BASIS_RECORDS_MAX, Basis, Committer, ConsistencyProof, Entry, Head, InclusionProof, Ledger,
    MigrateError, Migration, Place, Revealed, Schema, Standing, Step, migrate,
};
pub use postgres::Address;
pub use recall::Recall;
