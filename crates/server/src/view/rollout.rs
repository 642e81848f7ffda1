//! One rollout, in brief for lists and in full for its page.

use delivery::evidence::Finding;
use delivery::rollout::RolloutOutcome;
use delivery::strategy::OnExpiry;
use delivery::traffic::Weight;
use delivery::{Timestamp, text};
use platform::edge::{Role, Status};
use rollout::progress::{Look, Rollout};
use rollout::state::State;
use serde::Serialize;

use super::arms::{self, ArmsView};
use super::state::Around;
use super::when::When;
use super::{Bounded, VERSION};
use crate::words::{self, Tone};

/// Looks that the API gives out of one rollout: the last ones.
const LOOKS_MAX: usize = 2_000;
/// Looks in the page's table.
const TABLE_MAX: usize = 200;
/// Looks that a chart is drawn from; more are thinned.
const CURVE_MAX: usize = 300;

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// The new revision is starting; no traffic yet.
    Starting,
    /// It has a share of the traffic.
    Exposed,
    /// It serves; the former revision is being drained.
    Promoted,
    /// It is being taken back.
    TakingBack,
    /// It ended well.
    Completed,
    /// It was taken back.
    RolledBack,
}

/// A rollout in brief.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RolloutView {
    pub(crate) id: String,
    pub(crate) service: String,
    pub(crate) environment: String,
    pub(crate) release: String,
    pub(crate) version: String,
    pub(crate) strategy: &'static str,
    pub(crate) phase: Phase,
    /// Percent of traffic: what the edge says, or what it acknowledged last.
    pub(crate) weight_percent: f64,
    /// Whether that is so now, rather than when it was heard of last.
    pub(crate) weight_known: bool,
    /// Whether the edge has taken the traffic back without being told to, and that is on no record yet.
    pub(crate) lapsed: bool,
    /// Whether it waits for a person, who may let it go on.
    pub(crate) held: bool,
    /// The highest percentage that was ever asked for.
    pub(crate) weight_max_percent: f64,
    /// From 1; absent before the first traffic.
    pub(crate) step: Option<usize>,
    pub(crate) steps: usize,
    /// What the last look of this step found.
    pub(crate) finding: Option<Finding>,
    pub(crate) planned_at: When,
    pub(crate) finished_at: Option<When>,
    /// Why it was taken back, one clause.
    pub(crate) cause: Option<String>,
    /// The controller that is at work on it, or was last.
    pub(crate) holder: Option<String>,
    /// Whether one is at work on it now.
    pub(crate) driven: bool,
}

/// The share of traffic that goes to the rollout's revision by the edge's word.
fn in_force(status: &Status, rollout: &Rollout) -> Weight {
    if status.revision(Role::Stable).is_some_and(|stable| stable.id == rollout.plan.revision.id) {
        Weight::FULL
    } else if status.rollout.as_ref() == Some(&rollout.plan.id) {
        status.weight
    } else {
        Weight::ZERO
    }
}

impl RolloutView {
    pub(crate) fn of(rollout: &Rollout, around: &Around<'_>) -> Self {
        let (plan, now) = (&rollout.plan, around.now);
        let said = around.edge(rollout).map(|status| in_force(status, rollout));
        let weight = said.unwrap_or(rollout.weight);
        Self {
            id: plan.id.to_string(),
            service: plan.revision.service.to_string(),
            environment: plan.environment.name.to_string(),
            release: plan.release.to_string(),
            version: plan.version.clone(),
            strategy: words::strategy(plan.environment.strategy.kind),
            phase: phase(rollout),
            weight_percent: weight.share() * 100.0,
            weight_known: said.is_some() || !rollout.active() || rollout.weight_max == Weight::ZERO,
            lapsed: weight < rollout.weight && rollout.withdrawable(),
            held: rollout.held(now),
            weight_max_percent: rollout.weight_max.share() * 100.0,
            step: rollout.position.map(|position| position.step + 1),
            steps: plan.environment.strategy.steps.len(),
            finding: rollout.verdict().map(|look| look.evidence.finding),
            planned_at: When { at: rollout.planned_at, now },
            finished_at: rollout.milestones.finished.map(|at| When { at, now }),
            cause: rollout.cause.as_ref().map(ToString::to_string),
            holder: rollout.holder.clone(),
            driven: rollout.active() && around.driven(rollout),
        }
    }

    pub(crate) fn tone(&self) -> Tone {
        match self.phase {
            _ if self.lapsed => Tone::Back,
            Phase::Starting | Phase::Exposed | Phase::Promoted => Tone::Going,
            Phase::TakingBack | Phase::RolledBack => Tone::Back,
            Phase::Completed => Tone::Good,
        }
    }

