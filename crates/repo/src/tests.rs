//! The crate against real repositories, made by real git.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::code::Code;
use delivery::{CommitId, ServiceName, Timestamp};

use crate::version;
use crate::{Error, History, Repository};

mod lineage;

struct Sandbox {
    _folder: tempfile::TempDir,
    root: Utf8PathBuf,
    clock: i64,
}

impl Sandbox {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().canonicalize().unwrap()).unwrap();
        let sandbox = Self { _folder: folder, root, clock: 1_700_000_000 };
        sandbox.git(&["init", "--quiet", "--initial-branch=main"]);
        sandbox.git(&["config", "user.name", "Ada"]);
        sandbox.git(&["config", "user.email", "Ada@Example.org"]);
        sandbox
    }

    #[expect(clippy::disallowed_methods, reason = "tests make repositories with git itself")]
    fn git(&self, arguments: &[&str]) -> String {
        let date = format!("{} +0000", self.clock);
        let output = Command::new("git")
            .args(["-C", self.root.as_str(), "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"])
            .args(arguments)
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_DATE", &date)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Changes a file and adds it, a while later.
    fn stage(&mut self, path: &str) {
        self.clock += 100;
        let file = self.root.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, format!("{}\n", self.clock)).unwrap();
        self.git(&["add", "--", path]);
    }

    fn commit(&mut self, path: &str, message: &str) -> CommitId {
        self.stage(path);
        self.git(&["commit", "--quiet", "-m", message]);
        CommitId::new(self.git(&["rev-parse", "HEAD"])).unwrap()
    }

    fn open(&self) -> Repository {
        Repository::discover(&self.root).unwrap()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn no_repository_and_no_commits_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let outside = Utf8Path::from_path(folder.path()).unwrap();
    assert!(matches!(Repository::discover(outside), Err(Error::Missing { .. })));
    assert!(matches!(Repository::discover(&outside.join("absent")), Err(Error::Missing { .. })));
    let repository = Sandbox::new();
    let open = repository.open();
    assert!(matches!(open.head(), Err(Error::Empty)));
    assert!(matches!(open.commits(&History::default()), Err(Error::Empty)));
    assert!(matches!(version::compute(&open, None, &[]), Err(Error::Empty)));
    assert_eq!(open.branch().unwrap().as_deref(), Some("main"));
    assert_eq!(Error::Empty.problem().code, Code::RepositoryEmpty);
}

#[test]
fn a_commit_is_read_whole() {
    let mut sandbox = Sandbox::new();
    let id = sandbox.commit("a.txt", "feat: begin\n\nBody\n\nCo-authored-by: Bob <BOB@example.org>");
    std::fs::create_dir_all(sandbox.root.join("deep/er")).unwrap();
    let repository = Repository::discover(&sandbox.root.join("deep/er")).unwrap();
    assert_eq!(repository.root(), sandbox.root);
    let head = repository.head().unwrap();
    assert_eq!(head.id, id);
    assert_eq!(head.subject, "feat: begin");
    assert_eq!(head.authored_at, at(1_700_000_100));
    assert!(head.is_by("ada@example.org") && head.is_by("bob@example.org") && !head.is_by("eve@example.org"));
    assert_eq!(repository.identity().unwrap().email, "ada@example.org");
    assert!(!repository.is_shallow().unwrap());
    sandbox.git(&["checkout", "--quiet", "--detach"]);
    assert_eq!(repository.branch().unwrap(), None);
}

#[test]
fn odd_names_stay_data() {
    let mut sandbox = Sandbox::new();
    let odd = "--output=x\n\"é\t.txt";
    sandbox.commit("a", "feat: a");
    sandbox.commit(odd, "fix: -- odd\x01 %H");
    sandbox.git(&["tag", "v0.1.0", "HEAD~1"]);
    sandbox.git(&["tag", "ünicode-v1.0.0"]);
    let repository = sandbox.open();
    let paths = vec![Utf8PathBuf::from(odd)];
    let commits = repository.commits(&History { paths, ..History::default() }).unwrap();
    assert_eq!(commits.len(), 1);
    assert_eq!(commits[0].subject, "fix: -- odd\x01 %H");
    assert!(repository.tags().unwrap().iter().any(|tag| tag.name == "ünicode-v1.0.0"));
    std::fs::write(sandbox.root.join(odd), "changed").unwrap();
    assert_eq!(repository.dirty(&|_| true).unwrap(), [Utf8PathBuf::from(odd)]);
}

