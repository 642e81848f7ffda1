use delivery::clock::CountingSeed;
use delivery::effect::{Outcome, Readiness, RevisionSpec};
use delivery::environment::{ApprovalRule, Environment};
use delivery::evidence::Evidence;
use delivery::rollout::RollbackCause;
use delivery::strategy::{AnalysisPolicy, OnExpiry, OnInconclusive, Step, Sticky, Strategy, StrategyKind};
use delivery::{Digest, EnvironmentName, ReleaseId, RevisionId, RolloutId, ServiceName};

use super::*;

fn plan() -> RolloutPlan {
    let mut seed = CountingSeed::default();
    let id = RolloutId::mint(&mut seed);
    let step = |percent: f64| Step {
        weight: Weight::from_percent(percent).unwrap(),
        hold_ms: 0,
        deadline_ms: 0,
        analyse: true,
    };
    RolloutPlan {
        parent: None,
        release: ReleaseId::mint(&mut seed),
        version: "1.0.0".into(),
        stable: Some(RevisionId::mint(&mut seed)),
        reverts: None,
        policy: Digest::of(b"policy"),
        revision: RevisionSpec {
            id: RevisionId::of_rollout(&id),
            service: ServiceName::new("shop").unwrap(),
            digest: Digest::of(b"artifact"),
            directory: "/nowhere".into(),
            command: vec!["shop".into()],
            environment: BTreeMap::new(),
            pass: Vec::new(),
            ready: Readiness { path: None, within_ms: 1_000 },
            instances: 1,
            stop_ms: 1_000,
        },
        environment: Environment {
            name: EnvironmentName::new("production").unwrap(),
            listen: "127.0.0.1:0".into(),
            strategy: Strategy {
                kind: StrategyKind::Canary,
                steps: vec![step(10.0), step(50.0)],
                analysis: AnalysisPolicy::default(),
                on_inconclusive: OnInconclusive::Rollback,
                on_expiry: OnExpiry::Rollback,
                grant_ttl_ms: 5_000,
                sticky: Sticky::None,
                drain_ms: 0,
            },
            gates: Vec::new(),
            approval: ApprovalRule::default(),
            freezes: Vec::new(),
            kpis: Vec::new(),
            rollback_objective_ms: 900_000,
        },
        id,
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds as i64).unwrap()
}

/// A ledger and a journal, made line by line.
#[derive(Default)]
struct World {
    records: Vec<Record>,
    journal: Vec<Entry>,
    sequence: u32,
}

impl World {
    fn planned() -> Self {
        let mut world = Self::default();
        world.record(Event::RolloutPlanned { plan: Box::new(plan()) });
        world
    }

    fn record(&mut self, event: Event) {
        let sequence = self.records.len() as u64 + 1;
        self.records.push(Record { sequence, at: at(sequence), event });
    }

    fn request(&mut self, effect: Effect) {
        self.sequence += 1;
        let command = Command { rollout: plan().id, sequence: self.sequence, epoch: 1, effect };
        self.record(Event::EffectRequested { command });
    }

    fn done(&mut self, effect: &str, weight: u16) {
        let number = self.journal.len() as u64 + 1;
        self.journal.push(Entry {
            number,
            at: at(self.records.len() as u64),
            took: Duration::ZERO,
            effect: effect.into(),
            rollout: Some(plan().id.to_string()),
            sequence: (effect != "expire").then_some(self.sequence),
            epoch: Some(1),
            weight,
        });
        if effect != "expire" {
            let outcome = Outcome::Applied { detail: "done".into() };
            self.record(Event::EffectFinished { rollout: plan().id, sequence: self.sequence, outcome });
        }
    }

    fn weight(&mut self, points: u16) {
        self.request(Effect::SetWeight {
            revision: plan().revision.id,
            weight: Weight::from_basis_points(points).unwrap(),
            ttl_ms: 5_000,
            on_expiry: OnExpiry::Rollback,
            sticky: Sticky::None,
        });
        self.done("set-weight", points);
    }

    fn promote(&mut self) {
        self.request(Effect::Promote { revision: plan().revision.id });
        self.done("promote", 0);
    }

