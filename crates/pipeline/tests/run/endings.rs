//! How tasks end: well, badly, late, never, and with what they leave behind.

use std::time::Duration;

use delivery::event::TaskOutcome;
use pipeline::{Cancel, Progress};
use tokio::time::Instant;

use crate::world::{World, appears, lives, of};

#[tokio::test]
async fn a_task_that_works() {
    let world = World::of("a", "echo one; echo two >&2; printf three");
    let report = world.run().await;
    let task = of(&report, "a");
    assert_eq!(task.outcome, TaskOutcome::Success, "{task:?}");
    assert_eq!(task.output_tail, ["one", "two", "three"]);
    assert_eq!(std::fs::read_to_string(&task.log).unwrap(), "one\ntwo\nthree\n");
    let said: Vec<String> = world
        .progress
        .lock()
        .unwrap()
        .iter()
        .map(|said| match said {
            Progress::Started { task } => format!("start {task}"),
            Progress::Output { line, .. } => line.clone(),
            Progress::Finished(report) => format!("end {}", report.task),
        })
        .collect();
    assert_eq!(said, ["start a", "one", "two", "three", "end a"]);
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
}

#[tokio::test]
async fn a_failure_takes_its_dependents_along_and_no_others() {
    let mut world = World::new();
    world.task("a", "exit 3");
    world.task("b", "true").needs = vec!["a".parse().unwrap()];
    world.task("c", "true").needs = vec!["b".parse().unwrap()];
    world.task("d", "sleep 0.1");
    let report = world.run().await;
    assert_eq!(
        (of(&report, "a").outcome, of(&report, "a").detail.as_str()),
        (TaskOutcome::Failure, "exit code 3")
    );
    assert_eq!(of(&report, "b").outcome, TaskOutcome::Skipped);
    assert_eq!(of(&report, "b").detail, "it needs a, which failed");
    assert_eq!(of(&report, "c").detail, "it needs b, which was skipped because a failed");
    assert_eq!(of(&report, "d").outcome, TaskOutcome::Success);
    assert_eq!(report.outcome(), TaskOutcome::Failure);
}

#[tokio::test]
async fn a_signal_is_named() {
    let report = World::of("a", "kill -SEGV $$").run().await;
    assert_eq!(of(&report, "a").detail, "ended by signal 11 (SIGSEGV)");
}

#[tokio::test]
async fn only_the_declared_environment_is_there() {
    let mut world = World::new();
    let task = world.task("a", "env | sort; test -t 0 && echo terminal; cat");
    task.environment.insert("DECLARED".into(), "yes".into());
    task.pass = vec!["PASSED".into(), "UNSET".into()];
    world.environment.insert("PASSED".into(), "hunter22-secret".into());
    let report = world.run().await;
    let log = std::fs::read_to_string(&of(&report, "a").log).unwrap();
    for line in ["DECLARED=yes", "TRIMTAB=1", "TERM=dumb", "TRIMTAB_TASK=a", "PASSED=[masked]"] {
        assert!(log.lines().any(|other| other == line), "{line} in {log}");
    }
    assert!(!log.contains("SECRET_OF_OURS") && !log.contains("UNSET") && !log.contains("hunter22"), "{log}");
}

#[tokio::test]
async fn a_missing_program_is_told() {
    let mut world = World::new();
    world.task("a", "").command = vec!["no-such-program-here".into()];
    world.task("b", "").command = vec!["./missing.sh".into()];
    world.write("text", "just text\n");
    world.task("c", "").command = vec!["./text".into()];
    world.write("bare", "echo hi\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(world.root.join("bare"), mode).unwrap();
    world.task("d", "").command = vec!["./bare".into()];
    world.task("e", "true").directory = "nowhere".into();
    let report = world.run().await;
    for (name, wanted) in [
        ("a", "no-such-program-here is not installed"),
        ("b", "there is no file ./missing.sh"),
        ("c", "chmod +x"),
        ("d", "nor has a #! line"),
        ("e", "nowhere does not exist"),
    ] {
        let task = of(&report, name);
        assert_eq!(task.outcome, TaskOutcome::NotStarted, "{task:?}");
        assert!(task.detail.contains(wanted), "{}", task.detail);
    }
}

#[tokio::test]
async fn a_task_that_hangs_is_stopped_with_its_children() {
    let mut world = World::new();
    world.task("a", "echo before; sleep 300 & echo $! > child; sleep 300").timeout_ms = 400;
    let started = Instant::now();
    let report = world.run().await;
    assert_eq!(of(&report, "a").outcome, TaskOutcome::TimedOut);
    assert_eq!(of(&report, "a").detail, "stopped at its time limit of 400 ms");
    assert_eq!(of(&report, "a").output_tail, ["before"]);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(!lives(&world.read("child")));
}

#[tokio::test]
async fn a_task_that_ignores_sigterm_is_killed() {
    let mut world = World::new();
    world.task("a", "trap '' TERM; while :; do sleep 0.1; done").timeout_ms = 200;
    let started = Instant::now();
    let report = world.run().await;
    assert_eq!(of(&report, "a").outcome, TaskOutcome::TimedOut);
    assert!(of(&report, "a").detail.contains("had to be killed"), "{}", of(&report, "a").detail);
    let took = started.elapsed();
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(9), "{took:?}");
}

#[tokio::test]
async fn a_flood_is_counted_and_dropped() {
    let world =
        World::of("a", "yes 0123456789012345678901234567890123456789 | head -c 1000000000; echo; echo done");
    let report = world.run().await;
    let task = of(&report, "a");
    assert_eq!(task.outcome, TaskOutcome::Success, "{}", task.detail);
    let log = task.log.metadata().unwrap().len();
    assert!(log < delivery::limits::TASK_OUTPUT_BYTES_MAX + 200, "{log}");
    assert!(task.detail.contains("983222790 bytes of its output were dropped"), "{}", task.detail);
    assert!(task.output_tail.last().unwrap().contains("dropped"), "{:?}", task.output_tail);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let kilobytes: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    // Nearly all of it is this test's own record of the 400,000 lines.
    assert!(kilobytes < 300_000, "{peak}");
}

