//! What keeps a release out of an environment.
//!
//! Pure: reads the state, the environment's rules and the time. Leaves out provenance, which needs files (the command
//! line checks it through `attest` just before anything is started).
//!
//! Invariants: an approval counts only for the artifact, environment, target and rules that it names (I5); whoever wrote
//! any of what is new to the environment never approves it there, and no machine does (I6); every blocker names an action
//! that moves it (I13).

use std::cmp::Ordering;

use delivery::code::Code;
use delivery::environment::{Environment, Freeze, FreezeWindow, Kpi, KpiRule};
use delivery::people::identity;
use delivery::release::Release;
use delivery::rollout::RolloutOutcome;
use delivery::seeded::{self, Bug};
use delivery::{Actor, Digest, EnvironmentName, Event, GateName, Problem, RolloutId, Timestamp};

use crate::progress::Rollout;
use crate::state::{Run, State};

/// The change failure KPI looks at this many of the last promotions.
const FAILURES_LOOKED_AT: usize = 20;

/// One thing that keeps a release out.
#[derive(Debug, Clone, PartialEq)]
pub enum Blocker {
    /// A gate said no.
    GateFailed {
        /// The gate.
        gate: GateName,
        /// Its reasons.
        reasons: Vec<String>,
    },
    /// A gate has not been asked for the newest run that made this release.
    GateMissing {
        /// The gate.
        gate: GateName,
    },
    /// The release has not served in the environment before this one.
    EarlierEnvironment {
        /// That environment.
        environment: EnvironmentName,
    },
    /// People must approve first.
    ApprovalMissing {
        /// How many more.
        missing: u32,
        /// Who may; empty means anyone but the authors.
        approvers: Vec<String>,
        /// Who wrote it and therefore may not.
        authors: Vec<String>,
        /// An approval exists, but for other contents or rules.
        void: bool,
        /// How many of those who may have not approved yet; `None` when anyone may.
        left: Option<usize>,
    },
    /// The environment is frozen.
    Frozen {
        /// Why.
        reason: String,
        /// When it ends.
        until: Timestamp,
    },
    /// A threshold is not met.
    KpiUnmet {
        /// What is measured and what is asked, in one clause.
        detail: String,
        /// What moves it.
        action: String,
    },
    /// Another rollout is under way there.
    RolloutRunning {
        /// It.
        rollout: RolloutId,
        /// Whether asking to take it back would end it.
        withdrawable: bool,
    },
}

impl Blocker {
    /// Its code.
    pub fn code(&self) -> Code {
        match self {
            Self::GateFailed { .. } | Self::GateMissing { .. } => Code::GateFailed,
            Self::EarlierEnvironment { .. } => Code::EarlierEnvironment,
            Self::ApprovalMissing { .. } => Code::ApprovalMissing,
            Self::Frozen { .. } => Code::Frozen,
            Self::KpiUnmet { .. } => Code::KpiUnmet,
            Self::RolloutRunning { .. } => Code::RolloutRunning,
        }
    }

    /// One sentence, without a full stop.
    pub fn sentence(&self) -> String {
        match self {
            Self::GateFailed { gate, reasons } => {
                format!("gate {gate} does not let it pass: {}", reasons.join("; "))
            }
            Self::GateMissing { gate } => format!("gate {gate} has not judged the run that built it"),
            Self::EarlierEnvironment { environment } => format!("it has not served in {environment} yet"),
            Self::ApprovalMissing { missing, approvers, authors, void, .. } => {
                let who = if approvers.is_empty() { "anyone else".into() } else { approvers.join(", ") };
                let stale = if *void {
                    "; an earlier approval is void, because what it was bound to changed"
                } else {
                    ""
                };
                let needs = delivery::text::count(u64::from(*missing), "approval");
                format!(
                    "it needs {needs} from {who}; {} wrote it and may not approve{stale}",
                    authors.join(", ")
                )
            }
            Self::Frozen { reason, until } => format!("the environment is frozen until {until}: {reason}"),
            Self::KpiUnmet { detail, .. } => detail.clone(),
            Self::RolloutRunning { rollout, .. } => format!("rollout {rollout} is under way there"),
        }
    }

