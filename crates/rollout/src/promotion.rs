//! What keeps a release out of an environment.
//!
//! Pure: reads the state, the environment's rules and the time. Leaves out provenance, which needs files (the command
//! line checks it through `attest` just before anything is started).
//!
//! Invariants: an approval counts only for the artifact, environment and rules that it names (I5); authors and machines
//! never approve (I6); every blocker names an action that moves it (I13).

use delivery::code::Code;
use delivery::environment::{Environment, Freeze, FreezeWindow, Kpi, KpiRule};
use delivery::release::Release;
use delivery::rollout::RolloutOutcome;
use delivery::{Actor, Digest, EnvironmentName, GateName, Problem, RolloutId, Timestamp};

use crate::state::State;

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
    /// A gate has not been asked for this release's run.
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
    },
    /// Another rollout is under way there.
    RolloutRunning {
        /// It.
        rollout: RolloutId,
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
            Self::ApprovalMissing { missing, approvers, authors, void } => {
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
            Self::KpiUnmet { detail } => detail.clone(),
            Self::RolloutRunning { rollout } => format!("rollout {rollout} is under way there"),
        }
    }

    /// A command, or failing that an event, that moves it.
    pub fn action(&self, release: &Release, environment: &EnvironmentName) -> String {
        match self {
            Self::GateFailed { .. } => "mend what the gate names, commit, and run: trimtab ship".into(),
            Self::GateMissing { .. } => "run: trimtab ship".into(),
            Self::EarlierEnvironment { environment } => format!("run: trimtab ship --to {environment}"),
            Self::ApprovalMissing { .. } => {
                format!("one of them runs: trimtab approve {} --environment {environment}", release.id)
            }
            Self::Frozen { until, .. } => {
                format!("wait until {until}, then run: trimtab ship --to {environment}")
            }
            Self::KpiUnmet { .. } => format!("when it is met, run: trimtab ship --to {environment}"),
            Self::RolloutRunning { rollout } => {
                format!("see: trimtab status, or end it with: trimtab rollback {rollout}")
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
        found.push(Blocker::RolloutRunning { rollout: rollout.plan.id.clone() });
    }
    found.extend(approval(state, release, environment, policy));
    found
}

fn gates(state: &State, release: &Release, environment: &Environment) -> Vec<Blocker> {
    let verdicts = state.run(&release.run).map_or(&[][..], |run| &run.verdicts);
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

/// Whether this person's approval of the release would count, and if not, why.
pub fn may_approve(release: &Release, environment: &Environment, actor: &Actor) -> Result<(), Code> {
    let Actor::Human(email) = actor else { return Err(Code::ApproverNotListed) };
    if release.is_by(email) {
        return Err(Code::ApprovalByAuthor);
    }
    let listed = &environment.approval.approvers;
    if listed.is_empty() || listed.iter().any(|approver| approver.eq_ignore_ascii_case(email)) {
        Ok(())
    } else {
        Err(Code::ApproverNotListed)
    }
}

fn approval(state: &State, release: &Release, environment: &Environment, policy: &Digest) -> Option<Blocker> {
    let rule = &environment.approval;
    let about = |approval: &&crate::state::Approval| {
        approval.release == release.id && approval.environment == environment.name
    };
    let mut counted: Vec<String> = state
        .approvals
        .iter()
        .filter(about)
        .filter(|approval| approval.digest == release.artifact.digest && approval.policy == *policy)
        .filter(|approval| may_approve(release, environment, &approval.by).is_ok())
        .map(|approval| approval.by.to_string().to_lowercase())
        .collect();
    counted.sort();
    counted.dedup();
    let missing = rule.required.saturating_sub(counted.len() as u32);
    if missing == 0 {
        return None;
    }
    let void = counted.is_empty() && state.approvals.iter().any(|approval| about(&approval));
    let mut authors: Vec<String> = vec![release.commit.author.email.clone()];
    authors.extend(release.authors.iter().map(|person| person.email.clone()));
    authors.sort();
    authors.dedup();
    Some(Blocker::ApprovalMissing { missing, approvers: rule.approvers.clone(), authors, void })
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
    let (value, name) = match rule.kpi {
        Kpi::SoakMinutes => (soak_minutes(state, release, before, now), "soak time in minutes"),
        Kpi::ChangeFailurePercent => {
            (Some(failure_percent(state, release, environment)), "change failure in percent")
        }
    };
    let Some(value) = value else {
        return Some(Blocker::KpiUnmet { detail: format!("there is no data for its {name}") });
    };
    if let Some(min) = rule.min
        && value < min
    {
        return Some(Blocker::KpiUnmet {
            detail: format!("its {name} is {value:.1}, at least {min} is asked"),
        });
    }
    match rule.max {
        Some(max) if value > max => {
            Some(Blocker::KpiUnmet { detail: format!("its {name} is {value:.1}, at most {max} is allowed") })
        }
        _ => None,
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

/// Share of the last promotions here that were taken back. Where nothing was promoted yet, nothing has failed.
fn failure_percent(state: &State, release: &Release, environment: &Environment) -> f64 {
    let Some(slot) = state.slot(&release.artifact.service, &environment.name) else { return 0.0 };
    let ended = slot.rollouts.iter().rev().filter_map(|id| state.rollouts.get(id)?.outcome);
    let last: Vec<RolloutOutcome> = ended.take(FAILURES_LOOKED_AT).collect();
    if last.is_empty() {
        return 0.0;
    }
    let failed = last.iter().filter(|outcome| **outcome == RolloutOutcome::RolledBack).count();
    100.0 * failed as f64 / last.len() as f64
}
