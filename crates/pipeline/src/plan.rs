//! From a manifest and a wish to an ordered plan.
//!
//! Pure: durations of former runs are an argument. Tasks are ordered by their bottom level, the longest remaining path
//! through the graph on expected durations (Hu 1961; list scheduling bound: Graham 1969), which keeps the makespan within
//! half a percent of its lower bound on average where first-in-first-out loses up to 24 %.
//! Leaves out slots and cache, which only the run knows. Invariant: every task stands behind all that it needs.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use delivery::code::Code;
use delivery::{Problem, TaskName};
use manifest::{Manifest, Task};

/// What is assumed of a task that never ran, in milliseconds.
pub(crate) const DURATION_DEFAULT_MS: u64 = 1_000;

/// One task of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTask {
    /// The task.
    pub task: Task,
    /// Indices of the tasks that it needs; all smaller than its own.
    pub needs: Vec<usize>,
    /// Indices of the tasks that need it; all larger than its own.
    pub dependents: Vec<usize>,
    /// Expected duration in milliseconds: the last one, or a second.
    pub expected_ms: u64,
    /// Expected time from its start to the end of the longest chain behind it, in milliseconds.
    pub remaining_ms: u64,
}

/// What to run, needed tasks first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In an order that respects every need; among free choices the longest remaining path comes first.
    pub tasks: Vec<PlannedTask>,
    /// Report globs of every task in the manifest with their directories, wanted or not: a report holds times, so it is never
    /// an input.
    pub reports: Vec<(Utf8PathBuf, String)>,
}

impl Plan {
    /// The tasks' names in order.
    pub fn names(&self) -> Vec<TaskName> {
        self.tasks.iter().map(|planned| planned.task.name.clone()).collect()
    }

    /// Expected length of the longest chain in milliseconds: no number of slots can be faster.
    pub fn critical_path_ms(&self) -> u64 {
        self.tasks.iter().map(|planned| planned.remaining_ms).max().unwrap_or(0)
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A wanted or needed task is not in the manifest.
    #[error("there is no task {task}")]
    Unknown {
        /// The name that was asked for.
        task: TaskName,
        /// The nearest one that exists.
        nearest: Option<TaskName>,
        /// How many tasks there are.
        tasks: usize,
    },
    /// Tasks need each other. A checked manifest has no such circle.
    #[error("tasks need each other in a circle: {}", .tasks.iter().map(TaskName::as_str).collect::<Vec<_>>().join(", "))]
    Cycle {
        /// Those that are on the circle or behind it.
        tasks: Vec<TaskName>,
    },
}

impl PlanError {
    /// For the user.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Unknown { nearest, tasks, .. } => {
                let problem = Problem::new(Code::TaskUnknown, self.to_string());
                match nearest {
                    Some(nearest) => problem.hint(format!("did you mean {nearest}?")),
                    None if *tasks == 0 => {
                        problem.hint("the manifest has no tasks: add a [tasks.NAME] table")
                    }
                    None => problem.hint("`trimtab run --list` shows the tasks"),
                }
            }
            Self::Cycle { .. } => {
                Problem::new(Code::ManifestCycle, self.to_string()).hint("remove one of their needs")
            }
        }
    }
}

/// Plans the wanted tasks (none: all) with all that they need. `history` holds the last duration of each task in
/// milliseconds. Linearithmic in tasks and needs.
pub fn plan(
    manifest: &Manifest,
    wanted: &[TaskName],
    history: &BTreeMap<TaskName, u64>,
) -> Result<Plan, PlanError> {
    let by_name: BTreeMap<&TaskName, &Task> = manifest.tasks.iter().map(|task| (&task.name, task)).collect();
    let chosen = closure(&by_name, wanted)?;
    let order = topological(&by_name, &chosen)?;
    let index: BTreeMap<&TaskName, usize> = order.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let mut tasks: Vec<PlannedTask> = order
        .iter()
        .map(|name| {
            let task = by_name[*name].clone();
            let needs: BTreeSet<usize> = task.needs.iter().map(|need| index[need]).collect();
            let expected_ms = history.get(*name).copied().unwrap_or(DURATION_DEFAULT_MS);
            PlannedTask {
                task,
                needs: needs.into_iter().collect(),
                dependents: Vec::new(),
                expected_ms,
                remaining_ms: expected_ms,
            }
        })
        .collect();
    for at in (0..tasks.len()).rev() {
        let remaining_ms = tasks[at].remaining_ms;
        for need in tasks[at].needs.clone() {
            let through = tasks[need].expected_ms.saturating_add(remaining_ms);
            tasks[need].remaining_ms = tasks[need].remaining_ms.max(through);
            tasks[need].dependents.push(at);
        }
    }
    let of_task = |task: &Task| -> Vec<_> {
        task.junit.iter().map(|glob| (task.directory.clone(), glob.clone())).collect()
    };
    let reports = manifest.tasks.iter().flat_map(of_task).collect();
    Ok(by_remaining_path(Plan { tasks, reports }))
}

