//! A person wants the release back: by Ctrl-C, by a record, at every point of the rollout.

use delivery::Event;
use delivery::effect::Effect;
use delivery::rollout::{RollbackCause, RolloutOutcome};
use rollout::driver::Wish;
use tokio::sync::watch;

use crate::bench::{Bench, Other, POLLS_MAX, plan, polls};
use crate::world::{Call, Fault};

fn promotion_unreachable_for(bench: &Bench, tries: u32) {
    let mut left = tries;
    bench.script(move |call, _, _| match call {
        Call::Apply(command) if matches!(command.effect, Effect::Promote { .. }) && left > 0 => {
            left -= 1;
            Fault::Unreachable
        }
        _ => Fault::None,
    });
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_at_every_point_ends_the_rollout() {
    for tries in [0, 4] {
        for count in 1..POLLS_MAX {
            let bench = Bench::new(plan());
            promotion_unreachable_for(&bench, tries);
            let (sender, wish) = watch::channel(Wish::Continue);
            let mut driving = Box::pin(bench.drive(wish));
            if polls(&mut driving, count).await.is_some() {
                break;
            }
            sender.send_replace(Wish::TakeBack { by: "ana".into() });
            let outcome = polls(&mut driving, 2_000).await.expect("it spins or never ends").unwrap();
            bench.audit();
            let (records, promoted) = (bench.records().len(), outcome == RolloutOutcome::Completed);
            assert!(records < 200, "{records} records after an interrupt at poll {count}");
            assert_eq!(promoted, bench.target().stable != bench.plan.stable);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_recorded_wish_at_every_point_ends_the_rollout() {
    for tries in [0, 4] {
        for count in 1..POLLS_MAX {
            let bench = Bench::new(plan());
            promotion_unreachable_for(&bench, tries);
            let (_sender, wish) = watch::channel(Wish::Continue);
            let mut driving = Box::pin(bench.drive(wish));
            if polls(&mut driving, count).await.is_some() {
                break;
            }
            bench.other().ask_back();
            let outcome = polls(&mut driving, 2_000).await.expect("it spins or never ends").unwrap();
            bench.audit();
            if outcome == RolloutOutcome::RolledBack {
                assert!(matches!(bench.cause(), Some(RollbackCause::Requested { .. })));
            } else {
                assert_ne!(bench.target().stable, bench.plan.stable);
            }
        }
    }
}

/// The platform does not answer the promotion a few times; a person does something meanwhile.
fn during_promotion(bench: &Bench, last: Fault, action: impl FnOnce(&Other) + Send + 'static) {
    let (other, mut action, mut tries) = (bench.other(), Some(action), 0);
    let mut last = Some(last);
    bench.script(move |call, _, _| match call {
        Call::Apply(command) if matches!(command.effect, Effect::Promote { .. }) => {
            tries += 1;
            if let Some(action) = action.take_if(|_| tries == 3) {
                action(&other);
            }
            if tries < 6 { Fault::Unreachable } else { last.take().unwrap_or(Fault::None) }
        }
        _ => Fault::None,
    });
}

/// A request that was decided on an older state than the ledger's: it comes too late, and must leave nothing behind.
#[tokio::test(start_paused = true)]
async fn a_wish_that_comes_too_late_leaves_no_open_incident() {
    let bench = Bench::new(plan());
    during_promotion(&bench, Fault::None, |other| {
        let cause = RollbackCause::Requested { by: "ana".into(), reason: "test".into() };
        other.append(Event::RollbackRequested { rollout: other.id.clone(), cause });
        other.append(Event::IncidentDetected {
            incident: other.id.to_string(),
            service: other.rollout().plan.revision.service,
            environment: other.rollout().plan.environment.name,
            rollout: Some(other.id.clone()),
            summary: "taken back".into(),
        });
    });
    assert_eq!(bench.finish().await, RolloutOutcome::Completed);
    bench.audit();
}

/// Too late is said at once, instead of recording a wish that has no effect.
#[tokio::test(start_paused = true)]
async fn a_wish_during_a_promotion_is_known_to_have_no_effect() {
    let bench = Bench::new(plan());
    during_promotion(&bench, Fault::None, |other| {
        assert!(!other.rollout().withdrawable());
        assert_eq!(other.wish(), Vec::new());
    });
    assert_eq!(bench.finish().await, RolloutOutcome::Completed);
    bench.audit();
}

#[tokio::test(start_paused = true)]
async fn a_promotion_that_is_refused_takes_the_release_back() {
    let bench = Bench::new(plan());
    during_promotion(&bench, Fault::Refuse("no".into()), Other::ask_back);
    assert_eq!(bench.finish().await, RolloutOutcome::RolledBack);
    bench.audit();
}

#[tokio::test(start_paused = true)]
async fn nobody_left_to_interrupt_is_no_reason_to_spin() {
    let bench = Bench::new(plan());
    bench.target().rate = 0.0;
    let (sender, wish) = watch::channel(Wish::Continue);
    drop(sender);
    let mut driving = Box::pin(bench.drive(wish));
    let outcome = polls(&mut driving, 1_000).await.expect("it spins").unwrap();
    assert_eq!(outcome, RolloutOutcome::RolledBack);
}
