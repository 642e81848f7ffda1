//! Folds the ledger into deployments.
//!
//! The fold keeps facts as they come and draws conclusions only when asked, so that an incident may be recorded before or after
//! the end of the rollout that it is about. Events that say nothing of deployments are passed over.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use delivery::change::Commit;
use delivery::effect::{Effect, Outcome};
use delivery::event::ServiceChange;
use delivery::report::{Fact, IncidentName, ServiceStep};
use delivery::traffic::Weight;
use delivery::{CommitId, Event, Recorded, ReleaseId, RolloutId, Timestamp};
use repo::Graph;

use crate::deployment::{Change, Confidence, Deployment, Failure, FailureKind};
use crate::dora::{self, DoraReport, Scope, Source};
use crate::package;
use crate::window::Window;

/// How long after a deployment an incident without a named cause is attributed to it.
const ATTRIBUTION: Duration = Duration::from_hours(24);

/// Service and environment. Others' names follow other rules than ours.
type Place = (String, String);

/// What the ledger says of deployments.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    observed_from: Option<Timestamp>,
    releases: HashMap<ReleaseId, Commit>,
    versions: HashMap<ReleaseId, String>,
    rollouts: HashMap<RolloutId, Rollout>,
    incidents: BTreeMap<IncidentKey, Incident>,
    ends: BTreeMap<Place, Vec<End>>,
}

#[derive(Debug, Clone)]
struct Rollout {
    planned_at: Timestamp,
    withdrawn_at: Option<Timestamp>,
    reverts: Option<ReleaseId>,
    /// The newest command that would give the release requests: its number and when it was recorded.
    raising: Option<(u32, Timestamp)>,
    /// When the first such command was carried out: the time it was recorded, so that no request is missed.
    exposed_at: Option<Timestamp>,
}

/// An incident of ours, or one that was reported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum IncidentKey {
    Ours(String),
    Reported(IncidentName),
}

#[derive(Debug, Clone)]
struct Incident {
    place: Place,
    rollout: Option<RolloutId>,
    detected_at: Timestamp,
    resolved_at: Option<Timestamp>,
}

/// A service was changed: the end of a rollout, or what somebody else did.
#[derive(Debug, Clone)]
struct End {
    at: Timestamp,
    by: By,
    /// Whether a rollout ended with its release being taken back.
    rolled_back: bool,
}

#[derive(Debug, Clone)]
enum By {
    Us(ServiceChange),
    Others { step: ServiceStep, artifact: String },
}

impl End {
    fn rollout(&self) -> Option<&RolloutId> {
        match &self.by {
            By::Us(change) => Some(&change.rollout),
            By::Others { .. } => None,
        }
    }

    fn release(&self) -> Option<&ReleaseId> {
        match &self.by {
            By::Us(change) => Some(&change.release),
            By::Others { .. } => None,
        }
    }
}

impl Facts {
    /// Takes in the next record.
    pub fn fold(&mut self, record: &Recorded) {
        let at = record.at;
        self.observed_from.get_or_insert(at);
        match &record.event {
            Event::ReleaseCreated { release } => {
                self.releases.insert(release.id.clone(), release.commit.clone());
                self.versions.insert(release.id.clone(), release.version.clone());
            }
            Event::RolloutPlanned { plan } => {
                let rollout = Rollout {
                    planned_at: at,
                    withdrawn_at: None,
                    reverts: plan.reverts.clone(),
                    raising: None,
                    exposed_at: None,
                };
                self.rollouts.insert(plan.id.clone(), rollout);
                let place = (plan.revision.service.to_string(), plan.environment.name.to_string());
                self.ends.entry(place).or_default();
            }
            Event::EffectRequested { command } if exposes(&command.effect) => {
                if let Some(rollout) = self.rollouts.get_mut(&command.rollout) {
                    rollout.raising = Some((command.sequence, at));
                }
            }
            Event::EffectFinished { rollout, sequence, outcome: Outcome::Applied { .. } } => {
                if let Some(rollout) = self.rollouts.get_mut(rollout)
                    && let Some((_, at)) = rollout.raising.filter(|(raising, _)| raising == sequence)
                {
                    rollout.exposed_at.get_or_insert(at);
                }
            }
            Event::RollbackRequested { rollout, .. } => {
                if let Some(rollout) = self.rollouts.get_mut(rollout) {
                    rollout.withdrawn_at.get_or_insert(at);
                }
            }
            Event::ServiceDeployed(change) | Event::ServiceUpgraded(change) => self.end(at, change, false),
            Event::ServiceRolledBack(change) => self.end(at, change, true),
            Event::IncidentDetected { incident, service, environment, rollout, .. } => {
                let place = (service.to_string(), environment.to_string());
                self.detected(IncidentKey::Ours(incident.clone()), place, rollout.clone(), at);
            }
            Event::IncidentResolved { incident } => self.resolved(&IncidentKey::Ours(incident.clone()), at),
            // Nobody reports what is yet to come.
            Event::Reported { occurred_at, fact, .. } => self.reported(fact, at.min(*occurred_at)),
            _ => {}
        }
    }