    pub(crate) fn icon(&self) -> &'static str {
        crate::icon::icon(self.tone().name())
    }

    pub(crate) fn tone_name(&self) -> &'static str {
        self.tone().name()
    }

    pub(crate) fn active(&self) -> bool {
        !matches!(self.phase, Phase::Completed | Phase::RolledBack)
    }

    /// Whether it can be taken back: it has not ended and has not become stable.
    pub(crate) fn revocable(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Exposed)
    }

    pub(crate) fn weight_text(&self) -> String {
        format!("{} %", words::trimmed(self.weight_percent, 2))
    }

    /// As [`Self::weight_text`], and whether that is certain: `last known 10 %`.
    pub(crate) fn weight_words(&self) -> String {
        let known = if self.weight_known { "" } else { "last known " };
        format!("{known}{}", self.weight_text())
    }

    /// `of the traffic`, and whether that is certain.
    pub(crate) fn weight_caption(&self) -> &'static str {
        if self.weight_known { "of the traffic" } else { "of the traffic, last known" }
    }

    /// Who drives it, in a clause; `None` before anybody did.
    pub(crate) fn driver_text(&self) -> Option<String> {
        let holder = self.holder.as_ref()?;
        Some(match (self.driven, self.active()) {
            (true, _) => format!("driven by {holder}"),
            (false, true) => format!("last driven by {holder} (gone)"),
            (false, false) => format!("was driven by {holder}"),
        })
    }

    pub(crate) fn weight_max_text(&self) -> String {
        format!("{} %", words::trimmed(self.weight_max_percent, 2))
    }

    /// Where it stands, in a few words.
    pub(crate) fn phase_text(&self) -> String {
        match self.phase {
            Phase::Starting => "starting".into(),
            Phase::Exposed if self.lapsed => {
                let step = self.step.unwrap_or(1);
                format!("step {step} of {}, its traffic is back with stable", self.steps)
            }
            Phase::Exposed if self.held => {
                format!("step {} of {}, held for a person", self.step.unwrap_or(1), self.steps)
            }
            Phase::Exposed => format!("step {} of {}", self.step.unwrap_or(1), self.steps),
            Phase::Promoted => "serving; the former revision drains".into(),
            Phase::TakingBack => "being taken back".into(),
            Phase::Completed => "completed".into(),
            Phase::RolledBack => "taken back".into(),
        }
    }

    pub(crate) fn finding_text(&self) -> &'static str {
        self.finding.map_or("no look yet", words::finding)
    }

    pub(crate) fn finding_tone(&self) -> &'static str {
        self.finding.map_or(Tone::Plain, words::finding_tone).name()
    }

    pub(crate) fn finding_icon(&self) -> &'static str {
        crate::icon::icon(self.finding_tone())
    }

    /// How long it took, or has been under way.
    pub(crate) fn length(&self) -> String {
        let until = self.finished_at.map_or(self.planned_at.now, |finished| finished.at);
        text::duration(delivery::clock::millis_between(self.planned_at.at, until))
    }
}

fn phase(rollout: &Rollout) -> Phase {
    match (rollout.outcome, &rollout.cause) {
        (Some(RolloutOutcome::Completed), _) => Phase::Completed,
        (Some(RolloutOutcome::RolledBack), _) => Phase::RolledBack,
        (None, Some(_)) => Phase::TakingBack,
        (None, None) if rollout.promoted => Phase::Promoted,
        (None, None) if rollout.position.is_some() => Phase::Exposed,
        (None, None) => Phase::Starting,
    }
}

/// One look at the traffic.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LookView {
    pub(crate) at: Timestamp,
    /// From 1.
    pub(crate) step: usize,
    pub(crate) finding: Finding,
    pub(crate) signal: String,
    pub(crate) log_e_harm: f64,
    pub(crate) log_e_safe: f64,
    /// Absent is 0.
    pub(crate) ratio_low: Option<f64>,
    /// Absent is unbounded.
    pub(crate) ratio_high: Option<f64>,
}

impl LookView {
    fn of(look: &Look) -> Self {
        let evidence = &look.evidence;
        Self {
            at: look.at,
            step: look.step + 1,
            finding: evidence.finding,
            signal: evidence.signal.clone(),
            log_e_harm: evidence.log_e_harm,
            log_e_safe: evidence.log_e_safe,
            ratio_low: evidence.ratio_low,
            ratio_high: evidence.ratio_high,
        }
    }
}