    /// A command, or failing that an event, that moves it.
    pub fn action(&self, release: &Release, environment: &EnvironmentName) -> String {
        match self {
            Self::GateFailed { .. } => "mend what the gate names, commit, and run: trimtab ship".into(),
            Self::GateMissing { .. } => "run: trimtab ship".into(),
            Self::EarlierEnvironment { environment } => format!("run: trimtab ship --to {environment}"),
            Self::ApprovalMissing { missing, left: Some(left), .. } if *left < *missing as usize => format!(
                "name {} who had no hand in it under approvers of {environment} in trimtab.toml, commit, and run: trimtab ship",
                delivery::text::count(u64::from(*missing).saturating_sub(*left as u64), "more approver")
            ),
            Self::ApprovalMissing { .. } => {
                format!("one of them runs: trimtab approve {} --environment {environment}", release.id)
            }
            Self::Frozen { until, .. } => {
                format!("wait until {until}, then run: trimtab ship --to {environment}")
            }
            Self::KpiUnmet { action, .. } => action.clone(),
            Self::RolloutRunning { rollout, withdrawable: true } => {
                format!("see: trimtab status, or end it with: trimtab rollback {rollout}")
            }
            // It is about to serve or already being taken back: asking for that again changes nothing.
            Self::RolloutRunning { withdrawable: false, .. } => {
                format!(
                    "wait until it has ended, see: trimtab status; then run: trimtab ship --to {environment}"
                )
            }
        }
    }

    /// As a problem for the command line.
    pub fn problem(&self, release: &Release, environment: &EnvironmentName) -> Problem {
        let message = format!(
            "{} {} can't enter {environment}: {}",
            release.artifact.service,
            release.version,
            self.sentence()
        );
        Problem::new(self.code(), message).hint(self.action(release, environment))
    }
}

/// Whether the answer of [`blockers`] may be another one after this event. Runs and the steps of other rollouts are told all
/// the time and change nothing here; what a rollout is about and how it ends does.
pub fn concerned_by(event: &Event) -> bool {
    !matches!(
        event,
        Event::RunStarted { .. }
            | Event::TaskFinished { .. }
            | Event::TestsFinished { .. }
            | Event::RunFinished { .. }
            | Event::KeyCreated { .. }
            | Event::ArtifactSigned { .. }
            | Event::RolloutAcquired { .. }
            | Event::EffectRequested { .. }
            | Event::EffectFinished { .. }
            | Event::RolloutJudged { .. }
            | Event::RolloutResumed { .. }
    )
}

/// Everything that keeps the release out of the environment now; empty when it may enter. `environments` is the whole
/// promotion order.
pub fn blockers(
    state: &State,
    release: &Release,
    environment: &Environment,
    environments: &[Environment],
    policy: &Digest,
    now: Timestamp,
) -> Vec<Blocker> {
    let mut found = Vec::new();
    found.extend(gates(state, release, environment));
    let before = environments.iter().take_while(|other| other.name != environment.name).last();
    if let Some(before) = before
        && !state.has_served(&release.id, &before.name)
    {
        found.push(Blocker::EarlierEnvironment { environment: before.name.clone() });
    }
    found.extend(environment.freezes.iter().filter_map(|freeze| {
        frozen_until(freeze, now).map(|until| Blocker::Frozen { reason: freeze.reason.clone(), until })
    }));
    found.extend(
        environment.kpis.iter().filter_map(|rule| kpi(state, release, environment, before, rule, now)),
    );
    if let Some(rollout) = state.rollout_active(&release.artifact.service, &environment.name) {
        let withdrawable = rollout.withdrawable();
        found.push(Blocker::RolloutRunning { rollout: rollout.plan.id.clone(), withdrawable });
    }
    found.extend(approval(state, release, environment, policy));
    found
}

/// The newest run that made the release: the one it was first made by, or one that gave the same files from the same commit.
fn newest_run<'a>(state: &'a State, release: &Release) -> Option<&'a Run> {
    state.runs.iter().rev().find(|run| {
        run.id == release.run
            || (run.commit.as_ref() == Some(&release.commit.id)
                && run.artifacts.contains(&release.artifact.digest))
    })
}

fn gates(state: &State, release: &Release, environment: &Environment) -> Vec<Blocker> {
    let verdicts = newest_run(state, release).map_or(&[][..], |run| &run.verdicts);
    environment
        .gates
        .iter()
        .filter_map(|gate| match verdicts.iter().rev().find(|verdict| verdict.gate == *gate) {
            None => Some(Blocker::GateMissing { gate: gate.clone() }),
            Some(verdict) if verdict.passed => None,
            Some(verdict) => {
                Some(Blocker::GateFailed { gate: gate.clone(), reasons: verdict.reasons.clone() })
            }
        })
        .collect()
}