    fn end(&mut self, at: Timestamp, change: &ServiceChange, rolled_back: bool) {
        let place = (change.service.to_string(), change.environment.to_string());
        let ends = self.ends.entry(place).or_default();
        // A rollout ends once.
        if !ends.iter().rev().any(|end| end.rollout() == Some(&change.rollout)) {
            insert(ends, End { at, by: By::Us(change.clone()), rolled_back });
        }
    }

    /// An incident is detected once; a repeated report changes nothing.
    fn detected(&mut self, key: IncidentKey, place: Place, rollout: Option<RolloutId>, at: Timestamp) {
        let resolved_at = None;
        self.incidents.entry(key).or_insert(Incident { place, rollout, detected_at: at, resolved_at });
    }

    fn resolved(&mut self, key: &IncidentKey, at: Timestamp) {
        if let Some(incident) = self.incidents.get_mut(key) {
            incident.resolved_at.get_or_insert(at.max(incident.detected_at));
        }
    }

    fn reported(&mut self, fact: &Fact, at: Timestamp) {
        match fact {
            Fact::IncidentDetected { incident, service, environment, .. } => {
                let place = (service.clone(), environment.clone());
                self.detected(IncidentKey::Reported(incident.clone()), place, None, at);
            }
            Fact::IncidentResolved { incident } => {
                self.resolved(&IncidentKey::Reported(incident.clone()), at);
            }
            Fact::ServiceChanged { step, service, environment, artifact } => {
                let ends = self.ends.entry((service.clone(), environment.clone())).or_default();
                let by = By::Others { step: *step, artifact: artifact.clone() };
                insert(ends, End { at, by, rolled_back: false });
            }
        }
    }

    /// The commits of all releases, each once, in order: the tips of the graph that [`Facts::reports`] can use.
    pub fn commits(&self) -> BTreeSet<CommitId> {
        self.releases.values().map(|commit| commit.id.clone()).collect()
    }

    /// The deployments of a service in an environment, oldest first. With the repository's graph and the trunk's tip, every
    /// commit that a deployment shipped counts as a change; without, only the one it was built from.
    pub fn deployments(
        &self,
        service: &str,
        environment: &str,
        history: Option<(&Graph, &CommitId)>,
    ) -> Vec<Deployment> {
        let place = (service.to_owned(), environment.to_owned());
        let Some(ends) = self.ends.get(&place) else { return Vec::new() };
        let is_known = |end: &&End| end.release().is_none_or(|release| self.releases.contains_key(release));
        let known: Vec<&End> = ends.iter().filter(is_known).collect();
        let mut deployments: Vec<Deployment> =
            known.iter().filter_map(|end| self.deployment(end, &place)).collect();
        self.attribute_incidents(&place, &known, &mut deployments);
        self.attribute_reverts(&known, &mut deployments);
        attribute_others_reverts(&known, &mut deployments);
        self.attribute_changes(&known, &mut deployments, history);
        deployments
    }

    /// Reports on every service in every environment.
    pub fn reports(&self, window: Window, history: Option<(&Graph, &CommitId)>) -> Vec<DoraReport> {
        self.ends
            .iter()
            .map(|((service, environment), ends)| {
                let deployments = self.deployments(service, environment, history);
                // What others report may be from before our first record.
                let earliest = ends.first().map(|end| end.at).into_iter().chain(self.observed_from).min();
                let observed_from = earliest.unwrap_or(window.from);
                let (service, environment) = (service.clone(), environment.clone());
                let scope =
                    Scope { service, environment, source: Source::Ledger, observed_from, tags_unread: 0 };
                dora::report(scope, &deployments, window)
            })
            .collect()
    }