impl LookView {
    pub(crate) fn clock(&self) -> String {
        self.at.strftime("%H:%M:%S%.1f").to_string()
    }

    pub(crate) fn finding_text(&self) -> &'static str {
        words::finding(self.finding)
    }

    pub(crate) fn harm_text(&self) -> String {
        words::e_value(self.log_e_harm)
    }

    pub(crate) fn safe_text(&self) -> String {
        words::e_value(self.log_e_safe)
    }

    pub(crate) fn low_text(&self) -> String {
        self.ratio_low.map_or_else(|| "0".into(), words::ratio)
    }

    pub(crate) fn high_text(&self) -> String {
        self.ratio_high.map_or_else(|| "unbounded".into(), words::ratio)
    }
}

/// When evidence is enough.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ThresholdsView {
    /// Harm is shown at this `log_e_harm`.
    pub(crate) log_e_harm: f64,
    /// Safety is shown at this `log_e_safe`.
    pub(crate) log_e_safe: f64,
    /// An error-rate ratio up to this is no harm.
    pub(crate) error_ratio_margin: f64,
}

/// A step as the page marks it.
pub(crate) struct StepMark {
    pub(crate) weight: String,
    pub(crate) class: &'static str,
}

/// What the edge says of itself now.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct EdgeView {
    /// Where it listens.
    pub(crate) listen: String,
    /// Percent of traffic that goes to the canary now.
    pub(crate) weight_percent: f64,
    /// Milliseconds until stable takes over unless the grant is renewed.
    pub(crate) grant_remaining_ms: Option<u64>,
    /// What happens then: `rollback` or `hold`.
    pub(crate) on_expiry: Option<OnExpiry>,
    /// How long a grant lasts that nobody renews.
    pub(crate) grant_ttl_ms: u64,
    /// The grant ran out for this rollout: when and why.
    pub(crate) expired: Option<String>,
    #[serde(skip)]
    expired_at: Option<Timestamp>,
}

impl EdgeView {
    fn of(status: &Status, rollout: &Rollout) -> Self {
        let id = &rollout.plan.id;
        let own = status.rollout.as_ref() == Some(id);
        let expired = status.expired.as_ref().filter(|expired| expired.rollout == *id);
        Self {
            listen: status.listen.clone(),
            weight_percent: in_force(status, rollout).share() * 100.0,
            grant_remaining_ms: status.grant_remaining_ms.filter(|_| own),
            on_expiry: status.on_expiry.filter(|_| own),
            grant_ttl_ms: rollout.plan.environment.strategy.grant_ttl_ms,
            expired_at: expired.map(|expired| expired.at),
            expired: expired
                .map(|expired| format!("{} at {}", expired.cause, expired.at.strftime("%H:%M:%S UTC"))),
        }
    }

    /// The dead man's switch: whether it is about to act.
    pub(crate) fn runs_out(&self) -> bool {
        self.grant_remaining_ms.is_some_and(|ms| ms < self.grant_ttl_ms / 2)
    }

    /// When the grant was renewed last, and how long it lasts from now, in whole seconds.
    pub(crate) fn grant_text(&self) -> String {
        let left = self.grant_remaining_ms.unwrap_or(0);
        let ago = match self.grant_ttl_ms.saturating_sub(left) / 1_000 {
            0 => "a moment ago".into(),
            seconds => format!("{seconds} s ago"),
        };
        let then = if self.holds_on_expiry() { "the weight is held" } else { "stable takes over" };
        format!("Renewed {ago}; on silence {then} in {} s.", left.div_ceil(1_000))
    }

    pub(crate) fn holds_on_expiry(&self) -> bool {
        self.on_expiry == Some(OnExpiry::Hold)
    }
}

/// Something that is known of a rollout, for the page's list.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fact {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    /// Whether it is a digest, an id or a command.
    pub(crate) code: bool,
}

