//! A small hostile story: a release whose every text tries to be HTML, rolling out.

use std::collections::BTreeMap;

use delivery::artifact::Artifact;
use delivery::change::{Commit, Person};
use delivery::effect::{Command, Effect, Outcome, Readiness, RevisionSpec};
use delivery::environment::{ApprovalRule, Environment};
use delivery::evidence::{Evidence, Finding};
use delivery::release::Release;
use delivery::rollout::{RollbackCause, RolloutPlan};
use delivery::strategy::{AnalysisPolicy, OnExpiry, OnInconclusive, Step, Sticky, Strategy, StrategyKind};
use delivery::traffic::{ArmTotals, Sample, Weight};
use delivery::{
    CommitId, Digest, EnvironmentName, Event, ReleaseId, RevisionId, RolloutId, RunId, ServiceName,
};

use super::at;

pub(super) const HOSTILE: &str = "\"><script>alert('x')</script><img src=x onerror=alert(1)>&amp;";

pub(super) fn rollout() -> RolloutId {
    RolloutId::new("ro-00000001").unwrap()
}

pub(super) fn release() -> ReleaseId {
    ReleaseId::new("rel-00000001").unwrap()
}

pub(super) fn environments() -> Vec<(Environment, Digest)> {
    ["staging", "production"].map(|name| (environment(name), Digest::of(name.as_bytes()))).into()
}

fn environment(name: &str) -> Environment {
    let weight = Weight::from_percent(10.0).unwrap();
    Environment {
        name: EnvironmentName::new(name).unwrap(),
        listen: "127.0.0.1:0".into(),
        strategy: Strategy {
            kind: StrategyKind::Canary,
            steps: vec![Step { weight, hold_ms: 1_000, deadline_ms: 60_000, analyse: true }],
            analysis: AnalysisPolicy::default(),
            on_inconclusive: OnInconclusive::Rollback,
            on_expiry: OnExpiry::Rollback,
            grant_ttl_ms: 5_000,
            sticky: Sticky::None,
            drain_ms: 1_000,
        },
        gates: Vec::new(),
        approval: ApprovalRule { required: u32::from(name == "production"), approvers: Vec::new() },
        freezes: Vec::new(),
        kpis: Vec::new(),
        rollback_objective_ms: 60_000,
    }
}

fn created() -> Event {
    let person = Person { name: HOSTILE.into(), email: "dana@example.com".into() };
    let commit = CommitId::new("0123456789012345678901234567890123456789").unwrap();
    Event::ReleaseCreated {
        release: Box::new(Release {
            id: release(),
            version: format!("1.0.0-{HOSTILE}"),
            commit: Commit {
                id: commit,
                author: person.clone(),
                committer: person.clone(),
                co_authors: Vec::new(),
                authored_at: at(0),
                committed_at: at(0),
                subject: HOSTILE.into(),
            },
            artifact: Artifact {
                service: ServiceName::new("shop").unwrap(),
                digest: Digest::of(b"artifact"),
                files: 1,
                bytes: 1,
            },
            authors: vec![person],
            changelog: vec![HOSTILE.into()],
            run: RunId::new("run-00000001").unwrap(),
            provenance: Digest::of(b"provenance"),
        }),
    }
}

fn planned() -> (RevisionSpec, Event) {
    let spec = RevisionSpec {
        id: RevisionId::of_rollout(&rollout()),
        service: ServiceName::new("shop").unwrap(),
        digest: Digest::of(b"artifact"),
        directory: "/nowhere".into(),
        command: vec![HOSTILE.into()],
        environment: BTreeMap::new(),
        pass: Vec::new(),
        ready: Readiness { path: None, within_ms: 1_000 },
        instances: 1,
        stop_ms: 1_000,
    };
    let plan = RolloutPlan {
        id: rollout(),
        parent: None,
        release: release(),
        version: format!("1.0.0-{HOSTILE}"),
        revision: spec.clone(),
        stable: None,
        reverts: None,
        environment: environment("staging"),
        policy: Digest::of(b"staging"),
    };
    (spec, Event::RolloutPlanned { plan: Box::new(plan) })
}

