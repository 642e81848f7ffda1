//! What a run says: while it goes on, of each task, and of the whole.
//!
//! Leaves out rendering and recording. Invariant: every task of the plan is in the run's report exactly once, in the plan's order.

use std::sync::Arc;

use camino::Utf8PathBuf;
use delivery::TaskName;
use delivery::event::TaskOutcome;

use crate::cache::explain::CacheExplanation;
use crate::product::OutputFile;

/// What happens during a run, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The task's process was started.
    Started {
        /// The task.
        task: TaskName,
    },
    /// The task wrote a line, without its line break, masked and cut at `LOG_LINE_BYTES_MAX`.
    Output {
        /// The task.
        task: TaskName,
        /// The line; bytes that are not UTF-8 are replaced.
        line: String,
    },
    /// The task ended, was skipped, or came from the cache.
    Finished(Box<TaskReport>),
}

/// How one task went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskReport {
    /// The task.
    pub task: TaskName,
    /// How it ended.
    pub outcome: TaskOutcome,
    /// Whether it was not run because its result was known.
    pub cached: bool,
    /// The cache key in hexadecimal; empty when it could not be computed or was not needed.
    pub key: String,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
    /// One clause: exit code, time limit, what it waited for, what was put back from the cache.
    pub detail: String,
    /// Its output, complete up to the limit. The file is absent for tasks that did not start.
    pub log: Utf8PathBuf,
    /// Why it was or was not taken from the cache.
    pub explanation: CacheExplanation,
    /// JUnit reports that this run of it wrote, or that came from the cache; absolute.
    pub reports: Vec<Utf8PathBuf>,
    /// Globs of `junit` that none of these matches: nothing was written, or what lies there is from before.
    pub reports_missing: Vec<String>,
    /// What it wrote, or what came from the cache for it, reports included; empty unless it succeeded.
    pub outputs: Arc<Vec<OutputFile>>,
    /// The last lines that it wrote; empty when it came from the cache.
    pub output_tail: Vec<String>,
}

/// How the detail of a task begins that ended well, but not with all that it declares.
pub(crate) const LACKS_OUTPUT: &str = "it ended well but did not write its output";

impl TaskReport {
    /// Whether it failed only because a declared output is missing.
    pub fn lacks_output(&self) -> bool {
        self.outcome == TaskOutcome::Failure && self.detail.starts_with(LACKS_OUTPUT)
    }
}

/// How the run went.
#[derive(Debug, Clone, PartialEq)]
pub struct RunReport {
    /// Every task of the plan, in its order.
    pub tasks: Vec<TaskReport>,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
    /// Longest chain of needs over the measured durations in milliseconds.
    pub critical_path_ms: u64,
    /// Sum of the tasks' durations in milliseconds.
    pub work_ms: u64,
    /// Lower bound of the duration (the critical path, or the work over the slots) over the duration, 0 to 1; 1 for an
    /// immeasurably short run.
    pub efficiency: f64,
    /// What went wrong without failing the run: cache trouble, mostly.
    pub warnings: Vec<String>,
}

impl RunReport {
    /// Success only if every task succeeded; else the outcome that tells most: cancelled, failed, timed out, not started.
    pub fn outcome(&self) -> TaskOutcome {
        let has = |outcome| self.tasks.iter().any(|task| task.outcome == outcome);
        let order = [
            TaskOutcome::Cancelled,
            TaskOutcome::Failure,
            TaskOutcome::TimedOut,
            TaskOutcome::NotStarted,
            TaskOutcome::Skipped,
        ];
        order.into_iter().find(|outcome| has(*outcome)).unwrap_or(TaskOutcome::Success)
    }

    /// Tasks that came from the cache.
    pub fn cached(&self) -> usize {
        self.tasks.iter().filter(|task| task.cached).count()
    }
}
