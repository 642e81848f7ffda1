//! The controller dies at every point where it can: after each poll of its future that left it waiting.

use delivery::Event;
use delivery::clock::CountingSeed;
use delivery::effect::Outcome;
use delivery::rollout::{RollbackCause, RolloutOutcome, RolloutPlan};
use rollout::driver::{DriveError, Wish};
use std::time::Duration;
use tokio::sync::watch;

use crate::bench::{Bench, POLLS_MAX, pass, plan, plan_of, polls};
use crate::world::{Call, Fault};

/// Runs to the n-th poll, dies, lets `gap` pass, goes on with a new controller; for every n until it ends before it dies.
async fn die_everywhere(
    plan: &RolloutPlan,
    prepare: fn(&Bench),
    gap: Duration,
    check: fn(&Bench, RolloutOutcome),
) -> usize {
    for count in 1..POLLS_MAX {
        let bench = Bench::new(plan.clone());
        prepare(&bench);
        let (_sender, wish) = watch::channel(Wish::Continue);
        let mut first = Box::pin(bench.drive(wish));
        let ended = polls(&mut first, count).await;
        drop(first);
        bench.audit();
        if let Some(outcome) = ended {
            check(&bench, outcome.unwrap());
            return count;
        }
        pass(gap).await;
        let outcome = bench.finish().await;
        bench.audit();
        check(&bench, outcome);
    }
    panic!("it never ends");
}

fn is(wanted: RolloutOutcome, outcome: RolloutOutcome, bench: &Bench) {
    assert_eq!(outcome, wanted, "{:?}", bench.cause());
}

#[tokio::test(start_paused = true)]
async fn a_good_release_arrives_wherever_its_controller_dies() {
    let deaths = die_everywhere(
        &plan(),
        |_| {},
        Duration::ZERO,
        |bench, outcome| {
            is(RolloutOutcome::Completed, outcome, bench);
        },
    )
    .await;
    eprintln!("{deaths} deaths");
    assert!(deaths > 40, "the rollout was not gone through: {deaths}");
}

#[tokio::test(start_paused = true)]
async fn a_bad_release_is_taken_back_wherever_its_controller_dies() {
    let bad = |bench: &Bench| bench.target().canary_errors = 0.2;
    let deaths = die_everywhere(&plan(), bad, Duration::ZERO, |bench, outcome| {
        is(RolloutOutcome::RolledBack, outcome, bench);
        assert!(matches!(bench.cause(), Some(RollbackCause::Harm { .. })), "{:?}", bench.cause());
    })
    .await;
    eprintln!("{deaths} deaths");
}

#[tokio::test(start_paused = true)]
async fn silence_is_taken_back_wherever_its_controller_dies() {
    let silent = |bench: &Bench| bench.target().rate = 0.0;
    let deaths = die_everywhere(&plan(), silent, Duration::ZERO, |bench, outcome| {
        is(RolloutOutcome::RolledBack, outcome, bench);
        assert!(matches!(bench.cause(), Some(RollbackCause::Inconclusive { .. })), "{:?}", bench.cause());
    })
    .await;
    eprintln!("{deaths} deaths");
}

#[tokio::test(start_paused = true)]
async fn lost_answers_change_nothing_wherever_the_controller_dies() {
    let lossy = |bench: &Bench| {
        let (mut applied, mut others) = (0, 0);
        bench.script(move |call, _, _| {
            let count = if matches!(call, Call::Apply(_)) { &mut applied } else { &mut others };
            *count += 1;
            match call {
                Call::Apply(_) if applied % 2 == 1 => Fault::Lost,
                Call::Sample | Call::Renew if others % 3 == 1 => Fault::Unreachable,
                _ => Fault::None,
            }
        });
    };
    let deaths = die_everywhere(&plan(), lossy, Duration::ZERO, |bench, outcome| {
        is(RolloutOutcome::Completed, outcome, bench);
    })
    .await;
    eprintln!("{deaths} deaths");
}

