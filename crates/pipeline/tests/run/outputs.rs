//! What of the files among a task's outputs is taken for the task's own.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use delivery::event::TaskOutcome;

use crate::world::{World, of, why};

/// A world with one cached task that writes a file for each word of `in`.
fn words() -> World {
    let mut world = World::new();
    let script = "mkdir -p out; for word in $(cat in); do echo $word > out/$word; done";
    world.cached("a", script, &["in"], &["out/**"]);
    world
}

fn listed(world: &World, folder: &str) -> Vec<String> {
    let entries = world.root.join(folder).read_dir_utf8().unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().to_owned()).collect();
    names.sort();
    names
}

fn given(world: &World, report: &pipeline::RunReport, task: &str) -> Vec<String> {
    let outputs = &of(report, task).outputs;
    assert!(outputs.iter().all(|file| file.is_in_place(&world.root).unwrap()));
    outputs.iter().map(|file| file.path.to_string()).collect()
}

#[tokio::test]
async fn what_an_earlier_result_left_goes_when_another_is_put_back() {
    let world = words();
    world.write("in", "one");
    world.run().await;
    world.write("in", "one two");
    world.run().await;
    assert_eq!(listed(&world, "out"), ["one", "two"]);
    world.write("in", "one");
    let report = world.run().await;
    assert!(of(&report, "a").cached, "{}", why(&report, "a"));
    assert_eq!(listed(&world, "out"), ["one"]);
    assert_eq!(given(&world, &report, "a"), ["out/one"]);
}

#[tokio::test]
async fn what_an_earlier_result_left_goes_before_the_task_runs() {
    let world = words();
    world.write("in", "one two");
    world.run().await;
    world.write("in", "three");
    let report = world.run().await;
    assert!(!of(&report, "a").cached);
    assert_eq!(listed(&world, "out"), ["three"]);
    assert_eq!(given(&world, &report, "a"), ["out/three"]);
}

#[tokio::test]
async fn an_output_of_an_earlier_run_is_not_taken_for_written() {
    let mut world = World::new();
    world.write("in", "one");
    world.cached("a", "grep -q skip in || cp in out", &["in"], &["out"]);
    world.run().await;
    world.write("in", "skip");
    let report = world.run().await;
    assert_eq!(of(&report, "a").detail, "it ended well but did not write its output out");
}

#[tokio::test]
async fn what_nobody_wrote_stays_and_is_not_the_tasks() {
    let world = words();
    world.write("in", "one");
    world.write("out/notes", "somebody's work");
    let report = world.run().await;
    assert!(
        of(&report, "a").detail.contains("out/notes lies among its outputs"),
        "{}",
        of(&report, "a").detail
    );
    assert_eq!(given(&world, &report, "a"), ["out/one"]);
    let report = world.run().await;
    assert_eq!(
        why(&report, "a"),
        "run: out/notes lies among the outputs, and no task is known to have written it"
    );
    assert_eq!(world.read("out/notes"), "somebody's work");
    std::fs::remove_file(world.root.join("out/notes")).unwrap();
    assert!(of(&world.run().await, "a").cached);
}

#[tokio::test]
async fn a_program_that_finds_its_output_up_to_date_is_not_kept() {
    let mut world = World::new();
    world.write("in", "one");
    world.write("out", "one");
    std::thread::sleep(std::time::Duration::from_millis(60));
    world.cached("a", "cmp -s in out || cp in out", &["in"], &["out"]);
    let report = world.run().await;
    assert_eq!(of(&report, "a").outcome, TaskOutcome::Success);
    assert!(why(&report, "a").contains("its output out lay there before"), "{}", why(&report, "a"));
    assert!(given(&world, &report, "a").is_empty());
}

#[tokio::test]
async fn tasks_that_build_on_each_other_leave_each_others_files() {
    let mut world = words();
    world.write("in", "one");
    world.cached("b", "cat out/one > out/bundle", &["unrelated"], &["out/**"]).needs =
        vec!["a".parse().unwrap()];
    world.run().await;
    std::thread::sleep(std::time::Duration::from_millis(60));
    for _ in 0..2 {
        let report = world.run().await;
        assert_eq!(report.cached(), 2, "{} / {}", why(&report, "a"), why(&report, "b"));
        assert_eq!(listed(&world, "out"), ["bundle", "one"]);
    }
}

#[tokio::test]
async fn a_task_that_rewrites_its_input_keeps_it() {
    let mut world = World::new();
    world.write("f", "abc");
    world.cached("format", "grep -q abc f && echo ABC > f; true", &["f"], &["f"]);
    for _ in 0..2 {
        world.run().await;
    }
    assert!(of(&world.run().await, "format").cached);
    world.write("f", "abc");
    world.run().await;
    assert_eq!(world.read("f"), "ABC\n");
}

#[tokio::test]
async fn modes_come_back_as_they_were() {
    let mut world = World::new();
    world.write("in", "x");
    world.cached(
        "a",
        "echo s > key; chmod 600 key; echo r > plain; chmod 444 plain",
        &["in"],
        &["key", "plain"],
    );
    world.run().await;
    for name in ["key", "plain"] {
        std::fs::remove_file(world.root.join(name)).unwrap();
    }
    assert!(of(&world.run().await, "a").cached);
    let mode = |name: &str| world.root.join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("key"), mode("plain")), (0o600, 0o444));
}

#[tokio::test]
async fn an_empty_folder_is_no_output() {
    let mut world = World::new();
    world.write("in", "x");
    world.cached("a", "mkdir -p made/below", &["in"], &["made"]);
    let report = world.run().await;
    assert_eq!(of(&report, "a").detail, "it ended well but did not write its output made");
}

#[tokio::test]
async fn nothing_is_put_back_through_a_link() {
    let mut world = World::new();
    let elsewhere = tempfile::tempdir().unwrap();
    world.write("in", "x");
    world.cached("a", "test -L out || { mkdir -p out; cp in out/f; }", &["in"], &["out/f"]);
    world.run().await;
    std::fs::remove_dir_all(world.root.join("out")).unwrap();
    symlink(elsewhere.path(), world.root.join("out")).unwrap();
    let report = world.run().await;
    assert!(!of(&report, "a").cached);
    assert!(why(&report, "a").starts_with("run: an output can't be looked at: out is a link; "));
    assert_eq!(elsewhere.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn a_task_does_not_run_outside_of_the_project() {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut world = World::new();
    symlink(elsewhere.path(), world.root.join("link")).unwrap();
    world.task("a", "touch leak").directory = "link".into();
    let report = world.run().await;
    assert_eq!(of(&report, "a").outcome, TaskOutcome::NotStarted);
    assert!(of(&report, "a").detail.contains("leads out of the project"), "{}", of(&report, "a").detail);
    assert_eq!(elsewhere.path().read_dir().unwrap().count(), 0);
}