fn effect(sequence: u32, effect: Effect) -> [Event; 2] {
    let command = Command { rollout: rollout(), sequence, epoch: 1, effect };
    let outcome = Outcome::Applied { detail: HOSTILE.into() };
    [Event::EffectRequested { command }, Event::EffectFinished { rollout: rollout(), sequence, outcome }]
}

pub(super) fn look(second: i64, requests: u64, finding: Finding) -> Event {
    let arm = |requests: u64| {
        let mut arm = ArmTotals::zero();
        arm.requests = requests;
        arm.errors = requests / 10;
        arm.latency[7] = requests;
        arm
    };
    let sample = Sample {
        boot: "boot".into(),
        at: at(second),
        weight: Weight::from_percent(10.0).unwrap(),
        stable: arm(requests * 9),
        canary: arm(requests),
    };
    let evidence = Evidence {
        finding,
        log_e_harm: 1.0,
        log_e_safe: -1.0,
        signal: HOSTILE.into(),
        ratio_low: None,
        ratio_high: None,
        canary_requests: requests,
        canary_errors: requests / 10,
        stable_requests: requests * 9,
        stable_errors: requests * 9 / 10,
        slower: None,
        digest: Digest::of(b"artifact"),
    };
    Event::RolloutJudged { rollout: rollout(), step: 0, looked_at: sample.at, sample: Some(sample), evidence }
}

/// Everything up to a canary that has been looked at five times.
pub(super) fn exposed() -> Vec<Event> {
    let (spec, planned) = planned();
    let weigh = Effect::SetWeight {
        revision: spec.id.clone(),
        weight: Weight::from_percent(10.0).unwrap(),
        ttl_ms: 5_000,
        on_expiry: OnExpiry::Rollback,
        sticky: Sticky::None,
    };
    let mut events = vec![created(), planned];
    events.push(Event::RolloutAcquired { rollout: rollout(), epoch: 1, holder: HOSTILE.into() });
    events.extend(effect(1, Effect::Start { revision: Box::new(spec) }));
    events.extend(effect(2, weigh));
    events.extend((1..=5).map(|look_at| look(20 + look_at, look_at as u64 * 1_000, Finding::Continue)));
    events
}

/// The same, but a step without evidence waits for a person.
pub(super) fn held() -> Vec<Event> {
    let mut events = exposed();
    for event in &mut events {
        if let Event::RolloutPlanned { plan } = event {
            plan.environment.strategy.on_inconclusive = OnInconclusive::Hold;
        }
    }
    events
}

/// A rollout of its own that has only been planned.
pub(super) fn planned_as(number: usize) -> Event {
    let (_, event) = planned();
    let Event::RolloutPlanned { mut plan } = event else { unreachable!("it is a plan") };
    plan.id = RolloutId::new(format!("ro-1000{number:04}")).unwrap();
    plan.revision.id = RevisionId::of_rollout(&plan.id);
    Event::RolloutPlanned { plan }
}

/// What the edge says while the rollout has this share.
pub(super) fn status(percent: f64) -> platform::edge::Status {
    let weight = Weight::from_percent(percent).unwrap();
    let own = weight > Weight::ZERO;
    platform::edge::Status {
        listen: "127.0.0.1:8080".into(),
        listen_asked: "127.0.0.1:8080".into(),
        boot: "boot".into(),
        pid: 1,
        boots: 1,
        restoring: false,
        stopping: false,
        weight,
        rollout: own.then(rollout),
        grant_remaining_ms: own.then_some(4_200),
        on_expiry: Some(OnExpiry::Rollback),
        expired: (!own).then(|| platform::edge::ExpiredStatus {
            rollout: rollout(),
            weight: Weight::from_percent(10.0).unwrap(),
            at: at(1_000),
            cause: "the grant ran out".into(),
            requested: None,
        }),
        epoch: 1,
        revisions: Vec::new(),
        storage_problem: None,
        front_problem: None,
    }
}

/// A person takes it back.
pub(super) fn requested() -> Event {
    let cause = RollbackCause::Requested { by: "ana@example.com".into(), reason: HOSTILE.into() };
    Event::RollbackRequested { rollout: rollout(), cause }
}
