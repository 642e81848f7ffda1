//! `trimtab rollback`: takes a release back, whether its rollout is under way or long done.

use std::time::Duration;

use delivery::code::Code;
use delivery::environment::Environment;
use delivery::exit::Exit;
use delivery::release::Release;
use delivery::rollout::{RollbackCause, RolloutOutcome};
use delivery::traffic::Weight;
use delivery::{Problem, RolloutId};
use platform::edge::Edge;
use platform::guard::Requested;
use serde::Serialize;

use crate::cli::Global;
use crate::edges;
use crate::environment as process;
use crate::interrupt;
use crate::output::{self, Output, ProblemWire};
use crate::project::{self, Project};
use crate::promote::{Arrival, Controller};

/// Takes a release back: the rollout under way, or the release that serves.
///
///   trimtab rollback                            the rollout that is under way
///   trimtab rollback ro-7k3m9x2p
///   trimtab rollback --environment production   what serves there goes, what served before comes back
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The rollout under way.
    rollout: Option<String>,
    /// The environment, when nothing is under way there.
    #[arg(long, short)]
    environment: Option<String>,
    /// The service, when there are several.
    #[arg(long, short)]
    service: Option<String>,
    /// Why.
    #[arg(long, short, default_value = "asked for on the command line")]
    reason: String,
    /// Who asks, by e-mail address, instead of git's user.email.
    #[arg(long = "as", value_name = "EMAIL")]
    identity: Option<String>,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct RolledBack {
    version: u32,
    changes: Vec<Change>,
    /// The gravest first; empty when all is as it was asked for.
    problems: Vec<ProblemWire>,
}

/// One service in one environment.
#[derive(Debug, Serialize)]
struct Change {
    service: String,
    environment: String,
    /// The version that goes.
    from: String,
    /// The version that serves instead; none where nothing served before.
    to: Option<String>,
    /// The rollout that is taken back, or that puts the version before back; none when it was only asked what would be done.
    rollout: Option<String>,
    finished: bool,
}

/// The end, for programs and for people.
fn conclude(changes: Vec<Change>, problems: Vec<Problem>, output: Output) -> super::Result {
    let wires = output::wires(&problems);
    output.conclude(&RolledBack { version: 1, changes, problems: wires }, problems)
}

pub(crate) async fn run(args: &Args, global: &Global, output: Output) -> super::Result {
    // What must be taken back is on record; a manifest that can't be read is no obstacle to that.
    let (project, _) = Project::recorded(project::directory(global)?)?;
    let follower = match project.follower() {
        Ok(follower) => follower,
        Err(problems) => return lower(args, &project, problems, output).await,
    };
    let actor = project.actor(args.identity.as_deref())?;
    let clock = project::clock(&follower);
    let mut controller = Controller {
        project: &project,
        clock: &clock,
        wish: interrupt::wishes(actor.to_string(), None),
        holder: process::holder("rollback"),
        output,
        follower,
        actor,
    };
    match active(args, &controller)? {
        Some(rollout) => take_back(args, &mut controller, &rollout, output).await,
        None => revert(args, &mut controller, output).await,
    }
}

fn active(args: &Args, controller: &Controller<'_>) -> Result<Option<RolloutId>, Vec<Problem>> {
    let state = controller.follower.state();
    if let Some(name) = &args.rollout {
        let Some(rollout) = state.rollouts.values().find(|rollout| rollout.plan.id.as_str() == name) else {
            let known = state.rollouts.keys().map(RolloutId::as_str);
            return Err(vec![project::unknown(
                Code::RolloutUnknown,
                format!("there is no rollout {name:?}"),
                name,
                known,
            )]);
        };
        if !rollout.active() {
            let message = format!("rollout {name} has ended");
            let environment = &rollout.plan.environment.name;
            return Err(vec![Problem::new(Code::NothingToRollBack, message).hint(format!(
                "to take back what serves, run: trimtab rollback --environment {environment}"
            ))]);
        }
        return Ok(Some(rollout.plan.id.clone()));
    }
    let meant = state.rollouts_active().into_iter().filter(|rollout| {
        args.environment.as_ref().is_none_or(|name| rollout.plan.environment.name.as_str() == name)
            && args.service.as_ref().is_none_or(|name| rollout.plan.revision.service.as_str() == name)
    });
    let ids: Vec<RolloutId> = meant.map(|rollout| rollout.plan.id.clone()).collect();
    match ids.as_slice() {
        [] if args.environment.is_none() => Err(vec![
            Problem::new(Code::NothingToRollBack, "no rollout is under way")
                .hint("to take back what serves, name where: trimtab rollback --environment production"),
        ]),
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => {
            let list: Vec<&str> = several.iter().map(RolloutId::as_str).collect();
            Err(vec![
                Problem::new(Code::RolloutUnknown, "several rollouts are under way")
                    .hint(format!("name one of: {}", list.join(", "))),
            ])
        }
    }
}

