//! Which task is next, and which will never run.
//!
//! Pure: a table of what is missing for each task. Tasks that failed take their dependents with them; all others go on, since
//! people want to see every failure of a run, not the first. Among ready tasks the plan's order decides, which is the longest
//! remaining path. Invariant: every task leaves the table exactly once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::plan::Plan;

/// See the module.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// Needs that have not succeeded yet, by task.
    missing: Vec<usize>,
    /// Ready tasks that nobody looked at yet.
    fresh: BinaryHeap<Reverse<usize>>,
    /// Ready tasks that must run.
    waiting: BinaryHeap<Reverse<usize>>,
    settled: Vec<bool>,
}

impl Schedule {
    pub(crate) fn new(plan: &Plan) -> Self {
        let missing: Vec<usize> = plan.tasks.iter().map(|planned| planned.needs.len()).collect();
        let fresh = (0..missing.len()).filter(|at| missing[*at] == 0).map(Reverse).collect();
        let settled = vec![false; missing.len()];
        Self { missing, fresh, waiting: BinaryHeap::new(), settled }
    }

    /// A ready task that nobody looked at yet.
    pub(crate) fn next_fresh(&mut self) -> Option<usize> {
        self.fresh.pop().map(|Reverse(at)| at)
    }

    /// It must run, as soon as there is a slot.
    pub(crate) fn must_run(&mut self, at: usize) {
        self.waiting.push(Reverse(at));
    }

    /// The ready task with the longest remaining path.
    pub(crate) fn next_to_run(&mut self) -> Option<usize> {
        self.waiting.pop().map(|Reverse(at)| at)
    }

    pub(crate) fn succeeded(&mut self, plan: &Plan, at: usize) {
        self.settled[at] = true;
        for dependent in &plan.tasks[at].dependents {
            self.missing[*dependent] -= 1;
            if self.missing[*dependent] == 0 {
                self.fresh.push(Reverse(*dependent));
            }
        }
    }

    /// It did not succeed. Gives the tasks that will now never run, each with the need that it lost; needs come first.
    pub(crate) fn failed(&mut self, plan: &Plan, at: usize) -> Vec<(usize, usize)> {
        self.settled[at] = true;
        let mut lost = Vec::new();
        let mut open = vec![at];
        while let Some(need) = open.pop() {
            for dependent in &plan.tasks[need].dependents {
                if !std::mem::replace(&mut self.settled[*dependent], true) {
                    lost.push((*dependent, need));
                    open.push(*dependent);
                }
            }
        }
        lost
    }

    /// Takes out all that has not left the table.
    pub(crate) fn abandon(&mut self) -> Vec<usize> {
        self.fresh.clear();
        self.waiting.clear();
        (0..self.settled.len()).filter(|at| !std::mem::replace(&mut self.settled[*at], true)).collect()
    }
}