#[tokio::test]
async fn what_stays_in_the_group_is_stopped_and_told() {
    let world = World::of("a", "sleep 300 & echo $! > child; echo hi");
    let started = Instant::now();
    let report = world.run().await;
    let task = of(&report, "a");
    assert_eq!(task.outcome, TaskOutcome::Success);
    assert!(task.detail.contains("left 1 process group behind"), "{}", task.detail);
    assert!(!lives(&world.read("child")));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn what_leaves_the_group_is_found() {
    let script = "setsid sh -c 'trap \"\" TERM HUP; echo $$ > child; sleep 300 & echo $! > grandchild; wait; sleep 300' & \
                  while ! test -s grandchild; do sleep 0.02; done; echo hi";
    let world = World::of("a", script);
    let started = Instant::now();
    let report = world.run().await;
    let task = of(&report, "a");
    assert_eq!(
        (task.outcome, task.output_tail.as_slice()),
        (TaskOutcome::Success, &["hi".to_owned()][..]),
        "{task:?}"
    );
    assert!(!lives(&world.read("child")), "{}", task.detail);
    assert!(!lives(&world.read("grandchild")), "{}", task.detail);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_held_pipe_does_not_hang_the_run() {
    // Without the cookie and outside the group, nobody can tell whose it is.
    let world = World::of(
        "a",
        "env -i setsid sh -c 'echo $$ > child; sleep 300' & while ! test -s child; do sleep 0.02; done; echo hi",
    );
    let started = Instant::now();
    let report = world.run().await;
    let task = of(&report, "a");
    assert_eq!(task.outcome, TaskOutcome::Success);
    assert!(task.detail.contains("still holds its output open"), "{}", task.detail);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let pid = rustix::process::Pid::from_raw(world.read("child").trim().parse().unwrap()).unwrap();
    rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn cancelled_once_it_stops_gently() {
    let mut world = World::new();
    world.task("a", "trap 'echo bye; exit 0' TERM; echo $$ > pid; while :; do sleep 0.05; done");
    world.task("b", "true").needs = vec!["a".parse().unwrap()];
    world.concurrency = 1;
    let (handle, cancel) = Cancel::channel();
    let pid = world.root.join("pid");
    let (report, ()) = tokio::join!(world.run_until(cancel), async {
        appears(&pid).await;
        handle.escalate();
    });
    assert_eq!(of(&report, "a").outcome, TaskOutcome::Cancelled);
    assert_eq!(of(&report, "a").output_tail.last().map(String::as_str), Some("bye"));
    assert_eq!(of(&report, "b").outcome, TaskOutcome::Skipped);
    assert_eq!(report.outcome(), TaskOutcome::Cancelled);
    assert!(!lives(&world.read("pid")));
}

#[tokio::test]
async fn cancelled_twice_it_stops_at_once() {
    let mut world = World::new();
    world.task("a", "trap '' TERM; echo $$ > pid; while :; do sleep 0.05; done");
    world.task("b", "true");
    world.concurrency = 1;
    let (handle, cancel) = Cancel::channel();
    let pid = world.root.join("pid");
    let started = Instant::now();
    let (report, ()) = tokio::join!(world.run_until(cancel), async {
        appears(&pid).await;
        handle.escalate();
        tokio::time::sleep(Duration::from_millis(200)).await;
        handle.escalate();
    });
    assert_eq!(of(&report, "a").outcome, TaskOutcome::Cancelled);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(!lives(&world.read("pid")));
    let b = of(&report, "b");
    assert!(b.outcome == TaskOutcome::Success || b.detail.contains("not started"), "{b:?}");
}

#[tokio::test]
async fn a_dropped_run_leaves_nothing() {
    let world = World::of("a", "echo $$ > pid; sleep 300 & echo $! > child; wait");
    let child = world.root.join("child");
    tokio::select! {
        _ = world.run() => panic!("it can't end"),
        _ = appears(&child) => {}
    }
    for file in ["pid", "child"] {
        for _ in 0..100 {
            if lives(&world.read(file)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        assert!(!lives(&world.read(file)), "{file}");
    }
}

#[tokio::test]
async fn slots_are_used_and_not_exceeded() {
    let mut world = World::new();
    for at in 0..6 {
        world.task(&format!("t{at}"), "mkdir slot.$$; ls -d slot.* | wc -l; sleep 0.15; rmdir slot.$$");
    }
    let report = world.run().await;
    let seen: Vec<u32> =
        report.tasks.iter().map(|task| task.output_tail[0].trim().parse().unwrap()).collect();
    assert_eq!(seen.iter().max(), Some(&2), "{seen:?}");
    assert!(report.efficiency > 0.5 && report.efficiency <= 1.0, "{report:?}");
}

#[tokio::test]
async fn long_and_broken_lines_are_cut_and_kept() {
    let world = World::of("a", "head -c 200000 /dev/zero | tr '\\0' x; echo; printf 'caf\\351\\n'");
    let report = world.run().await;
    let log = std::fs::read_to_string(&of(&report, "a").log).unwrap();
    let first = log.lines().next().unwrap();
    assert!(first.len() < delivery::limits::LOG_LINE_BYTES_MAX + 100, "{}", first.len());
    assert!(first.contains("bytes more"));
    assert_eq!(log.lines().nth(1), Some("caf\u{fffd}"));
}
