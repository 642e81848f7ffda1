//! What the ledger says is true: the fold of all events.
//!
//! Every page, every `status`, every decision reads this. It does no I/O and never fails: what can't be understood is
//! listed under `quarantined` and left out. Invariant (I10): folding the ledger again gives an equal value.

use std::collections::BTreeMap;

use delivery::event::{ServiceChange, TaskOutcome};
use delivery::finding::GateVerdict;
use delivery::release::Release;
use delivery::rollout::{RolloutOutcome, RolloutPlan};
use delivery::{
    Actor, CommitId, Digest, EnvironmentName, Event, Recorded, ReleaseId, RevisionId, RolloutId, RunId,
    ServiceName, TaskName, Timestamp,
};

use crate::progress::Rollout;
use crate::promotion;

/// How many records count as missing where a ledger was restored and nobody knows how far the lost history went. Each may have
/// been a command of a rollout under way, whose number must not be used again; no rollout has nearly as many.
const LOST_RECORDS: u64 = 1 << 20;

/// One task of a run, as it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// The task.
    pub task: TaskName,
    /// How it ended.
    pub outcome: TaskOutcome,
    /// Whether it came from the cache.
    pub cached: bool,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
    /// One clause.
    pub detail: String,
}

/// One run of the task graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The commit.
    pub commit: Option<CommitId>,
    /// When it began.
    pub started_at: Timestamp,
    /// Its tasks, in the order they ended.
    pub tasks: Vec<TaskRecord>,
    /// What its gates said.
    pub verdicts: Vec<GateVerdict>,
    /// What was packaged from it.
    pub artifacts: Vec<Digest>,
    /// How it ended; `None` while it runs, or when the process died.
    pub outcome: Option<TaskOutcome>,
}

/// A release with when it came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRecord {
    /// The release.
    pub release: Release,
    /// When.
    pub at: Timestamp,
}

/// One approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Who.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
    /// The release.
    pub release: ReleaseId,
    /// Its artifact.
    pub digest: Digest,
    /// Where it may go.
    pub environment: EnvironmentName,
    /// The rules and the target it was given for.
    pub policy: Digest,
}

/// What one service is in one environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slot {
    /// The release that serves.
    pub current: Option<ReleaseId>,
    /// The release that served before it.
    pub previous: Option<ReleaseId>,
    /// The revision that serves.
    pub stable: Option<RevisionId>,
    /// When the current release began to serve.
    pub since: Option<Timestamp>,
    /// Its rollouts, oldest first.
    pub rollouts: Vec<RolloutId>,
}

/// Everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// Number of records folded in, which is the last one's sequence.
    pub size: u64,
    /// When the last one was recorded.
    pub last_at: Option<Timestamp>,
    /// Runs, oldest first.
    pub runs: Vec<Run>,
    /// Releases, oldest first.
    pub releases: Vec<ReleaseRecord>,
    /// Public halves (PEM) of the keys whose signatures are trusted, by id.
    pub keys: BTreeMap<Digest, String>,
    /// Envelopes of provenance by the artifact they are about, oldest first.
    pub envelopes: BTreeMap<Digest, Vec<Digest>>,
    /// Approvals, oldest first.
    pub approvals: Vec<Approval>,
    /// Rollouts by id.
    pub rollouts: BTreeMap<RolloutId, Rollout>,
    /// What runs where.
    pub slots: BTreeMap<(ServiceName, EnvironmentName), Slot>,
    /// Everybody who ever acted or had a hand in a release, by identity, with the record that names them first.
    pub people: BTreeMap<String, u64>,
    /// People who were erased, by pseudonym, with the record that says so.
    pub erased: BTreeMap<String, u64>,
    /// The highest fencing generation that was given out.
    pub epoch_max: u64,
    /// Records that could not be read: sequence and reason.
    pub quarantined: Vec<(u64, String)>,
}

