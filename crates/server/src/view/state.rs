//! What the project is now: what waits, what rolls out, what runs where.

use std::collections::BTreeMap;

use delivery::environment::Environment;
use delivery::{Actor, Digest, EnvironmentName, ReleaseId, ServiceName, Timestamp};
use rollout::progress::Rollout;
use rollout::promotion::{self, Blocker};
use rollout::state::{Slot, State};
use rollout::why::{Circumstances, Why};
use serde::Serialize;

use super::rollout::RolloutView;
use super::when::When;
use super::{Bounded, VERSION};
use crate::app::{Place, Surroundings};

/// Rows of the matrix.
const SERVICES_MAX: usize = 200;
/// Things that wait.
const WAITING_MAX: usize = 50;
/// Rollouts under way.
const ROLLING_MAX: usize = 50;

/// Everything at once.
#[derive(Debug, Serialize)]
pub(crate) struct StateView {
    pub(crate) version: u32,
    pub(crate) project: String,
    /// The ledger's sequence that this was made from.
    pub(crate) sequence: u64,
    pub(crate) at: When,
    /// Records that could not be read.
    pub(crate) quarantined: usize,
    /// Why the rules in here are not the present ones.
    pub(crate) rules_trouble: Option<String>,
    pub(crate) waiting: Bounded<WaitingView>,
    pub(crate) rolling: Bounded<RolloutView>,
    /// Their names, in promotion order.
    pub(crate) environments: Vec<String>,
    pub(crate) services: Bounded<ServiceView>,
}

/// One thing that waits.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WaitingView {
    pub(crate) subject: String,
    /// What keeps it and what moves it, in pairs.
    pub(crate) reasons: Vec<ReasonView>,
    /// Ids and names by which it may be asked for.
    pub(crate) names: Vec<String>,
    /// The rollout that it is about.
    pub(crate) rollout: Option<String>,
    /// What would approve it.
    pub(crate) approval: Option<ApprovalView>,
    /// Whether it is a rollout that is held for a person, and the configured identity may let it go on.
    pub(crate) resumable: bool,
    /// Whether nothing happens until a person acts.
    pub(crate) needs_person: bool,
}

/// What keeps a thing, and what moves it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ReasonView {
    pub(crate) blocker: String,
    pub(crate) action: String,
}

/// An approval that is missing.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ApprovalView {
    pub(crate) release: String,
    pub(crate) environment: String,
    /// Whether the configured identity may give it.
    pub(crate) allowed: bool,
}

/// One service in all environments.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ServiceView {
    pub(crate) name: String,
    /// In the environments' order.
    pub(crate) cells: Vec<CellView>,
}

/// One service in one environment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CellView {
    pub(crate) environment: String,
    /// Absent when nothing runs there.
    pub(crate) version: Option<String>,
    pub(crate) since: Option<When>,
    /// The rollout that brought it there.
    pub(crate) rollout: Option<String>,
    /// A newer release than the one that serves exists.
    pub(crate) behind: bool,
    /// The rollout under way there.
    pub(crate) rolling: Option<RolloutView>,
}

/// What views are made with, beside the fold.
pub(crate) struct Around<'a> {
    pub(crate) project: &'a str,
    pub(crate) identity: &'a Actor,
    pub(crate) surroundings: &'a Surroundings,
    pub(crate) now: Timestamp,
}

fn place(rollout: &Rollout) -> Place {
    (rollout.plan.revision.service.clone(), rollout.plan.environment.name.clone())
}

impl Around<'_> {
    /// The environments in promotion order, each with the digest of its rules.
    pub(crate) fn environments(&self) -> &[(Environment, Digest)] {
        &self.surroundings.rules.environments
    }

    /// Whether a controller is at work on the rollout.
    pub(crate) fn driven(&self, rollout: &Rollout) -> bool {
        self.surroundings.driven.contains(&place(rollout))
    }

    /// Whether its controller is gone and this process goes on with it.
    fn adopted(&self, rollout: &Rollout) -> bool {
        self.surroundings.adopted.contains(&place(rollout))
    }

    /// Whether nothing happens to it until a person acts, or nothing good.
    pub(crate) fn needs_person(&self, rollout: &Rollout) -> bool {
        rollout.active() && (rollout.held(self.now) || !(self.driven(rollout) || self.adopted(rollout)))
    }

    /// What the edge says of itself, if the rollout is under way and it answers.
    pub(crate) fn edge(&self, rollout: &Rollout) -> Option<&platform::edge::Status> {
        self.surroundings.edges.get(&place(rollout)).filter(|_| rollout.active())
    }

    /// Everything that waits.
    pub(crate) fn why(&self, state: &State) -> Vec<Why> {
        let Surroundings { driven, adopted, .. } = self.surroundings;
        let cared_for = |service: &ServiceName, environment: &EnvironmentName| {
            let place = (service.clone(), environment.clone());
            driven.contains(&place) || adopted.contains(&place)
        };
        let circumstances =
            Circumstances { environments: self.environments(), driven: &cared_for, now: self.now };
        let mut found = rollout::why::why(state, &circumstances);
        for why in &mut found {
            if subject(state, why).is_some_and(|rollout| self.adopted(rollout)) {
                why.blockers
                    .insert(0, "its controller is gone; this server takes over within seconds".into());
                why.actions.insert(0, "nothing to do".into());
            }
        }
        found
    }
}

/// The rollout that it is about.
fn subject<'a>(state: &'a State, why: &Why) -> Option<&'a Rollout> {
    state.rollouts.get(&delivery::RolloutId::new(why.names.first()?.as_str()).ok()?)
}

