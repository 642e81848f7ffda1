//! What releases add to each other, in real histories.

use camino::Utf8PathBuf;
use delivery::artifact::Artifact;
use delivery::change::Commit;
use delivery::clock::Seed;
use delivery::release::Release;
use delivery::{Digest, ReleaseId, RunId, ServiceName};

use super::Sandbox;
use crate::lineage::{Lineage, Question, trace};

struct Numbers(u64);

impl Seed for Numbers {
    fn fill(&mut self, buffer: &mut [u8]) {
        self.0 += 1;
        buffer.iter_mut().rev().zip(self.0.to_le_bytes()).for_each(|(byte, number)| *byte = number);
    }
}

/// A repository, and what was released from it, oldest first.
struct Line {
    sandbox: Sandbox,
    releases: Vec<Release>,
    several: bool,
    folder: Utf8PathBuf,
}

impl Line {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        Self { folder: sandbox.root.clone(), sandbox, releases: Vec::new(), several: false }
    }

    /// A commit of this person, who is Ada in git's configuration otherwise.
    fn commit(&mut self, who: &str, path: &str, message: &str) {
        let (name, email) = (format!("user.name={who}"), format!("user.email={who}@example.org"));
        self.sandbox.stage(path);
        self.sandbox.git(&["-c", &name, "-c", &email, "commit", "--quiet", "-m", message]);
    }

    fn trace(&self, service: &str) -> Lineage {
        let (repository, name) = (self.sandbox.open(), ServiceName::new(service).unwrap());
        let commit: Commit = repository.head().unwrap();
        let own: Vec<&Release> =
            self.releases.iter().rev().filter(|release| release.artifact.service == name).collect();
        let paths = if self.several {
            vec![repository.path_of(&self.folder).unwrap().join(service)]
        } else {
            Vec::new()
        };
        let question = Question {
            commit: &commit,
            service: self.several.then_some(&name),
            paths: &paths,
            own: &own,
            first: self.releases.first(),
        };
        trace(&repository, &question).unwrap()
    }

    fn release(&mut self, service: &str) -> Lineage {
        let lineage = self.trace(service);
        let mut seed = Numbers(self.releases.len() as u64);
        self.releases.push(Release {
            id: ReleaseId::mint(&mut seed),
            version: lineage.version.clone(),
            commit: self.sandbox.open().head().unwrap(),
            artifact: Artifact {
                service: ServiceName::new(service).unwrap(),
                digest: Digest::of(b"artifact"),
                files: 1,
                bytes: 1,
            },
            authors: lineage.authors.clone(),
            changelog: Vec::new(),
            run: RunId::mint(&mut seed),
            provenance: Digest::of(b"envelope"),
        });
        lineage
    }

    /// Loses every commit that no branch or tag holds, as time and `git gc` do.
    fn forget(&self) {
        self.sandbox.git(&["reflog", "expire", "--expire=now", "--all"]);
        self.sandbox.git(&["gc", "--quiet", "--prune=now"]);
    }
}

fn who(lineage: &Lineage) -> Vec<&str> {
    lineage.authors.iter().map(|person| person.email.split('@').next().unwrap()).collect()
}

fn subjects(lineage: &Lineage) -> Vec<&str> {
    lineage.changelog.iter().map(|commit| commit.subject.as_str()).collect()
}

#[test]
fn a_first_release_is_its_own_commits_and_the_next_is_all_since() {
    let mut line = Line::new();
    line.commit("bob", "a", "feat: a");
    line.commit("carl", "b", "feat: b");
    let first = line.release("shop");
    assert_eq!(
        (who(&first), subjects(&first), first.version.as_str()),
        (vec!["carl"], vec!["feat: b"], "0.1.0")
    );
    line.commit("dora", "c", "fix: c");
    line.commit("erin", "d", "docs: d");
    let second = line.release("shop");
    assert_eq!((who(&second), second.version.as_str()), (vec!["dora", "erin"], "0.1.1"));
    let again = line.release("shop");
    assert_eq!(who(&again), ["erin"], "another artifact of the same commit has its people");
    assert_eq!(again.version, "0.1.2");
}

