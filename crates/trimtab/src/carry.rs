//! Runs the tasks of a commit and asks the gates. What comes of it is packaged in `release`.
//!
//! Used by `run`, `ship` and the demo. Every fact is recorded as it happens, in the order it happened.

use std::sync::Arc;

use camino::Utf8Path;
use delivery::change::Commit;
use delivery::clock::SteadyClock;
use delivery::code::Code;
use delivery::event::TaskOutcome;
use delivery::finding::GateVerdict;
use delivery::{CommitId, Event, Problem, RunId, TaskName, Timestamp};
use gate::{GateInput, GateTask, ReportInput};
use pipeline::{Cancel, Globs, Plan, Progress, RunContext, RunReport, TaskReport};
use repo::{Change, Repository};
use store::{Lease, LeaseError};
use tokio::sync::mpsc;

use crate::environment;
use crate::output::Output;
use crate::project::Project;
use crate::promote::{Controller, SystemSeed};

/// Findings of one report that are recorded; the rest stay in the report.
const FINDINGS_RECORDED: usize = 50;
/// Lines of a failed task's output that are shown.
const TAIL_LINES: usize = 12;

/// The manifest's name.
const MANIFEST: &str = "trimtab.toml";
/// The lease on the work tree.
const WORK_TREE_LEASE: &str = "work-tree";

/// The right to run tasks in the work tree and to package what they wrote, for as long as it lives: two runs at once would
/// read each other's half-written outputs.
pub(crate) struct WorkTree {
    _lease: Lease,
}

/// A run that ended.
pub(crate) struct Ran {
    /// Its id.
    pub(crate) id: RunId,
    /// When it began and ended.
    pub(crate) span: (Timestamp, Timestamp),
    /// What came of its tasks.
    pub(crate) report: RunReport,
    /// What the gates say of it.
    pub(crate) verdicts: Vec<GateVerdict>,
}

/// How tasks are run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RunOptions {
    /// Run even what is unchanged.
    pub(crate) force: bool,
    /// Show the tasks' output as it comes.
    pub(crate) verbose: bool,
    /// Tasks at once; `None` takes as many as there are processors.
    pub(crate) concurrency: Option<usize>,
}