impl StateView {
    pub(crate) fn of(state: &State, around: &Around<'_>) -> Self {
        let active = state.rollouts_active();
        let rolling =
            active.iter().rev().take(ROLLING_MAX).map(|rollout| RolloutView::of(rollout, around)).collect();
        Self {
            version: VERSION,
            project: around.project.to_owned(),
            sequence: state.size,
            at: When { at: around.now, now: around.now },
            quarantined: state.quarantined.len(),
            rules_trouble: around.surroundings.rules.trouble.clone(),
            waiting: waiting(state, around),
            rolling: Bounded { items: rolling, total: active.len() },
            environments: around.environments().iter().map(|(e, _)| e.name.to_string()).collect(),
            services: services(state, around),
        }
    }

    /// Those that a person must move, and how many they are.
    pub(crate) fn for_people(&self) -> Vec<&WaitingView> {
        self.waiting.items.iter().filter(|waiting| waiting.needs_person).collect()
    }

    /// What a reader of the page is told aloud when it changes.
    pub(crate) fn announcement(&self) -> String {
        let rolling: Vec<String> = self
            .rolling
            .items
            .iter()
            .map(|r| format!("{} {} in {}: {}", r.service, r.version, r.environment, r.phase_text()))
            .collect();
        format!(
            "{} for a person; rolling out: {}",
            delivery::text::count(self.for_people().len() as u64, "thing"),
            if rolling.is_empty() { "nothing".into() } else { rolling.join("; ") }
        )
    }
}

/// Everything that waits, the most urgent first.
pub(crate) fn waiting(state: &State, around: &Around<'_>) -> Bounded<WaitingView> {
    let found = around.why(state);
    let total = found.len();
    let items = found.into_iter().take(WAITING_MAX).map(|why| waiting_one(state, around, why)).collect();
    Bounded { items, total }
}

fn waiting_one(state: &State, around: &Around<'_>, why: Why) -> WaitingView {
    let rollout = subject(state, &why);
    let needs_person = rollout.is_none_or(|rollout| around.needs_person(rollout));
    let resumable = |rollout: &Rollout| {
        let may = promotion::may_resume(state, &rollout.plan.id, around.identity);
        rollout.held(around.now) && may.is_ok()
    };
    let reasons = why
        .blockers
        .into_iter()
        .zip(why.actions)
        .map(|(blocker, action)| ReasonView { blocker, action })
        .collect();
    WaitingView {
        subject: why.subject,
        reasons,
        approval: approval(state, around, &why.names),
        names: why.names,
        rollout: rollout.map(|rollout| rollout.plan.id.to_string()),
        resumable: rollout.is_some_and(resumable),
        needs_person,
    }
}

/// The approval that a release lacks, if that is among what keeps it.
fn approval(state: &State, around: &Around<'_>, names: &[String]) -> Option<ApprovalView> {
    let release = state.release(&ReleaseId::new(names.first()?.as_str()).ok()?)?;
    let (environment, policy) = around
        .environments()
        .iter()
        .find(|(environment, _)| names.iter().any(|n| n == environment.name.as_str()))?;
    let all: Vec<Environment> = around.environments().iter().map(|(e, _)| e.clone()).collect();
    let blockers = promotion::blockers(state, release, environment, &all, policy, around.now);
    blockers.iter().any(|blocker| matches!(blocker, Blocker::ApprovalMissing { .. })).then(|| ApprovalView {
        release: release.id.to_string(),
        environment: environment.name.to_string(),
        allowed: promotion::may_approve(state, release, environment, around.identity).is_ok(),
    })
}

fn services(state: &State, around: &Around<'_>) -> Bounded<ServiceView> {
    let mut newest: BTreeMap<&ServiceName, &ReleaseId> = BTreeMap::new();
    for record in &state.releases {
        newest.insert(&record.release.artifact.service, &record.release.id);
    }
    for (service, _) in state.slots.keys() {
        // A service may be known by its rollouts alone, where its release's record can't be read.
        if !newest.contains_key(service)
            && let Some(rollout) = state.rollouts.values().find(|r| r.plan.revision.service == *service)
        {
            newest.insert(service, &rollout.plan.release);
        }
    }
    let row = |(service, release): (&&ServiceName, &&ReleaseId)| ServiceView {
        name: service.to_string(),
        cells: around
            .environments()
            .iter()
            .map(|(environment, _)| cell(state, service, &environment.name, release, around))
            .collect(),
    };
    Bounded { items: newest.iter().take(SERVICES_MAX).map(row).collect(), total: newest.len() }
}

fn cell(
    state: &State,
    service: &ServiceName,
    environment: &EnvironmentName,
    newest: &ReleaseId,
    around: &Around<'_>,
) -> CellView {
    let empty = Slot::default();
    let slot = state.slot(service, environment).unwrap_or(&empty);
    let brought = slot
        .rollouts
        .iter()
        .rev()
        .filter_map(|id| state.rollouts.get(id))
        .find(|rollout| slot.stable.as_ref() == Some(&rollout.plan.revision.id));
    CellView {
        environment: environment.to_string(),
        version: brought.map(|rollout| rollout.plan.version.clone()),
        since: slot.since.map(|at| When { at, now: around.now }),
        rollout: brought.map(|rollout| rollout.plan.id.to_string()),
        behind: slot.current.as_ref().is_some_and(|current| current != newest),
        rolling: state.rollout_active(service, environment).map(|rollout| RolloutView::of(rollout, around)),
    }
}
