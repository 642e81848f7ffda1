//! `trimtab status`: what runs where, and what is under way.

use delivery::exit::Exit;
use delivery::text;
use rollout::state::State;
use serde::Serialize;

use crate::cli::Global;
use crate::edges;
use crate::output::Output;
use crate::project::Project;

/// Shows what runs where, what is under way, and what the last run said.
///
///   trimtab status
///   trimtab status --format json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Status {
    version: u32,
    records: u64,
    slots: Vec<Slot>,
    rollouts: Vec<Rollout>,
    run: Option<Run>,
    quarantined: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Slot {
    service: String,
    environment: String,
    version: Option<String>,
    release: Option<String>,
    digest: Option<String>,
    since: Option<delivery::Timestamp>,
    listen: String,
    /// Where it really listens; none when its edge does not run.
    address: Option<String>,
    instances_ready: usize,
    instances: usize,
    /// Why not all of what should serve does, and what to do.
    trouble: Option<String>,
    action: Option<String>,
}

#[derive(Debug, Serialize)]
struct Rollout {
    id: String,
    service: String,
    environment: String,
    version: String,
    weight_percent: f64,
    step: Option<usize>,
    steps: usize,
    finding: &'static str,
    taken_back: Option<String>,
    holder: Option<String>,
}

#[derive(Debug, Serialize)]
struct Run {
    id: String,
    tasks: usize,
    cached: usize,
    outcome: Option<delivery::event::TaskOutcome>,
}

pub(crate) async fn run(_args: &Args, global: &Global, output: Output) -> super::Result {
    let project = Project::open(global)?;
    let follower = project.reader()?;
    let empty = State::default();
    let state = follower.as_ref().map_or(&empty, |follower| follower.state());
    let mut status = status(&project, state);
    ask_edges(&project, state, &mut status).await;
    if let Some(detail) = follower.as_ref().and_then(|follower| follower.ledger().older().ok()?) {
        output.problems(&[store::Error::Older { detail }.problem()]);
    }
    print(&status, output);
    output.json(&status);
    Ok(Exit::Success)
}

/// Adds what the edges say of themselves: the record knows what should run, they know what does.
async fn ask_edges(project: &Project, state: &State, status: &mut Status) {
    // Both go through services and environments in the same order.
    for (slot, config) in status.slots.iter_mut().zip(edges::all(project)) {
        let health = edges::health(&config, edges::expected(state, &config)).await;
        (slot.instances_ready, slot.instances) = (health.ready, health.instances);
        slot.address = health.address;
        // Where nothing should serve, nothing is amiss.
        if slot.release.is_some() {
            (slot.trouble, slot.action) = health.trouble.unzip();
        }
    }
}

fn status(project: &Project, state: &State) -> Status {
    let pairs = project.manifest.services.iter().flat_map(|service| {
        project.manifest.environments.iter().map(move |environment| (&service.name, environment))
    });
    let slots = pairs.map(|(service, environment)| {
        let slot = state.slot(service, &environment.name);
        let release = slot.and_then(|slot| state.release(slot.current.as_ref()?));
        Slot {
            service: service.to_string(),
            environment: environment.name.to_string(),
            version: release.map(|release| release.version.clone()),
            release: release.map(|release| release.id.to_string()),
            digest: release.map(|release| release.artifact.digest.to_string()),
            since: slot.and_then(|slot| slot.since),
            listen: environment.listen.of(service).unwrap_or_default().to_owned(),
            address: None,
            instances_ready: 0,
            instances: 0,
            trouble: None,
            action: None,
        }
    });
    let rollouts = state.rollouts_active().into_iter().map(|rollout| Rollout {
        id: rollout.plan.id.to_string(),
        service: rollout.plan.revision.service.to_string(),
        environment: rollout.plan.environment.name.to_string(),
        version: rollout.plan.version.clone(),
        weight_percent: rollout.weight.share() * 100.0,
        step: rollout.position.map(|position| position.step + 1),
        steps: rollout.plan.environment.strategy.steps.len(),
        finding: rollout.finding(),
        taken_back: rollout.cause.as_ref().map(ToString::to_string),
        holder: rollout.holder.clone(),
    });
    let run = state.runs.last().map(|run| Run {
        id: run.id.to_string(),
        tasks: run.tasks.len(),
        cached: run.tasks.iter().filter(|task| task.cached).count(),
        outcome: run.outcome,
    });
    Status {
        version: 1,
        records: state.size,
        slots: slots.collect(),
        rollouts: rollouts.collect(),
        run,
        quarantined: state.quarantined.iter().map(|(sequence, _)| *sequence).collect(),
    }
}

fn print(status: &Status, output: Output) {
    if status.slots.is_empty() {
        output.line("no service has an environment; trimtab.toml defines none");
    }
    for slot in &status.slots {
        let place = format!("{} in {}", slot.service, slot.environment);
        match (&slot.version, slot.since) {
            (Some(version), Some(since)) => {
                output.line(format!(
                    "{place}: {version} since {} on {}",
                    since.strftime("%Y-%m-%d %H:%M:%SZ"),
                    slot.address.as_ref().unwrap_or(&slot.listen)
                ));
                slot.trouble.iter().for_each(|trouble| output.line(format!("  OUTAGE   {trouble}")));
                slot.action.iter().for_each(|action| output.line(format!("  so       {action}")));
            }
            _ => output.line(format!("{place}: nothing yet; run: trimtab ship --to {}", slot.environment)),
        }
    }
    for rollout in &status.rollouts {
        let step = rollout.step.map_or("starting".into(), |step| format!("step {step} of {}", rollout.steps));
        let back =
            rollout.taken_back.as_ref().map_or(String::new(), |cause| format!("; being taken back: {cause}"));
        output.line(format!(
            "under way: {} {} → {} at {}% ({step}, {}){back}",
            rollout.service, rollout.version, rollout.environment, rollout.weight_percent, rollout.finding
        ));
    }
    if let Some(run) = &status.run {
        let tasks = text::count(run.tasks as u64, "task");
        let outcome = run.outcome.map_or("not ended".into(), |outcome| format!("{outcome:?}").to_lowercase());
        output.line(format!("last run: {} ({tasks}, {} from the cache): {outcome}", run.id, run.cached));
    }
    if !status.quarantined.is_empty() {
        let records = text::count(status.quarantined.len() as u64, "record");
        output.line(format!("{records} can't be read and is left out; see: trimtab ledger verify"));
    }
}