/// Everyone who had a hand in what enters the environment with the release, each once: in the release itself and in all that
/// the service made after the one that serves there. Each names the people since the one before it, so nobody is left out
/// whose change enters here for the first time. If nothing older serves there, these are all up to this one.
pub fn authors(state: &State, release: &Release, environment: &EnvironmentName) -> Vec<String> {
    let service = &release.artifact.service;
    let serving = state.slot(service, environment).and_then(|slot| slot.current.as_ref());
    let mut entering: Vec<&Release> = state
        .releases
        .iter()
        .map(|record| &record.release)
        .filter(|other| other.artifact.service == *service)
        .take_while(|other| other.id != release.id)
        .collect();
    if let Some(at) = entering.iter().position(|other| Some(&other.id) == serving) {
        entering.drain(..=at);
    }
    entering.push(release);
    let people = entering.into_iter().flat_map(Release::people);
    let mut authors: Vec<String> = people.map(|person| identity(&person.email)).collect();
    authors.sort();
    authors.dedup();
    authors
}

/// Whether this person's approval of the release would count, and if not, why.
pub fn may_approve(
    state: &State,
    release: &Release,
    environment: &Environment,
    actor: &Actor,
) -> Result<(), Code> {
    let Actor::Human(email) = actor else { return Err(Code::ApproverNotListed) };
    let person = identity(email);
    let authors = authors(state, release, &environment.name);
    let author = authors.contains(&person) || may_be_erased(state, &authors, &person);
    if author && !seeded::is(Bug::AuthorApproves) {
        return Err(Code::ApprovalByAuthor);
    }
    let listed = &environment.approval.approvers;
    if !person.is_empty() && (listed.is_empty() || listed.iter().any(|approver| identity(approver) == person))
    {
        Ok(())
    } else {
        Err(Code::ApproverNotListed)
    }
}

/// Whether the person may be one of the authors under another name: one of them was erased, and this one is on record only
/// since then.
fn may_be_erased(state: &State, authors: &[String], person: &str) -> bool {
    let first = authors.iter().filter_map(|author| state.erased.get(author)).min();
    first.is_some_and(|erased| state.people.get(person).is_none_or(|since| since > erased))
}

/// Whether this person may let a held rollout go on without evidence. Where releases need approval, that is for those who may
/// approve this one; elsewhere for any person.
pub fn may_resume(state: &State, rollout: &RolloutId, actor: &Actor) -> Result<(), Code> {
    let Some(rollout) = state.rollouts.get(rollout) else { return Err(Code::RolloutUnknown) };
    if seeded::is(Bug::AnybodyResumes) {
        return Ok(());
    }
    let environment = &rollout.plan.environment;
    match (actor, state.release(&rollout.plan.release)) {
        (Actor::Machine(_), _) => Err(Code::ApproverNotListed),
        (Actor::Human(_), _) if environment.approval.required == 0 => Ok(()),
        (Actor::Human(_), Some(release)) => may_approve(state, release, environment, actor),
        (Actor::Human(_), None) => Err(Code::ApproverNotListed),
    }
}

fn approval(state: &State, release: &Release, environment: &Environment, policy: &Digest) -> Option<Blocker> {
    let rule = &environment.approval;
    let about = |approval: &&crate::state::Approval| {
        let release = approval.release == release.id || seeded::is(Bug::ApprovalOfOtherArtifact);
        release && approval.environment == environment.name
    };
    let mut counted: Vec<String> = state
        .approvals
        .iter()
        .filter(about)
        .filter(|approval| {
            let artifact = approval.digest == release.artifact.digest;
            (artifact || seeded::is(Bug::ApprovalOfOtherArtifact)) && approval.policy == *policy
        })
        .filter(|approval| may_approve(state, release, environment, &approval.by).is_ok())
        .map(|approval| identity(&approval.by.to_string()))
        .collect();
    counted.sort();
    counted.dedup();
    let missing = rule.required.saturating_sub(counted.len() as u32);
    if missing == 0 {
        return None;
    }
    let void = counted.is_empty() && state.approvals.iter().any(|approval| about(&approval));
    let authors = authors(state, release, &environment.name);
    let left = (!rule.approvers.is_empty()).then(|| {
        let mut left: Vec<String> = rule.approvers.iter().map(|approver| identity(approver)).collect();
        left.sort();
        left.dedup();
        left.retain(|approver| !authors.contains(approver) && !counted.contains(approver));
        left.len()
    });
    Some(Blocker::ApprovalMissing { missing, approvers: rule.approvers.clone(), authors, void, left })
}

const WEEK_MINUTES: i64 = 7 * 24 * 60;

