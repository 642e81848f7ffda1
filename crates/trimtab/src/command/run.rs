//! `trimtab run`: the task graph, here as in any CI.

use delivery::code::Code;
use delivery::event::TaskOutcome;
use delivery::exit::Exit;
use delivery::text;
use delivery::{Problem, TaskName};
use serde::Serialize;

use crate::carry::{self, RunOptions};
use crate::cli::Global;
use crate::environment;
use crate::interrupt;
use crate::output::{self, Output, ProblemWire};
use crate::project::{self, Project};
use crate::promote::Controller;

/// Runs tasks and what they need; what is unchanged comes from the cache.
///
///   trimtab run                 all tasks
///   trimtab run test            one task and what it needs
///   trimtab run --explain       why each task ran or did not
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Tasks, as trimtab.toml names them. Without one: all.
    tasks: Vec<String>,
    /// Run even what is unchanged.
    #[arg(long, short)]
    force: bool,
    /// Show the tasks' output as it comes.
    #[arg(long, short)]
    verbose: bool,
    /// Say why each task ran or came from the cache.
    #[arg(long)]
    explain: bool,
    /// Tasks at once. Without it: as many as there are processors.
    #[arg(long, short)]
    jobs: Option<usize>,
    /// Only say which tasks would be run or looked up.
    #[arg(long)]
    dry_run: bool,
}

/// What would be run, for programs.
#[derive(Debug, Serialize)]
struct Intended {
    version: u32,
    tasks: Vec<String>,
}

#[derive(Debug, Serialize)]
struct RunWire {
    version: u32,
    run: String,
    outcome: TaskOutcome,
    duration_ms: u64,
    critical_path_ms: u64,
    efficiency: f64,
    tasks: Vec<TaskWire>,
    gates: Vec<GateWire>,
    /// What went wrong without failing the run.
    warnings: Vec<String>,
    problems: Vec<ProblemWire>,
}

#[derive(Debug, Serialize)]
struct TaskWire {
    task: String,
    outcome: TaskOutcome,
    cached: bool,
    key: String,
    duration_ms: u64,
    detail: String,
    log: String,
    explanation: String,
}

#[derive(Debug, Serialize)]
struct GateWire {
    gate: String,
    passed: bool,
    reasons: Vec<String>,
}

pub(crate) async fn run(args: &Args, global: &Global, output: Output) -> super::Result {
    let project = Project::open(global)?;
    let wanted = wanted(args, &project)?;
    if args.dry_run {
        let tasks: Vec<String> =
            carry::plan(&project, &wanted)?.names().iter().map(ToString::to_string).collect();
        tasks.iter().for_each(|task| output.line(format!("would run {task}, or take it from the cache")));
        output.json(&Intended { version: 1, tasks });
        return Ok(Exit::Success);
    }
    let follower = project.follower()?;
    let clock = project::clock(&follower);
    let actor = project.actor(None).unwrap_or_else(|_| delivery::Actor::Machine("trimtab".into()));
    if project.manifest.tasks.is_empty() {
        output.talk(
            "trimtab.toml names no task; add one, such as: [task.test] with command = [\"make\", \"test\"]",
        );
    }
    let (handle, cancel) = pipeline::Cancel::channel();
    let mut controller = Controller {
        project: &project,
        clock: &clock,
        wish: interrupt::wishes(actor.to_string(), Some(handle)),
        holder: environment::holder("run"),
        output,
        follower,
        actor,
    };
    let tree = controller.work_tree()?;
    // Tasks also run outside a repository, and before the first commit.
    let repository = project.repository().ok();
    let commit = repository.as_ref().and_then(|repository| repository.head().ok());
    let dirty = repository
        .as_ref()
        .and_then(|repository| repository.dirty(&|_| true).ok())
        .is_none_or(|paths| !paths.is_empty());
    let options = RunOptions { force: args.force, verbose: args.verbose, concurrency: args.jobs };
    let ran = controller
        .run_tasks(&tree, &wanted, commit.as_ref().map(|commit| &commit.id), dirty, options, cancel)
        .await?;
    if args.explain {
        ran.report.tasks.iter().for_each(|task| output.line(format!("{}: {}", task.task, task.explanation)));
    }
    let (tasks, report) = (ran.report.tasks.len() as u64, &ran.report);
    output.line(format!(
        "{} in {}, {} from the cache",
        text::count(tasks, "task"),
        text::duration(report.duration_ms),
        report.cached()
    ));
    let failed = carry::failed(&ran);
    output.conclude(&wire(&ran, &failed), failed)
}

fn wanted(args: &Args, project: &Project) -> Result<Vec<TaskName>, Vec<Problem>> {
    let known = || project.manifest.tasks.iter().map(|task| task.name.as_str());
    let find = |name: &String| {
        project
            .manifest
            .tasks
            .iter()
            .find(|task| task.name.as_str() == name)
            .map(|task| task.name.clone())
            .ok_or_else(|| {
                project::unknown(Code::TaskUnknown, format!("there is no task {name:?}"), name, known())
            })
    };
    let (found, unknown): (Vec<_>, Vec<_>) = args.tasks.iter().map(find).partition(Result::is_ok);
    let unknown: Vec<Problem> = unknown.into_iter().filter_map(Result::err).collect();
    if unknown.is_empty() { Ok(found.into_iter().flatten().collect()) } else { Err(unknown) }
}

fn wire(ran: &carry::Ran, failed: &[Problem]) -> RunWire {
    let report = &ran.report;
    let tasks = report.tasks.iter().map(|task| TaskWire {
        task: task.task.to_string(),
        outcome: task.outcome,
        cached: task.cached,
        key: task.key.clone(),
        duration_ms: task.duration_ms,
        detail: task.detail.clone(),
        log: task.log.to_string(),
        explanation: task.explanation.to_string(),
    });
    let gates = ran.verdicts.iter().map(|verdict| GateWire {
        gate: verdict.gate.to_string(),
        passed: verdict.passed,
        reasons: verdict.reasons.clone(),
    });
    RunWire {
        version: 1,
        run: ran.id.to_string(),
        outcome: report.outcome(),
        duration_ms: report.duration_ms,
        critical_path_ms: report.critical_path_ms,
        efficiency: report.efficiency,
        tasks: tasks.collect(),
        gates: gates.collect(),
        warnings: report.warnings.clone(),
        problems: output::wires(failed),
    }
}