impl State {
    /// Folds in one record.
    pub fn apply(&mut self, recorded: &Recorded) {
        self.size = recorded.sequence;
        self.last_at = Some(recorded.at);
        let at = recorded.at;
        if let Actor::Human(email) = &recorded.actor {
            self.meet(email);
        }
        match &recorded.event {
            Event::PersonErased { person } => {
                self.erased.insert(person.clone(), recorded.sequence);
            }
            Event::RunStarted { run, commit, .. } => self.runs.push(Run {
                id: run.clone(),
                commit: commit.clone(),
                started_at: at,
                tasks: Vec::new(),
                verdicts: Vec::new(),
                artifacts: Vec::new(),
                outcome: None,
            }),
            Event::TaskFinished { run, task, outcome, cached, duration_ms, detail, .. } => {
                if let Some(run) = self.run_mut(run) {
                    run.tasks.push(TaskRecord {
                        task: task.clone(),
                        outcome: *outcome,
                        cached: *cached,
                        duration_ms: *duration_ms,
                        detail: detail.clone(),
                    });
                }
            }
            Event::RunFinished { run, outcome, .. } => {
                if let Some(run) = self.run_mut(run) {
                    run.outcome = Some(*outcome);
                }
            }
            Event::GateJudged { run, verdict } => {
                if let Some(run) = self.run_mut(run) {
                    run.verdicts.push(verdict.clone());
                }
            }
            Event::ArtifactPackaged { run, artifact } => {
                if let Some(run) = self.run_mut(run) {
                    run.artifacts.push(artifact.digest.clone());
                }
            }
            Event::KeyCreated { key, public } => {
                self.keys.entry(key.clone()).or_insert_with(|| public.clone());
            }
            Event::ArtifactSigned { digest, envelope, .. } => {
                self.envelopes.entry(digest.clone()).or_default().push(envelope.clone());
            }
            Event::ReleaseCreated { release } => {
                release.people().for_each(|person| self.meet(&person.email));
                self.releases.push(ReleaseRecord { release: (**release).clone(), at });
            }
            Event::ApprovalGranted { .. } => self.approve(recorded),
            Event::RolloutResumed { rollout, .. } => {
                if promotion::may_resume(self, rollout, &recorded.actor).is_ok() {
                    self.forward(rollout, &recorded.event, at);
                }
            }
            Event::LedgerRestored { size, lost, epoch, .. } => {
                self.restored(*epoch, lost.as_ref().map(|lost| lost.size.saturating_sub(*size)));
            }
            event => self.apply_rollout(event, at),
        }
    }

    fn approve(&mut self, recorded: &Recorded) {
        if let Event::ApprovalGranted { release, digest, environment, policy, .. } = &recorded.event {
            self.approvals.push(Approval {
                by: recorded.actor.clone(),
                at: recorded.at,
                release: release.clone(),
                digest: digest.clone(),
                environment: environment.clone(),
                policy: policy.clone(),
            });
        }
    }

    fn meet(&mut self, email: &str) {
        let person = delivery::people::identity(email);
        self.people.entry(person).or_insert(self.size);
    }

    /// Goes on after a history that was given up, so many records long where that is known: as if they were there and could not
    /// be read. Generations go on above every one that was seen.
    fn restored(&mut self, epoch: u64, lost: Option<u64>) {
        self.epoch_max = self.epoch_max.max(epoch);
        let lost = lost.unwrap_or(LOST_RECORDS).max(1);
        self.rollouts.values_mut().for_each(|rollout| rollout.miss(lost));
    }

    /// Notes a record that could not be read.
    pub fn quarantine(&mut self, sequence: u64, reason: String) {
        // Of a run of missing records only the last is told.
        let records = sequence.saturating_sub(self.size);
        self.rollouts.values_mut().for_each(|rollout| rollout.miss(records));
        self.size = sequence;
        self.quarantined.push((sequence, reason));
    }

