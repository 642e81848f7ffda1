//! Folds the ledger into deployments.
//!
//! The fold keeps facts as they come and draws conclusions only when asked, so that an incident may be recorded before or after
//! the end of the rollout that it is about. Events that say nothing of deployments are passed over.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use delivery::change::Commit;
use delivery::effect::{Effect, Outcome};
use delivery::event::ServiceChange;
use delivery::traffic::Weight;
use delivery::{CommitId, EnvironmentName, Event, Recorded, ReleaseId, RolloutId, ServiceName, Timestamp};
use repo::Graph;

use crate::deployment::{Change, Confidence, Deployment, Failure, FailureKind};
use crate::dora::{self, DoraReport, Scope, Source};
use crate::window::Window;

/// How long after a deployment an incident without a named cause is attributed to it.
const ATTRIBUTION: Duration = Duration::from_hours(24);

type Place = (ServiceName, EnvironmentName);

/// What the ledger says of deployments.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    observed_from: Option<Timestamp>,
    releases: HashMap<ReleaseId, Commit>,
    versions: HashMap<ReleaseId, String>,
    rollouts: HashMap<RolloutId, Rollout>,
    incidents: BTreeMap<String, Incident>,
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

#[derive(Debug, Clone)]
struct Incident {
    place: Place,
    rollout: Option<RolloutId>,
    detected_at: Timestamp,
    resolved_at: Option<Timestamp>,
}