/// A rollout in full.
#[derive(Debug, Serialize)]
pub(crate) struct RolloutDetail {
    pub(crate) version: u32,
    /// The ledger's sequence that this was made from.
    pub(crate) sequence: u64,
    pub(crate) rollout: RolloutView,
    /// The stable release's version; absent for a first deployment.
    pub(crate) stable_version: Option<String>,
    /// What it waits for, and what moves it; empty when it has ended.
    pub(crate) blockers: Vec<String>,
    pub(crate) actions: Vec<String>,
    /// Whether nothing happens until a person acts.
    pub(crate) needs_person: bool,
    /// When taking it back was decided.
    pub(crate) decided_at: Option<Timestamp>,
    /// Percent, by step.
    pub(crate) step_weights: Vec<f64>,
    pub(crate) thresholds: ThresholdsView,
    /// The present step, or the last one.
    pub(crate) in_step: Option<ArmsView>,
    /// Since the first look.
    pub(crate) in_all: Option<ArmsView>,
    /// The last ones, oldest first.
    pub(crate) looks: Bounded<LookView>,
    /// All of them, thinned for charts; the last one is always there.
    #[serde(skip)]
    pub(crate) curve: Vec<LookView>,
    /// Whether the configured identity may let it go on, now that it waits for a person.
    pub(crate) resumable: bool,
    /// Absent when it has ended or does not answer.
    pub(crate) edge: Option<EdgeView>,
    pub(crate) facts: Vec<Fact>,
}

impl RolloutDetail {
    pub(crate) fn of(
        state: &State,
        rollout: &Rollout,
        why: Option<rollout::why::Why>,
        around: &Around<'_>,
    ) -> Self {
        let strategy = &rollout.plan.environment.strategy;
        let looks = &rollout.looks;
        let from = looks.len().saturating_sub(LOOKS_MAX);
        let items: Vec<LookView> = looks[from..].iter().map(LookView::of).collect();
        let curve = thinned(looks, CURVE_MAX).map(LookView::of).collect();
        let may_resume = rollout::promotion::may_resume(state, &rollout.plan.id, around.identity).is_ok();
        let (blockers, actions) = why.map_or_else(Default::default, |why| (why.blockers, why.actions));
        Self {
            version: VERSION,
            sequence: state.size,
            rollout: RolloutView::of(rollout, around),
            stable_version: stable_version(state, rollout),
            blockers,
            actions,
            needs_person: around.needs_person(rollout),
            decided_at: rollout.milestones.decided,
            step_weights: strategy.steps.iter().map(|step| step.weight.share() * 100.0).collect(),
            thresholds: ThresholdsView {
                log_e_harm: -strategy.analysis.alpha.ln(),
                log_e_safe: -strategy.analysis.beta.ln(),
                error_ratio_margin: strategy.analysis.error_ratio_margin,
            },
            in_step: step_looks(rollout).map(arms::between),
            in_all: (looks.len() > 1).then(|| arms::between(looks)),
            looks: Bounded { items, total: rollout.looks_taken },
            curve,
            resumable: rollout.held(around.now) && may_resume,
            edge: around.edge(rollout).map(|status| EdgeView::of(status, rollout)),
            facts: facts(state, rollout),
        }
    }

    /// When the edge took the traffic back by itself, while that is on no record.
    pub(crate) fn lapsed_at(&self) -> Option<Timestamp> {
        let now = self.rollout.planned_at.now;
        self.rollout.lapsed.then(|| self.edge.as_ref().and_then(|edge| edge.expired_at).unwrap_or(now))
    }

    /// What is happening, how much evidence is missing, what comes by itself, and whether a person must act: before any
    /// number is shown.
    pub(crate) fn verdict(&self) -> String {
        let rollout = &self.rollout;
        let mut sentences = Vec::new();
        if !rollout.active() {
            return match &rollout.cause {
                Some(cause) => format!("It was taken back: {cause}."),
                None => format!("It serves {}, or did until the next release came.", rollout.environment),
            };
        }
        if rollout.lapsed {
            sentences.push("The edge has given the traffic back to stable by itself".to_owned());
        }
        sentences.extend(self.blockers.iter().map(|blocker| words::capitalised(blocker)));
        let last = self.looks.items.last().filter(|look| rollout.step == Some(look.step));
        if let Some(look) = last.filter(|look| rollout.cause.is_none() && look.finding == Finding::Continue) {
            sentences.push(format!(
                "The evidence of safety is {} of the {} that are enough",
                look.safe_text(),
                words::e_value(self.thresholds.log_e_safe)
            ));
        }
        sentences.push(if self.needs_person {
            "A person must act".to_owned()
        } else {
            "Nobody has to do anything".to_owned()
        });
        format!("{}.", sentences.join(". "))
    }

    /// The steps, drawn as done, present or to come.
    pub(crate) fn steps(&self) -> Vec<StepMark> {
        let here = self.rollout.step.unwrap_or(0);
        let ended = !self.rollout.revocable();
        let mark = |(index, percent): (usize, &f64)| StepMark {
            weight: format!("{} %", words::trimmed(*percent, 2)),
            class: match (index + 1).cmp(&here) {
                std::cmp::Ordering::Less => "past",
                std::cmp::Ordering::Equal if self.rollout.cause.is_some() || self.rollout.lapsed => "stopped",
                std::cmp::Ordering::Equal if ended => "past",
                std::cmp::Ordering::Equal => "here",
                std::cmp::Ordering::Greater => "ahead",
            },
        };
        self.step_weights.iter().enumerate().map(mark).collect()
    }