    fn apply_rollout(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::RolloutPlanned { plan } => self.plan(plan, at),
            Event::RolloutAcquired { rollout, epoch, .. } => {
                self.epoch_max = self.epoch_max.max(*epoch);
                self.forward(rollout, event, at);
            }
            Event::EffectRequested { command } => self.forward(&command.rollout, event, at),
            Event::EffectFinished { rollout, .. }
            | Event::RolloutJudged { rollout, .. }
            | Event::IncidentDetected { rollout: Some(rollout), .. }
            | Event::RollbackRequested { rollout, .. } => self.forward(rollout, event, at),
            Event::IncidentResolved { incident } => {
                // Ours have the rollout's id.
                if let Ok(rollout) = RolloutId::new(incident.as_str()) {
                    self.forward(&rollout, event, at);
                }
            }
            Event::RolloutFinished { rollout, outcome } => {
                let active = self.rollouts.get(rollout).is_some_and(Rollout::active);
                self.forward(rollout, event, at);
                if active && *outcome == RolloutOutcome::Completed {
                    self.complete(rollout, at);
                }
            }
            _ => {}
        }
    }

    fn plan(&mut self, plan: &RolloutPlan, at: Timestamp) {
        if self.rollouts.contains_key(&plan.id) {
            return;
        }
        let slot =
            self.slots.entry((plan.revision.service.clone(), plan.environment.name.clone())).or_default();
        slot.rollouts.push(plan.id.clone());
        self.rollouts.insert(plan.id.clone(), Rollout::planned(plan.clone(), at));
    }

    fn forward(&mut self, rollout: &RolloutId, event: &Event, at: Timestamp) {
        if let Some(rollout) = self.rollouts.get_mut(rollout) {
            rollout.apply(event, at);
        }
    }

    fn complete(&mut self, rollout: &RolloutId, at: Timestamp) {
        let Some(plan) = self.rollouts.get(rollout).map(|rollout| &rollout.plan) else { return };
        let key = (plan.revision.service.clone(), plan.environment.name.clone());
        let Some(slot) = self.slots.get(&key) else { return };
        let previous = self.served(slot).into_iter().rev().find(|release| **release != plan.release).cloned();
        let (current, stable) = (plan.release.clone(), plan.revision.id.clone());
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.previous = previous;
            slot.current = Some(current);
            slot.stable = Some(stable);
            slot.since = Some(at);
        }
    }

    /// The releases that served there, oldest first, without those that were reverted since.
    fn served<'a>(&'a self, slot: &'a Slot) -> Vec<&'a ReleaseId> {
        let mut served = Vec::new();
        let completed = |rollout: &&Rollout| rollout.outcome == Some(RolloutOutcome::Completed);
        for rollout in slot.rollouts.iter().filter_map(|id| self.rollouts.get(id)).filter(completed) {
            if let Some(reverted) = &rollout.plan.reverts {
                served.retain(|release| *release != reverted);
            }
            served.push(&rollout.plan.release);
        }
        served
    }

    fn run_mut(&mut self, id: &RunId) -> Option<&mut Run> {
        // Events of a run follow its start closely: look from the end.
        self.runs.iter_mut().rev().find(|run| run.id == *id)
    }

    /// The run with this id.
    pub fn run(&self, id: &RunId) -> Option<&Run> {
        self.runs.iter().rev().find(|run| run.id == *id)
    }

    /// The release with this id.
    pub fn release(&self, id: &ReleaseId) -> Option<&Release> {
        self.releases.iter().rev().map(|record| &record.release).find(|release| release.id == *id)
    }

    /// The service's newest release.
    pub fn release_latest(&self, service: &ServiceName) -> Option<&Release> {
        self.releases
            .iter()
            .rev()
            .map(|record| &record.release)
            .find(|release| release.artifact.service == *service)
    }

    /// What the service is in the environment.
    pub fn slot(&self, service: &ServiceName, environment: &EnvironmentName) -> Option<&Slot> {
        self.slots.get(&(service.clone(), environment.clone()))
    }

    /// The rollouts that have not ended, oldest first.
    pub fn rollouts_active(&self) -> Vec<&Rollout> {
        let mut active: Vec<_> = self.rollouts.values().filter(|rollout| rollout.active()).collect();
        active.sort_by_key(|rollout| rollout.planned_at);
        active
    }

    /// The rollout under way for the service in the environment.
    pub fn rollout_active(&self, service: &ServiceName, environment: &EnvironmentName) -> Option<&Rollout> {
        let slot = self.slot(service, environment)?;
        slot.rollouts.iter().rev().filter_map(|id| self.rollouts.get(id)).find(|rollout| rollout.active())
    }

    /// Whether the release has served in the environment, and was not reverted since.
    pub fn has_served(&self, release: &ReleaseId, environment: &EnvironmentName) -> bool {
        let here = self.slots.iter().filter(|((_, name), _)| name == environment);
        here.into_iter().any(|(_, slot)| self.served(slot).contains(&release))
    }

    /// The rollout that ended with the release being taken back in the environment: its own, or one that reverted it
    /// after it had served. `None` when it was let in again since.
    pub fn taken_back(&self, release: &Release, environment: &EnvironmentName) -> Option<&Rollout> {
        let slot = self.slot(&release.artifact.service, environment)?;
        let completed = |rollout: &Rollout| rollout.outcome == Some(RolloutOutcome::Completed);
        let concerns = |rollout: &&Rollout| {
            rollout.plan.release == release.id
                || (completed(rollout) && rollout.plan.reverts.as_ref() == Some(&release.id))
        };
        let last = slot.rollouts.iter().rev().filter_map(|id| self.rollouts.get(id)).find(concerns)?;
        (last.cause.is_some() || last.plan.release != release.id).then_some(last)
    }

    /// The change that a rollout's end makes to its service, for the outside world.
    pub fn service_change(rollout: &Rollout) -> ServiceChange {
        ServiceChange {
            service: rollout.plan.revision.service.clone(),
            environment: rollout.plan.environment.name.clone(),
            rollout: rollout.plan.id.clone(),
            release: rollout.plan.release.clone(),
            digest: rollout.plan.revision.digest.clone(),
            weight: rollout.weight_max,
        }
    }
}
