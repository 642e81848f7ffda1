//! Events and numbers as people read them.
//!
//! Pure text; leaves out escaping, which the templates do. Invariant: a number that isn't known is said to be unknown,
//! never shown as 0.

use delivery::effect::{Effect, Outcome};
use delivery::event::{LostHistory, TaskOutcome};
use delivery::evidence::{Evidence, Finding};
use delivery::report::{Fact, ServiceStep};
use delivery::rollout::RolloutOutcome;
use delivery::strategy::StrategyKind;
use delivery::traffic::Weight;
use delivery::{Event, text};
use rollout::progress::Rollout;
use rollout::state::State;

/// What an event means for its reader; drawn as an icon and a colour beside the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Something went as it should.
    Good,
    /// Something is wrong.
    Bad,
    /// It was taken back.
    Back,
    /// Somebody or something is waited for.
    Wait,
    /// It is under way.
    Going,
    /// A person did it.
    Person,
    /// A reading.
    Look,
    /// A release.
    Release,
    /// Nothing of these.
    Plain,
}

impl Tone {
    /// Its name, for icons, classes and programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Back => "back",
            Self::Wait => "wait",
            Self::Going => "going",
            Self::Person => "person",
            Self::Look => "look",
            Self::Release => "release",
            Self::Plain => "plain",
        }
    }
}

/// `1,204`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share in 0..=1 as percent, with as many digits as it needs: `0.12 %`, `10 %`.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        p if !p.is_finite() => "unknown".into(),
        0.0 => "0 %".into(),
        p if p < 0.01 => "< 0.01 %".into(),
        p if p < 1.0 => format!("{p:.2} %"),
        p if p < 10.0 => format!("{} %", trimmed(p, 1)),
        p => format!("{} %", trimmed(p, 1)),
    }
}

/// With a capital at its beginning.
pub(crate) fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// With at most so many decimals, and none that are 0.
pub(crate) fn trimmed(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A weight: `2.5 %`.
pub(crate) fn weight(weight: Weight) -> String {
    format!("{} %", f64::from(weight.basis_points()) / 100.0)
}

/// An e-value from its logarithm: `0.42`, `37`, `2,310,000`, `more than a million million`.
pub(crate) fn e_value(log: f64) -> String {
    let value = log.exp();
    match value {
        v if v.is_nan() => "unknown".into(),
        v if v > 1e12 => "over 10\u{b9}\u{b2}".into(),
        v if v >= 100.0 => thousands(v.round() as u64),
        v if v >= 10.0 => trimmed(v, 0),
        v if v >= 0.01 => trimmed(v, 2),
        _ => "under 0.01".into(),
    }
}

/// A ratio of the canary's error rate to stable's: `0.4`, `12`.
pub(crate) fn ratio(value: f64) -> String {
    match value {
        v if !v.is_finite() => "unbounded".into(),
        v if v >= 10.0 => thousands(v.round() as u64),
        v => trimmed(v, 2),
    }
}

/// What a finding says.
pub(crate) fn finding(finding: Finding) -> &'static str {
    match finding {
        Finding::Continue => "not enough evidence yet",
        Finding::Harm => "worse than stable",
        Finding::Safe => "within the margins",
        Finding::NoSignal => "no signal",
        Finding::RatioMismatch => "traffic is not split as asked",
    }
}

/// How a finding is drawn.
pub(crate) fn finding_tone(finding: Finding) -> Tone {
    match finding {
        Finding::Continue => Tone::Look,
        Finding::Harm => Tone::Bad,
        Finding::Safe => Tone::Good,
        Finding::NoSignal | Finding::RatioMismatch => Tone::Wait,
    }
}

/// A strategy's name.
pub(crate) fn strategy(kind: StrategyKind) -> &'static str {
    match kind {
        StrategyKind::Direct => "direct",
        StrategyKind::Rolling => "rolling",
        StrategyKind::BlueGreen => "blue/green",
        StrategyKind::Canary => "canary",
    }
}

