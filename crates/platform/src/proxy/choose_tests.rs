//! Tests of `choose`: shares, stickiness and monotone exposure, with golden points.

use proptest::prelude::*;

use super::*;

fn split(weight: u16, salt: u64) -> Split {
    Split { stable: true, canary: true, weight: Weight::from_basis_points(weight).unwrap(), salt }
}

fn keyed(key: u64) -> Facts {
    Facts { asked: None, key: Some(key), draw: 0 }
}

fn revision(text: &str) -> RevisionId {
    RevisionId::new(text).unwrap()
}

proptest! {
    /// Raising the weight only moves keys from stable to canary; lowering returns exactly those.
    #[test]
    fn exposure_is_monotone(text in ".{0,40}", salt: u64, low in 0_u16..=10_000, high in 0_u16..=10_000) {
        let (low, high) = (low.min(high), low.max(high));
        let facts = keyed(key(text.as_bytes()));
        let before = choose(&split(low, salt), &facts);
        let after = choose(&split(high, salt), &facts);
        if before == Some(ArmChoice::Canary) {
            prop_assert_eq!(after, Some(ArmChoice::Canary));
        }
        prop_assert_eq!(choose(&split(low, salt), &facts), before);
    }

    /// Nothing reaches a canary of weight zero, whatever it asks for, and nothing stays at weight 100 %.
    #[test]
    fn the_ends_are_absolute(key: Option<u64>, draw: u64, salt: u64, asks in 0_u8..3) {
        let asked = [None, Some(ArmChoice::Stable), Some(ArmChoice::Canary)][usize::from(asks)];
        let facts = Facts { asked, key, draw };
        prop_assert_eq!(choose(&split(0, salt), &facts), Some(ArmChoice::Stable));
        prop_assert_eq!(choose(&split(10_000, salt), &Facts { asked: None, ..facts }), Some(ArmChoice::Canary));
    }

    #[test]
    fn points_are_in_range(key: u64, salt: u64) {
        prop_assert!(point(key, salt) < 10_000);
    }
}

#[test]
fn the_header_decides_while_the_canary_is_exposed() {
    for asked in [ArmChoice::Stable, ArmChoice::Canary] {
        let facts = Facts { asked: Some(asked), key: Some(1), draw: 0 };
        assert_eq!(choose(&split(5_000, 7), &facts), Some(asked));
    }
}

#[test]
fn a_missing_arm_is_made_up_for_or_reported() {
    let facts = keyed(1);
    let alone = Split { stable: false, ..split(100, 0) };
    assert_eq!(choose(&alone, &facts), Some(ArmChoice::Canary));
    assert_eq!(choose(&Split { weight: Weight::ZERO, ..alone }, &facts), None);
    assert_eq!(choose(&Split { canary: false, ..split(10_000, 0) }, &facts), Some(ArmChoice::Stable));
    assert_eq!(choose(&Split { canary: false, ..alone }, &facts), None);
}

#[test]
fn keys_spread_evenly_and_anew_for_each_revision() {
    let salts = [salt(&revision("rev-00000001")), salt(&revision("rev-00000002"))];
    let keys = 100_000_u32;
    let mut deciles = [0_u32; 10];
    let (mut first, mut both) = (0_u32, 0_u32);
    for user in 0..keys {
        let key = key(format!("user-{user}").as_bytes());
        deciles[usize::from(point(key, salts[0]) / 1_000)] += 1;
        let exposed = salts.map(|salt| point(key, salt) < 1_000);
        first += u32::from(exposed[0]);
        both += u32::from(exposed[0] && exposed[1]);
    }
    // Chi-square with 9 degrees of freedom; 27.9 is its 99.9 % quantile.
    let expected = f64::from(keys) / 10.0;
    let chi: f64 = deciles.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
    assert!(chi < 27.9, "{deciles:?}");
    // Independent rollouts share 10 % of the first's users: 1,000 of 10,000, with a standard deviation near 30.
    assert!((f64::from(both) - f64::from(first) * 0.1).abs() < 150.0, "{both} of {first}");
}

/// The function is fixed for ever (these were computed apart, in Python): a change would move users between arms in the middle of a rollout.
#[test]
fn points_are_golden() {
    let salt = salt(&revision("rev-7k3m9x2p"));
    let points: Vec<u16> =
        ["", "a", "user-1", "127.0.0.1"].iter().map(|text| point(key(text.as_bytes()), salt)).collect();
    assert_eq!(points, GOLDEN);
}

const GOLDEN: [u16; 4] = [9_886, 7_838, 7_389, 9_190];
