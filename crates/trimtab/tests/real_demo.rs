//! The demo with each of its endings, as a user starts it: the good release serves, the bad one is gone, for the right reason.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test starts the real binary")]

use std::process::Command;

use serde_json::Value;

/// Runs the demo and gives what it reports; panics with its story when it does not end as it should.
fn demo(scenario: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_trimtab"))
        .args(["demo", "--format", "json", "--rate", "400", "--scenario", scenario])
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{scenario}: {:?}\n{out}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!(report["good"], "completed", "{report}");
    assert_eq!(report["bad"], "rolled-back", "{report}");
    assert_eq!(report["ledger_sound"], true, "{report}");
    report
}

fn cause(report: &Value) -> &str {
    report["cause"].as_str().unwrap()
}

#[test]
fn errors_are_noticed_and_taken_back() {
    let report = demo("errors");
    assert!(cause(&report).contains("worse than stable on errors"), "{report}");
    // One visitor in ten fails on the canary, which is a tenth of the traffic: few users are harmed.
    assert!(report["failures_by_bad_release"].as_u64().unwrap() < 60, "{report}");
    assert!(report["actuation_ms"].as_u64().unwrap() <= 1_000, "{report}");
}

#[test]
fn slowness_is_noticed_and_taken_back() {
    let report = demo("latency");
    assert!(cause(&report).contains("worse than stable on latency"), "{report}");
}

#[test]
fn a_crash_on_start_reaches_no_user() {
    let report = demo("crash");
    assert!(cause(&report).contains("did not start"), "{report}");
    assert_eq!(report["exposure_ms"], Value::Null, "{report}");
}

#[test]
fn a_release_that_never_becomes_ready_reaches_no_user() {
    let report = demo("never-ready");
    assert!(cause(&report).contains("did not start"), "{report}");
}

#[test]
fn without_traffic_nothing_is_promoted() {
    let report = demo("no-traffic");
    assert!(cause(&report).contains("no evidence by the deadline"), "{report}");
}