/// The event in one sentence.
pub(crate) fn event(event: &Event, state: &State) -> (Tone, String) {
    match event {
        Event::RunStarted { commit, tasks, .. } => {
            let of = commit.as_ref().map_or_else(String::new, |commit| format!(" for {}", commit.short()));
            (Tone::Going, format!("a run of {} began{of}", text::count(tasks.len() as u64, "task")))
        }
        Event::TaskFinished { task, outcome, detail, .. } => match outcome {
            TaskOutcome::Success => (Tone::Good, format!("task {task} succeeded")),
            _ => (Tone::Bad, format!("task {task} did not succeed: {detail}")),
        },
        Event::TestsFinished { tests, failures, .. } => {
            let tone = if *failures == 0 { Tone::Good } else { Tone::Bad };
            (tone, format!("{} ran, {failures} failed", text::count(*tests, "test")))
        }
        Event::RunFinished { outcome, duration_ms, .. } => {
            let took = text::duration(*duration_ms);
            match outcome {
                TaskOutcome::Success => (Tone::Good, format!("a run succeeded in {took}")),
                _ => (Tone::Bad, format!("a run did not succeed ({took})")),
            }
        }
        Event::GateJudged { verdict, .. } => {
            let (tone, word) =
                if verdict.passed { (Tone::Good, "passed") } else { (Tone::Bad, "did not let it pass") };
            (tone, format!("gate {} {word}: {}", verdict.gate, verdict.reasons.join("; ")))
        }
        Event::ArtifactPackaged { artifact, .. } => {
            (Tone::Plain, format!("{} was packaged, sha256:{}", artifact.service, artifact.digest.short()))
        }
        Event::KeyCreated { key, .. } => {
            (Tone::Plain, format!("key {} signs provenance from now on", key.short()))
        }
        Event::ArtifactSigned { digest, .. } => {
            (Tone::Plain, format!("provenance of sha256:{} was signed", digest.short()))
        }
        Event::ReleaseCreated { release } => (
            Tone::Release,
            format!(
                "{} {} was released from {}: {}",
                release.artifact.service,
                release.version,
                release.commit.id.short(),
                release.commit.subject
            ),
        ),
        Event::ApprovalGranted { release, environment, comment, .. } => {
            let name = state.release(release).map_or_else(
                || release.to_string(),
                |release| format!("{} {}", release.artifact.service, release.version),
            );
            let comment = if comment.is_empty() { String::new() } else { format!(": {comment}") };
            (Tone::Person, format!("{name} was approved for {environment}{comment}"))
        }
        event => rollout_event(event, state),
    }
}

fn rollout_event(event: &Event, state: &State) -> (Tone, String) {
    match event {
        Event::RolloutPlanned { plan } => (
            Tone::Going,
            format!(
                "{} {} sets out for {}, {}",
                plan.revision.service,
                plan.version,
                plan.environment.name,
                strategy(plan.environment.strategy.kind)
            ),
        ),
        Event::RolloutAcquired { epoch, holder, .. } => {
            (Tone::Plain, format!("{holder} took charge, generation {epoch}"))
        }
        Event::EffectRequested { command } => (Tone::Plain, effect(&command.effect)),
        Event::EffectFinished { outcome, .. } => match outcome {
            Outcome::Applied { detail } => (Tone::Good, format!("done: {detail}")),
            Outcome::Refused { detail } => (Tone::Bad, format!("the platform refused: {detail}")),
            Outcome::Fenced { epoch } => {
                (Tone::Wait, format!("the platform answers to generation {epoch} only"))
            }
        },
        Event::RolloutJudged { step, evidence, sample, .. } => {
            (finding_tone(evidence.finding), look(*step as usize, evidence, sample.is_some()))
        }
        Event::RolloutResumed { step, reason, .. } => {
            (Tone::Person, format!("a person let it go on from step {}: {reason}", step + 1))
        }
        Event::RollbackRequested { cause, .. } => (Tone::Back, format!("to be taken back: {cause}")),
        Event::RolloutFinished { rollout, outcome } => finished(state.rollouts.get(rollout), *outcome),
        Event::ServiceDeployed(change) => {
            (Tone::Good, format!("{} runs in {} for the first time", change.service, change.environment))
        }
        Event::ServiceUpgraded(change) => {
            (Tone::Good, format!("{} in {} was upgraded", change.service, change.environment))
        }
        Event::ServiceRolledBack(change) => (
            Tone::Back,
            format!(
                "{} in {} is back to what it was; the release had reached {}",
                change.service,
                change.environment,
                weight(change.weight)
            ),
        ),
        Event::IncidentDetected { summary, .. } => (Tone::Bad, format!("incident: {summary}")),
        Event::IncidentResolved { .. } => (Tone::Good, "the incident is over".into()),
        Event::Reported { fact, .. } => reported(fact),
        Event::LedgerRestored { size, lost, .. } => (Tone::Bad, restored(*size, lost.as_ref())),
        // What isn't about a rollout has its words above.
        other => (Tone::Plain, other.kind().to_owned()),
    }
}

