//! Every durable fact. The ledger stores these and nothing else; all state is a fold over them.
//!
//! Names follow CDEvents where it has a name (`taskrun.finished`, `service.deployed`), `subject.past-tense-verb` elsewhere.
//! Invariant: a variant's meaning never changes once released; a new meaning is a new variant.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;
use crate::effect::{Command, Outcome};
use crate::evidence::Evidence;
use crate::finding::{Finding, GateVerdict};
use crate::id::{CommitId, Digest, EnvironmentName, ReleaseId, RolloutId, RunId, ServiceName, TaskName};
use crate::release::Release;
use crate::report::{Fact, Origin};
use crate::rollout::{RollbackCause, RolloutOutcome, RolloutPlan};
use crate::traffic::{Sample, Weight};

/// Who caused an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "name")]
pub enum Actor {
    /// A person, by e-mail address. Only people's approvals count.
    Human(String),
    /// Trimtab itself or another program, by name.
    Machine(String),
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Human(name) | Self::Machine(name) => f.pad(name),
        }
    }
}

/// An event with its place in the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// From 1, without gaps.
    pub sequence: u64,
    /// When it was recorded; never earlier than the record before it.
    pub at: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// What happened.
    pub event: Event,
}

/// How a task or a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskOutcome {
    /// Exit code 0.
    Success,
    /// Another exit code, or a signal of its own making.
    Failure,
    /// Killed at its time limit.
    TimedOut,
    /// Not run, because a task it needs did not succeed.
    Skipped,
    /// Stopped because the run was cancelled.
    Cancelled,
    /// The program could not be started.
    NotStarted,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data")]
