//! What the cache knows, what it does not, and what it says about that.

use std::os::unix::fs::PermissionsExt as _;

use delivery::event::TaskOutcome;
use pipeline::{CacheVerdict, Difference};

use crate::world::{World, of, why};

/// A world with one cached task: `cat in > out/result`.
fn copying() -> World {
    let mut world = World::new();
    world.write("in", "one");
    world.cached("a", "mkdir -p out; cat in > out/result; echo ran >> .trimtab/count", &["in"], &["out/**"]);
    world
}

fn runs(world: &World) -> usize {
    world.read(".trimtab/count").lines().count()
}

#[tokio::test]
async fn unchanged_is_not_run_again() {
    let world = copying();
    let first = world.run().await;
    assert_eq!(why(&first, "a"), "run: no earlier run was kept");
    let second = world.run().await;
    let task = of(&second, "a");
    assert!(task.cached && task.outcome == TaskOutcome::Success, "{task:?}");
    assert_eq!(task.key, of(&first, "a").key);
    assert_eq!(task.explanation.verdict, CacheVerdict::Hit);
    assert!(task.detail.starts_with("unchanged; it took"), "{}", task.detail);
    assert!(task.log.exists());
    assert_eq!(runs(&world), 1);
    assert!(second.warnings.is_empty(), "{:?}", second.warnings);
}

