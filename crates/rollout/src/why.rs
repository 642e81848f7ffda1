//! Why a thing waits, and what moves it.
//!
//! Total by construction: every active rollout, every release that has not reached the last environment and every failed
//! run yields an answer, and an answer always names a blocker and an action (I13). Leaves out how it is printed.

use delivery::environment::Environment;
use delivery::event::TaskOutcome;
use delivery::evidence::Finding;
use delivery::release::Release;
use delivery::strategy::Step;
use delivery::{Digest, EnvironmentName, ServiceName, Timestamp, text};

use crate::planner;
use crate::progress::{Position, Rollout};
use crate::promotion;
use crate::state::{Run, State};

/// One thing that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// What waits: `shop 1.2.0 → production`, `rollout ro-…`, `run run-…`.
    pub subject: String,
    /// Ids and names by which a person may ask for it.
    pub names: Vec<String>,
    /// What keeps it, one sentence each, most important first. Never empty.
    pub blockers: Vec<String>,
    /// What moves it, in the same order: a command, or what will happen by itself and when. Never empty.
    pub actions: Vec<String>,
}

/// The world outside the ledger that answers depend on.
pub struct Circumstances<'a> {
    /// The manifest's environments, in promotion order, each with the digest of its rules.
    pub environments: &'a [(Environment, Digest)],
    /// Whether a controller is at work on a rollout of the service in the environment.
    pub driven: &'a dyn Fn(&ServiceName, &EnvironmentName) -> bool,
    /// The present.
    pub now: Timestamp,
}

/// Every waiting thing, the most urgent first: rollouts, then releases on their way, then the last run if it failed.
pub fn why(state: &State, circumstances: &Circumstances<'_>) -> Vec<Why> {
    let mut found: Vec<Why> =
        state.rollouts_active().into_iter().map(|rollout| rollout_why(rollout, circumstances)).collect();
    let services: std::collections::BTreeSet<&ServiceName> =
        state.releases.iter().map(|record| &record.release.artifact.service).collect();
    for service in services {
        found.extend(
            state.release_latest(service).and_then(|release| release_why(state, release, circumstances)),
        );
    }
    found.extend(state.runs.last().and_then(|run| run_why(state, run)));
    found
}

fn rollout_why(rollout: &Rollout, circumstances: &Circumstances<'_>) -> Why {
    let plan = &rollout.plan;
    let (service, environment) = (&plan.revision.service, &plan.environment.name);
    let subject = format!("rollout {} ({service} {} → {environment})", plan.id, plan.version);
    let names =
        vec![plan.id.to_string(), plan.release.to_string(), service.to_string(), environment.to_string()];
    let mut why = Why { subject, names, blockers: Vec::new(), actions: Vec::new() };
    let driven = (circumstances.driven)(service, environment);
    if !driven {
        why.blockers.push("no controller is at work on it".into());
        let action = "run: trimtab server, which goes on where it stopped";
        let action = if rollout.withdrawable() {
            format!("{action}; or take it back: trimtab rollback {}", plan.id)
        } else {
            action.to_owned()
        };
        why.actions.push(action);
    }
    let (blocker, action) = phase(rollout, circumstances.now);
    // Without a controller nothing ends by itself.
    let action = if driven || action != BY_ITSELF { action } else { "run: trimtab server".into() };
    why.blockers.push(blocker);
    why.actions.push(action);
    why
}

const BY_ITSELF: &str = "nothing to do: it ends by itself";

fn phase(rollout: &Rollout, now: Timestamp) -> (String, String) {
    let id = &rollout.plan.id;
    let take_back = format!("to take it back, run: trimtab rollback {id}");
    if let Some(cause) = &rollout.cause {
        let what = if rollout.milestones.withdrawn.is_some() || !rollout.raised {
            "its processes are being stopped"
        } else {
            "its traffic is being taken back"
        };
        return (format!("it is being taken back, because {cause}; {what}"), BY_ITSELF.into());
    }
    if rollout.promoted {
        return ("the release serves; the former revision is being drained".into(), BY_ITSELF.into());
    }
    if rollout.promoting() {
        let environment = &rollout.plan.environment.name;
        return (
            "all traffic is being given to it, and the platform has not answered yet".into(),
            format!(
                "nothing to do: it is asked again until it answers; to take the release back after that, run: trimtab rollback --environment {environment}"
            ),
        );
    }
    let Some((position, step)) = rollout.position.zip(rollout.step()) else {
        let within = text::duration(rollout.plan.revision.ready.within_ms);
        return (format!("the new revision is starting; it has {within} to become ready"), take_back);
    };
    step_phase(rollout, position, step, now)
}