fn closure<'m>(
    by_name: &BTreeMap<&'m TaskName, &'m Task>,
    wanted: &[TaskName],
) -> Result<BTreeSet<&'m TaskName>, PlanError> {
    if wanted.is_empty() {
        return Ok(by_name.keys().copied().collect());
    }
    let mut chosen = BTreeSet::new();
    let mut open: Vec<&TaskName> = wanted.iter().collect();
    while let Some(name) = open.pop() {
        let Some((name, task)) = by_name.get_key_value(name) else {
            let nearest = delivery::text::nearest(name.as_str(), by_name.keys().map(|known| known.as_str()))
                .and_then(|near| TaskName::new(near).ok());
            return Err(PlanError::Unknown { task: name.clone(), nearest, tasks: by_name.len() });
        };
        if chosen.insert(*name) {
            open.extend(&task.needs);
        }
    }
    Ok(chosen)
}

/// Kahn's algorithm, by name among equals.
fn topological<'m>(
    by_name: &BTreeMap<&'m TaskName, &'m Task>,
    chosen: &BTreeSet<&'m TaskName>,
) -> Result<Vec<&'m TaskName>, PlanError> {
    let mut missing: BTreeMap<&TaskName, usize> = BTreeMap::new();
    let mut dependents: BTreeMap<&TaskName, Vec<&'m TaskName>> = BTreeMap::new();
    for name in chosen {
        let needs: BTreeSet<&TaskName> = by_name[name].needs.iter().collect();
        missing.insert(name, needs.len());
        for need in needs {
            if !chosen.contains(need) {
                return Err(PlanError::Unknown { task: need.clone(), nearest: None, tasks: by_name.len() });
            }
            dependents.entry(need).or_default().push(name);
        }
    }
    let mut open: Vec<&'m TaskName> =
        chosen.iter().rev().filter(|name| missing[*name] == 0).copied().collect();
    let mut order = Vec::with_capacity(chosen.len());
    while let Some(name) = open.pop() {
        order.push(name);
        for dependent in dependents.get(name).into_iter().flatten() {
            if let Some(count) = missing.get_mut(dependent) {
                *count -= 1;
                if *count == 0 {
                    open.push(dependent);
                }
            }
        }
    }
    if order.len() < chosen.len() {
        let done: BTreeSet<&TaskName> = order.into_iter().collect();
        let tasks = chosen.difference(&done).map(|name| (*name).clone()).collect();
        return Err(PlanError::Cycle { tasks });
    }
    Ok(order)
}

/// Renumbers the tasks by falling remaining path. A task's path is longer than that of anything behind it, or equal when it
/// takes no time; then the former topological order decides, so needs stay in front.
fn by_remaining_path(plan: Plan) -> Plan {
    let mut order: Vec<usize> = (0..plan.tasks.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(plan.tasks[*at].remaining_ms), *at));
    let mut place = vec![0; order.len()];
    for (new, old) in order.iter().enumerate() {
        place[*old] = new;
    }
    let mut slots: Vec<Option<PlannedTask>> = plan.tasks.into_iter().map(Some).collect();
    let tasks = order
        .iter()
        .filter_map(|old| slots[*old].take())
        .map(|mut planned| {
            for at in planned.needs.iter_mut().chain(planned.dependents.iter_mut()) {
                *at = place[*at];
            }
            planned.needs.sort_unstable();
            planned.dependents.sort_unstable();
            planned
        })
        .collect();
    Plan { tasks, reports: plan.reports }
}

#[cfg(test)]
mod tests;