#[test]
fn dirty_lists_changes_but_not_what_is_ignored() {
    let mut sandbox = Sandbox::new();
    sandbox.commit(".gitignore", "chore: ignore");
    std::fs::write(sandbox.root.join(".gitignore"), "target/\n").unwrap();
    sandbox.git(&["commit", "--quiet", "-am", "chore: ignore target"]);
    assert!(sandbox.open().dirty(&|_| true).unwrap().is_empty());
    std::fs::create_dir(sandbox.root.join("target")).unwrap();
    std::fs::write(sandbox.root.join("target/x"), "x").unwrap();
    assert!(sandbox.open().dirty(&|_| true).unwrap().is_empty());
    for n in 0..crate::limits::DIRTY_PATHS_MAX + 5 {
        std::fs::write(sandbox.root.join(format!("new-{n}")), "x").unwrap();
    }
    assert_eq!(sandbox.open().dirty(&|_| true).unwrap().len(), crate::limits::DIRTY_PATHS_MAX);
    // What does not count does not use up the limit either.
    std::fs::write(sandbox.root.join("z"), "x").unwrap();
    sandbox.git(&["add", "z"]);
    assert_eq!(sandbox.open().dirty(&|change| !change.untracked).unwrap(), [Utf8PathBuf::from("z")]);
}

#[test]
fn only_what_the_commit_holds_is_not_foreign() {
    let mut sandbox = Sandbox::new();
    sandbox.commit("src/same", "feat: a");
    sandbox.commit("src/edited", "feat: b");
    std::os::unix::fs::symlink("same", sandbox.root.join("src/link")).unwrap();
    std::os::unix::fs::symlink("same", sandbox.root.join("src/moved")).unwrap();
    sandbox.git(&["add", "src/link", "src/moved"]);
    let commit = sandbox.commit("src/hidden", "feat: c");
    std::fs::write(sandbox.root.join("src/new"), "x").unwrap();
    std::fs::write(sandbox.root.join("src/edited"), "x").unwrap();
    sandbox.git(&["update-index", "--assume-unchanged", "src/hidden"]);
    std::fs::write(sandbox.root.join("src/hidden"), "x").unwrap();
    std::fs::remove_file(sandbox.root.join("src/moved")).unwrap();
    std::os::unix::fs::symlink("new", sandbox.root.join("src/moved")).unwrap();
    let names = ["same", "edited", "link", "moved", "hidden", "new", "absent"];
    let paths: Vec<_> = names.map(|name| Utf8Path::new("src").join(name)).into();
    let mut foreign = sandbox.open().foreign(&commit, &paths).unwrap();
    foreign.sort();
    assert_eq!(foreign, ["src/absent", "src/edited", "src/hidden", "src/moved", "src/new"]);
    assert!(crate::tracked(&sandbox.root.join("src")).unwrap().contains(&"hidden".to_owned()));
}

#[test]
fn ranges_tags_and_the_trunk() {
    let mut sandbox = Sandbox::new();
    let first = sandbox.commit("a", "feat: a");
    sandbox.git(&["tag", "v0.1.0"]);
    sandbox.git(&["checkout", "--quiet", "-b", "side"]);
    let side = sandbox.commit("b", "feat: b");
    sandbox.git(&["checkout", "--quiet", "main"]);
    let direct = sandbox.commit("c", "fix: c");
    sandbox.clock += 1000;
    sandbox.git(&["merge", "--quiet", "--no-ff", "-m", "Merge side", "side"]);
    let merge = CommitId::new(sandbox.git(&["rev-parse", "HEAD"])).unwrap();
    let merged = sandbox.clock;
    sandbox.clock += 5;
    sandbox.git(&["tag", "-a", "v0.2.0", "-m", "two"]);
    sandbox.git(&["tag", "-a", "nested", "-m", "tag of a tag", "v0.2.0"]);
    sandbox.git(&["tag", "tree", "HEAD^{tree}"]);
    let repository = sandbox.open();

    let since: Vec<_> = repository
        .commits(&History::between(first.clone(), merge.clone()))
        .unwrap()
        .into_iter()
        .map(|c| c.id)
        .collect();
    assert_eq!(since, [merge.clone(), direct.clone(), side.clone()]);
    let trunk = repository.commits(&History { first_parent: true, ..History::default() }).unwrap();
    assert_eq!(trunk.len(), 3);

    let mut tags = repository.tags().unwrap();
    tags.sort_by(|a, b| a.name.cmp(&b.name));
    let seen: Vec<_> = tags.iter().map(|tag| (tag.name.as_str(), &tag.commit, tag.at)).collect();
    let expected = [
        ("nested", &merge, at(merged + 5)),
        ("v0.1.0", &first, at(1_700_000_100)),
        ("v0.2.0", &merge, at(merged + 5)),
    ];
    assert_eq!(seen, expected);

    let entered = repository.merged_at(None).unwrap();
    assert_eq!(entered[&first], at(1_700_000_100));
    assert_eq!(entered[&side], at(merged), "came in by the merge");
    assert_eq!(entered[&direct], at(1_700_000_300));
    let graph = repository.graph(&[]).unwrap();
    let shipped = graph.first_holding(&[first, merge]);
    assert_eq!((shipped[0].len(), shipped[1].len()), (1, 3));
}