#[tokio::test]
async fn each_change_is_seen_and_named() {
    let mut world = copying();
    world.environment.insert("TOKEN".into(), "t1".into());
    world.tasks[0].pass = vec!["TOKEN".into()];
    world.run().await;
    world.write("in", "two");
    assert_eq!(why(&world.run().await, "a"), "run: input in changed");
    std::fs::set_permissions(world.root.join("in"), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(why(&world.run().await, "a"), "run: input in changed");
    world.tasks[0].environment.insert("FOO".into(), "1".into());
    assert_eq!(why(&world.run().await, "a"), "run: environment FOO changed");
    world.environment.insert("TOKEN".into(), "t2".into());
    assert_eq!(why(&world.run().await, "a"), "run: passed variable TOKEN changed");
    world.tasks[0].command[2].push_str("; true");
    assert_eq!(why(&world.run().await, "a"), "run: the command changed");
    world.tasks[0].inputs.push("more/**".into());
    world.write("more/b", "b");
    world.write("more/c", "c");
    assert_eq!(why(&world.run().await, "a"), "run: input more/b is new; input more/c is new");
    std::fs::remove_file(world.root.join("more/b")).unwrap();
    assert_eq!(why(&world.run().await, "a"), "run: input more/b is gone");
    world.force = true;
    assert_eq!(why(&world.run().await, "a"), "not cached: the run was told not to use the cache");
    world.force = false;
    assert!(of(&world.run().await, "a").cached);
}

#[tokio::test]
async fn outputs_are_put_back() {
    let world = copying();
    std::fs::write(world.root.join("in"), "#!/bin/sh\n").unwrap();
    world.run().await;
    std::fs::remove_dir_all(world.root.join("out")).unwrap();
    let report = world.run().await;
    assert!(of(&report, "a").cached, "{}", why(&report, "a"));
    assert!(of(&report, "a").detail.contains("1 output put back"), "{}", of(&report, "a").detail);
    assert_eq!(world.read("out/result"), "#!/bin/sh\n");
    assert_eq!(runs(&world), 1);
}

#[tokio::test]
async fn going_back_takes_the_older_result() {
    let world = copying();
    world.run().await;
    world.write("in", "two");
    world.run().await;
    assert_eq!(world.read("out/result"), "two");
    world.write("in", "one");
    let report = world.run().await;
    assert!(of(&report, "a").cached, "{}", why(&report, "a"));
    assert_eq!((world.read("out/result").as_str(), runs(&world)), ("one", 2));
}

#[tokio::test]
async fn what_the_cache_could_not_give_back_is_not_overwritten_by_it() {
    let world = copying();
    world.run().await;
    world.write("out/result", "somebody's work");
    let report = world.run().await;
    assert_eq!(why(&report, "a"), "run: output out/result was changed by something else");
    assert_eq!(runs(&world), 2);
}

#[tokio::test]
async fn modes_and_links_are_restored() {
    let mut world = World::new();
    world.write("in", "x");
    let script = "mkdir -p out; echo tool > out/tool; chmod +x out/tool; ln -sf tool out/link";
    world.cached("a", script, &["in"], &["out"]);
    world.run().await;
    std::fs::remove_dir_all(world.root.join("out")).unwrap();
    let report = world.run().await;
    assert!(of(&report, "a").cached, "{}", why(&report, "a"));
    assert_eq!(world.root.join("out/tool").metadata().unwrap().permissions().mode() & 0o111, 0o111);
    assert_eq!(world.root.join("out/link").read_link().unwrap().to_str(), Some("tool"));
    assert!(of(&world.run().await, "a").detail.starts_with("unchanged; "));
}

/// The one file below a folder of the cache.
fn only(world: &World, folder: &str) -> camino::Utf8PathBuf {
    let mut open = vec![world.cache.join("v1").join(folder)];
    let mut files = Vec::new();
    while let Some(next) = open.pop() {
        for entry in next.read_dir_utf8().unwrap().flatten() {
            if entry.path().is_dir() {
                open.push(entry.path().to_owned());
            } else {
                files.push(entry.path().to_owned());
            }
        }
    }
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[tokio::test]
async fn a_damaged_entry_is_put_aside_and_the_task_run() {
    let world = copying();
    world.run().await;
    std::fs::remove_file(world.cache.join("v1/latest")).unwrap();
    let entry = only(&world, "entries");
    let mut bytes = std::fs::read(&entry).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&entry, bytes).unwrap();
    let report = world.run().await;
    assert!(why(&report, "a").contains("damaged"), "{}", why(&report, "a"));
    assert!(report.warnings[0].contains("put aside"), "{:?}", report.warnings);
    assert_eq!(runs(&world), 2);
    only(&world, "quarantine");
    assert!(of(&world.run().await, "a").cached);
}

#[tokio::test]
async fn a_damaged_blob_is_found_and_the_task_run() {
    let world = copying();
    world.run().await;
    let blob = only(&world, "blobs/blake3");
    std::fs::set_permissions(&blob, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&blob, "other").unwrap();
    std::fs::remove_dir_all(world.root.join("out")).unwrap();
    let report = world.run().await;
    assert!(why(&report, "a").contains("damaged"), "{}", why(&report, "a"));
    assert_eq!((world.read("out/result").as_str(), runs(&world)), ("one", 2));
    std::fs::remove_dir_all(world.root.join("out")).unwrap();
    assert!(of(&world.run().await, "a").cached, "the rerun mended the blob");
}

#[tokio::test]
async fn damaged_indexes_cost_time_and_nothing_else() {
    let world = copying();
    world.run().await;
    for name in ["latest", "stat"] {
        std::fs::write(world.cache.join("v1").join(name), "garbage").unwrap();
    }
    let report = world.run().await;
    assert!(of(&report, "a").cached, "{}", why(&report, "a"));
}

#[tokio::test]
async fn an_unusable_cache_does_not_fail_the_run() {
    let mut world = copying();
    world.write("file", "");
    std::fs::create_dir_all(world.root.join(".trimtab")).unwrap();
    world.cache = world.root.join("file/cache");
    let report = world.run().await;
    assert_eq!(of(&report, "a").outcome, TaskOutcome::Success);
    assert!(report.warnings.iter().any(|warning| warning.contains("can't be used")), "{:?}", report.warnings);
    assert!(why(&report, "a").contains("not kept"), "{}", why(&report, "a"));
}

#[tokio::test]
async fn a_failure_is_not_kept() {
    let mut world = World::new();
    world.write("in", "x");
    world.cached("a", "exit 1", &["in"], &[]);
    world.run().await;
    let report = world.run().await;
    assert_eq!(of(&report, "a").outcome, TaskOutcome::Failure);
    assert!(!of(&report, "a").cached);
}

#[tokio::test]
async fn a_missing_output_fails_the_task() {
    let mut world = World::new();
    world.write("in", "x");
    world.cached("a", "mkdir dist; touch dist/a.js", &["in"], &["dist/*.js", "dist/*.css"]);
    let report = world.run().await;
    assert_eq!(of(&report, "a").outcome, TaskOutcome::Failure);
    assert_eq!(of(&report, "a").detail, "it ended well but did not write its output dist/*.css");
}

#[tokio::test]
async fn an_input_that_changes_meanwhile_is_not_trusted() {
    let mut world = World::new();
    world.write("in", "x");
    world.cached("a", "cat in > out; echo more >> in", &["in"], &["out"]);
    let report = world.run().await;
    assert!(of(&report, "a").explanation.reasons.contains(&Difference::InputChangedMeanwhile));
    assert!(!of(&world.run().await, "a").cached);
}

#[tokio::test]
async fn an_unreadable_input_runs_uncached() {
    let mut world = World::new();
    // Even root can't read address 0 of its own memory.
    std::os::unix::fs::symlink("/proc/self/mem", world.root.join("in")).unwrap();
    world.cached("a", "true", &["in"], &[]);
    let report = world.run().await;
    assert_eq!(of(&report, "a").outcome, TaskOutcome::Success);
    assert!(why(&report, "a").contains("an input can't be read: in: "), "{}", why(&report, "a"));
    assert_eq!(of(&report, "a").key, "");
}

#[tokio::test]
async fn needs_count_by_what_they_gave() {
    let mut world = World::new();
    world.write("in", "one");
    world.cached("gen", "head -c 3 in > mid", &["in"], &["mid"]);
    world.cached("use", "cat mid > end", &["unrelated"], &["end"]).needs = vec!["gen".parse().unwrap()];
    world.run().await;
    world.write("in", "one and a comment");
    let report = world.run().await;
    assert!(!of(&report, "gen").cached);
    assert!(of(&report, "use").cached, "the same bytes came out: {}", why(&report, "use"));
    world.write("in", "two");
    let report = world.run().await;
    assert_eq!(why(&report, "use"), "run: gen gave another result");
    assert_eq!(world.read("end"), "two");
}

#[tokio::test]
async fn a_need_that_says_nothing_makes_its_dependents_run() {
    let mut world = World::new();
    world.write("in", "x");
    world.task("setup", "true");
    world.cached("a", "true", &["in"], &[]).needs = vec!["setup".parse().unwrap()];
    world.run().await;
    let report = world.run().await;
    assert_eq!(why(&report, "a"), "not cached: setup does not say what its result depends on");
}

#[tokio::test]
async fn a_script_named_by_its_path_is_an_input() {
    let mut world = World::new();
    world.write("build.sh", "#!/bin/sh\necho 1\n");
    std::fs::set_permissions(world.root.join("build.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    world.cached("a", "", &["in"], &[]).command = vec!["./build.sh".into()];
    world.run().await;
    assert!(of(&world.run().await, "a").cached);
    world.write("build.sh", "#!/bin/sh\necho 2\n");
    assert_eq!(why(&world.run().await, "a"), "run: input build.sh changed");
}

#[tokio::test]
async fn reports_are_kept_and_old_ones_not_taken_for_new() {
    let mut world = World::new();
    world.write("in", "x");
    world.write("old.xml", "<testsuite/>");
    world.cached("a", "echo '<testsuite/>' > new.xml", &["**"], &[]).junit =
        vec!["*.xml".into(), "old.xml".into(), "!x.xml".into()];
    let report = world.run().await;
    assert_eq!(of(&report, "a").reports, [world.root.join("new.xml")]);
    assert_eq!(of(&report, "a").reports_missing, ["old.xml"]);
    assert!(
        of(&report, "a").detail.contains("1 report older than this run not read"),
        "{}",
        of(&report, "a").detail
    );
    std::fs::remove_file(world.root.join("new.xml")).unwrap();
    let report = world.run().await;
    assert!(of(&report, "a").cached, "{}", why(&report, "a"));
    assert_eq!(of(&report, "a").reports, [world.root.join("new.xml")]);
    assert_eq!(of(&report, "a").reports_missing, ["old.xml"]);
    assert!(world.has("new.xml"));
}

#[tokio::test]
async fn two_runs_may_share_a_cache() {
    let mut one = World::new();
    let mut two = World::new();
    let shared = tempfile::tempdir().unwrap();
    for world in [&mut one, &mut two] {
        world.cache = camino::Utf8PathBuf::from_path_buf(shared.path().to_owned()).unwrap();
        for at in 0..20 {
            world.write(&format!("in{at}"), &at.to_string());
            let script = format!("cat in{at} in{at} > out{at}");
            world.cached(&format!("t{at}"), &script, &[&format!("in{at}")], &[&format!("out{at}")]);
        }
    }
    let (first, second) = tokio::join!(one.run(), two.run());
    for report in [first, second, one.run().await, two.run().await] {
        assert_eq!(report.outcome(), TaskOutcome::Success);
        assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    }
    assert_eq!(two.run().await.cached(), 20);
    assert_eq!(one.read("out7"), "77");
}

#[tokio::test]
async fn durations_are_remembered() {
    let world = World::of("a", "sleep 0.3");
    world.run().await;
    let known = pipeline::history(&world.cache);
    assert!((250..5_000).contains(&known[&"a".parse().unwrap()]), "{known:?}");
}