/// The end of a rollout.
#[derive(Debug, Clone)]
struct End {
    at: Timestamp,
    change: ServiceChange,
    rolled_back: bool,
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
                let place = (plan.revision.service.clone(), plan.environment.name.clone());
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
                let place = (service.clone(), environment.clone());
                let rollout = rollout.clone();
                // An incident is detected once; a repeated report changes nothing.
                self.incidents.entry(incident.clone()).or_insert(Incident {
                    place,
                    rollout,
                    detected_at: at,
                    resolved_at: None,
                });
            }
            Event::IncidentResolved { incident } => {
                if let Some(incident) = self.incidents.get_mut(incident) {
                    incident.resolved_at.get_or_insert(at);
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, at: Timestamp, change: &ServiceChange, rolled_back: bool) {
        let place = (change.service.clone(), change.environment.clone());
        let ends = self.ends.entry(place).or_default();
        // A rollout ends once.
        if !ends.iter().rev().any(|end| end.change.rollout == change.rollout) {
            ends.push(End { at, change: change.clone(), rolled_back });
        }
    }

    /// Services and environments with at least one rollout, in order.
    pub fn places(&self) -> Vec<(ServiceName, EnvironmentName)> {
        self.ends.keys().cloned().collect()
    }

    /// The commits of all releases, each once, in order: the tips of the graph that [`Facts::reports`] can use.
    pub fn commits(&self) -> BTreeSet<CommitId> {
        self.releases.values().map(|commit| commit.id.clone()).collect()
    }

    /// The deployments of a service in an environment, oldest first. With the repository's graph and the trunk's tip, every
    /// commit that a deployment shipped counts as a change; without, only the one it was built from.
    pub fn deployments(
        &self,
        service: &ServiceName,
        environment: &EnvironmentName,
        history: Option<(&Graph, &CommitId)>,
    ) -> Vec<Deployment> {
        let place = (service.clone(), environment.clone());
        let Some(ends) = self.ends.get(&place) else { return Vec::new() };
        let known: Vec<&End> =
            ends.iter().filter(|end| self.releases.contains_key(&end.change.release)).collect();
        let mut deployments: Vec<Deployment> = known.iter().filter_map(|end| self.deployment(end)).collect();
        self.attribute_incidents(&place, &known, &mut deployments);
        self.attribute_reverts(&known, &mut deployments);
        self.attribute_changes(&known, &mut deployments, history);
        deployments
    }

    /// Reports on every service in every environment.
    pub fn reports(&self, window: Window, history: Option<(&Graph, &CommitId)>) -> Vec<DoraReport> {
        let observed_from = self.observed_from.unwrap_or(window.from);
        self.ends
            .keys()
            .map(|(service, environment)| {
                let deployments = self.deployments(service, environment, history);
                let (service, environment) = (service.to_string(), environment.to_string());
                let scope =
                    Scope { service, environment, source: Source::Ledger, observed_from, tags_unread: 0 };
                dora::report(scope, &deployments, window)
            })
            .collect()
    }

    fn deployment(&self, end: &End) -> Option<Deployment> {
        let commit = self.releases.get(&end.change.release)?;
        let rollout = self.rollouts.get(&end.change.rollout);
        let withdrawn_at = rollout.and_then(|rollout| rollout.withdrawn_at);
        // Without a record of the first request, of what users met we know only when it was noticed or done.
        let known = rollout.and_then(|rollout| rollout.exposed_at);
        let exposed = known.is_some() || !end.rolled_back || end.change.weight > Weight::ZERO;
        let exposed_at = exposed.then(|| known.or(withdrawn_at).unwrap_or(end.at));
        let failure = end.rolled_back.then(|| Failure {
            kind: FailureKind::RolledBack,
            detected_at: withdrawn_at.unwrap_or(end.at),
            restored_at: Some(end.at),
            confidence: Confidence::Recorded,
        });
        Some(Deployment {
            version: self.versions.get(&end.change.release).cloned().unwrap_or_default(),
            commit: commit.id.clone(),
            finished_at: end.at,
            rolled_back: end.rolled_back,
            exposed_at,
            unplanned: self.during_incident(end, rollout),
            revert: rollout.is_some_and(|rollout| rollout.reverts.is_some()),
            failure,
            changes: Vec::new(),
        })
    }

    /// Whether the rollout was planned while another one's incident was open in the same place.
    fn during_incident(&self, end: &End, rollout: Option<&Rollout>) -> bool {
        let Some(rollout) = rollout else { return false };
        self.incidents.values().any(|incident| {
            incident.place.0 == end.change.service
                && incident.place.1 == end.change.environment
                && incident.rollout.as_ref() != Some(&end.change.rollout)
                && incident.detected_at <= rollout.planned_at
                && incident.resolved_at.is_none_or(|resolved| rollout.planned_at < resolved)
        })
    }

    /// An incident belongs to the rollout it names; without a name to the release that served when it was detected, if that
    /// had been deployed within [`ATTRIBUTION`]. Otherwise to none.
    fn attribute_incidents(&self, place: &Place, ends: &[&End], deployments: &mut [Deployment]) {
        for incident in self.incidents.values().filter(|incident| incident.place == *place) {
            let (position, confidence) = match &incident.rollout {
                Some(rollout) => {
                    (ends.iter().position(|end| end.change.rollout == *rollout), Confidence::Recorded)
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
            let Some(rollout) = self.rollouts.get(&end.change.rollout) else { continue };
            let Some(reverted) = &rollout.reverts else { continue };
            let failed =
                ends[..position].iter().rposition(|end| end.change.release == *reverted && !end.rolled_back);
            if let Some(deployment) = failed.and_then(|failed| deployments.get_mut(failed)) {
                deployment.fail(Failure {
                    kind: FailureKind::Reverted,
                    detected_at: rollout.planned_at,
                    restored_at: ends[position..]
                        .iter()
                        .find(|end| !end.rolled_back && end.change.release != *reverted)
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
        let carrying: Vec<usize> = (0..deployments.len())
            .filter(|at| !deployments[*at].rolled_back && !deployments[*at].revert)
            .collect();
        let tips: Vec<CommitId> = carrying.iter().map(|at| deployments[*at].commit.clone()).collect();
        let shipped = history.map(|(graph, tip)| {
            (graph, graph.merged_at(tip), graph.first_holding(&tips), graph.holding_earlier(&tips))
        });
        let mut heads = HashSet::new();
        for (order, at) in carrying.into_iter().enumerate() {
            let new_head = heads.insert(deployments[at].commit.clone());
            let known = shipped.as_ref().filter(|(graph, ..)| graph.position(&tips[order]).is_some());
            deployments[at].changes = match known {
                Some((graph, merged, held, rooted)) => {
                    changes_of(graph, merged, &tips[order], &held[order], rooted[order])
                }
                _ if new_head => {
                    self.releases.get(&ends[at].change.release).map(head_change).into_iter().collect()
                }
                _ => Vec::new(),
            };
        }
    }
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