    fn deployment(&self, end: &End, place: &Place) -> Option<Deployment> {
        let change = match &end.by {
            By::Us(change) => change,
            By::Others { step, artifact } => return Some(self.others(end.at, place, *step, artifact)),
        };
        let commit = self.releases.get(&change.release)?;
        let rollout = self.rollouts.get(&change.rollout);
        let withdrawn_at = rollout.and_then(|rollout| rollout.withdrawn_at);
        // Without a record of the first request, of what users met we know only when it was noticed or done.
        let known = rollout.and_then(|rollout| rollout.exposed_at);
        let exposed = known.is_some() || !end.rolled_back || change.weight > Weight::ZERO;
        let exposed_at = exposed.then(|| known.or(withdrawn_at).unwrap_or(end.at));
        let failure = end.rolled_back.then(|| Failure {
            kind: FailureKind::RolledBack,
            detected_at: withdrawn_at.unwrap_or(end.at),
            restored_at: Some(end.at),
            confidence: Confidence::Recorded,
        });
        Some(Deployment {
            version: self.versions.get(&change.release).cloned().unwrap_or_default(),
            commit: Some(commit.id.clone()),
            finished_at: end.at,
            rolled_back: end.rolled_back,
            exposed_at,
            unplanned: rollout.is_some_and(|rollout| {
                self.during_incident(place, rollout.planned_at, Some(&change.rollout))
            }),
            revert: rollout.is_some_and(|rollout| rollout.reverts.is_some()),
            failure,
            changes: Vec::new(),
        })
    }

    /// What somebody else did, of which nobody knows how it was done.
    fn others(&self, at: Timestamp, place: &Place, step: ServiceStep, artifact: &str) -> Deployment {
        Deployment {
            version: package::version(artifact),
            commit: package::commit(artifact),
            finished_at: at,
            rolled_back: false,
            exposed_at: Some(at),
            unplanned: self.during_incident(place, at, None),
            revert: step == ServiceStep::RolledBack,
            failure: None,
            changes: Vec::new(),
        }
    }

    /// Whether an incident was open in the place then, other than this rollout's own.
    fn during_incident(&self, place: &Place, at: Timestamp, own: Option<&RolloutId>) -> bool {
        self.incidents.values().any(|incident| {
            incident.place == *place
                && (own.is_none() || incident.rollout.as_ref() != own)
                && incident.detected_at <= at
                && incident.resolved_at.is_none_or(|resolved| at < resolved)
        })
    }

    /// An incident belongs to the rollout it names; without a name to the release that served when it was detected, if that
    /// had been deployed within [`ATTRIBUTION`]. Otherwise to none.
    fn attribute_incidents(&self, place: &Place, ends: &[&End], deployments: &mut [Deployment]) {
        for incident in self.incidents.values().filter(|incident| incident.place == *place) {
            let (position, confidence) = match &incident.rollout {
                Some(rollout) => {
                    (ends.iter().position(|end| end.rollout() == Some(rollout)), Confidence::Recorded)
                }
                None => (serving(ends, incident.detected_at), Confidence::Inferred),
            };
            let Some(deployment) = position.and_then(|position| deployments.get_mut(position)) else {
                continue;
            };
            deployment.fail(Failure {
                kind: FailureKind::Incident,
                detected_at: incident.detected_at,
                restored_at: incident.resolved_at,
                confidence,
            });
        }
    }

    /// A revert is the failure of the newest deployment of the release that it takes back. Users are served rightly again when
    /// another release has replaced it, be it by this revert, a later one or a release that mends it.
    fn attribute_reverts(&self, ends: &[&End], deployments: &mut [Deployment]) {
        for (position, end) in ends.iter().enumerate() {
            let Some(rollout) = end.rollout().and_then(|id| self.rollouts.get(id)) else { continue };
            let Some(reverted) = &rollout.reverts else { continue };
            let failed =
                ends[..position].iter().rposition(|end| end.release() == Some(reverted) && !end.rolled_back);
            if let Some(deployment) = failed.and_then(|failed| deployments.get_mut(failed)) {
                deployment.fail(Failure {
                    kind: FailureKind::Reverted,
                    detected_at: rollout.planned_at,
                    restored_at: ends[position..]
                        .iter()
                        .find(|end| !end.rolled_back && end.release() != Some(reverted))
                        .map(|end| end.at),
                    confidence: Confidence::Recorded,
                });
            }
        }
    }