/// When the freeze ends, if it holds now.
pub fn frozen_until(freeze: &Freeze, now: Timestamp) -> Option<Timestamp> {
    match &freeze.window {
        FreezeWindow::Dates { from, until } => (*from <= now && now < *until).then_some(*until),
        FreezeWindow::Weekly { from_minute, until_minute } => {
            // 1970-01-01 was a Thursday: three days after a Monday.
            let minutes = now.as_second().div_euclid(60);
            let minute_of_week = (minutes + 3 * 24 * 60).rem_euclid(WEEK_MINUTES);
            let (from, until) = (i64::from(*from_minute), i64::from(*until_minute));
            let length = (until - from).rem_euclid(WEEK_MINUTES);
            let into = (minute_of_week - from).rem_euclid(WEEK_MINUTES);
            if into >= length {
                return None;
            }
            Timestamp::from_second((minutes + length - into) * 60).ok()
        }
    }
}

fn kpi(
    state: &State,
    release: &Release,
    environment: &Environment,
    before: Option<&Environment>,
    rule: &KpiRule,
    now: Timestamp,
) -> Option<Blocker> {
    let here = &environment.name;
    let change_rule =
        || format!("change the kpi of {here} in trimtab.toml, commit, and run: trimtab ship --to {here}");
    let (value, name, action) = match rule.kpi {
        Kpi::SoakMinutes => {
            let value = soak_minutes(state, release, before, now);
            (value, "soak time in minutes", soak_action(environment, before, rule, value))
        }
        Kpi::ChangeFailurePercent => {
            // Where nothing was promoted yet, nothing was taken back: else the first release could never enter.
            let value = Some(failure_percent(state, release, environment)?);
            // A promotion that is kept out can't better the share of those that were let in.
            (value, "change failure in percent", change_rule())
        }
    };
    let unmet = |detail| Some(Blocker::KpiUnmet { detail, action: action.clone() });
    let Some(value) = value else {
        return unmet(format!("there is no data for its {name}"));
    };
    // A bound that can't be compared with is not met.
    let below = |min: f64| value.partial_cmp(&min).is_none_or(Ordering::is_lt);
    let above = |max: f64| value.partial_cmp(&max).is_none_or(Ordering::is_gt);
    if let Some(min) = rule.min.filter(|min| below(*min)) {
        return unmet(format!("its {name} is {value:.1}, at least {min} is asked"));
    }
    if let Some(max) = rule.max.filter(|max| above(*max)) {
        return unmet(format!("its {name} is {value:.1}, at most {max} is allowed"));
    }
    None
}

fn soak_action(
    environment: &Environment,
    before: Option<&Environment>,
    rule: &KpiRule,
    value: Option<f64>,
) -> String {
    let here = &environment.name;
    let Some(before) = before else {
        return format!(
            "remove the soak time of {here}, which has no environment before it, from trimtab.toml, commit, and run: trimtab ship"
        );
    };
    match (value, rule.min) {
        (None, _) => format!("run: trimtab ship --to {}; its soak time counts from then", before.name),
        (Some(value), Some(min)) if value < min => {
            let left = delivery::text::duration(((min - value) * 60_000.0).ceil() as u64);
            format!("wait {left}, then run: trimtab ship --to {here}")
        }
        _ => format!("change the kpi of {here} in trimtab.toml, commit, and run: trimtab ship --to {here}"),
    }
}

/// How long the release has served in the environment before; `None` when it does not serve there.
fn soak_minutes(
    state: &State,
    release: &Release,
    before: Option<&Environment>,
    now: Timestamp,
) -> Option<f64> {
    let slot = state.slot(&release.artifact.service, &before?.name)?;
    let since = slot.since.filter(|_| slot.current.as_ref() == Some(&release.id))?;
    Some(delivery::clock::millis_between(since, now) as f64 / 60_000.0)
}

/// Share of the last promotions here that were taken back, on the way or after they had served. Reverting is no promotion.
/// `None` where nothing was promoted yet.
fn failure_percent(state: &State, release: &Release, environment: &Environment) -> Option<f64> {
    let slot = state.slot(&release.artifact.service, &environment.name)?;
    let rollouts = || slot.rollouts.iter().rev().filter_map(|id| state.rollouts.get(id));
    let completed = |rollout: &Rollout| rollout.outcome == Some(RolloutOutcome::Completed);
    let mut reverted: Vec<_> = rollouts()
        .filter(|rollout| completed(rollout))
        .filter_map(|rollout| rollout.plan.reverts.clone())
        .collect();
    let mut failed = 0_usize;
    let mut seen = 0_usize;
    let promotions = rollouts().filter(|rollout| rollout.plan.reverts.is_none() && !rollout.active());
    for rollout in promotions.take(FAILURES_LOOKED_AT) {
        seen += 1;
        if !completed(rollout) {
            failed += 1;
        } else if let Some(at) = reverted.iter().position(|release| *release == rollout.plan.release) {
            reverted.swap_remove(at);
            failed += 1;
        }
    }
    (seen > 0).then(|| 100.0 * failed as f64 / seen as f64)
}
