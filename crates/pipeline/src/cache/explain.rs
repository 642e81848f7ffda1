//! Why a task was or was not taken from the cache: a comparison of key parts, field by field.
//!
//! Pure. Leaves out values (they may be secret) and contents. Invariant: a miss always has at least one reason.

use std::fmt;

use super::key::{Inputs, Parts};

/// Differences shown; the rest are counted.
const DIFFERENCES_MAX: usize = 20;

/// What the cache did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheVerdict {
    /// The result was known; the task was not run.
    Hit,
    /// The result was not known.
    Miss,
    /// The cache was not asked.
    Off,
}

/// Why a task was or was not taken from the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheExplanation {
    /// What the cache did.
    pub verdict: CacheVerdict,
    /// For a miss: what differs from the last run of the task that was kept. For anything else: a reason, if one needs saying.
    pub reasons: Vec<Difference>,
    /// Differences beyond those.
    pub more: usize,
}

/// One reason. Its `Display` is a clause such as "input src/a.rs changed".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// No earlier successful run of the task was kept.
    FirstRun,
    /// Program or arguments.
    CommandChanged,
    /// The directory that it runs in.
    DirectoryChanged,
    /// A declared variable has another value, is new or gone.
    EnvironmentChanged(String),
    /// A passed variable has another value, is new or gone.
    PassedChanged(String),
    /// A file has another content or mode.
    InputChanged(String),
    /// A file is new.
    InputAdded(String),
    /// A file is gone.
    InputRemoved(String),
    /// The output or report globs.
    OutputsChanged,
    /// A needed task gave something else.
    NeedChanged(String),
    /// A need is new.
    NeedAdded(String),
    /// A need is gone.
    NeedRemoved(String),
    /// Another operating system or processor.
    PlatformChanged,
    /// The same was run before, but its result is no longer kept.
    EntryGone,
    /// A kept result was damaged and put aside.
    EntryDamaged(String),
    /// An output was changed by something else, and the cache does not overwrite what it could not give back.
    OutputForeign(String),
    /// What lies where an output goes can't be looked at.
    OutputUnreadable(String),
    /// Something lies among the outputs that no task is known to have written.
    OutputUnknown(String),
    /// The task says `cache = false`.
    TurnedOff,
    /// The run was told to run everything.
    Forced,
    /// A needed task does not say what its result depends on, so this one's can't be known either.
    NeedUnknown(String),
    /// A file that it depends on can't be read.
    InputUnreadable(String),
    /// A file that it depends on changed while it ran, so its result was not kept.
    InputChangedMeanwhile,
    /// Its result could not be kept.
    NotKept(String),
    /// The task did not run.
    NotRun,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstRun => f.write_str("no earlier run was kept"),
            Self::CommandChanged => f.write_str("the command changed"),
            Self::DirectoryChanged => f.write_str("the directory changed"),
            Self::EnvironmentChanged(name) => write!(f, "environment {name} changed"),
            Self::PassedChanged(name) => write!(f, "passed variable {name} changed"),
            Self::InputChanged(path) => write!(f, "input {path} changed"),
            Self::InputAdded(path) => write!(f, "input {path} is new"),
            Self::InputRemoved(path) => write!(f, "input {path} is gone"),
            Self::OutputsChanged => f.write_str("the declared outputs changed"),
            Self::NeedChanged(task) => write!(f, "{task} gave another result"),
            Self::NeedAdded(task) => write!(f, "it needs {task} now"),
            Self::NeedRemoved(task) => write!(f, "it no longer needs {task}"),
            Self::PlatformChanged => f.write_str("the platform changed"),
            Self::EntryGone => f.write_str("the earlier result is no longer kept"),
            Self::EntryDamaged(what) => write!(f, "the kept result was damaged: {what}"),
            Self::OutputForeign(path) => write!(f, "output {path} was changed by something else"),
            Self::OutputUnreadable(what) => write!(f, "an output can't be looked at: {what}"),
            Self::OutputUnknown(path) => {
                write!(f, "{path} lies among the outputs, and no task is known to have written it")
            }
            Self::TurnedOff => f.write_str("the task says cache = false"),
            Self::Forced => f.write_str("the run was told not to use the cache"),
            Self::NeedUnknown(task) => write!(f, "{task} does not say what its result depends on"),
            Self::InputUnreadable(what) => write!(f, "an input can't be read: {what}"),
            Self::InputChangedMeanwhile => {
                f.write_str("an input changed while it ran, so the result was not kept")
            }
            Self::NotKept(why) => write!(f, "the result was not kept: {why}"),
            Self::NotRun => f.write_str("it did not run"),
        }
    }
}

