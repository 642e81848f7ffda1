//! `trimtab ship`: carries the current commit through the environments.

use delivery::code::Code;
use delivery::exit::Exit;
use delivery::release::Release;
use delivery::rollout::RolloutOutcome;
use delivery::{Problem, TaskName};
use rollout::driver::Wish;
use serde::Serialize;

use crate::carry::{self, RunOptions};
use crate::cli::Global;
use crate::environment;
use crate::interrupt;
use crate::output::{self, Output, ProblemWire};
use crate::project::{self, Project};
use crate::promote::{Arrival, Controller};

/// Carries the current commit: tasks, gates, provenance, then one environment after the other.
///
///   trimtab ship                    through all environments, as far as their rules allow
///   trimtab ship --to staging       no further than staging
///   trimtab ship --format json      what came of it, for programs
///
/// Ctrl-C once takes the rollout under way back and ends; twice ends at once, and the splitter takes the traffic back by
/// itself when its grant runs out. A rollout that was left behind is brought to its end first.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The last environment to enter. Without one: the last in trimtab.toml.
    #[arg(long, value_name = "ENVIRONMENT")]
    to: Option<String>,
    /// Only this service.
    #[arg(long, short)]
    service: Option<String>,
    /// Let in a release that was taken back before.
    #[arg(long)]
    again: bool,
    /// Show the tasks' output as it comes.
    #[arg(long, short)]
    verbose: bool,
    /// Who ships, by e-mail address, instead of git's user.email.
    #[arg(long = "as", value_name = "EMAIL")]
    identity: Option<String>,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Shipped {
    version: u32,
    releases: Vec<ShippedRelease>,
    /// The gravest first; empty when all arrived.
    problems: Vec<ProblemWire>,
}

#[derive(Debug, Serialize)]
struct ShippedRelease {
    service: String,
    version: String,
    release: String,
    digest: String,
    arrivals: Vec<ShippedArrival>,
}

#[derive(Debug, Serialize)]
struct ShippedArrival {
    environment: String,
    rollout: Option<String>,
    outcome: &'static str,
}

pub(crate) async fn run(args: &Args, global: &Global, output: Output) -> super::Result {
    let project = Project::open(global)?;
    let (_, commit) = carry::commit(&project)?;
    if args.dry_run {
        return dry_run(args, &project, &commit, output);
    }
    let follower = project.follower()?;
    let actor = project.actor(args.identity.as_deref())?;
    let clock = project::clock(&follower);
    let (handle, cancel) = pipeline::Cancel::channel();
    let mut controller = Controller {
        project: &project,
        clock: &clock,
        wish: interrupt::wishes(actor.to_string(), Some(handle)),
        holder: environment::holder("ship"),
        output,
        follower,
        actor,
    };
    ship(args, &mut controller, cancel).await
}

async fn ship(args: &Args, controller: &mut Controller<'_>, cancel: pipeline::Cancel) -> super::Result {
    let project = controller.project;
    let tree = controller.work_tree()?;
    let (repository, commit) = carry::commit(project)?;
    let last = args.to.as_deref().map(|name| project.environment(name)).transpose()?;
    let services: Vec<manifest::Service> =
        project.services(args.service.as_deref())?.into_iter().cloned().collect();
    if services.is_empty() {
        let problem =
            Problem::new(Code::ServiceUnknown, "trimtab.toml names no service, so there is nothing to ship");
        return Err(vec![
            problem
                .hint("add a [service.NAME]; see docs/reference/manifest.md, or only run tasks: trimtab run"),
        ]);
    }
    let options = RunOptions { verbose: args.verbose, ..RunOptions::default() };
    let everything: [TaskName; 0] = [];
    let ran = controller.run_tasks(&tree, &everything, Some(&commit.id), false, options, cancel).await?;
    let failed = carry::failed(&ran);
    if !failed.is_empty() {
        return Err(failed);
    }
    // A task that writes into the work tree has changed what is being shipped.
    carry::commit(project)?;
    // All are released before one is promoted: what one service waits for must not keep a person from approving another.
    let mut ends = Vec::new();
    let mut releases = Vec::new();
    for service in &services {
        match controller.release(&repository, service, &commit, &ran).await {
            Ok(release) => releases.push(release),
            Err(problems) => ends.push(problems),
        }
    }
    // All is packaged; the rollouts don't need the files any more.
    drop(tree);
    let mut shipped = Shipped { version: 1, releases: Vec::new(), problems: Vec::new() };
    for release in releases {
        let service = &release.artifact.service;
        let mut arrivals = Vec::new();
        let last = last.map(|environment| &environment.name);
        let interrupted = *controller.wish.borrow() != Wish::Continue;
        let end = if interrupted {
            let message = format!("{service} {} was not carried: interrupted", release.version);
            Err(vec![Problem::new(Code::RunCancelled, message).hint("go on with: trimtab ship")])
        } else {
            carry_through(args, controller, &release, last, &mut arrivals).await
        };
        ends.extend(end.err());
        shipped.releases.push(ShippedRelease {
            service: service.to_string(),
            version: release.version,
            release: release.id.to_string(),
            digest: release.artifact.digest.to_string(),
            arrivals,
        });
    }
    let problems = super::gravest_first(ends);
    shipped.problems = output::wires(&problems);
    controller.output.conclude(&shipped, problems)
}