fn step_phase(rollout: &Rollout, position: Position, step: &Step, now: Timestamp) -> (String, String) {
    let id = &rollout.plan.id;
    let take_back = format!("to take it back, run: trimtab rollback {id}");
    let judged = step.analyse && !position.resumed;
    let waited =
        if judged { rollout.watched_ms(now) } else { delivery::clock::millis_between(position.since, now) };
    let steps = rollout.plan.environment.strategy.steps.len();
    let place = format!("step {} of {steps} at {}", position.step + 1, step.weight);
    let hold = text::duration(step.hold_ms.saturating_sub(waited));
    if !judged {
        return (format!("{place} holds for another {hold}"), take_back);
    }
    let left_ms = planner::patience_ms(rollout, step).saturating_sub(waited);
    // Whoever looks at an overdue step sees it end, unless it has a person's time left.
    let left = if left_ms == 0 { "now".into() } else { format!("in {}", text::duration(left_ms)) };
    let finding = rollout.verdict().map(|look| look.evidence.finding);
    if rollout.held(now) && left_ms > 0 && finding != Some(Finding::Safe) {
        return (
            format!("{place} is held for a person: {}; it is taken back {left}", rollout.finding()),
            format!("run: trimtab approve {id}, or: trimtab rollback {id}"),
        );
    }
    match finding {
        Some(Finding::Safe) => {
            (format!("{place} is within the margins and holds for another {hold}"), take_back)
        }
        Some(Finding::NoSignal) => (
            format!("{place} has no signal: no canary request lately; it is taken back {left}"),
            format!(
                "send traffic to {}, or take it back: trimtab rollback {id}",
                rollout.plan.environment.listen.of(&rollout.plan.revision.service).unwrap_or("it")
            ),
        ),
        Some(Finding::RatioMismatch) => (
            format!(
                "{place}: traffic is not split as asked, so the arms can't be compared; it is taken back {left}"
            ),
            take_back,
        ),
        _ => (
            format!(
                "{place} collects evidence ({}); without enough it is taken back {left}",
                rollout.finding()
            ),
            take_back,
        ),
    }
}

fn release_why(state: &State, release: &Release, circumstances: &Circumstances<'_>) -> Option<Why> {
    let environments: Vec<Environment> = circumstances.environments.iter().map(|(e, _)| e.clone()).collect();
    let (environment, policy) = circumstances
        .environments
        .iter()
        .find(|(environment, _)| !state.has_served(&release.id, &environment.name))?;
    let service = &release.artifact.service;
    if state
        .rollout_active(service, &environment.name)
        .is_some_and(|rollout| rollout.plan.release == release.id)
    {
        return None;
    }
    let mut names = vec![release.id.to_string(), service.to_string(), environment.name.to_string()];
    names.push(release.version.clone());
    let subject = format!("{service} {} → {}", release.version, environment.name);
    let mut why = Why { subject, names, blockers: Vec::new(), actions: Vec::new() };
    if let Some(rollout) = state.taken_back(release, &environment.name) {
        let cause = match &rollout.cause {
            Some(cause) => cause.to_string(),
            None => "it was reverted after it had served".into(),
        };
        why.names.push(rollout.plan.id.to_string());
        why.blockers.push(format!("it was taken back there ({}): {cause}", rollout.plan.id));
        why.actions.push(
            "mend it, commit, and run: trimtab ship; or try the same again: trimtab ship --again".into(),
        );
        return Some(why);
    }
    for blocker in promotion::blockers(state, release, environment, &environments, policy, circumstances.now)
    {
        why.blockers.push(blocker.sentence());
        why.actions.push(blocker.action(release, &environment.name));
    }
    if why.blockers.is_empty() {
        why.blockers.push("nothing keeps it out; nobody has asked for it".into());
        why.actions.push(format!("run: trimtab ship --to {}", environment.name));
    }
    Some(why)
}

fn run_why(state: &State, run: &Run) -> Option<Why> {
    // A run that led to a release is that release's matter.
    if state.releases.iter().rev().any(|record| record.release.run == run.id) {
        return None;
    }
    let mut why = Why {
        subject: format!("run {}", run.id),
        names: vec![run.id.to_string()],
        blockers: vec![],
        actions: vec![],
    };
    let failed = run.tasks.iter().filter(|task| task.outcome != TaskOutcome::Success);
    for task in failed.filter(|task| task.outcome != TaskOutcome::Skipped) {
        why.names.push(task.task.to_string());
        why.blockers.push(format!("task {} did not succeed: {}", task.task, task.detail));
        why.actions.push(format!("mend it and run: trimtab run {}", task.task));
    }
    for verdict in run.verdicts.iter().filter(|verdict| !verdict.passed) {
        why.names.push(verdict.gate.to_string());
        why.blockers.push(format!(
            "gate {} does not let it pass: {}",
            verdict.gate,
            verdict.reasons.join("; ")
        ));
        why.actions.push("mend what it names, commit, and run: trimtab ship".into());
    }
    if run.outcome.is_none() {
        why.blockers.push("the run has not ended: it is under way, or its process died".into());
        why.actions.push("if it died, run: trimtab run".into());
    }
    (!why.blockers.is_empty()).then_some(why)
}