#[tokio::test(start_paused = true)]
async fn a_first_deployment_ends_wherever_its_controller_dies() {
    let first = plan_of("shop", true, &mut CountingSeed::default());
    die_everywhere(
        &first,
        |_| {},
        Duration::ZERO,
        |bench, outcome| {
            is(RolloutOutcome::Completed, outcome, bench);
        },
    )
    .await;
    let broken = |bench: &Bench| {
        bench.script(|call, _, _| match call {
            Call::Apply(command) if command.sequence == 1 => Fault::Refuse("it crashed".into()),
            _ => Fault::None,
        });
    };
    die_everywhere(&first, broken, Duration::ZERO, |bench, outcome| {
        is(RolloutOutcome::RolledBack, outcome, bench);
        assert!(bench.target().weights.is_empty(), "it never had traffic");
        let state = bench.state();
        let slot = state.slot(&bench.plan.revision.service, &bench.plan.environment.name).unwrap();
        assert_eq!((&slot.current, &slot.stable), (&None, &None));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nobody_comes_for_longer_than_the_grant() {
    let deaths = die_everywhere(
        &plan(),
        |_| {},
        Duration::from_secs(10),
        |bench, outcome| {
            let rollout = bench.rollout();
            if outcome == RolloutOutcome::RolledBack {
                let expected = matches!(
                    rollout.cause,
                    Some(RollbackCause::GrantExpired | RollbackCause::PlatformRefused { .. })
                );
                assert!(expected, "{:?}", rollout.cause);
            }
        },
    )
    .await;
    eprintln!("{deaths} deaths");
}

#[tokio::test(start_paused = true)]
async fn controllers_die_again_and_again() {
    // A small generator is enough: 60 histories of up to 40 deaths, each after 1 to 25 polls.
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for round in 0..60 {
        let bench = Bench::new(plan());
        bench.target().canary_errors = [0.0, 0.2][round % 2];
        for _ in 0..40 {
            let (_sender, wish) = watch::channel(Wish::Continue);
            let mut driving = Box::pin(bench.drive(wish));
            if polls(&mut driving, 1 + next(25) as usize).await.is_some() {
                break;
            }
            drop(driving);
            bench.audit();
        }
        bench.finish().await;
        bench.audit();
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_slept_through_a_takeover_does_nothing() {
    for count in 1..POLLS_MAX {
        let bench = Bench::new(plan());
        let (_sender, wish) = watch::channel(Wish::Continue);
        let mut sleeper = Box::pin(bench.drive(wish));
        if polls(&mut sleeper, count).await.is_some() {
            return;
        }
        bench.finish().await;
        let effects = bench.target().history.len();
        match polls(&mut sleeper, POLLS_MAX).await.expect("it ends") {
            Ok(_) | Err(DriveError::Fenced { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
        assert_eq!(bench.target().history.len(), effects, "it did something after poll {count}");
        bench.audit();
    }
}

#[tokio::test(start_paused = true)]
async fn two_controllers_at_once_do_not_get_in_each_others_way() {
    for count in (1..150).step_by(3) {
        let bench = Bench::new(plan());
        let (_sender, wish) = watch::channel(Wish::Continue);
        let mut first = Box::pin(bench.drive(wish.clone()));
        if polls(&mut first, count).await.is_some() {
            return;
        }
        let (one, other) = tokio::join!(first, bench.drive(wish));
        assert!(one.is_ok() || other.is_ok(), "{one:?} {other:?}");
        assert_eq!(bench.rollout().outcome, Some(RolloutOutcome::Completed));
        bench.audit();
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_was_overtaken_while_it_stood_still_records_nothing_more() {
    for number in 1..=4 {
        let bench = Bench::new(plan());
        let other = bench.other();
        let mut overtaken = false;
        // The answer to an effect comes so late that another controller has asked for it again, and recorded it.
        bench.script(move |call, _, _| {
            if let Call::Apply(command) = call
                && command.sequence == number
                && !std::mem::replace(&mut overtaken, true)
            {
                let (rollout, sequence) = (command.rollout.clone(), command.sequence);
                let holder = "another".into();
                other.append(Event::RolloutAcquired { rollout: rollout.clone(), epoch: 9, holder });
                let outcome = Outcome::Applied { detail: "done".into() };
                other.append(Event::EffectFinished { rollout, sequence, outcome });
            }
            Fault::None
        });
        let (_sender, wish) = watch::channel(Wish::Continue);
        let end = bench.drive(wish).await;
        assert!(matches!(end, Err(DriveError::Fenced { epoch: 9 })), "{end:?}");
        let finished = |record: &&delivery::Recorded| matches!(record.event, Event::EffectFinished { sequence, .. } if sequence == number);
        let records = bench.records();
        assert_eq!(records.iter().filter(finished).count(), 1, "effect {number}");
        let last = &records.last().unwrap().event;
        assert!(matches!(last, Event::EffectFinished { .. }), "nothing comes after: {last:?}");
    }
}
