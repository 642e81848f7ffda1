//! Which of the files that a task's output globs mean are the task's own.
//!
//! A build folder outlives runs: it may hold files of an earlier result that the present one does not have, and files that
//! somebody dropped there. The former are taken away, before the task runs and when its result is put back, so that both give
//! what they would give in a fresh clone; the latter are never touched and never taken for the task's.
//! What git tracks and what the task reads is left alone in any case. Leaves out where results are kept (see `cache`).
//! Invariant: a file is removed only if it is what a kept result of that very task left at that path.

use std::collections::HashMap;
use std::io;
use std::sync::PoisonError;

use camino::{Utf8Path, Utf8PathBuf};

use crate::cache::entry::Output;
use crate::cache::stat::{self, Signature, State, kernel_time_ns};
use crate::cache::{Effort, StateError};
use crate::job::{Job, Listed, Workshop};
use crate::tree::{Pattern, outputs};

/// A file that a task wrote, or that was put back for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFile {
    /// Relative to the root.
    pub path: Utf8PathBuf,
    state: State,
}

impl OutputFile {
    pub(crate) fn new(path: &str, state: State) -> Self {
        Self { path: path.into(), state }
    }

    /// Whether the file below the root still is what the task wrote.
    pub fn is_in_place(&self, root: &Utf8Path) -> io::Result<bool> {
        Ok(stat::hash(root, self.path.as_str())?.is_some_and(|found| found.state == self.state))
    }
}

/// What lies among a task's outputs and is not in its result.
#[derive(Debug, Default)]
pub(crate) struct Surplus {
    /// Left by an earlier result of the task.
    pub(crate) own: Vec<String>,
    /// A file that no task is known to have written.
    pub(crate) foreign: Option<String>,
}

/// What a successful task wrote.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// By path.
    pub(crate) files: Vec<(String, State)>,
    /// A declared output that is not there.
    pub(crate) missing: Option<String>,
    /// A declared output that was there before and that the task left as it was.
    pub(crate) left: Option<String>,
    /// A file among the outputs that it did not write.
    pub(crate) foreign: Option<String>,
}

/// The files that lay among the outputs before the task ran. `None` for one that another task wrote so recently that this
/// one's writing might not show.
pub(crate) type Stamps = HashMap<String, Option<Signature>>;

impl Workshop {
    /// What lies among the task's outputs beside those that it is to have. `kept` is sorted by path.
    pub(crate) fn surplus(
        &self,
        job: &Job,
        listed: &Listed,
        kept: &[Output],
        effort: Effort,
    ) -> Result<Surplus, StateError> {
        let is_kept = |path: &str| kept.binary_search_by(|output| output.path.as_str().cmp(path)).is_ok();
        // A file that is where a path without wildcards says leaves no room for others.
        if job.outputs.iter().all(|pattern| pattern.is_negated() || is_kept(pattern.base())) {
            return Ok(Surplus::default());
        }
        let (mut extra, _) =
            outputs(&self.root, &job.outputs).map_err(|error| StateError::Unreadable(error.to_string()))?;
        extra.retain(|path| !is_kept(path) && !self.is_kept_by_others(job, listed, path));
        let mut surplus = Surplus::default();
        if extra.is_empty() {
            return Ok(surplus);
        }
        let owners = self.cache.owners();
        for (path, state) in self.cache.states(extra, effort)? {
            let Some(state) = state else { continue };
            let left = owners.get(&path).map(Vec::as_slice).unwrap_or_default();
            let mut left = left.iter().filter(|(_, known)| *known == state).map(|(task, _)| task.as_str());
            match left.clone().any(|task| task == job.task.name.as_str()) {
                true => surplus.own.push(path),
                // Another task's is that task's business.
                false if left.next().is_some() => {}
                false => surplus.foreign = surplus.foreign.or(Some(path)),
            }
        }
        Ok(surplus)
    }

    /// Whether the file is git's, the task's own input, a report, or was written in this run.
    fn is_kept_by_others(&self, job: &Job, listed: &Listed, path: &str) -> bool {
        listed.holds(path)
            || job.junit.iter().any(|pattern| !pattern.is_negated() && pattern.matches(path))
            || self.is_made(path)
            || self.tree.is_tracked(path)
    }

    /// Removes what an earlier result left.
    pub(crate) fn clear(&self, job: &Job, surplus: &[String]) -> Result<(), String> {
        for path in surplus {
            let bases = job.outputs.iter().filter(|pattern| pattern.matches(path)).map(Pattern::base);
            let base = bases.max_by_key(|base| base.len()).unwrap_or_default();
            self.cache.remove(path, base).map_err(|error| format!("{path} can't be removed: {error}"))?;
        }
        if !surplus.is_empty() {
            self.touched(job);
        }
        Ok(())
    }

    /// The task's outputs may have changed, so what they are to others is asked anew.
    pub(crate) fn touched(&self, job: &Job) {
        if self.tree.touch(&job.outputs) {
            self.cache.advance();
        }
    }

    /// What lies among the outputs before the task runs.
    pub(crate) fn stamps(&self, job: &Job) -> Stamps {
        let now = kernel_time_ns();
        let stamp = |path: String| {
            let signature = Signature::of(&self.root.join(&path).symlink_metadata().ok()?);
            let sure = signature.settled(now) || !self.is_made(&path);
            Some((path, sure.then_some(signature)))
        };
        let found = outputs(&self.root, &job.outputs).map(|(paths, _)| paths).unwrap_or_default();
        found.into_iter().filter_map(stamp).collect()
    }

    /// What the task wrote among its outputs, with its reports.
    pub(crate) fn written(
        &self,
        job: &Job,
        listed: &Listed,
        before: &Stamps,
        reports: &[String],
    ) -> Result<Written, String> {
        let (files, found) = outputs(&self.root, &job.outputs).map_err(|error| error.to_string())?;
        let declared = |at: usize| job.task.outputs.get(at).cloned();
        if let Some(at) = found.iter().position(|found| !found) {
            return Ok(Written { missing: declared(at), ..Written::default() });
        }
        let is_stale = |path: &String| {
            let Some(Some(then)) = before.get(path) else { return false };
            let now = self.root.join(path).symlink_metadata().ok();
            now.is_some_and(|now| Signature::of(&now) == *then)
                && !listed.holds(path)
                && !self.tree.is_tracked(path)
        };
        let (stale, mut paths): (Vec<String>, Vec<String>) = files.into_iter().partition(is_stale);
        let wrote =
            |pattern: &Pattern| pattern.is_negated() || paths.iter().any(|path| pattern.matches(path));
        let left =
            if stale.is_empty() { None } else { job.outputs.iter().position(|pattern| !wrote(pattern)) };
        paths.extend(reports.iter().cloned());
        paths.sort_unstable();
        paths.dedup();
        let states = self.cache.states(paths, Effort::Full).map_err(|error| match error {
            StateError::Busy => "too much to hash".to_owned(),
            StateError::Unreadable(what) => what,
        })?;
        let files: Vec<_> = states.into_iter().filter_map(|(path, state)| Some((path, state?))).collect();
        let foreign = stale.into_iter().find(|path| !self.is_kept_by_others(job, listed, path));
        self.made_by(files.iter().map(|(path, _)| path.clone()));
        Ok(Written { files, missing: None, left: left.and_then(declared), foreign })
    }

    fn is_made(&self, path: &str) -> bool {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// Remembers that a task of this run has these files.
    pub(crate) fn made_by(&self, paths: impl Iterator<Item = String>) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).extend(paths);
    }
}
