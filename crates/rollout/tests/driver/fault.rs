//! The platform, the ledger or the clock fails; nobody dies.

use std::time::Duration;

use delivery::clock::{Clock as _, CountingSeed};
use delivery::effect::Effect;
use delivery::rollout::{RollbackCause, RolloutOutcome};
use delivery::traffic::Weight;
use delivery::{Actor, Event, RunId};
use rollout::driver::{DriveError, Wish};
use tokio::sync::watch;

use crate::bench::{Bench, POLLS_MAX, break_ledger, mend_ledger, plan, plan_of, polls};
use crate::world::{Call, Fault};

#[tokio::test(start_paused = true)]
async fn a_platform_that_comes_and_goes_is_waited_for() {
    for from in 1..40 {
        let bench = Bench::new(plan());
        bench.script(
            move |_, number, _| {
                if (from..from + 6).contains(&number) { Fault::Unreachable } else { Fault::None }
            },
        );
        bench.finish().await;
        bench.audit();
    }
}

#[tokio::test(start_paused = true)]
async fn a_platform_that_refuses_ends_the_rollout() {
    for sequence in 1..=6 {
        let bench = Bench::new(plan());
        bench.script(move |call, _, _| match call {
            Call::Apply(command) if command.sequence == sequence => Fault::Refuse("no".into()),
            _ => Fault::None,
        });
        let outcome = bench.finish().await;
        bench.audit();
        // The fifth is to retire the former revision: the new one serves by then.
        let wanted = if sequence < 5 { RolloutOutcome::RolledBack } else { RolloutOutcome::Completed };
        assert_eq!(outcome, wanted, "refused {sequence}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_any_length_can_be_recorded() {
    for sequence in 1..=4 {
        let bench = Bench::new(plan());
        bench.script(move |call, _, _| match call {
            Call::Apply(command) if command.sequence == sequence => Fault::Refuse("\u{e9}\n".repeat(60_000)),
            _ => Fault::None,
        });
        assert_eq!(bench.finish().await, RolloutOutcome::RolledBack);
        bench.audit();
    }
}

#[tokio::test(start_paused = true)]
async fn the_kill_switch_behind_the_drivers_back_ends_the_rollout() {
    let mut taken_back = 0;
    for wait in (0..3_000).step_by(50) {
        let bench = Bench::new(plan());
        bench.after_exposure(Duration::from_millis(wait), |_, target| target.lower());
        let outcome = bench.finish().await;
        bench.audit();
        let target = bench.target();
        if outcome == RolloutOutcome::RolledBack {
            taken_back += 1;
            let exposed = target.weights.iter().rposition(|(_, weight)| *weight > Weight::ZERO).unwrap();
            assert!(target.weights[exposed + 1..].iter().all(|(_, weight)| *weight == Weight::ZERO));
            assert!(target.lowered == 1);
        }
    }
    assert!(taken_back > 15, "{taken_back}");
}

#[tokio::test(start_paused = true)]
async fn a_platform_that_restarts_during_a_canary_ends_the_rollout() {
    for number in 3..30 {
        let bench = Bench::new(plan());
        bench.script(move |_, at, target| {
            if at == number && target.weight > Weight::ZERO {
                target.reboot();
            }
            Fault::None
        });
        bench.finish().await;
        bench.audit();
    }
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_fails_takes_the_traffic_back_at_every_point() {
    let mut broken = 0;
    for count in 1..POLLS_MAX {
        let bench = Bench::new(plan());
        let (_sender, wish) = watch::channel(Wish::Continue);
        let mut driving = Box::pin(bench.drive(wish));
        if polls(&mut driving, count).await.is_some() {
            break;
        }
        let path = bench.ledger.path();
        break_ledger(path);
        let end = polls(&mut driving, POLLS_MAX).await.expect("it ends");
        drop(driving);
        match end {
            Err(DriveError::Ledger(_)) => {
                broken += 1;
                assert_eq!(bench.target().weight, Weight::ZERO, "failed after poll {count}");
                assert_eq!(bench.target().lowered, 1);
            }
            other => panic!("{other:?} after poll {count}"),
        }
        mend_ledger(path);
        let outcome = bench.finish().await;
        bench.audit();
        let exposed = bench.target().weights.iter().any(|(_, weight)| *weight > Weight::ZERO);
        let promoted = bench.target().stable != bench.plan.stable;
        if exposed && !promoted {
            assert_eq!(outcome, RolloutOutcome::RolledBack, "failed after poll {count}");
        }
    }
    assert!(broken > 40, "{broken}");
}

#[tokio::test(start_paused = true)]
async fn a_record_from_the_future_neither_stops_the_watch_nor_decides() {
    for bad in [true, false] {
        let bench = Bench::new(plan());
        bench.after_exposure(Duration::from_millis(300), move |other, target| {
            // Another process, whose clock is an hour ahead, records something.
            let later = other.clock.now().saturating_add(Duration::from_hours(1)).unwrap();
            let event = Event::IncidentResolved { incident: "unrelated".into() };
            other.ledger.append_blocking(&Actor::Machine("other".into()), later, vec![event]).unwrap();
            target.canary_errors = if bad { 0.3 } else { 0.0 };
        });
        let began = tokio::time::Instant::now();
        let outcome = bench.finish().await;
        assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
        if bad {
            assert!(matches!(bench.cause(), Some(RollbackCause::Harm { .. })), "{:?}", bench.cause());
        } else {
            assert_eq!(outcome, RolloutOutcome::Completed, "{:?}", bench.cause());
            // The hour does not count as a step's shortest stay.
            assert!(began.elapsed() >= Duration::from_millis(1_200), "it took {:?}", began.elapsed());
        }
        bench.audit();
    }
}

/// A controller dies, and the record of the command that it had asked for last is damaged before the next one starts.
#[tokio::test(start_paused = true)]
async fn a_damaged_command_is_never_answered_for_another_one() {
    let mut damaged = 0;
    for count in 1..POLLS_MAX {
        let bench = Bench::new(plan());
        let (_sender, wish) = watch::channel(Wish::Continue);
        let mut driving = Box::pin(bench.drive(wish));
        if polls(&mut driving, count).await.is_some() {
            break;
        }
        drop(driving);
        let records = bench.records();
        let asked = |event: &Event| matches!(event, Event::EffectRequested { .. });
        let Some(last) = records.iter().rev().find(|recorded| asked(&recorded.event)) else { continue };
        let connection = rusqlite::Connection::open(bench.ledger.path()).unwrap();
        let body = "UPDATE record SET body = x'00' WHERE sequence = ?1";
        connection.execute(body, [last.sequence as i64]).unwrap();
        damaged += 1;
        let outcome = bench.finish().await;
        let target = bench.target();
        let promoted = target.stable != bench.plan.stable;
        if outcome == RolloutOutcome::RolledBack && !promoted {
            assert_eq!(target.weight, Weight::ZERO, "damaged {} after poll {count}", last.sequence);
        }
    }
    assert!(damaged > 40, "{damaged}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_an_hour_ahead_does_not_stop_a_later_controller() {
    let bench = Bench::new(plan());
    let later = bench.clock.now().saturating_add(Duration::from_hours(1)).unwrap();
    let event = Event::IncidentResolved { incident: "unrelated".into() };
    bench.ledger.append_blocking(&Actor::Machine("other".into()), later, vec![event]).unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(bench.finish().await, RolloutOutcome::Completed);
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_busy_ledger_does_not_starve_a_rollout() {
    let bench = Bench::new(plan());
    bench.target().canary_errors = 0.3;
    let (stop, stopped) = watch::channel(false);
    let ledger = bench.ledger.clone();
    let clock = std::sync::Arc::clone(&bench.clock);
    let busy = tokio::spawn(async move {
        let mut appended = 0_u32;
        while !*stopped.borrow() {
            let event = Event::RunStarted {
                run: RunId::mint(&mut CountingSeed::default()),
                commit: None,
                dirty: false,
                tasks: Vec::new(),
            };
            ledger.append(&Actor::Machine("busy".into()), clock.now(), vec![event]).await.unwrap();
            appended += 1;
        }
        appended
    });
    assert_eq!(bench.finish().await, RolloutOutcome::RolledBack);
    stop.send_replace(true);
    let appended = busy.await.unwrap();
    eprintln!("{appended} records of others meanwhile");
    bench.audit();
}

#[tokio::test(start_paused = true)]
async fn two_services_share_a_ledger() {
    let mut seed = CountingSeed::default();
    let shop = Bench::new(plan_of("shop", false, &mut seed));
    let cart_plan = plan_of("cart", false, &mut seed);
    let cart = shop.beside(cart_plan);
    cart.target().canary_errors = 0.2;
    let (one, other) = tokio::join!(shop.finish(), cart.finish());
    assert_eq!((one, other), (RolloutOutcome::Completed, RolloutOutcome::RolledBack));
    shop.audit();
    let epochs: Vec<u64> = shop
        .records()
        .iter()
        .filter_map(|recorded| match recorded.event {
            Event::RolloutAcquired { epoch, .. } => Some(epoch),
            _ => None,
        })
        .collect();
    assert_eq!(epochs, [1, 2], "epochs are the ledger's, not a rollout's");
}

#[tokio::test(start_paused = true)]
async fn a_long_grant_is_renewed_well_before_the_platforms_own_limit() {
    let mut plan = plan();
    plan.environment.strategy.grant_ttl_ms = 24 * 3_600_000;
    let rollout = rollout::progress::Rollout::planned(plan, delivery::Timestamp::UNIX_EPOCH);
    assert!(rollout::planner::renewal_interval(&rollout) <= platform::grant::GRANT_TTL_MAX / 3);
}

#[tokio::test(start_paused = true)]
async fn a_raise_whose_answer_is_lost_is_not_left_on() {
    // Every answer to the first raise is lost, and a person takes the release back meanwhile.
    let bench = Bench::new(plan());
    let (other, mut lost) = (bench.other(), 0);
    bench.script(move |call, _, _| match call {
        Call::Apply(command) => match &command.effect {
            Effect::SetWeight { weight, .. } if *weight > Weight::ZERO => {
                lost += 1;
                if lost == 4 {
                    other.ask_back();
                }
                Fault::Lost
            }
            _ => Fault::None,
        },
        _ => Fault::None,
    });
    let outcome = bench.finish().await;
    assert_eq!(outcome, RolloutOutcome::RolledBack);
    assert!(!bench.target().weights.is_empty(), "it had traffic");
    assert!(matches!(bench.cause(), Some(RollbackCause::Requested { .. })));
    bench.audit();
}

/// A record that is damaged is left out of the fold. Whichever it is, a release that was being taken back is not raised again.
#[tokio::test(start_paused = true)]
async fn a_lost_record_never_raises_what_was_taken_back() {
    let bench = Bench::new(plan());
    bench.after_exposure(Duration::from_millis(700), |_, target| target.canary_errors = 0.3);
    assert_eq!(bench.finish().await, RolloutOutcome::RolledBack);
    let records = bench.records();
    let lowers = |event: &Event| {
        matches!(event, Event::EffectRequested { command } if matches!(
            &command.effect, Effect::SetWeight { weight, .. } if *weight == Weight::ZERO))
    };
    let lowered = records.iter().position(|recorded| lowers(&recorded.event)).unwrap();
    let mut looked_at = 0;
    for lost in 1..records.len() {
        let mut state = rollout::state::State::default();
        for (index, recorded) in records.iter().enumerate() {
            if index == lost {
                state.quarantine(recorded.sequence, "damaged".into());
                continue;
            }
            state.apply(recorded);
            if index < lowered.max(lost) || lost == lowered {
                continue;
            }
            let much_later = recorded.at.saturating_add(Duration::from_mins(1)).unwrap();
            for now in [recorded.at, much_later] {
                looked_at += 1;
                let next = rollout::planner::next(&state.rollouts[&bench.plan.id], now);
                let raises = matches!(&next, rollout::planner::Next::Apply { effect, .. } if match effect {
                    Effect::SetWeight { weight, .. } => *weight > Weight::ZERO,
                    Effect::Promote { .. } => true,
                    Effect::Start { .. } | Effect::Retire { .. } => false,
                });
                assert!(!raises, "without record {} ({}): {next:?}", lost + 1, records[lost].event.kind());
            }
        }
    }
    assert!(looked_at > 50, "{looked_at}");
}