#[test]
fn versions_follow_the_tags_that_the_commit_holds() {
    let mut sandbox = Sandbox::new();
    sandbox.commit("web/a", "feat: a");
    let version_of = |sandbox: &Sandbox, service: Option<&str>, paths: &[&str]| {
        let service = service.map(|name| ServiceName::new(name).unwrap());
        let paths: Vec<Utf8PathBuf> = paths.iter().map(Utf8PathBuf::from).collect();
        version::compute(&sandbox.open(), service.as_ref(), &paths).unwrap().version.to_string()
    };
    assert_eq!(version_of(&sandbox, None, &[]), "0.1.0");
    sandbox.git(&["tag", "v0.1.0"]);
    assert_eq!(version_of(&sandbox, None, &[]), "0.1.0");
    sandbox.commit("api/a", "Update something");
    assert_eq!(version_of(&sandbox, None, &[]), "0.1.1");
    sandbox.git(&["tag", "v0.2.0-rc.1"]);
    sandbox.commit("web/a", "feat!: other");
    assert_eq!(version_of(&sandbox, None, &[]), "0.2.0");
    sandbox.git(&["tag", "web-v3.1.4", "HEAD~1"]);
    assert_eq!(version_of(&sandbox, Some("web"), &["web"]), "4.0.0");
    assert_eq!(version_of(&sandbox, Some("api"), &["api"]), "0.1.1", "plain tags, own folder");
    let next = version::compute(&sandbox.open(), None, &[]).unwrap();
    assert_eq!(next.reason, "breaking change since v0.1.0: feat!: other");
    assert_eq!(next.commits.len(), 2);
    // A higher tag on a branch that was never merged does not count.
    sandbox.git(&["checkout", "--quiet", "-b", "other", "v0.1.0"]);
    sandbox.commit("x", "feat: x");
    sandbox.git(&["tag", "v9.0.0"]);
    sandbox.git(&["checkout", "--quiet", "main"]);
    assert_eq!(version_of(&sandbox, None, &[]), "0.2.0");
}

#[test]
fn a_shallow_clone_is_refused_where_it_would_lie() {
    let mut sandbox = Sandbox::new();
    sandbox.commit("a", "feat: a");
    sandbox.commit("a", "feat: b");
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(folder.path()).unwrap().join("clone");
    let source = format!("file://{}", sandbox.root);
    sandbox.git(&["clone", "--quiet", "--depth=1", &source, path.as_str()]);
    let clone = Repository::discover(&path).unwrap();
    assert!(clone.is_shallow().unwrap());
    assert_eq!(clone.head().unwrap().subject, "feat: b");
    assert_eq!(clone.origin().unwrap(), Some(source));
    assert!(matches!(version::compute(&clone, None, &[]), Err(Error::Shallow)));
    assert_eq!(clone.merged_at(None).unwrap().len(), 1);
}

#[test]
fn a_failing_command_says_why() {
    let mut sandbox = Sandbox::new();
    sandbox.commit("a", "feat: a");
    let absent = CommitId::new("0123456789012345678901234567890123456789").unwrap();
    let error = sandbox.open().commits(&History { tips: vec![absent], ..History::default() }).unwrap_err();
    assert_eq!(error.problem().code, Code::GitFailed);
    assert!(error.to_string().contains("bad object"), "{error}");
}