    /// A change belongs to the first deployment that completed with it. See [`changes_of`] for what has nothing to begin from.
    fn attribute_changes(
        &self,
        ends: &[&End],
        deployments: &mut [Deployment],
        history: Option<(&Graph, &CommitId)>,
    ) {
        let carrying: Vec<(usize, CommitId)> = (0..deployments.len())
            .filter(|at| !deployments[*at].rolled_back && !deployments[*at].revert)
            .filter_map(|at| deployments[at].commit.clone().map(|commit| (at, commit)))
            .collect();
        let tips: Vec<CommitId> = carrying.iter().map(|(_, commit)| commit.clone()).collect();
        let shipped = history.map(|(graph, tip)| {
            (graph, graph.merged_at(tip), graph.first_holding(&tips), graph.holding_earlier(&tips))
        });
        let mut heads = HashSet::new();
        for (order, (at, commit)) in carrying.into_iter().enumerate() {
            let new_head = heads.insert(commit);
            let known = shipped.as_ref().filter(|(graph, ..)| graph.position(&tips[order]).is_some());
            deployments[at].changes = match known {
                Some((graph, merged, held, rooted)) => {
                    changes_of(graph, merged, &tips[order], &held[order], rooted[order])
                }
                _ if new_head => {
                    let release = ends[at].release().and_then(|release| self.releases.get(release));
                    release.map(head_change).into_iter().collect()
                }
                _ => Vec::new(),
            };
        }
    }
}

/// Somebody else put an earlier artifact back: what had served until then failed.
fn attribute_others_reverts(ends: &[&End], deployments: &mut [Deployment]) {
    for (position, end) in ends.iter().enumerate() {
        if !matches!(end.by, By::Others { step: ServiceStep::RolledBack, .. }) {
            continue;
        }
        let failed = ends[..position].iter().rposition(|end| !end.rolled_back);
        if let Some(deployment) = failed.and_then(|failed| deployments.get_mut(failed)) {
            deployment.fail(Failure {
                kind: FailureKind::Reverted,
                detected_at: end.at,
                restored_at: Some(end.at),
                confidence: Confidence::Recorded,
            });
        }
    }
}

/// Others' reports may come late; the ends stay in the order of their times.
fn insert(ends: &mut Vec<End>, end: End) {
    let position = ends.partition_point(|earlier| earlier.at <= end.at);
    ends.insert(position, end);
}

/// The completed deployment that served at the time, if it was fresh.
fn serving(ends: &[&End], at: Timestamp) -> Option<usize> {
    let position = ends.iter().rposition(|end| !end.rolled_back && end.at <= at)?;
    let until = ends[position].at.saturating_add(ATTRIBUTION).ok()?;
    (at <= until).then_some(position)
}

fn head_change(commit: &Commit) -> Change {
    Change {
        commit: commit.id.clone(),
        authored_at: commit.authored_at,
        merged_at: Some(commit.committed_at),
    }
}

/// Whether requests go to the revision once it is done.
fn exposes(effect: &Effect) -> bool {
    match effect {
        Effect::SetWeight { weight, .. } => *weight > Weight::ZERO,
        Effect::Promote { .. } => true,
        Effect::Start { .. } | Effect::Retire { .. } => false,
    }
}

/// The changes of a deployment that holds these commits first. One that holds no commit deployed before it (`rooted` is false)
/// is a baseline: nobody knows what was new in it, so only the commit it was built from counts, not the history before.
pub(crate) fn changes_of(
    graph: &Graph,
    merged: &[Option<Timestamp>],
    commit: &CommitId,
    held: &[usize],
    rooted: bool,
) -> Vec<Change> {
    let change = |position: &usize| {
        let node = &graph.nodes()[*position];
        Change { commit: node.id.clone(), authored_at: node.authored_at, merged_at: merged[*position] }
    };
    let own = graph.position(commit);
    held.iter().filter(|position| rooted || own == Some(**position)).map(change).collect()
}
