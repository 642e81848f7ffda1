use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use proptest::prelude::*;

use super::*;

fn task(name: &str, needs: &[&str]) -> Task {
    Task {
        name: TaskName::new(name).unwrap(),
        command: vec!["true".into()],
        directory: Utf8PathBuf::from("."),
        inputs: Vec::new(),
        outputs: Vec::new(),
        needs: needs.iter().map(|need| TaskName::new(*need).unwrap()).collect(),
        environment: BTreeMap::new(),
        pass: Vec::new(),
        timeout_ms: 1_000,
        junit: Vec::new(),
        cache: true,
    }
}

fn manifest(mut tasks: Vec<Task>) -> Manifest {
    tasks.sort_by(|a, b| a.name.cmp(&b.name));
    Manifest {
        project: "p".into(),
        services: Vec::new(),
        tasks,
        gates: Vec::new(),
        environments: Vec::new(),
        fronts: std::collections::BTreeMap::new(),
        trunk: "main".into(),
        ledger: None,
    }
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.tasks.iter().map(|planned| planned.task.name.as_str()).collect()
}

#[test]
fn takes_what_is_wanted_and_what_it_needs() {
    let manifest = manifest(vec![task("lint", &[]), task("build", &[]), task("test", &["build"])]);
    let wanted = [TaskName::new("test").unwrap()];
    let plan = plan(&manifest, &wanted, &BTreeMap::new()).unwrap();
    assert_eq!(names(&plan), ["build", "test"]);
    assert_eq!(plan.tasks[0].dependents, [1]);
    assert_eq!(plan.critical_path_ms(), 2_000);
}

#[test]
fn the_longest_remaining_path_comes_first() {
    let manifest = manifest(vec![task("a", &[]), task("b", &[]), task("c", &["b"])]);
    let history = BTreeMap::from([(TaskName::new("c").unwrap(), 60_000)]);
    assert_eq!(names(&plan(&manifest, &[], &history).unwrap()), ["b", "c", "a"]);
}

#[test]
fn a_mistyped_name_is_told_with_the_nearest() {
    let manifest = manifest(vec![task("build", &[])]);
    let error = plan(&manifest, &[TaskName::new("biuld").unwrap()], &BTreeMap::new()).unwrap_err();
    assert_eq!(error.problem().hint.as_deref(), Some("did you mean build?"));
    assert_eq!(error.problem().code, Code::TaskUnknown);
}

#[test]
fn a_circle_is_refused_even_unchecked() {
    let manifest = manifest(vec![task("a", &["b"]), task("b", &["a"])]);
    assert!(
        matches!(plan(&manifest, &[], &BTreeMap::new()), Err(PlanError::Cycle { tasks }) if tasks.len() == 2)
    );
}

proptest! {
    #[test]
    fn needs_always_stand_in_front(
        edges in proptest::collection::vec((0_usize..40, 0_usize..40), 0..120),
        durations in proptest::collection::vec(0_u64..5, 40),
    ) {
        let name = |at: usize| format!("t{at:02}");
        let mut tasks: Vec<Task> = (0..40).map(|at| task(&name(at), &[])).collect();
        for (a, b) in edges {
            if a != b {
                tasks[a.max(b)].needs.push(TaskName::new(name(a.min(b))).unwrap());
            }
        }
        let history = durations.iter().enumerate().map(|(at, ms)| (TaskName::new(name(at)).unwrap(), *ms)).collect();
        let plan = plan(&manifest(tasks), &[], &history).unwrap();
        prop_assert_eq!(plan.tasks.len(), 40);
        for (at, planned) in plan.tasks.iter().enumerate() {
            prop_assert!(planned.needs.iter().all(|need| *need < at && plan.tasks[*need].dependents.contains(&at)));
            prop_assert!(planned.dependents.iter().all(|dependent| *dependent > at));
        }
    }
}