#[test]
fn a_change_to_a_shared_folder_is_its_authors_in_every_service() {
    let mut line = Line::new();
    line.several = true;
    line.folder = line.sandbox.root.join("proj");
    line.commit("bob", "proj/web/a", "feat: begin");
    line.release("web");
    line.sandbox.git(&["tag", "v1.0.0"]);
    line.commit("carl", "proj/lib/a", "fix: shared");
    line.commit("dora", "proj/web/a", "feat!: other pages");
    let second = line.release("web");
    assert_eq!(who(&second), ["carl", "dora"]);
    assert_eq!(subjects(&second), ["feat!: other pages"], "the changelog is the service's own");
    assert_eq!(second.version, "2.0.0", "folders count from the manifest, not from the repository's root");
    // A service that is new counts from the project's first release: else carl's would be nobody's.
    let new = line.release("api");
    assert_eq!(who(&new), ["carl", "dora"]);
}

#[test]
fn a_rewritten_history_loses_nobody() {
    let mut line = Line::new();
    line.commit("bob", "a", "feat: a");
    line.release("shop");
    line.commit("carl", "b", "feat: b");
    line.release("shop");
    line.sandbox.clock += 50;
    line.sandbox.git(&["commit", "--quiet", "--amend", "-m", "feat: b, reworded"]);
    line.forget();
    line.commit("dora", "c", "fix: c");
    let lineage = line.trace("shop");
    assert_eq!(lineage.lost.as_ref(), Some(&line.releases[1].commit.id));
    assert_eq!(who(&lineage), ["ada", "carl", "dora"], "since the last release that is still there");
    // Nothing that was released is there any longer.
    line.releases.remove(0);
    line.sandbox.git(&["tag", "v0.1.0"]);
    let lineage = line.release("shop");
    assert_eq!(who(&lineage), ["ada", "carl", "dora"], "what is younger than it, whatever is tagged");
    line.commit("erin", "d", "fix: d");
    let lineage = line.trace("shop");
    assert_eq!((who(&lineage), &lineage.lost), (vec!["erin"], &None));
}

#[test]
fn a_hotfix_of_an_old_line_counts_from_that_line() {
    let mut line = Line::new();
    line.commit("bob", "a", "feat: a");
    line.sandbox.git(&["tag", "v1.0.0"]);
    assert_eq!(line.release("shop").version, "1.0.0");
    line.commit("bob", "a", "feat!: b");
    line.sandbox.git(&["tag", "v2.0.0"]);
    assert_eq!(line.release("shop").version, "2.0.0");
    line.sandbox.git(&["checkout", "--quiet", "-b", "hotfix", "v1.0.0"]);
    line.commit("carl", "a", "fix: urgent");
    assert_eq!(line.release("shop").version, "1.0.1");
    line.commit("carl", "a", "fix: more");
    assert_eq!(line.release("shop").version, "1.0.2");
    line.sandbox.git(&["checkout", "--quiet", "-b", "other", "v1.0.0"]);
    line.commit("dora", "a", "fix: elsewhere");
    let taken = line.release("shop");
    assert_eq!((taken.version.as_str(), who(&taken)), ("1.0.3", vec!["dora"]), "1.0.1 and 1.0.2 are taken");
    line.sandbox.git(&["checkout", "--quiet", "main"]);
    line.commit("dora", "a", "fix: trunk");
    assert_eq!(line.release("shop").version, "2.0.1");
}

#[test]
fn one_person_is_one_address_where_the_mailmap_says_so() {
    let mut line = Line::new();
    line.commit("bob", "a", "feat: a");
    line.release("shop");
    std::fs::write(
        line.sandbox.root.join(".mailmap"),
        "Carl C <carl@example.org> <carl.home@example.org>\nAda <ada@example.org> <ada.work@example.org>\n",
    )
    .unwrap();
    line.commit(
        "carl.home",
        "b",
        "fix: b\n\nCo-authored-by: Ada W <Ada.Work@example.org>\nCo-authored-by: -x < y > <z@w>",
    );
    let lineage = line.trace("shop");
    assert_eq!(who(&lineage), ["ada", "carl", "z"]);
    line.sandbox.git(&["config", "user.email", "ada.work@example.org"]);
    assert_eq!(line.sandbox.open().identity().unwrap().email, "ada@example.org");
}
