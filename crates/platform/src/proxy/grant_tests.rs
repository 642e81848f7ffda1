//! Tests of `grant`: a grant ends when it is not renewed, and never comes back.

use super::*;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn grant(rollout: &str, epoch: u64, on_expiry: OnExpiry) -> Grant {
    Grant {
        rollout: RolloutId::new(rollout).unwrap(),
        epoch,
        ceiling: Weight::from_percent(5.0).unwrap(),
        ttl: seconds(10),
        on_expiry,
    }
}

fn id(rollout: &str) -> RolloutId {
    RolloutId::new(rollout).unwrap()
}

const ONE: &str = "ro-00000001";
const TWO: &str = "ro-00000002";

#[test]
fn a_renewed_grant_holds_and_an_unrenewed_one_ends_once() {
    let mut grants = Grants::new();
    grants.give(seconds(100), grant(ONE, 1, OnExpiry::Rollback)).unwrap();
    assert_eq!(grants.expire(seconds(109)), None);
    assert_eq!(grants.renew(seconds(109), &id(ONE), 1), Ok(seconds(10)));
    assert_eq!(grants.expire(seconds(118)), None);
    let expiry = grants.expire(seconds(120)).unwrap();
    assert_eq!((expiry.at, expiry.on_expiry), (seconds(119), OnExpiry::Rollback));
    assert_eq!(grants.expire(seconds(121)), None);
    assert_eq!(grants.ceiling(), Weight::ZERO);
}

#[test]
fn a_late_renewal_is_refused_before_and_after_the_timer_fired() {
    let mut grants = Grants::new();
    grants.give(seconds(0), grant(ONE, 1, OnExpiry::Rollback)).unwrap();
    let expired = Err(GrantError::Expired { rollout: id(ONE) });
    assert_eq!(grants.renew(seconds(10), &id(ONE), 1), expired);
    assert!(grants.give(seconds(10), grant(ONE, 1, OnExpiry::Rollback)).is_err());
    assert!(grants.expire(seconds(10)).is_some(), "a refused renewal must not hide the expiry");
    assert_eq!(grants.renew(seconds(11), &id(ONE), 2), expired);
    assert!(grants.give(seconds(11), grant(ONE, 2, OnExpiry::Rollback)).is_err());
    assert!(grants.give(seconds(11), grant(TWO, 2, OnExpiry::Rollback)).is_ok());
}

#[test]
fn a_held_weight_can_be_granted_again_but_its_renewal_says_that_it_ran_out() {
    let mut grants = Grants::new();
    grants.give(seconds(0), grant(ONE, 1, OnExpiry::Hold)).unwrap();
    assert!(grants.expire(seconds(10)).is_some());
    assert_eq!(grants.renew(seconds(11), &id(ONE), 1), Err(GrantError::Expired { rollout: id(ONE) }));
    assert!(grants.give(seconds(11), grant(ONE, 1, OnExpiry::Hold)).is_ok());
    assert_eq!(grants.renew(seconds(12), &id(ONE), 1), Ok(seconds(10)));
}

#[test]
fn a_lower_epoch_is_refused_everywhere() {
    let mut grants = Grants::new();
    grants.give(seconds(0), grant(ONE, 5, OnExpiry::Rollback)).unwrap();
    let fenced = GrantError::Fenced { epoch: 5 };
    assert_eq!(grants.renew(seconds(1), &id(ONE), 4), Err(fenced.clone()));
    assert_eq!(grants.give(seconds(1), grant(ONE, 4, OnExpiry::Rollback)), Err(fenced));
    assert_eq!(grants.renew(seconds(1), &id(ONE), 6), Ok(seconds(10)));
    assert_eq!(grants.admit(5), Err(GrantError::Fenced { epoch: 6 }));
}

#[test]
fn settling_ends_only_ones_own_grant() {
    let mut grants = Grants::new();
    grants.give(seconds(0), grant(ONE, 1, OnExpiry::Rollback)).unwrap();
    grants.settle(&id(TWO));
    assert_eq!(grants.deadline(), Some(seconds(10)));
    grants.settle(&id(ONE));
    assert_eq!(grants.expire(seconds(60)), None);
    assert_eq!(grants.renew(seconds(60), &id(ONE), 1), Err(GrantError::Unknown { rollout: id(ONE) }));
}

#[test]
fn an_endless_grant_is_cut() {
    let mut grants = Grants::new();
    let endless = Grant { ttl: Duration::MAX, ..grant(ONE, 1, OnExpiry::Rollback) };
    grants.give(seconds(1), endless).unwrap();
    assert_eq!(grants.deadline(), Some(seconds(1) + GRANT_TTL_MAX));
}

proptest::proptest! {
    /// However gives, renewals and ticks interleave, a raised ceiling never outlives its last success by more than its ttl.
    #[test]
    fn no_weight_outlives_its_grant(steps in proptest::collection::vec((0_u8..4, 0_u64..15, 1_u64..4), 1..80)) {
        let mut grants = Grants::new();
        let (mut now, mut last_success) = (seconds(0), seconds(0));
        for (kind, pause, epoch) in steps {
            now += seconds(pause);
            let succeeded = match kind {
                0 => grants.give(now, grant(ONE, epoch, OnExpiry::Rollback)).is_ok(),
                1 => grants.renew(now, &id(ONE), epoch).is_ok(),
                2 => grants.give(now, grant(TWO, epoch, OnExpiry::Hold)).is_ok(),
                _ => false,
            };
            if succeeded {
                last_success = now;
            }
            grants.expire(now);
            if grants.ceiling() > Weight::ZERO {
                proptest::prop_assert!(now < last_success + seconds(10));
            }
        }
    }
}