/// One environment after the other, until one does not let it in or takes it back.
async fn carry_through(
    args: &Args,
    controller: &mut Controller<'_>,
    release: &Release,
    last: Option<&delivery::EnvironmentName>,
    arrivals: &mut Vec<ShippedArrival>,
) -> Result<(), Vec<Problem>> {
    for environment in &controller.project.manifest.environments {
        let arrival = controller.promote(release, environment, args.again).await?;
        let (rollout, outcome) = match arrival {
            Arrival::Already => (None, "already there"),
            Arrival::Ended(id, RolloutOutcome::Completed) => (Some(id), "completed"),
            Arrival::Ended(id, RolloutOutcome::RolledBack) => (Some(id), "taken back"),
        };
        arrivals.push(ShippedArrival {
            environment: environment.name.to_string(),
            rollout: rollout.as_ref().map(ToString::to_string),
            outcome,
        });
        if let (Some(id), "taken back") = (rollout, outcome) {
            let cause = controller.follower.state().rollouts[&id].cause.as_ref().map(ToString::to_string);
            let name = format!("{} {}", release.artifact.service, release.version);
            let message =
                format!("{name} was taken back in {}: {}", environment.name, cause.unwrap_or_default());
            let revision = delivery::RevisionId::of_rollout(&id);
            let logs = controller.project.layout.edge_logs(&release.artifact.service, &environment.name);
            let hint = format!(
                "its output: {}; the whole story: trimtab why {id}",
                logs.join(format!("{revision}.log"))
            );
            return Err(vec![Problem::new(Code::RolledBack, message).hint(hint)]);
        }
        if last == Some(&environment.name) {
            break;
        }
    }
    Ok(())
}

/// What would be done, for programs.
#[derive(Debug, Serialize)]
struct Intended {
    version: u32,
    commit: String,
    tasks: Vec<String>,
    promotions: Vec<IntendedPromotion>,
}

#[derive(Debug, Serialize)]
struct IntendedPromotion {
    service: String,
    environment: String,
    strategy: delivery::strategy::StrategyKind,
    approvals: u32,
}

fn dry_run(
    args: &Args,
    project: &Project,
    commit: &delivery::change::Commit,
    output: Output,
) -> super::Result {
    if let Some(name) = &args.to {
        project.environment(name)?;
    }
    let plan = carry::plan(project, &[])?;
    let mut intended = Intended {
        version: 1,
        commit: commit.id.to_string(),
        tasks: plan.names().iter().map(ToString::to_string).collect(),
        promotions: Vec::new(),
    };
    for service in project.services(args.service.as_deref())? {
        for environment in &project.manifest.environments {
            intended.promotions.push(IntendedPromotion {
                service: service.name.to_string(),
                environment: environment.name.to_string(),
                strategy: environment.strategy.kind,
                approvals: environment.approval.required,
            });
            if args.to.as_deref() == Some(environment.name.as_str()) {
                break;
            }
        }
    }
    output.line(format!("would carry {} {:?}", commit.id.short(), commit.subject));
    intended.tasks.iter().for_each(|task| output.line(format!("  task {task}")));
    for promotion in &intended.promotions {
        let approvals = match promotion.approvals {
            0 => String::new(),
            n => format!(", after {}", delivery::text::count(u64::from(n), "approval")),
        };
        let (service, environment) = (&promotion.service, &promotion.environment);
        output.line(format!("  {service} → {environment} by {}{approvals}", promotion.strategy.name()));
    }
    output.json(&intended);
    Ok(Exit::Success)
}