    fn judged(&mut self, step: u32, finding: Finding) {
        let evidence = Evidence {
            finding,
            log_e_harm: 0.0,
            log_e_safe: 0.0,
            signal: "errors".into(),
            ratio_low: None,
            ratio_high: None,
            canary_requests: 10,
            canary_errors: 0,
            stable_requests: 90,
            stable_errors: 0,
            slower: None,
            digest: plan().revision.digest,
        };
        let looked_at = at(self.records.len() as u64 + 1);
        self.record(Event::RolloutJudged { rollout: plan().id, step, looked_at, sample: None, evidence });
    }

    fn finish(&mut self, outcome: RolloutOutcome) {
        self.record(Event::RolloutFinished { rollout: plan().id, outcome });
    }

    fn faults(&self) -> Faults {
        examine((0, &self.records), (0, &self.journal), &BTreeMap::new())
    }
}

/// A rollout as it should be.
fn good() -> World {
    let mut world = World::planned();
    world.weight(1_000);
    world.judged(0, Finding::Safe);
    world.weight(5_000);
    world.judged(1, Finding::Safe);
    world.promote();
    world.finish(RolloutOutcome::Completed);
    world
}

#[test]
fn good_rollouts_have_no_fault() {
    assert_eq!(good().faults(), Faults::default());
    let mut back = World::planned();
    back.weight(1_000);
    back.judged(0, Finding::Harm);
    back.record(Event::RollbackRequested { rollout: plan().id, cause: RollbackCause::GrantExpired });
    back.weight(0);
    back.finish(RolloutOutcome::RolledBack);
    assert_eq!(back.faults(), Faults::default());
}

#[test]
fn what_is_missing_is_lost() {
    let mut gap = good();
    gap.records.remove(2);
    assert_eq!(gap.faults().lost[0], "record 3 is missing; 4 follows");
    let mut unrecorded = good();
    unrecorded.sequence = 77;
    unrecorded.done("set-weight", 0);
    assert!(unrecorded.faults().lost.iter().any(|fault| fault.contains("no request is recorded")));
    let mut early = good();
    early.journal[0].at = at(0);
    assert!(early.faults().lost.iter().any(|fault| fault.contains("before it was recorded")));
}

#[test]
fn what_happens_twice_is_a_duplicate() {
    let mut twice = good();
    twice.sequence = 2;
    twice.done("set-weight", 5_000);
    let faults = twice.faults();
    assert!(faults.duplicate.iter().any(|fault| fault.contains("applied twice")), "{faults:?}");
    assert!(faults.duplicate.iter().any(|fault| fault.contains("finished twice")), "{faults:?}");
    let mut ended = good();
    ended.finish(RolloutOutcome::Completed);
    assert_eq!(ended.faults().duplicate.len(), 1);
}

#[test]
fn what_does_not_end_is_stuck() {
    let mut world = good();
    world.records.pop();
    assert_eq!(world.faults().stuck.len(), 1);
}

#[test]
fn weight_without_a_verdict_or_against_the_plan_is_above_it() {
    let mut hasty = World::planned();
    hasty.weight(1_000);
    hasty.judged(0, Finding::Continue);
    hasty.weight(5_000);
    hasty.judged(0, Finding::Safe);
    hasty.promote();
    hasty.finish(RolloutOutcome::Completed);
    assert_eq!(hasty.faults().above.len(), 2, "{:?}", hasty.faults());
    let mut bold = World::planned();
    bold.weight(5_000);
    bold.weight(0);
    bold.finish(RolloutOutcome::RolledBack);
    assert_eq!(bold.faults().above.len(), 1, "{:?}", bold.faults());
    let mut stubborn = World::planned();
    stubborn.weight(1_000);
    stubborn.done("expire", 0);
    stubborn.weight(5_000);
    stubborn.finish(RolloutOutcome::RolledBack);
    assert!(stubborn.faults().above.len() >= 3, "{:?}", stubborn.faults());
}

#[test]
fn observed_weight_is_compared_with_what_was_asked_for() {
    let world = good();
    let judge = |id: &str, weight: u16| {
        examine((0, &world.records), (0, &world.journal), &BTreeMap::from([(id.to_owned(), weight)]))
    };
    assert_eq!(judge(plan().id.as_str(), 5_000), Faults::default());
    assert_eq!(judge(plan().id.as_str(), 10_001).above.len(), 1);
    assert_eq!(judge("ro-unknown", 1).lost.len(), 1);
}
