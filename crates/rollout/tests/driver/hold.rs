//! Waiting for people, and evidence that has grown old.

use std::time::Duration;

use delivery::clock::Clock as _;
use delivery::evidence::Finding;
use delivery::rollout::{RollbackCause, RolloutOutcome, RolloutPlan};
use delivery::strategy::{OnExpiry, OnInconclusive};
use delivery::{Actor, Event};
use rollout::driver::Wish;
use tokio::sync::watch;

use crate::bench::{Bench, pass, plan, polls, weight};

/// No traffic, and a person decides after the deadline of 4 s, within 8 s.
fn held() -> RolloutPlan {
    let mut plan = plan();
    plan.environment.strategy.on_inconclusive = OnInconclusive::Hold;
    plan
}

fn resume(bench: &Bench, actor: Actor, after: Duration) {
    bench.after_exposure(after, move |other, _| {
        let (rollout, reason) = (other.id.clone(), "test".into());
        other.append_as(&actor, Event::RolloutResumed { rollout, step: 0, reason });
    });
}

fn ana() -> Actor {
    Actor::Human("ana@example.com".into())
}

fn raised_to(bench: &Bench, percent: f64) -> bool {
    bench.target().weights.iter().any(|(_, at)| *at == weight(percent))
}

#[tokio::test(start_paused = true)]
async fn a_held_rollout_goes_on_when_a_person_says_so() {
    let bench = Bench::new(held());
    bench.target().rate = 0.0;
    resume(&bench, ana(), Duration::from_secs(6));
    bench.finish().await;
    assert!(raised_to(&bench, 50.0), "the person's word counts for its step");
    // Nobody resumed the second step, so it was taken back there.
    assert_eq!(bench.rollout().outcome, Some(RolloutOutcome::RolledBack));
    bench.audit();
}

#[tokio::test(start_paused = true)]
async fn a_held_rollout_is_taken_back_when_nobody_decides() {
    let bench = Bench::new(held());
    bench.target().rate = 0.0;
    let began = tokio::time::Instant::now();
    assert_eq!(bench.finish().await, RolloutOutcome::RolledBack);
    assert!(began.elapsed() >= Duration::from_secs(8));
    assert!(!raised_to(&bench, 50.0));
    bench.audit();
}

/// Nobody may wave a step through that is not held: the canary would go unwatched, and rise without evidence.
#[tokio::test(start_paused = true)]
async fn only_a_held_rollout_can_be_resumed() {
    for (plan, after) in [(held(), 1), (plan(), 1), (plan(), 3)] {
        let bench = Bench::new(plan);
        bench.target().rate = 0.0;
        resume(&bench, ana(), Duration::from_secs(after));
        let outcome = bench.finish().await;
        assert_eq!(outcome, RolloutOutcome::RolledBack);
        assert!(!raised_to(&bench, 50.0));
        bench.audit();
    }
}

/// Nobody measures the stay at a step without analysis, so it is the controller's own clock that counts.
#[tokio::test(start_paused = true)]
async fn a_record_from_a_clock_that_is_ahead_does_not_shorten_a_stay() {
    let mut plan = plan();
    let steps = &mut plan.environment.strategy.steps;
    steps.iter_mut().for_each(|step| (step.hold_ms, step.analyse) = (2_000, false));
    let bench = Bench::new(plan);
    bench.after_exposure(Duration::from_millis(600), |other, _| {
        let ahead = other.clock.now().saturating_add(Duration::from_hours(8_766)).unwrap();
        let resolved = vec![Event::IncidentResolved { incident: "elsewhere".into() }];
        other.ledger.append_blocking(&ana(), ahead, resolved).unwrap();
    });
    assert_eq!(bench.finish().await, RolloutOutcome::Completed);
    let target = bench.target();
    for pair in target.weights.windows(2) {
        let stayed = pair[1].0 - pair[0].0;
        assert!(stayed >= Duration::from_secs(2), "{} lasted {stayed:?}", pair[0].1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_can_not_resume_a_held_rollout() {
    let bench = Bench::new(held());
    bench.target().rate = 0.0;
    let machine = Actor::Machine("robot".into());
    resume(&bench, machine, Duration::from_secs(6));
    bench.finish().await;
    assert!(!raised_to(&bench, 50.0));
    bench.audit();
}

/// The controller dies after a passing verdict; the canary turns bad; the next controller must not go by the old verdict.
#[tokio::test(start_paused = true)]
async fn an_old_verdict_does_not_promote() {
    for on_expiry in [OnExpiry::Rollback, OnExpiry::Hold] {
        let mut plan = plan();
        let strategy = &mut plan.environment.strategy;
        strategy.on_expiry = on_expiry;
        strategy.grant_ttl_ms = 60_000;
        strategy.steps.iter_mut().for_each(|step| (step.hold_ms, step.deadline_ms) = (20_000, 120_000));
        let bench = Bench::new(plan);
        let (_sender, wish) = watch::channel(Wish::Continue);
        let mut first = Box::pin(bench.drive(wish));
        let safe = |bench: &Bench| {
            bench.rollout().verdict().is_some_and(|look| look.evidence.finding == Finding::Safe)
        };
        while !safe(&bench) {
            assert!(polls(&mut first, 5).await.is_none());
        }
        drop(first);
        bench.target().canary_errors = 0.3;
        pass(Duration::from_secs(40)).await;
        assert_eq!(bench.finish().await, RolloutOutcome::RolledBack);
        assert!(!raised_to(&bench, 50.0), "raised on a verdict that was 40 s old");
        assert!(matches!(bench.cause(), Some(RollbackCause::Harm { .. })), "{:?}", bench.cause());
        bench.audit();
    }
}
