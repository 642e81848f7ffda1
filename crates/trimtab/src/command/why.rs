//! `trimtab why`: what waits, for what, and what moves it.

use delivery::clock::{Clock as _, SteadyClock};
use delivery::code::Code;
use delivery::exit::Exit;
use rollout::state::State;
use rollout::why::{Circumstances, Why};
use serde::Serialize;

use crate::cli::Global;
use crate::edges;
use crate::output::Output;
use crate::project::{self, Project};

/// Says what waits, what it waits for, and which command moves it.
///
///   trimtab why
///   trimtab why production
///   trimtab why ro-7k3m9x2p
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// A rollout, release, run, service, environment, task or gate. Without one: everything that waits.
    thing: Option<String>,
}

#[derive(Debug, Serialize)]
struct Answers {
    version: u32,
    waiting: Vec<Answer>,
}

#[derive(Debug, Serialize)]
struct Answer {
    subject: String,
    blockers: Vec<String>,
    actions: Vec<String>,
}

pub(crate) async fn run(args: &Args, global: &Global, output: Output) -> super::Result {
    let project = Project::open(global)?;
    let follower = project.reader()?;
    let empty = State::default();
    let state = follower.as_ref().map_or(&empty, |follower| follower.state());
    let mut answers = outages(&project, state).await;
    answers.extend(everything(&project, state));
    if let Some(thing) = &args.thing {
        check_known(thing, state, &project)?;
        answers.retain(|why| why.names.iter().any(|name| name == thing));
    }
    print(&answers, args.thing.as_deref(), state, output);
    let waiting = answers.into_iter().map(|why| Answer {
        subject: why.subject,
        blockers: why.blockers,
        actions: why.actions,
    });
    output.json(&Answers { version: 1, waiting: waiting.collect() });
    Ok(Exit::Success)
}

/// What should serve and does not, or not as it should: the record alone can't know.
async fn outages(project: &Project, state: &State) -> Vec<Why> {
    let mut found = Vec::new();
    for config in edges::all(project) {
        let (service, environment) = (&config.service, &config.environment);
        let health = edges::health(&config, edges::expected(state, &config)).await;
        let current = state.slot(service, environment).and_then(|slot| slot.current.as_ref());
        let serving = current.and_then(|id| state.release(id));
        if let (Some(release), Some((trouble, action))) = (serving, health.trouble) {
            found.push(Why {
                subject: format!("{service} {} in {environment}", release.version),
                names: vec![
                    service.to_string(),
                    environment.to_string(),
                    release.id.to_string(),
                    release.version.clone(),
                ],
                blockers: vec![trouble],
                actions: vec![action],
            });
        }
        if let (Some(rollout), Some((trouble, log))) =
            (state.rollout_active(service, environment), health.canary)
        {
            let plan = &rollout.plan;
            found.push(Why {
                subject: format!("canary {service} {} in {environment}", plan.version),
                names: vec![plan.id.to_string(), service.to_string(), environment.to_string()],
                blockers: vec![trouble],
                actions: vec![format!("see {log}; to take it back, run: trimtab rollback {}", plan.id)],
            });
        }
    }
    found
}

/// Everything that waits in the project.
pub(crate) fn everything(project: &Project, state: &State) -> Vec<Why> {
    let environments = project.environments();
    let circumstances = Circumstances {
        environments: &environments,
        driven: &|service, environment| project.driven(service, environment),
        now: SteadyClock::anchored(state.last_at).now(),
    };
    rollout::why::why(state, &circumstances)
}

fn check_known(thing: &str, state: &State, project: &Project) -> Result<(), Vec<delivery::Problem>> {
    let manifest = &project.manifest;
    let mut known: Vec<&str> = Vec::new();
    known.extend(manifest.services.iter().map(|service| service.name.as_str()));
    known.extend(manifest.environments.iter().map(|environment| environment.name.as_str()));
    known.extend(manifest.tasks.iter().map(|task| task.name.as_str()));
    known.extend(manifest.gates.iter().map(|gate| gate.name.as_str()));
    known.extend(state.rollouts.keys().map(delivery::RolloutId::as_str));
    known.extend(state.runs.iter().map(|run| run.id.as_str()));
    for record in &state.releases {
        known.push(record.release.id.as_str());
        known.push(&record.release.version);
    }
    if known.contains(&thing) {
        return Ok(());
    }
    Err(vec![project::unknown(
        Code::ThingUnknown,
        format!("nothing here is called {thing:?}"),
        thing,
        known.iter().copied(),
    )])
}

fn print(answers: &[Why], thing: Option<&str>, state: &State, output: Output) {
    if answers.is_empty() {
        match thing {
            Some(thing) => output.line(format!("{thing}: nothing keeps it waiting")),
            None if state.size == 0 => output
                .line("nothing waits, because nothing was started yet; run: trimtab run, or: trimtab ship"),
            None => output.line("nothing waits"),
        }
    }
    for why in answers {
        output.line(&why.subject);
        for (blocker, action) in why.blockers.iter().zip(&why.actions) {
            output.line(format!("  because  {blocker}"));
            output.line(format!("  so       {action}"));
        }
    }
}
