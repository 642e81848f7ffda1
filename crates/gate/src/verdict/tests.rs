use delivery::GateName;

use super::*;
use crate::junit::parse;

fn gate(tests_min: u64, errors_max: u64) -> Gate {
    let tasks = vec![TaskName::new("test").unwrap()];
    Gate { name: GateName::new("quality").unwrap(), tasks, tests_min, errors_max }
}

fn ran(outcome: TaskOutcome, reports: &[&str]) -> GateInput {
    let report = |xml: &&str| ReportInput { path: "r.xml".into(), report: parse(xml.as_bytes()) };
    GateInput {
        tasks: vec![GateTask {
            name: TaskName::new("test").unwrap(),
            outcome,
            detail: "exit code 1".into(),
            reports_missing: Vec::new(),
            reports: reports.iter().map(report).collect(),
        }],
    }
}

const GOOD: &str = r#"<testsuite><testcase name="a"/><testcase name="b"/></testsuite>"#;
const BAD: &str =
    r#"<testsuite name="s"><testcase name="a"><failure message="boom"/></testcase></testsuite>"#;
const NONE: &str = r#"<testsuite tests="0"/>"#;

fn reasons(gate: &Gate, input: &GateInput) -> Vec<String> {
    let verdict = judge(gate, input);
    assert!(!verdict.passed, "{verdict:?}");
    verdict.reasons
}

#[test]
fn a_pass_says_what_it_rests_on() {
    let verdict = judge(&gate(1, 0), &ran(TaskOutcome::Success, &[GOOD, GOOD, GOOD]));
    assert!(verdict.passed);
    assert_eq!(verdict.reasons, ["6 tests passed in 3 reports", "1 task succeeded: test"]);
    assert_eq!((verdict.tests, verdict.errors), (6, 0));
}

#[test]
fn a_pass_says_what_the_reports_do_not_list() {
    let more = r#"<testsuite tests="10"><testcase name="a"/></testsuite>"#;
    let verdict = judge(&gate(1, 0), &ran(TaskOutcome::Success, &[more]));
    assert!(verdict.passed);
    assert_eq!(verdict.reasons[1], "the reports say that there are 9 more tests but do not list them");
}

#[test]
fn no_test_is_no_pass() {
    assert_eq!(
        reasons(&gate(1, 0), &ran(TaskOutcome::Success, &[NONE])),
        ["no test was executed; at least 1 must be"]
    );
    assert_eq!(
        reasons(&gate(5, 0), &ran(TaskOutcome::Success, &[GOOD])),
        ["only 2 tests were executed; at least 5 must be"]
    );
    assert!(judge(&gate(0, 0), &ran(TaskOutcome::Success, &[NONE])).passed);
}

#[test]
fn failures_count_against_the_gate() {
    assert_eq!(
        reasons(&gate(1, 0), &ran(TaskOutcome::Failure, &[BAD])),
        ["task test failed: exit code 1", "1 test failed: s::a"]
    );
    assert!(judge(&gate(1, 1), &ran(TaskOutcome::Success, &[BAD])).passed);
}

#[test]
fn what_is_missing_never_passes() {
    assert_eq!(reasons(&gate(0, 0), &GateInput::default()), ["task test was not run"]);
    let mut one_of_two = ran(TaskOutcome::Success, &[GOOD]);
    one_of_two.tasks[0].reports_missing = vec!["r/integration.xml".to_owned()];
    assert_eq!(reasons(&gate(0, 0), &one_of_two), ["task test wrote no test report r/integration.xml"]);
    let cut = &GOOD[..40];
    let told = reasons(&gate(0, 0), &ran(TaskOutcome::Success, &[cut]));
    assert!(told[0].contains("can't be read: it ends too early"), "{told:?}");
    for outcome in
        [TaskOutcome::TimedOut, TaskOutcome::Skipped, TaskOutcome::Cancelled, TaskOutcome::NotStarted]
    {
        assert_eq!(reasons(&gate(0, 0), &ran(outcome, &[GOOD])).len(), 1);
    }
}