impl CacheExplanation {
    pub(crate) fn hit() -> Self {
        Self { verdict: CacheVerdict::Hit, reasons: Vec::new(), more: 0 }
    }

    pub(crate) fn off(reason: Difference) -> Self {
        Self { verdict: CacheVerdict::Off, reasons: vec![reason], more: 0 }
    }

    pub(crate) fn miss(mut reasons: Vec<Difference>) -> Self {
        let more = reasons.len().saturating_sub(DIFFERENCES_MAX);
        reasons.truncate(DIFFERENCES_MAX);
        if reasons.is_empty() {
            reasons.push(Difference::EntryGone);
        }
        Self { verdict: CacheVerdict::Miss, reasons, more }
    }
}

impl fmt::Display for CacheExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.verdict {
            CacheVerdict::Hit => "from the cache: nothing that it depends on changed",
            CacheVerdict::Miss => "run: ",
            CacheVerdict::Off => "not cached: ",
        })?;
        for (at, reason) in self.reasons.iter().enumerate() {
            let lead = if at == 0 && self.verdict != CacheVerdict::Hit { "" } else { "; " };
            write!(f, "{lead}{reason}")?;
        }
        if self.more > 0 { write!(f, "; and {} more", self.more) } else { Ok(()) }
    }
}

/// What differs between the last kept run and this one. The inputs are compared only where their hashes differ, and only if
/// both are known.
pub(crate) fn differences(
    before: &Parts,
    now: &Parts,
    inputs: Option<(&Inputs, &Inputs)>,
) -> Vec<Difference> {
    let mut found = Vec::new();
    if before.command != now.command {
        found.push(Difference::CommandChanged);
    }
    if before.directory != now.directory {
        found.push(Difference::DirectoryChanged);
    }
    merge(&before.environment, &now.environment, &mut |name, _| {
        found.push(Difference::EnvironmentChanged(name.to_owned()));
    });
    merge(&before.passed, &now.passed, &mut |name, _| found.push(Difference::PassedChanged(name.to_owned())));
    merge(&before.needs, &now.needs, &mut |name, change| {
        found.push(match change {
            Change::Changed => Difference::NeedChanged(name.to_owned()),
            Change::Added => Difference::NeedAdded(name.to_owned()),
            Change::Removed => Difference::NeedRemoved(name.to_owned()),
        });
    });
    if before.outputs != now.outputs || before.junit != now.junit {
        found.push(Difference::OutputsChanged);
    }
    if before.platform != now.platform {
        found.push(Difference::PlatformChanged);
    }
    if before.inputs != now.inputs {
        match inputs {
            Some((before, now)) => compare_inputs(before, now, &mut found),
            None => found.push(Difference::InputChanged("(which one is no longer known)".into())),
        }
    }
    found
}

/// A file that is listed but absent counts as not there.
fn compare_inputs(before: &Inputs, now: &Inputs, found: &mut Vec<Difference>) {
    let there = |inputs: &Inputs| -> Vec<_> {
        inputs.0.iter().filter_map(|(path, state)| Some((path.clone(), (*state)?))).collect()
    };
    let length = found.len();
    merge(&there(before), &there(now), &mut |path, change| {
        found.push(match change {
            Change::Changed => Difference::InputChanged(path.to_owned()),
            Change::Added => Difference::InputAdded(path.to_owned()),
            Change::Removed => Difference::InputRemoved(path.to_owned()),
        });
    });
    if found.len() == length {
        // Only the list of absent paths differs: the globs changed.
        found.push(Difference::InputChanged("list".into()));
    }
}

enum Change {
    Changed,
    Added,
    Removed,
}

/// Walks two lists that are sorted by name and tells each difference.
fn merge<T: PartialEq>(before: &[(String, T)], now: &[(String, T)], tell: &mut dyn FnMut(&str, Change)) {
    let (mut left, mut right) = (before.iter().peekable(), now.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.0.cmp(&b.0),
        };
        let a = if order.is_le() { left.next() } else { None };
        let b = if order.is_ge() { right.next() } else { None };
        match (a, b) {
            (Some(a), Some(b)) if a.1 != b.1 => tell(&a.0, Change::Changed),
            (Some(a), None) => tell(&a.0, Change::Removed),
            (None, Some(b)) => tell(&b.0, Change::Added),
            _ => {}
        }
    }
}
