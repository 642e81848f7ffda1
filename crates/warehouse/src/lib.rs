//! Folds events and git history into facts: the DORA figures, each with n, an interval and a reason when empty.
//!
//! Two sources give [`Deployment`]s: the ledger ([`Facts`]) and, where there is none, git's version tags ([`from_git`]). One pure
//! function, [`dora::report`], turns deployments into a [`DoraReport`]. Definitions, formulas and decisions are in
//! `docs/explanation/dora.md`; the two must say the same.
//!
//! Left out so far: trends, CI, cost. Invariant: a figure without data has no value, never 0, and says why and what to do.

mod deployment;
mod git;
mod ledger;
mod package;

pub mod dora;
pub mod figure;
pub mod interval;
pub mod window;

pub use deployment::{Change, Confidence, Deployment, Failure, FailureKind};
pub use dora::{DoraReport, Scope, Source};
pub use figure::{Figure, Unit};
pub use git::{GIT_ENVIRONMENT, from_git};
pub use interval::Interval;
pub use ledger::Facts;
pub use window::Window;

#[cfg(test)]
mod tests;
