//! Manifest and history to a plan, and the plan to a run: task graph, cache, execution.
//!
//! [`plan()`] is pure: it picks the wanted tasks with all that they need and orders them by their longest remaining path.
//! [`run()`] is the edge: it hashes inputs, takes unchanged results from a content-addressed cache, starts the rest as
//! processes with limits on time and output, and explains every hit and miss. It records nothing and judges nothing:
//! the caller turns [`TaskReport`]s into events, and `gate` turns reports into verdicts.
//!
//! Invariants: a cache error is never a run error; a failed task is never cached; when [`run()`] returns, no process of any
//! of its tasks is left that could be found.

mod cache;
mod cancel;
mod capture;
mod environment;
mod job;
mod orphan;
mod plan;
mod process;
mod product;
mod program;
mod report;
mod run;
mod schedule;
mod tree;
mod wire;

pub use cache::explain::{CacheExplanation, CacheVerdict, Difference};
pub use cache::history;
pub use cancel::{Cancel, CancelHandle, CancelLevel};
pub use environment::BASE_VARIABLES;
pub use plan::{Plan, PlanError, PlannedTask, plan};
pub use product::OutputFile;
pub use report::{Progress, RunReport, TaskReport};
pub use run::{RunContext, run};
pub use tree::Globs;
