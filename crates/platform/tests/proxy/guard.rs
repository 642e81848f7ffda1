//! The dead man's switch with the real clock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use delivery::RolloutId;
use delivery::strategy::OnExpiry;
use delivery::traffic::Weight;
use platform::grant::{Grant, GrantError};
use platform::proxy::{Guard, GuardError, ProxyLimits, Splitter};

use crate::world::{both, nobody, percent};

fn grant(on_expiry: OnExpiry) -> Grant {
    Grant {
        rollout: RolloutId::new("ro-00000001").unwrap(),
        epoch: 3,
        ceiling: percent(10.0),
        ttl: Duration::from_millis(150),
        on_expiry,
    }
}

async fn guard() -> Guard {
    let splitter = Splitter::new("boot".into(), ProxyLimits::default());
    splitter.set_routes(both(nobody().await, nobody().await, 0.0));
    Guard::new(splitter)
}

#[tokio::test]
async fn an_unrenewed_weight_falls_by_itself_and_the_controller_learns_of_it() {
    let guard = guard().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let watcher = (guard.clone(), Arc::clone(&told));
    let watch = tokio::spawn(async move {
        watcher.0.watch(|expiry| watcher.1.lock().unwrap().push(expiry)).await;
    });
    guard.set_weight(grant(OnExpiry::Rollback), percent(5.0)).unwrap();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        guard.renew(&grant(OnExpiry::Rollback).rollout, 3).unwrap();
        assert_eq!(guard.splitter().weight(), percent(5.0));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(guard.splitter().weight(), Weight::ZERO);
    assert_eq!(told.lock().unwrap().len(), 1);
    let expired = GrantError::Expired { rollout: grant(OnExpiry::Rollback).rollout };
    assert_eq!(guard.renew(&grant(OnExpiry::Rollback).rollout, 3), Err(expired.clone()));
    let again = guard.set_weight(grant(OnExpiry::Rollback), percent(5.0));
    assert_eq!(again, Err(GuardError::Grant(expired)));
    watch.abort();
}

#[tokio::test]
async fn a_weight_that_must_be_held_is_held() {
    let guard = guard().await;
    guard.set_weight(grant(OnExpiry::Hold), percent(5.0)).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(guard.expire(platform::proxy::boottime()).is_some());
    assert_eq!(guard.splitter().weight(), percent(5.0));
    assert!(guard.ended().is_some());
}

#[tokio::test]
async fn zero_needs_no_grant_but_its_epoch_must_not_be_lower() {
    let guard = guard().await;
    guard.set_weight(grant(OnExpiry::Rollback), percent(5.0)).unwrap();
    let stale = Grant { epoch: 2, ..grant(OnExpiry::Rollback) };
    assert!(guard.set_weight(stale, Weight::ZERO).is_err());
    assert_eq!(guard.splitter().weight(), percent(5.0));
    guard.set_weight(grant(OnExpiry::Rollback), Weight::ZERO).unwrap();
    assert_eq!(guard.splitter().weight(), Weight::ZERO);
    assert_eq!(guard.remaining(), None);
    let above = guard.set_weight(grant(OnExpiry::Rollback), percent(50.0));
    assert_eq!(above, Err(GuardError::Ceiling { weight: percent(50.0), ceiling: percent(10.0) }));
}