/// Asks for it in the ledger. A controller at work hears it at once; if there is none, we are the controller.
async fn take_back(
    args: &Args,
    controller: &mut Controller<'_>,
    id: &RolloutId,
    output: Output,
) -> super::Result {
    let state = controller.follower.state();
    let plan = state.rollouts[id].plan.clone();
    let (service, environment) = (&plan.revision.service, &plan.environment.name);
    let serving = state.slot(service, environment).and_then(|slot| state.release(slot.current.as_ref()?));
    let to = serving.map(|release| release.version.clone());
    let change = |finished| Change {
        service: service.to_string(),
        environment: environment.to_string(),
        from: plan.version.clone(),
        to: to.clone(),
        rollout: Some(id.to_string()),
        finished,
    };
    if args.dry_run {
        output.line(format!(
            "would take {} {} back in {}",
            plan.revision.service, plan.version, plan.environment.name
        ));
        return conclude(vec![change(false)], Vec::new(), output);
    }
    let cause = RollbackCause::Requested { by: controller.actor.to_string(), reason: args.reason.clone() };
    let events = rollout::driver::withdrawal(&controller.follower.state().rollouts[id], cause);
    if let Err(problems) = controller.record(events).await {
        return lower(args, controller.project, problems, output).await;
    }
    let outcome = loop {
        controller.tell()?;
        if let Some(outcome) = controller.follower.state().rollouts[id].outcome {
            break outcome;
        }
        match controller.lease(&plan.revision.service, &plan.environment) {
            Ok(lease) => break controller.drive(id, &lease).await?,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let problem = (outcome == RolloutOutcome::Completed).then(|| {
        let message = "the release was promoted just before it could be taken back";
        let hint = format!("take it back now with: trimtab rollback --environment {environment}");
        Problem::new(Code::NothingToRollBack, message).hint(hint)
    });
    conclude(vec![change(problem.is_none())], Vec::from_iter(problem), output)
}

/// The kill switch: with a ledger that can't be written, the traffic is taken from the canary all the same. That can only
/// lower risk; whoever controls the rollout finds its grant gone and records why.
async fn lower(args: &Args, project: &Project, problems: Vec<Problem>, output: Output) -> super::Result {
    let mut lowered = Vec::new();
    for config in edges::all(project) {
        let meant = args.environment.as_ref().is_none_or(|name| config.environment.as_str() == name)
            && args.service.as_ref().is_none_or(|name| config.service.as_str() == name);
        let Ok(edge) = Edge::connect(&config).await else { continue };
        if !meant || args.dry_run {
            continue;
        }
        let by =
            project.actor(args.identity.as_deref()).map_or_else(|_| "somebody".into(), |by| by.to_string());
        let requested = Requested { by, reason: args.reason.clone() };
        let change =
            edge.lower(Weight::ZERO, Some(requested)).await.map_err(|error| vec![error.problem()])?;
        if change.from > change.to {
            lowered.push(format!(
                "{} in {}: {} → {}",
                config.service, config.environment, change.from, change.to
            ));
        }
    }
    if lowered.is_empty() {
        return Err(problems);
    }
    output.problems(&problems);
    lowered.iter().for_each(|line| {
        output.line(format!("{line}, without a record; free the ledger, then run: trimtab ship"));
    });
    Ok(Exit::Success)
}

/// What serves and what served before it, for each service meant. All of it is looked at before anything is done, so that
/// nothing ends half done.
fn reversible(args: &Args, controller: &Controller<'_>) -> Result<Vec<(Release, Release)>, Vec<Problem>> {
    let name = args.environment.as_deref().unwrap_or_default();
    let environment = &controller.project.environment(name)?.name;
    let state = controller.follower.state();
    let (mut pairs, mut stuck) = (Vec::new(), Vec::new());
    for service in controller.project.services(args.service.as_deref())? {
        let Some(slot) = state.slot(&service.name, environment) else { continue };
        let Some(bad) = slot.current.as_ref().and_then(|id| state.release(id)) else { continue };
        if let Some(good) = slot.previous.as_ref().and_then(|id| state.release(id)) {
            pairs.push((bad.clone(), good.clone()));
        } else {
            let message = format!("nothing served {name} before {} {}", service.name, bad.version);
            stuck.push(Problem::new(Code::NothingToRollBack, message));
        }
    }
    if pairs.is_empty() && stuck.is_empty() {
        return Err(vec![Problem::new(Code::NothingToRollBack, format!("nothing serves {name}"))]);
    }
    if stuck.is_empty() {
        return Ok(pairs);
    }
    let able: Vec<String> = pairs.iter().map(|(bad, _)| bad.artifact.service.to_string()).collect();
    if let (Some(first), Some(problem)) = (able.first(), stuck.first_mut()) {
        let which = able.join(", ");
        let command = format!("trimtab rollback --environment {name} --service {first}");
        problem.hint = Some(format!("nothing was done; only these can go back: {which}; run: {command}"));
    }
    Err(stuck)
}

async fn revert(args: &Args, controller: &mut Controller<'_>, output: Output) -> super::Result {
    let pairs = reversible(args, controller)?;
    let name = args.environment.as_deref().unwrap_or_default();
    let environment: Environment = controller.project.environment(name)?.clone();
    let (mut changes, mut ends) = (Vec::new(), Vec::new());
    for (bad, good) in &pairs {
        let service = &bad.artifact.service;
        let mut change = Change {
            service: service.to_string(),
            environment: name.to_owned(),
            from: bad.version.clone(),
            to: Some(good.version.clone()),
            rollout: None,
            finished: false,
        };
        if args.dry_run {
            let (from, to) = (&bad.version, &good.version);
            output.line(format!("would take {service} {from} back in {name} and start {to} again"));
            changes.push(change);
            continue;
        }
        match controller.revert(bad, &environment).await {
            Ok(Arrival::Ended(id, outcome)) => {
                change.finished = outcome == RolloutOutcome::Completed;
                if !change.finished {
                    let message = format!(
                        "{service} {} did not come up again in {name} ({id}); {} still serves",
                        good.version, bad.version
                    );
                    let problem = Problem::new(Code::PlatformUnavailable, message);
                    ends.push(vec![problem.hint(format!("see: trimtab why {id}"))]);
                }
                change.rollout = Some(id.to_string());
            }
            Ok(Arrival::Already) => {}
            Err(problems) => ends.push(problems),
        }
        changes.push(change);
    }
    conclude(changes, super::gravest_first(ends), output)
}