impl Controller<'_> {
    /// Takes the work tree. Refused while another process has it, also one that this process was started by: waiting for that
    /// would never end.
    pub(crate) fn work_tree(&self) -> Result<WorkTree, Vec<Problem>> {
        let lease = Lease::acquire(&self.project.layout.leases(), WORK_TREE_LEASE, &self.holder);
        lease.map(|lease| WorkTree { _lease: lease }).map_err(|error| match error {
            LeaseError::Held { holder } => {
                let message = format!("{holder} is running tasks in this work tree");
                vec![Problem::new(Code::WorkTreeBusy, message).hint("run it again when that has ended")]
            }
            error @ (LeaseError::Io(_) | LeaseError::Store(_)) => vec![error.problem()],
        })
    }

    /// Runs the tasks (all, when none is named), then asks the gates that look at any of them.
    pub(crate) async fn run_tasks(
        &mut self,
        _tree: &WorkTree,
        wanted: &[TaskName],
        commit: Option<&CommitId>,
        dirty: bool,
        options: RunOptions,
        cancel: Cancel,
    ) -> Result<Ran, Vec<Problem>> {
        let plan = plan(self.project, wanted)?;
        let id = RunId::mint(&mut SystemSeed);
        let started = self.clock.now();
        let tasks = plan.names();
        self.record(vec![Event::RunStarted { run: id.clone(), commit: commit.cloned(), dirty, tasks }])
            .await?;
        let (report, tasks) = self.execute(&plan, &id, options, cancel).await?;
        let finished = self.clock.now();
        let (outcome, duration_ms) = (report.outcome(), report.duration_ms);
        let verdicts = self.judge(tasks);
        let mut events: Vec<Event> = verdicts
            .iter()
            .map(|verdict| Event::GateJudged { run: id.clone(), verdict: verdict.clone() })
            .collect();
        events.push(Event::RunFinished { run: id.clone(), outcome, duration_ms });
        self.record(events).await?;
        Ok(Ran { id, span: (started, finished), report, verdicts })
    }

    /// Runs the plan. Each task's end is recorded while the others still run.
    async fn execute(
        &mut self,
        plan: &Plan,
        id: &RunId,
        options: RunOptions,
        cancel: Cancel,
    ) -> Result<(RunReport, Vec<GateTask>), Vec<Problem>> {
        let layout = &self.project.layout;
        let context = RunContext {
            root: self.project.root.clone(),
            cache_directory: layout.cache(),
            log_directory: layout.task_logs().join(id.as_str()),
            concurrency: options.concurrency.unwrap_or(0),
            environment: &environment::variable,
            clock: Arc::new(SteadyClock::anchored(self.follower.state().last_at)),
            force: options.force,
        };
        let (sender, mut ended) = mpsc::unbounded_channel::<Box<TaskReport>>();
        let output = self.output;
        let mut observe = move |progress: Progress| match progress {
            Progress::Started { .. } => {}
            Progress::Output { task, line } => {
                if options.verbose {
                    output.talk(format!("{task:>14} │ {line}"));
                }
            }
            Progress::Finished(report) => drop(sender.send(report)),
        };
        let context = &context;
        // Owns the sender, so that the recording ends when the run has.
        let running = async move { pipeline::run(plan, context, cancel, &mut observe).await };
        let recording = async {
            let mut tasks = Vec::new();
            while let Some(report) = ended.recv().await {
                let task = gate_task(&report);
                self.record(task_events(id, &report, &task)).await?;
                if !options.verbose {
                    show_failure(&report, output);
                }
                tasks.push(task);
            }
            Ok::<_, Vec<Problem>>(tasks)
        };
        let (report, recorded) = tokio::join!(running, recording);
        let tasks = recorded?;
        report.warnings.iter().for_each(|warning| output.talk(format!("              warning: {warning}")));
        Ok((report, tasks))
    }

    fn judge(&self, tasks: Vec<GateTask>) -> Vec<GateVerdict> {
        let input = GateInput { tasks };
        let ran = |task: &TaskName| input.tasks.iter().any(|report| report.name == *task);
        let asked = self.project.manifest.gates.iter().filter(|gate| gate.tasks.iter().any(&ran));
        asked.map(|gate| gate::judge(gate, &input)).collect()
    }
}

/// What gates need to know of a task, its reports read.
fn gate_task(report: &TaskReport) -> GateTask {
    let read =
        |path: &camino::Utf8PathBuf| ReportInput { path: path.clone(), report: gate::junit::read(path) };
    GateTask {
        name: report.task.clone(),
        outcome: report.outcome,
        detail: report.detail.clone(),
        reports_missing: report.reports_missing.clone(),
        reports: report.reports.iter().map(read).collect(),
    }
}

fn task_events(run: &RunId, report: &TaskReport, task: &GateTask) -> Vec<Event> {
    let mut events = vec![Event::TaskFinished {
        run: run.clone(),
        task: report.task.clone(),
        attempt: 1,
        outcome: report.outcome,
        cached: report.cached,
        key: report.key.clone(),
        duration_ms: report.duration_ms,
        detail: report.detail.clone(),
    }];
    let readable = task.reports.iter().filter_map(|input| input.report.as_ref().ok());
    events.extend(readable.map(|tests| Event::TestsFinished {
        run: run.clone(),
        task: report.task.clone(),
        tests: tests.tests,
        failures: tests.failures,
        skipped: tests.skipped,
        findings: tests.findings.iter().take(FINDINGS_RECORDED).cloned().collect(),
    }));
    events
}

fn show_failure(report: &TaskReport, output: Output) {
    if matches!(report.outcome, TaskOutcome::Success | TaskOutcome::Skipped) {
        return;
    }
    let from = report.output_tail.len().saturating_sub(TAIL_LINES);
    report.output_tail[from..].iter().for_each(|line| output.talk(format!("              │ {line}")));
    output.talk(format!("              │ (all of it: {})", report.log));
}

