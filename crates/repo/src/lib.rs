//! Reads git history: commits, tags, changes, versions.
//!
//! One module, `git`, starts the `git` binary; everything else is parsing and pure functions over what it printed. The crate
//! only reads: it never writes a ref, an object or the index. It deliberately knows nothing of forges (pull requests, reviews)
//! and nothing of deployments.
//!
//! Invariant: nothing that a repository holds (a branch called `--output=x`, a path with a newline, a message in Latin-1) can
//! become an option, a second record or a panic.

mod error;
mod git;
mod log;
mod repository;
mod tracked;

pub mod conventional;
pub mod graph;
pub mod limits;
pub mod lineage;
pub mod version;

pub use error::Error;
pub use graph::Graph;
pub use log::{Entry, History};
pub use repository::{Change, Repository, Tag};
pub use tracked::tracked;
pub use version::NextVersion;

#[cfg(test)]
mod tests;