pub enum Event {
    /// A run of the task graph began.
    #[serde(rename = "pipelinerun.started")]
    RunStarted {
        /// The run.
        run: RunId,
        /// The commit it runs on; `None` outside a repository.
        commit: Option<CommitId>,
        /// Whether the work tree had uncommitted changes.
        dirty: bool,
        /// The tasks in the order of the plan.
        tasks: Vec<TaskName>,
    },
    /// A task ended, was skipped, or came from the cache.
    #[serde(rename = "taskrun.finished")]
    TaskFinished {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskName,
        /// From 1.
        attempt: u32,
        /// How it ended.
        outcome: TaskOutcome,
        /// Whether its outputs came from the cache.
        cached: bool,
        /// The cache key: BLAKE3 in hexadecimal.
        key: String,
        /// Wall time in milliseconds.
        duration_ms: u64,
        /// One clause: exit status, time limit, or what it waited for.
        detail: String,
    },
    /// A test report was read.
    #[serde(rename = "testsuiterun.finished")]
    TestsFinished {
        /// The run.
        run: RunId,
        /// The task that wrote the report.
        task: TaskName,
        /// Tests executed (skipped ones not counted).
        tests: u64,
        /// Of these, failed or in error.
        failures: u64,
        /// Not executed.
        skipped: u64,
        /// The first findings, at most 50; the rest are in the report.
        findings: Vec<Finding>,
    },
    /// A run of the task graph ended.
    #[serde(rename = "pipelinerun.finished")]
    RunFinished {
        /// The run.
        run: RunId,
        /// Success only if every task succeeded.
        outcome: TaskOutcome,
        /// Wall time in milliseconds.
        duration_ms: u64,
    },
    /// A gate judged a run.
    #[serde(rename = "gate.judged")]
    GateJudged {
        /// The run.
        run: RunId,
        /// The verdict.
        verdict: GateVerdict,
    },
    /// An artifact was packaged.
    #[serde(rename = "artifact.packaged")]
    ArtifactPackaged {
        /// The run that built it.
        run: RunId,
        /// The artifact.
        artifact: Artifact,
    },
    /// A key that signs provenance was made, or taken into use. From here on what it signed is trusted, also when its private
    /// half is gone.
    #[serde(rename = "key.created")]
    KeyCreated {
        /// Its id: SHA-256 of the public half in DER.
        key: Digest,
        /// The public half: SubjectPublicKeyInfo in PEM.
        public: String,
    },
    /// Provenance of an artifact was signed: for a new release, or again for one whose provenance could not be verified.
    #[serde(rename = "artifact.signed")]
    ArtifactSigned {
        /// The artifact's digest.
        digest: Digest,
        /// SHA-256 of the DSSE envelope, under which the store's blobs hold it.
        envelope: Digest,
        /// The signing key's id.
        key: String,
    },
    /// A release came to be.
    #[serde(rename = "release.created")]
    ReleaseCreated {
        /// The release.
        release: Box<Release>,
    },
    /// A person approved a promotion. Bound to all that it names: a change in any of them voids it.
    #[serde(rename = "approval.granted")]
    ApprovalGranted {
        /// The release.
        release: ReleaseId,
        /// The artifact's digest.
        digest: Digest,
        /// The environment it may enter.
        environment: EnvironmentName,
        /// SHA-256 over the environment's rules and the address it listens on, which is the target.
        policy: Digest,
        /// Why, in the approver's words; may be empty.
        comment: String,
    },
    /// A rollout was planned. Nothing has been done yet.
    #[serde(rename = "rollout.planned")]
    RolloutPlanned {
        /// The plan.
        plan: Box<RolloutPlan>,
    },
    /// A controller took charge of a rollout.
    #[serde(rename = "rollout.acquired")]
    RolloutAcquired {
        /// The rollout.
        rollout: RolloutId,
        /// The fencing generation, higher than any before it in this ledger.
        epoch: u64,
        /// The process, for people.
        holder: String,
    },
    /// An effect is about to be asked of the platform.
    #[serde(rename = "effect.requested")]
    EffectRequested {
        /// The command.
        command: Command,
    },
    /// The platform answered.
    #[serde(rename = "effect.finished")]
    EffectFinished {
        /// The rollout.
        rollout: RolloutId,
        /// The command's number.
        sequence: u32,
        /// The answer.
        outcome: Outcome,
    },
    /// Traffic was read and judged.
    #[serde(rename = "rollout.judged")]
    RolloutJudged {
        /// The rollout.
        rollout: RolloutId,
        /// The step, from 0.
        step: u32,
        /// When the traffic was looked at; what it shows is computed for this time. The record may be a little later.
        looked_at: Timestamp,
        /// What was read; `None` when nothing could be.
        sample: Option<Sample>,
        /// What it shows.
        evidence: Evidence,
    },
    /// A person said that a held rollout may go on to its next step.
    #[serde(rename = "rollout.resumed")]
    RolloutResumed {
        /// The rollout.
        rollout: RolloutId,
        /// The step that was held.
        step: u32,
        /// Why.
        reason: String,
    },
    /// The release is to be taken back. From here on its weight only falls.
    #[serde(rename = "rollback.requested")]
    RollbackRequested {
        /// The rollout.
        rollout: RolloutId,
        /// Why.
        cause: RollbackCause,
    },
    /// A rollout ended.
    #[serde(rename = "rollout.finished")]
    RolloutFinished {
        /// The rollout.
        rollout: RolloutId,
        /// How.
        outcome: RolloutOutcome,
    },
    /// A service runs in an environment where none of it ran before.
    #[serde(rename = "service.deployed")]
    ServiceDeployed(ServiceChange),
    /// A service's release in an environment was replaced.
    #[serde(rename = "service.upgraded")]
    ServiceUpgraded(ServiceChange),
    /// A release was taken back in an environment.
    #[serde(rename = "service.rolledback")]
    ServiceRolledBack(ServiceChange),
    /// Something is wrong in an environment.
    #[serde(rename = "incident.detected")]
    IncidentDetected {
        /// The incident's id: the rollout's for those that we detect ourselves.
        incident: String,
        /// The service.
        service: ServiceName,
        /// The environment.
        environment: EnvironmentName,
        /// The rollout that caused it, where known.
        rollout: Option<RolloutId>,
        /// One sentence.
        summary: String,
    },
    /// It is right again.
    #[serde(rename = "incident.resolved")]
    IncidentResolved {
        /// The incident's id.
        incident: String,
    },
    /// A person's e-mail address was erased. The records stay, and name that person by the pseudonym from now on.
    #[serde(rename = "person.erased")]
    PersonErased {
        /// The pseudonym.
        person: String,
    },
    /// The ledger was restored: what is before this record comes from a backup, and records may be missing between the two.
    /// Rollouts that were under way are taken back, because what they did since is not on record.
    #[serde(rename = "ledger.restored")]
    LedgerRestored {
        /// Records that were taken over: this record's sequence is one higher.
        size: u64,
        /// Root of the Merkle tree over them.
        root: Digest,
        /// The end of the history that was given up, where one was known.
        lost: Option<LostHistory>,
        /// No controller was ever given a higher fencing generation than this, as far as the edges and the lost history tell.
        epoch: u64,
    },
    /// Somebody outside reported what happened: monitoring, an incident tool, another deployer. It moves no rollout.
    #[serde(rename = "report.received")]
    Reported {
        /// The reporter and its number for the report. Recorded once, however often it was sent.
        origin: Origin,
        /// When it happened, as the reporter says.
        occurred_at: Timestamp,
        /// What happened: `incident-detected`, `incident-resolved` or `service-changed`.
        fact: Fact,
    },
}

