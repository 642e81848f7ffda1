//! A gate and what is known of its tasks, to a verdict with reasons.
//!
//! Pure and total. Leaves out baselines and suppressions. Invariant: a pass rests on every task of the gate having succeeded and
//! every expected report having been read.

use camino::Utf8PathBuf;
use delivery::event::TaskOutcome;
use delivery::finding::{GateVerdict, Level};
use delivery::text::count;
use delivery::{TaskName, finding::Finding};
use manifest::Gate;

use crate::junit::{ReportError, TestReport};

/// Failed tests that a reason names.
const NAMED_MAX: usize = 3;

/// What a gate is judged on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GateInput {
    /// The tasks of the run; others than the gate's are not looked at.
    pub tasks: Vec<GateTask>,
}

/// A task of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateTask {
    /// Its name.
    pub name: TaskName,
    /// How it ended.
    pub outcome: TaskOutcome,
    /// One clause about that.
    pub detail: String,
    /// Of the globs of JUnit reports that it declares, those that no report of this run matches.
    pub reports_missing: Vec<String>,
    /// The reports that this run wrote.
    pub reports: Vec<ReportInput>,
}

/// A report that a task wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportInput {
    /// Where.
    pub path: Utf8PathBuf,
    /// What it says, or why it can't be read.
    pub report: Result<TestReport, ReportError>,
}

/// Totals over the reports of a gate.
#[derive(Debug, Default)]
struct Totals<'i> {
    tests: u64,
    failures: u64,
    skipped: u64,
    flaky: u64,
    unlisted: u64,
    reports: u64,
    findings: Vec<&'i Finding>,
}

/// Judges the gate. Reasons of a failure: tasks first, then failed tests, then reports, then too few tests.
pub fn judge(gate: &Gate, input: &GateInput) -> GateVerdict {
    let mut tasks = Vec::new();
    let mut reports = Vec::new();
    let mut totals = Totals::default();
    for name in &gate.tasks {
        let Some(task) = input.tasks.iter().find(|task| task.name == *name) else {
            tasks.push(format!("task {name} was not run"));
            continue;
        };
        tasks.extend(about_task(task));
        take_reports(task, &mut totals, &mut reports);
    }
    let mut reasons = tasks;
    reasons.extend(about_failures(gate, &totals));
    reasons.append(&mut reports);
    reasons.extend(about_count(gate, &totals));
    let passed = reasons.is_empty();
    if passed {
        reasons = merits(gate, &totals);
    }
    GateVerdict { gate: gate.name.clone(), passed, reasons, tests: totals.tests, errors: totals.failures }
}

fn about_task(task: &GateTask) -> Option<String> {
    let GateTask { name, detail, .. } = task;
    let what = match task.outcome {
        TaskOutcome::Success => return None,
        TaskOutcome::Failure => "failed",
        TaskOutcome::TimedOut => "timed out",
        TaskOutcome::Skipped => "was skipped",
        TaskOutcome::Cancelled => "was cancelled",
        TaskOutcome::NotStarted => "could not be started",
    };
    Some(if detail.is_empty() {
        format!("task {name} {what}")
    } else {
        format!("task {name} {what}: {detail}")
    })
}

fn take_reports<'i>(task: &'i GateTask, totals: &mut Totals<'i>, reasons: &mut Vec<String>) {
    for ReportInput { path, report } in &task.reports {
        match report {
            Ok(report) => {
                totals.reports += 1;
                totals.tests += report.tests;
                totals.failures += report.failures;
                totals.skipped += report.skipped;
                totals.flaky += report.flaky;
                totals.unlisted += report.unlisted;
                totals
                    .findings
                    .extend(report.findings.iter().filter(|finding| finding.level == Level::Error));
            }
            Err(error) => {
                reasons.push(format!("the report {path} of task {} can't be read: {error}", task.name));
            }
        }
    }
    // A task that did not come to its end is a reason already.
    if task.outcome == TaskOutcome::Success {
        let missing = task.reports_missing.iter();
        reasons.extend(missing.map(|glob| format!("task {} wrote no test report {glob}", task.name)));
    }
}

fn about_failures(gate: &Gate, totals: &Totals<'_>) -> Option<String> {
    if totals.failures <= gate.errors_max {
        return None;
    }
    let named: Vec<&str> =
        totals.findings.iter().take(NAMED_MAX).map(|finding| finding.rule.as_str()).collect();
    let more = totals.failures.saturating_sub(named.len() as u64);
    let names = match (named.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!(": {}", named.join(", ")),
        (false, more) => format!(": {} and {more} more", named.join(", ")),
    };
    let allowed =
        if gate.errors_max > 0 { format!("; at most {} may", gate.errors_max) } else { String::new() };
    Some(format!("{} failed{names}{allowed}", count(totals.failures, "test")))
}

fn about_count(gate: &Gate, totals: &Totals<'_>) -> Option<String> {
    let skipped = if totals.skipped > 0 { format!(" ({} skipped)", totals.skipped) } else { String::new() };
    match totals.tests {
        tests if tests >= gate.tests_min => None,
        0 => Some(format!("no test was executed{skipped}; at least {} must be", gate.tests_min)),
        tests => Some(format!(
            "only {} executed{skipped}; at least {} must be",
            if tests == 1 { "1 test was".to_owned() } else { format!("{tests} tests were") },
            gate.tests_min
        )),
    }
}

/// What a pass rests on.
fn merits(gate: &Gate, totals: &Totals<'_>) -> Vec<String> {
    let mut merits = Vec::new();
    if totals.reports > 0 {
        let passed = count(totals.tests.saturating_sub(totals.failures), "test");
        let skipped =
            if totals.skipped > 0 { format!(", {} skipped", totals.skipped) } else { String::new() };
        merits.push(format!("{passed} passed in {}{skipped}", count(totals.reports, "report")));
    }
    if totals.failures > 0 {
        merits.push(format!(
            "{} failed, which errors_max = {} lets pass",
            count(totals.failures, "test"),
            gate.errors_max
        ));
    }
    if totals.flaky > 0 {
        merits.push(format!("{} passed only when tried again", count(totals.flaky, "test")));
    }
    if totals.unlisted > 0 {
        let more = count(totals.unlisted, "more test");
        merits.push(format!("the reports say that there are {more} but do not list them"));
    }
    let names: Vec<&str> = gate.tasks.iter().map(TaskName::as_str).collect();
    merits.push(format!("{} succeeded: {}", count(names.len() as u64, "task"), names.join(", ")));
    merits
}

#[cfg(test)]
mod tests;
