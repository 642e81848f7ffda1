//! Tests of the parts that are private: how readings become intervals, and how signals are named.

use delivery::Timestamp;
use delivery::traffic::{ArmTotals, LATENCY_BUCKETS, Sample, Weight, latency_bucket};

use super::signals;
use super::window::{Reading, Window};

fn reading(boot: &str, seconds: i64, requests: u64) -> Sample {
    let mut arm = ArmTotals::zero();
    arm.requests = requests;
    arm.latency[latency_bucket(20_000)] = requests;
    Sample {
        boot: boot.into(),
        at: Timestamp::from_second(seconds).unwrap(),
        weight: Weight::from_basis_points(500).unwrap(),
        stable: arm.clone(),
        canary: arm,
    }
}

fn requests(reading: &Reading) -> Option<u64> {
    match reading {
        Reading::Interval(interval) => Some(interval.canary.requests),
        _ => None,
    }
}

#[test]
fn only_differences_within_one_boot_are_data() {
    let mut window = Window::default();
    assert_eq!(window.read(&reading("a", 0, 10)), Reading::Reference);
    assert_eq!(requests(&window.read(&reading("a", 1, 15))), Some(5));
    assert_eq!(window.read(&reading("b", 2, 20)), Reading::Reset);
    assert_eq!(requests(&window.read(&reading("b", 3, 21))), Some(1));
    assert_eq!(window.read(&reading("b", 4, 3)), Reading::Reset);
    assert_eq!(window.read(&reading("b", 5, 4)), Reading::Reset);
    // Twenty-one were counted already, by whatever reading they come again.
    assert_eq!(requests(&window.read(&reading("b", 6, 24))), Some(3));
}

#[test]
fn a_late_reading_is_not_counted_twice() {
    let mut window = Window::default();
    window.read(&reading("a", 0, 0));
    assert_eq!(requests(&window.read(&reading("a", 2, 20))), Some(20));
    assert_eq!(window.read(&reading("a", 1, 10)), Reading::Stale);
    assert_eq!(requests(&window.read(&reading("a", 3, 25))), Some(5));
}

#[test]
fn a_broken_counter_is_a_reset() {
    let mut window = Window::default();
    window.read(&reading("a", 0, 0));
    assert_eq!(window.read(&reading("a", 1, u64::MAX)), Reading::Reset);
    let mut short = reading("a", 2, 0);
    short.canary.latency.truncate(3);
    assert_eq!(window.read(&short), Reading::Reset);
}

#[test]
fn exceedances_count_what_is_above_each_bound() {
    let mut window = Window::default();
    window.read(&reading("a", 0, 0));
    let Reading::Interval(interval) = window.read(&reading("a", 1, 7)) else { panic!("no interval") };
    assert_eq!(interval.canary.slower.len(), LATENCY_BUCKETS - 1);
    let bucket = latency_bucket(20_000);
    assert_eq!(interval.canary.slower[bucket - 1], 7);
    assert_eq!(interval.canary.slower[bucket], 0);
}

#[test]
fn signals_are_named_for_people() {
    assert_eq!(signals::name(0), "errors");
    assert_eq!(signals::name(1), "latency > 0.5 ms");
    assert_eq!(signals::name(13), "latency > 100 ms");
    assert_eq!(signals::name(20), "latency > 1.5 s");
}
