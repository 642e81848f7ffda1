//! Task results and reports become findings; gates turn findings into verdicts with reasons.
//!
//! [`junit::parse`] reads test reports of any common dialect; [`judge`] is pure and total. Leaves out running tasks and
//! recording verdicts. Invariant: what is missing or can't be read never passes a gate.

mod fingerprint;
pub mod junit;
mod verdict;

pub use fingerprint::fingerprint;
pub use junit::{ReportError, TestReport};
pub use verdict::{GateInput, GateTask, ReportInput, judge};
