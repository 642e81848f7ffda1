//! What counts as an input: files that come, go and change while tasks run, behind links, and beside what git ignores.

use std::os::unix::fs::symlink;

use crate::world::{World, of, why};

#[expect(clippy::disallowed_methods, reason = "a repository is made by git itself")]
fn git(world: &World, arguments: &[&str]) {
    let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
    let mut command = std::process::Command::new("git");
    let output = command.arg("-C").arg(&world.root).args(identity).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn what_a_need_generated_is_seen() {
    let mut world = World::new();
    world.write("in", "one");
    world.write("src/x", "x");
    // Settled first, so that the files were listed before anything was generated.
    world.cached("z", "true", &["src/**"], &[]);
    world.cached("generate", "mkdir -p generated; cp in generated/file", &["in"], &["generated/**"]);
    world.cached("use", "cat generated/* > end", &["generated/**"], &["end"]).needs =
        vec!["generate".parse().unwrap()];
    world.run().await;
    let report = world.run().await;
    assert_eq!(report.cached(), 3, "{}", why(&report, "use"));
    std::fs::remove_dir_all(world.root.join("generated")).unwrap();
    std::fs::remove_file(world.root.join("end")).unwrap();
    assert_eq!(world.run().await.cached(), 3, "what was put back is seen, too");
    world.write("in", "two");
    world.run().await;
    assert_eq!(world.read("end"), "two");
}

#[tokio::test]
async fn a_file_that_comes_while_the_task_runs_is_not_trusted() {
    let mut world = World::new();
    world.write("src/a", "A");
    world.cached("a", "test -e done || echo B > src/b; touch done; cat src/* > out", &["src/**"], &["out"]);
    let report = world.run().await;
    assert!(why(&report, "a").contains("changed while it ran"), "{}", why(&report, "a"));
    std::fs::remove_file(world.root.join("src/b")).unwrap();
    let report = world.run().await;
    assert!(!of(&report, "a").cached);
    assert_eq!(world.read("out"), "A");
}

#[tokio::test]
async fn a_change_that_is_taken_back_while_the_task_runs_is_not_trusted() {
    let mut world = World::new();
    world.write("in", "A");
    world.cached("a", "printf Z > in; cat in > out; printf A > in", &["in"], &["out"]);
    let report = world.run().await;
    assert!(why(&report, "a").contains("changed while it ran"), "{}", why(&report, "a"));
    assert_eq!(world.read("in"), "A");
}

#[tokio::test]
async fn a_folder_behind_a_link_counts_with_what_it_holds() {
    let mut world = World::new();
    world.write("real/x", "1");
    symlink("real", world.root.join("link")).unwrap();
    world.write(".gitignore", "/real\n/out*\n");
    for (at, input) in ["link/**", "link", "**", "link/*"].into_iter().enumerate() {
        let name = format!("t{at}");
        world.cached(&name, &format!("cat link/x > out{at}"), &[input], &[&format!("out{at}")]);
    }
    world.run().await;
    assert_eq!(world.run().await.cached(), 4);
    world.write("real/x", "2");
    assert_eq!(world.run().await.cached(), 0);
}

#[tokio::test]
async fn a_folder_that_is_linked_from_elsewhere_is_said_to_be_unknown() {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut world = World::new();
    symlink(elsewhere.path(), world.root.join("link")).unwrap();
    world.cached("a", "true", &["link/**"], &[]);
    let report = world.run().await;
    let reason = "not cached: an input can't be read: link is a link to a folder outside of the project";
    assert_eq!(why(&report, "a"), reason);
}

#[tokio::test]
async fn a_tracked_file_counts_though_it_is_ignored_or_looks_like_a_report() {
    let mut world = World::new();
    world.write("src/a.txt", "1");
    world.write("src/b.log", "1");
    world.write("src/pom.xml", "1");
    world.write(".gitignore", "*.log\nout\n");
    git(&world, &["init", "--quiet"]);
    git(&world, &["add", "--force", "src", ".gitignore"]);
    git(&world, &["commit", "--quiet", "--message", "feat: begin"]);
    world.cached("a", "cat src/* > out", &["src/**"], &["out"]).junit = vec!["**/*.xml".into()];
    world.run().await;
    world.write("src/b.log", "2");
    assert_eq!(why(&world.run().await, "a"), "run: input src/b.log changed");
    world.write("src/pom.xml", "2");
    assert_eq!(why(&world.run().await, "a"), "run: input src/pom.xml changed");
}

#[tokio::test]
async fn a_glob_that_means_nothing_is_said() {
    let mut world = World::new();
    world.write("src/a", "1");
    world.cached("a", "true", &["src/**", "scr/*.txt"], &[]);
    assert_eq!(world.run().await.warnings, ["the input scr/*.txt of a means no file"]);
}

#[tokio::test]
async fn a_name_that_is_no_text_is_told_without_a_place() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut world = World::new();
    std::fs::write(world.root.as_std_path().join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
    world.cached("a", "true", &["**"], &[]);
    let report = world.run().await;
    assert_eq!(why(&report, "a"), "not cached: an input can't be read: \u{fffd}: its name is not UTF-8");
}