fn restored(size: u64, lost: Option<&LostHistory>) -> String {
    let from = format!("the ledger was restored to record {}", thousands(size));
    match lost.map(|lost| lost.size.saturating_sub(size)) {
        None => format!("{from}; what came after it is not known"),
        Some(0) => format!("{from} of a history that differs"),
        Some(more) => format!("{from}; {} after it were given up", text::count(more, "record")),
    }
}

fn reported(fact: &Fact) -> (Tone, String) {
    match fact {
        Fact::IncidentDetected { service, environment, summary, .. } => {
            (Tone::Bad, format!("an incident of {service} in {environment} was reported: {summary}"))
        }
        Fact::IncidentResolved { incident } => {
            (Tone::Good, format!("the incident {} was reported to be over", incident.id))
        }
        Fact::ServiceChanged { step, service, environment, artifact } => {
            let (tone, what) = match step {
                ServiceStep::Deployed => (Tone::Good, "was deployed"),
                ServiceStep::Upgraded => (Tone::Good, "was upgraded"),
                ServiceStep::RolledBack => (Tone::Back, "was taken back"),
            };
            (tone, format!("{service} {what} in {environment} by somebody else, to {artifact}"))
        }
    }
}

fn finished(rollout: Option<&Rollout>, outcome: RolloutOutcome) -> (Tone, String) {
    let Some(rollout) = rollout else { return (Tone::Plain, "a rollout ended".into()) };
    let plan = &rollout.plan;
    let name = format!("{} {}", plan.revision.service, plan.version);
    let place = &plan.environment.name;
    match (outcome, rollout.exposure_ms()) {
        (RolloutOutcome::Completed, _) => (Tone::Good, format!("{name} serves {place}")),
        (RolloutOutcome::RolledBack, Some(ms)) => {
            let after = text::duration(ms);
            (Tone::Back, format!("{name} was taken back from {place}, {after} after its first traffic"))
        }
        (RolloutOutcome::RolledBack, None) => {
            (Tone::Back, format!("{name} was taken back from {place} before it had traffic"))
        }
    }
}

/// An effect while it is asked for.
pub(crate) fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Start { revision } => {
            format!(
                "asked to start {} of {}",
                text::count(u64::from(revision.instances), "instance"),
                revision.id
            )
        }
        Effect::SetWeight { weight: Weight::ZERO, .. } => "asked to take all traffic from the canary".into(),
        Effect::SetWeight { weight: share, .. } => {
            format!("asked to send {} of the traffic to the canary", weight(*share))
        }
        Effect::Promote { revision } => format!("asked to make {revision} stable"),
        Effect::Retire { revision, .. } => format!("asked to drain and stop {revision}"),
    }
}

fn look(step: usize, evidence: &Evidence, read: bool) -> String {
    if !read {
        return format!("look at step {}: the splitter could not be read", step + 1);
    }
    format!(
        "look at step {}: {} ({}); {}; e-value of harm {}, of safety {}",
        step + 1,
        finding(evidence.finding),
        evidence.signal,
        evidence.counts(),
        e_value(evidence.log_e_harm),
        e_value(evidence.log_e_safe),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_204), "1,204");
        assert_eq!(thousands(12_345_678), "12,345,678");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.00001), "< 0.01 %");
        assert_eq!(percent(0.0012), "0.12 %");
        assert_eq!(percent(0.1), "10 %");
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(f64::NAN), "unknown");
        assert_eq!(ratio(f64::INFINITY), "unbounded");
        assert_eq!(e_value(f64::INFINITY), "over 10¹²");
        assert_eq!(e_value(f64::NEG_INFINITY), "under 0.01");
        assert_eq!(e_value(f64::NAN), "unknown");
        assert_eq!(e_value(0.0), "1");
    }
}