/// The end of a history that a restored ledger does not go on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostHistory {
    /// Its records.
    pub size: u64,
    /// Root of the Merkle tree over them.
    pub root: Digest,
    /// When the last one was recorded.
    pub last_at: Option<Timestamp>,
}

/// Which release a service runs where, after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceChange {
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The rollout that changed it.
    pub rollout: RolloutId,
    /// The release it was about: the new one, or for a rollback the one taken back.
    pub release: ReleaseId,
    /// Its artifact's digest.
    pub digest: Digest,
    /// The highest weight that the release had reached.
    pub weight: Weight,
}

impl Event {
    /// The event's name on the wire, such as `taskrun.finished`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RunStarted { .. } => "pipelinerun.started",
            Self::TaskFinished { .. } => "taskrun.finished",
            Self::TestsFinished { .. } => "testsuiterun.finished",
            Self::RunFinished { .. } => "pipelinerun.finished",
            Self::GateJudged { .. } => "gate.judged",
            Self::ArtifactPackaged { .. } => "artifact.packaged",
            Self::KeyCreated { .. } => "key.created",
            Self::ArtifactSigned { .. } => "artifact.signed",
            Self::ReleaseCreated { .. } => "release.created",
            Self::ApprovalGranted { .. } => "approval.granted",
            Self::RolloutPlanned { .. } => "rollout.planned",
            Self::RolloutAcquired { .. } => "rollout.acquired",
            Self::EffectRequested { .. } => "effect.requested",
            Self::EffectFinished { .. } => "effect.finished",
            Self::RolloutJudged { .. } => "rollout.judged",
            Self::RolloutResumed { .. } => "rollout.resumed",
            Self::RollbackRequested { .. } => "rollback.requested",
            Self::RolloutFinished { .. } => "rollout.finished",
            Self::ServiceDeployed(_) => "service.deployed",
            Self::ServiceUpgraded(_) => "service.upgraded",
            Self::ServiceRolledBack(_) => "service.rolledback",
            Self::IncidentDetected { .. } => "incident.detected",
            Self::IncidentResolved { .. } => "incident.resolved",
            Self::PersonErased { .. } => "person.erased",
            Self::LedgerRestored { .. } => "ledger.restored",
            Self::Reported { .. } => "report.received",
        }
    }
}

impl Event {
    /// The rollout that the event is about, if it is about one.
    pub fn rollout(&self) -> Option<RolloutId> {
        match self {
            Self::RolloutPlanned { plan } => Some(plan.id.clone()),
            Self::EffectRequested { command } => Some(command.rollout.clone()),
            Self::RolloutAcquired { rollout, .. }
            | Self::EffectFinished { rollout, .. }
            | Self::RolloutJudged { rollout, .. }
            | Self::RolloutResumed { rollout, .. }
            | Self::RollbackRequested { rollout, .. }
            | Self::RolloutFinished { rollout, .. } => Some(rollout.clone()),
            Self::ServiceDeployed(change)
            | Self::ServiceUpgraded(change)
            | Self::ServiceRolledBack(change) => Some(change.rollout.clone()),
            Self::IncidentDetected { rollout, .. } => rollout.clone(),
            // An incident that a rollout caused bears its id.
            Self::IncidentResolved { incident } => RolloutId::new(incident.as_str()).ok(),
            Self::RunStarted { .. }
            | Self::TaskFinished { .. }
            | Self::TestsFinished { .. }
            | Self::RunFinished { .. }
            | Self::GateJudged { .. }
            | Self::ArtifactPackaged { .. }
            | Self::KeyCreated { .. }
            | Self::ArtifactSigned { .. }
            | Self::ReleaseCreated { .. }
            | Self::ApprovalGranted { .. }
            | Self::PersonErased { .. }
            | Self::LedgerRestored { .. }
            | Self::Reported { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_is_the_name_on_the_wire() {
        let event = Event::IncidentResolved { incident: "i".into() };
        let wire = serde_json::to_value(&event).unwrap();
        assert_eq!(wire["kind"], event.kind());
        assert_eq!(serde_json::from_value::<Event>(wire).unwrap(), event);
    }
}