/// The plan for the tasks (all, when none is named), ordered by how long they took before.
pub(crate) fn plan(project: &Project, wanted: &[TaskName]) -> Result<Plan, Vec<Problem>> {
    let history = pipeline::history(&project.layout.cache());
    pipeline::plan(&project.manifest, wanted, &history).map_err(|error| vec![error.problem()])
}

/// What did not go well in a run, as problems; empty when all did.
pub(crate) fn failed(ran: &Ran) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for task in &ran.report.tasks {
        let code = match task.outcome {
            TaskOutcome::Success | TaskOutcome::Skipped => continue,
            TaskOutcome::Failure if task.lacks_output() => Code::OutputMissing,
            TaskOutcome::Failure => Code::TaskFailed,
            TaskOutcome::TimedOut => Code::TaskTimedOut,
            TaskOutcome::NotStarted => Code::TaskNotStarted,
            TaskOutcome::Cancelled => Code::RunCancelled,
        };
        let problem = Problem::new(code, format!("task {} did not succeed: {}", task.task, task.detail));
        problems.push(problem.hint(format!("mend it and run: trimtab run {}", task.task)));
    }
    for verdict in ran.verdicts.iter().filter(|verdict| !verdict.passed) {
        let message = format!("gate {} does not let it pass: {}", verdict.gate, verdict.reasons.join("; "));
        problems.push(Problem::new(Code::GateFailed, message).hint("what else waits: trimtab why"));
    }
    problems
}

/// What tasks say they write, relative to the project.
fn written_by_tasks(project: &Project) -> Result<Vec<Globs>, Vec<Problem>> {
    let globs =
        |task: &manifest::Task| Globs::new(&task.directory, &[&task.outputs[..], &task.junit].concat());
    let all = project.manifest.tasks.iter().map(globs).collect::<Result<_, _>>();
    all.map_err(|error| vec![Problem::new(Code::ManifestValue, error.to_string())])
}

/// The repository and the commit to carry: whole, with a commit, without uncommitted changes. What tasks write is made from
/// the commit and says nothing against it, unless git tracks it.
pub(crate) fn commit(project: &Project) -> Result<(Repository, Commit), Vec<Problem>> {
    let repository = project.repository()?;
    let problem = |error: repo::Error| vec![error.problem()];
    repository.require_whole().map_err(problem)?;
    let commit = repository.head().map_err(problem)?;
    let written = written_by_tasks(project)?;
    let is_product = |change: &Change| {
        let whole = repository.root().join(&change.path);
        let relative = whole.strip_prefix(&project.root);
        change.untracked
            && relative.is_ok_and(|path| written.iter().any(|globs| globs.matches(path.as_str())))
    };
    let dirty = repository.dirty(&|change| !is_product(change)).map_err(problem)?;
    if let Some(first) = dirty.first() {
        let more = if dirty.len() > 1 { format!(" and {} more", dirty.len() - 1) } else { String::new() };
        let message =
            format!("{first}{more} is not committed, so the release could not be traced to a commit");
        return Err(vec![
            Problem::new(Code::RepositoryDirty, message)
                .hint("commit it, or have git ignore it; then run: trimtab ship"),
        ]);
    }
    // git status does not speak of an ignored file; but this one says what is built and where it goes.
    let manifest = project.root.join(MANIFEST);
    let manifest = manifest.strip_prefix(repository.root()).unwrap_or(Utf8Path::new(MANIFEST)).to_owned();
    if let Some(path) = repository.foreign(&commit.id, &[manifest]).map_err(problem)?.first() {
        let message =
            format!("{path} is not in the commit as it is here, so the commit would not say what was built");
        return Err(vec![
            Problem::new(Code::RepositoryDirty, message)
                .hint("commit it, with `git add --force` if git ignores it; then run: trimtab ship"),
        ]);
    }
    Ok((repository, commit))
}