    /// The last looks, newest first.
    pub(crate) fn looks_newest(&self) -> impl Iterator<Item = &LookView> {
        self.looks.items.iter().rev().take(TABLE_MAX)
    }

    /// What a reader of the page is told aloud when it changes.
    pub(crate) fn announcement(&self) -> String {
        let rollout = &self.rollout;
        let cause = rollout.cause.as_ref().map_or_else(String::new, |cause| format!(": {cause}"));
        format!(
            "{} {}, {}, weight {}{cause}",
            rollout.service,
            rollout.version,
            rollout.phase_text(),
            self.rollout.weight_words()
        )
    }
}

/// At most so many, evenly; the last one is always there.
fn thinned<T>(items: &[T], limit: usize) -> impl Iterator<Item = &T> {
    let stride = items.len().div_ceil(limit).max(1);
    items.iter().skip(items.len().saturating_sub(1) % stride).step_by(stride)
}

/// The looks of the last step that was looked at.
fn step_looks(rollout: &Rollout) -> Option<&[Look]> {
    let step = rollout.looks.last()?.step;
    let from = rollout.looks.iter().rposition(|look| look.step != step).map_or(0, |index| index + 1);
    rollout.looks.get(from..).filter(|looks| looks.len() > 1)
}

fn stable_version(state: &State, rollout: &Rollout) -> Option<String> {
    let stable = rollout.plan.stable.as_ref()?;
    let parent = state.rollouts.values().find(|other| other.plan.revision.id == *stable)?;
    Some(parent.plan.version.clone())
}

fn facts(state: &State, rollout: &Rollout) -> Vec<Fact> {
    let plan = &rollout.plan;
    let mut facts = Vec::new();
    let mut add = |name, value: String, code| facts.push(Fact { name, value, code });
    add("Rollout", plan.id.to_string(), true);
    add("Release", plan.release.to_string(), true);
    add("Artifact, SHA-256", plan.revision.digest.to_string(), true);
    add("Rules it runs under, SHA-256", plan.policy.to_string(), true);
    if let Some(release) = state.release(&plan.release) {
        add("Commit", format!("{} {}", release.commit.id.short(), release.commit.subject), false);
        add("Author", release.commit.author.email.clone(), false);
        add("Provenance envelope, SHA-256", release.provenance.to_string(), true);
        let approvals = state.approvals.iter().filter(|approval| {
            approval.release == release.id
                && approval.environment == plan.environment.name
                && approval.digest == plan.revision.digest
        });
        let people: Vec<String> = approvals.map(|approval| approval.by.to_string()).collect();
        let people = if people.is_empty() { "nobody".into() } else { people.join(", ") };
        add("Approved by", people, false);
    }
    if let Some(reverts) = &plan.reverts {
        add("Takes back", reverts.to_string(), true);
    }
    let analysis = &plan.environment.strategy.analysis;
    add("False rollbacks at most", words::percent(analysis.alpha), false);
    add("False promotions at most", words::percent(analysis.beta), false);
    add("Time to look again", text::duration(analysis.interval_ms), false);
    add("Grant", text::duration(plan.environment.strategy.grant_ttl_ms), false);
    if let Some(exposed) = rollout.exposure_ms().filter(|_| rollout.weight_max > Weight::ZERO) {
        let objective = text::duration(plan.environment.rollback_objective_ms);
        add(
            "From first traffic to none",
            format!("{} (objective {objective})", text::duration(exposed)),
            false,
        );
    }
    if let Some((decided, withdrawn)) = rollout.milestones.decided.zip(rollout.milestones.withdrawn) {
        add(
            "From decision to no traffic",
            text::duration(delivery::clock::millis_between(decided, withdrawn)),
            false,
        );
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_thinned_covers_everything_and_keeps_the_last() {
        let items: Vec<usize> = (0..10_000).collect();
        let kept: Vec<usize> = thinned(&items, 300).copied().collect();
        assert!(kept.len() <= 300 && kept[0] < 100, "{} from {}", kept.len(), kept[0]);
        assert_eq!(kept.last(), Some(&9_999));
        assert_eq!(thinned(&items[..2], 300).count(), 2);
        assert_eq!(thinned(&items[..0], 300).count(), 0);
    }
}
