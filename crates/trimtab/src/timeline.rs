//! The story of a delivery, one line an event, as people read it while it happens and afterwards.

use delivery::effect::Outcome;
use delivery::event::TaskOutcome;
use delivery::evidence::Finding;
use delivery::rollout::RolloutOutcome;
use delivery::{Event, Recorded, text};
use rollout::state::State;

/// The line of an event, or `None` for those that only programs care about. A look is told only when its finding
/// changes, so that a quiet canary stays quiet; `told` remembers the last finding.
pub(crate) fn line(recorded: &Recorded, state: &State, told: &mut Option<Finding>) -> Option<String> {
    let words = match &recorded.event {
        Event::TaskFinished { task, outcome, cached, duration_ms, detail, .. } => {
            task_line(task.as_str(), *outcome, *cached, *duration_ms, detail)
        }
        Event::TestsFinished { tests, failures, skipped, .. } => {
            format!("         {}, {failures} failed, {skipped} skipped", text::count(*tests, "test"))
        }
        Event::GateJudged { verdict, .. } => {
            let word = if verdict.passed { "passed" } else { "FAILED" };
            format!("gate     {} {word}: {}", verdict.gate, verdict.reasons.join("; "))
        }
        Event::ArtifactPackaged { artifact, .. } => {
            let files = text::count(artifact.files, "file");
            format!(
                "package  {} sha256:{} ({files}, {} bytes)",
                artifact.service,
                artifact.digest.short(),
                artifact.bytes
            )
        }
        Event::KeyCreated { key, .. } => format!("key      {} signs from now on", key.short()),
        Event::ArtifactSigned { digest, key, .. } => {
            format!(
                "sign     provenance of sha256:{} with key {}",
                digest.short(),
                key.get(..12).unwrap_or(key)
            )
        }
        Event::ReleaseCreated { release } => {
            format!(
                "release  {} {} from {} ({})",
                release.artifact.service,
                release.version,
                release.commit.id.short(),
                release.id
            )
        }
        Event::ApprovalGranted { release, environment, .. } => {
            let version = state.release(release).map_or("", |release| &release.version);
            format!("approve  {} approves {version} for {environment}", recorded.actor)
        }
        event => return rollout_line(event, state, told).map(|words| stamp(recorded, &words)),
    };
    Some(stamp(recorded, &words))
}

fn stamp(recorded: &Recorded, words: &str) -> String {
    let at = recorded.at.strftime("%H:%M:%S%.3f");
    format!("{at}  {words}")
}

fn task_line(task: &str, outcome: TaskOutcome, cached: bool, duration_ms: u64, detail: &str) -> String {
    let took = text::duration(duration_ms);
    match outcome {
        TaskOutcome::Success if cached => format!("task     {task} unchanged, from the cache ({took})"),
        TaskOutcome::Success => {
            // What is worth a word beside that it went well, such as processes that it left behind.
            let notes = detail.strip_prefix("exit code 0").unwrap_or_default();
            format!("task     {task} ok ({took}){notes}")
        }
        TaskOutcome::Skipped => format!("task     {task} skipped: {detail}"),
        _ => format!("task     {task} FAILED: {detail} ({took})"),
    }
}

fn rollout_line(event: &Event, state: &State, told: &mut Option<Finding>) -> Option<String> {
    Some(match event {
        Event::RolloutPlanned { plan } => {
            *told = None;
            let kind = plan.environment.strategy.kind.name();
            format!(
                "rollout  {} {} → {} by {kind} ({})",
                plan.revision.service, plan.version, plan.environment.name, plan.id
            )
        }
        Event::EffectFinished { rollout, outcome, sequence } => {
            effect_line(state, rollout, *sequence, outcome)?
        }
        Event::RolloutJudged { evidence, .. } => {
            if *told == Some(evidence.finding) {
                return None;
            }
            *told = Some(evidence.finding);
            judged_line(evidence)
        }
        Event::RollbackRequested { cause, .. } => format!("verdict  take it back: {cause}"),
        Event::RolloutResumed { reason, .. } => format!("resume   a person lets it go on: {reason}"),
        Event::RolloutFinished { rollout, outcome } => finished_line(state, rollout, *outcome),
        _ => return None,
    })
}

fn effect_line(
    state: &State,
    rollout: &delivery::RolloutId,
    sequence: u32,
    outcome: &Outcome,
) -> Option<String> {
    let rollout = state.rollouts.get(rollout)?;
    let detail = match outcome {
        Outcome::Applied { detail } => detail.clone(),
        Outcome::Refused { detail } => return Some(format!("platform refused: {detail}")),
        Outcome::Fenced { epoch } => return Some(format!("platform answers to generation {epoch}")),
    };
    debug_assert!(sequence <= rollout.sequence);
    Some(format!("platform {detail}"))
}

fn judged_line(evidence: &delivery::evidence::Evidence) -> String {
    let counts = evidence.counts();
    match evidence.finding {
        Finding::Harm => format!(
            "analysis HARM on {}: e-value {:.0} ({counts})",
            evidence.signal,
            evidence.log_e_harm.exp()
        ),
        Finding::Safe => format!("analysis safe: e-value {:.0} ({counts})", evidence.log_e_safe.exp()),
        Finding::Continue => format!("analysis collects evidence ({counts})"),
        Finding::NoSignal => format!("analysis has no signal ({counts})"),
        Finding::RatioMismatch => format!("analysis sees another split than asked for ({counts})"),
    }
}

fn finished_line(state: &State, rollout: &delivery::RolloutId, outcome: RolloutOutcome) -> String {
    let Some(rollout) = state.rollouts.get(rollout) else { return format!("rollout  {rollout} ended") };
    let name = format!("{} {}", rollout.plan.revision.service, rollout.plan.version);
    match outcome {
        RolloutOutcome::Completed => format!("done     {name} serves {}", rollout.plan.environment.name),
        RolloutOutcome::RolledBack => match rollout.exposure_ms() {
            Some(exposed) => {
                format!("done     {name} was taken back {} after its first traffic", text::duration(exposed))
            }
            None => format!("done     {name} was taken back before it had any traffic"),
        },
    }
}
