//! Figures from git alone, against repositories made by real git.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use camino::Utf8PathBuf;
use repo::Repository;

use super::{DAY, HOUR, at, month, value};
use crate::{Confidence, DoraReport, Window, from_git};

struct Sandbox {
    _folder: tempfile::TempDir,
    root: Utf8PathBuf,
}

#[expect(clippy::disallowed_methods, reason = "tests make repositories with git itself")]
fn git(root: &Utf8PathBuf, arguments: &[&str], input: &str) {
    let mut child = Command::new("git")
        .args(["-C", root.as_str()])
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "git {arguments:?}");
}

/// A fast-import stream, one commit at a time.
#[derive(Default)]
struct Stream {
    text: String,
    mark: u32,
}

impl Stream {
    /// A commit on `branch` whose first parent is the branch's tip; gives its mark.
    fn commit(&mut self, branch: &str, subject: &str, authored: i64, committed: i64, merge: &[u32]) -> u32 {
        self.mark += 1;
        let person = "Ada <ada@example.org>";
        let (authored, committed) = (at(authored).as_second(), at(committed).as_second());
        let (mark, length) = (self.mark, subject.len());
        write!(
            self.text,
            "commit refs/heads/{branch}\nmark :{mark}\nauthor {person} {authored} +0000\ncommitter {person} {committed} +0000\n\
             data {length}\n{subject}\n"
        )
        .unwrap();
        for parent in merge {
            writeln!(self.text, "merge :{parent}").unwrap();
        }
        writeln!(self.text, "M 644 inline file\ndata 0\n").unwrap();
        mark
    }

    fn branch(&mut self, name: &str, from: u32) {
        writeln!(self.text, "reset refs/heads/{name}\nfrom :{from}\n").unwrap();
    }

    fn tag(&mut self, name: &str, mark: u32, when: i64) {
        let second = at(when).as_second();
        write!(
            self.text,
            "tag {name}\nfrom :{mark}\ntagger Ada <ada@example.org> {second} +0000\ndata 1\nx\n"
        )
        .unwrap();
    }

    fn import(&self) -> Sandbox {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().canonicalize().unwrap()).unwrap();
        git(&root, &["init", "--quiet", "--initial-branch=main"], "");
        git(&root, &["fast-import", "--quiet"], &self.text);
        Sandbox { _folder: folder, root }
    }
}

impl Sandbox {
    fn reports(&self, window: Window) -> Vec<DoraReport> {
        from_git(&Repository::discover(&self.root).unwrap(), window).unwrap()
    }

    fn report(&self) -> DoraReport {
        let mut reports = self.reports(month());
        assert_eq!(reports.len(), 1);
        reports.remove(0)
    }
}

fn exactly(figure: &crate::Figure, wanted: f64) {
    assert!((value(figure) - wanted).abs() < 1e-9, "{} instead of {wanted}", value(figure));
}

#[test]
fn tags_stand_for_deployments() {
    let mut stream = Stream::default();
    let first = stream.commit("main", "feat: begin", HOUR, HOUR, &[]);
    stream.tag("v1.0.0", first, 2 * HOUR);
    // A branch: written on day 1, merged on day 3.
    stream.branch("side", first);
    let side = stream.commit("side", "feat: side", DAY, DAY, &[]);
    let merge = stream.commit("main", "Merge side", 3 * DAY, 3 * DAY, &[side]);
    stream.tag("v1.1.0-rc.1", merge, 3 * DAY + 1);
    stream.tag("v1.1.0", merge, 4 * DAY);
    stream.tag("1.1.0", merge, 5 * DAY);
    // An emergency fix the next day, then a quiet feature.
    let fix = stream.commit("main", "fix: stop the bleeding", 4 * DAY + HOUR, 4 * DAY + HOUR, &[]);
    let bump = stream.commit("main", "chore: release", 4 * DAY + 2 * HOUR, 4 * DAY + 2 * HOUR, &[]);
    stream.tag("v1.1.1", bump, 4 * DAY + 3 * HOUR);
    let feature = stream.commit("main", "feat: more", 20 * DAY, 20 * DAY, &[]);
    stream.tag("v1.2.0", feature, 21 * DAY);
    let report = stream.import().report();
    assert_eq!(fix + 1, bump);

    assert_eq!((report.counts.completed, report.counts.changes), (4, 6));
    // Sorted, in hours: 1, 1, 2, 24, 24, 72.
    exactly(&report.lead_time_commit, (13 * HOUR) as f64);
    exactly(&report.lead_time_commit_p90, (3 * DAY) as f64);
    // By merge: 1, 1, 2, 24, 24, 24.
    exactly(&report.lead_time_merge_p90, DAY as f64);
    exactly(&report.change_failure_rate, 0.25);
    exactly(&report.recovery_time, (3 * HOUR) as f64);
    exactly(&report.rework_rate, 0.25);
    assert!(report.figures().iter().all(|(_, figure)| figure.confidence == Confidence::Inferred));
    exactly(&report.deployment_frequency, 4.0 / (30.0 - 1.0 / 24.0));
}

#[test]
fn only_plain_emergency_fixes_count_as_failures() {
    for (subject, tag, hours) in [
        ("fix: x", "v1.0.1", 100),
        ("fix: x", "v1.1.0", 1),
        ("feat: x", "v1.0.1", 1),
        ("Polish things", "v1.0.1", 1),
        ("chore: release", "v1.0.1", 1),
    ] {
        let mut stream = Stream::default();
        let first = stream.commit("main", "feat: begin", 0, 0, &[]);
        stream.tag("v1.0.0", first, 0);
        let second = stream.commit("main", subject, hours * HOUR, hours * HOUR, &[]);
        stream.tag(tag, second, hours * HOUR);
        let report = stream.import().report();
        let figure = &report.change_failure_rate;
        assert_eq!((figure.value, figure.n), (None, 2), "{subject} {tag} {hours}");
        assert!(figure.why_empty.as_ref().unwrap().contains("git records no failures"));
    }
}

#[test]
fn a_release_branch_has_no_merge_clock_and_services_are_apart() {
    let mut stream = Stream::default();
    let first = stream.commit("main", "feat: begin", 0, 0, &[]);
    stream.tag("web-v1.0.0", first, HOUR);
    stream.tag("api/v1.0.0", first, HOUR);
    stream.branch("release", first);
    let patch = stream.commit("release", "feat: backport", DAY, DAY, &[]);
    stream.tag("web-v1.0.1", patch, DAY + HOUR);
    stream.commit("main", "feat: go on", 2 * DAY, 2 * DAY, &[]);
    let reports = stream.import().reports(month());
    let names: Vec<_> = reports.iter().map(|report| report.scope.service.as_str()).collect();
    assert_eq!(names, ["api", "web"]);
    assert_eq!((reports[1].lead_time_commit.n, reports[1].lead_time_merge.n), (2, 1));
}

#[test]
fn a_repository_without_version_tags_says_so() {
    let mut stream = Stream::default();
    let first = stream.commit("main", "feat: begin", 0, 0, &[]);
    stream.tag("nightly", first, HOUR);
    let sandbox = stream.import();
    let report = sandbox.report();
    for (name, figure) in report.figures() {
        assert_eq!(figure.value, None, "{name}");
        assert_eq!(
            figure.why_empty.as_deref(),
            Some("there is 1 tag, none of which is read as a version: tag a release, such as v1.2.3")
        );
    }
    let mut stream = Stream::default();
    stream.commit("main", "feat: begin", 0, 0, &[]);
    let why = stream.import().report().deployment_frequency.why_empty;
    assert_eq!(why.as_deref(), Some("there is no version tag yet: tag a release, such as v1.2.3"));
    let empty = Stream::default().import();
    let repository = Repository::discover(&empty.root).unwrap();
    assert!(matches!(from_git(&repository, month()), Err(repo::Error::Empty)));
}

#[test]
fn tags_with_one_name_before_the_version_are_read() {
    let with = |tags: &[&str]| {
        let mut stream = Stream::default();
        for (at, tag) in (0_i64..).zip(tags) {
            let commit = stream.commit("main", "feat: x", at * HOUR, at * HOUR, &[]);
            stream.tag(tag, commit, at * HOUR);
        }
        let report = stream.import().report();
        (report.counts.completed, report.deployment_frequency.why_empty)
    };
    assert_eq!(with(&["app-1.0.0", "app-1.1.0-rc.1", "app-1.1.0"]), (2, None));
    assert_eq!(with(&["my-app-1.0.0"]), (1, None));
    assert_eq!(with(&["release/1.0.0", "nightly"]), (1, None));
    assert_eq!(with(&["app-1.0.0", "v1.1.0"]), (1, None), "plain versions are there");
    let (none, why) = with(&["app-1.0.0", "library-1.0.0", "v1.2"]);
    assert_eq!(none, 0);
    assert!(why.as_ref().unwrap().starts_with("there are 3 tags, none of which is read"), "{why:?}");
}

#[test]
fn a_release_that_holds_no_release_before_it_is_a_baseline() {
    let mut stream = Stream::default();
    let old = stream.commit("old", "feat: long ago", 0, 0, &[]);
    stream.tag("v0.1.0", old, HOUR);
    let mut last = 0;
    for day in 1..=20 {
        last = stream.commit("main", "feat: anew", day * DAY, day * DAY, &[]);
    }
    stream.tag("v1.0.0", last, 20 * DAY + HOUR);
    let next = stream.commit("main", "feat: next", 21 * DAY, 21 * DAY, &[]);
    stream.tag("v1.1.0", next, 21 * DAY + HOUR);
    let report = stream.import().report();
    assert_eq!(report.lead_time_commit.n, 3);
    exactly(&report.lead_time_commit, HOUR as f64);
}

#[test]
fn a_fix_on_an_older_line_is_a_fix() {
    let mut stream = Stream::default();
    let first = stream.commit("main", "feat: begin", 0, 0, &[]);
    stream.tag("v1.0.0", first, HOUR);
    stream.branch("one", first);
    let second = stream.commit("main", "feat!: anew", 2 * HOUR, 2 * HOUR, &[]);
    stream.tag("v2.0.0", second, 3 * HOUR);
    let fix = stream.commit("one", "fix: mend", 4 * HOUR, 4 * HOUR, &[]);
    stream.tag("v1.0.1", fix, 5 * HOUR);
    let report = stream.import().report();
    exactly(&report.change_failure_rate, 1.0 / 3.0);
    exactly(&report.recovery_time, (4 * HOUR) as f64);
}

/// 5,000 commits in 100 releases with known lead times: each commit waits from 1 to 50 hours.
#[test]
fn a_long_history_gives_known_figures() {
    let mut stream = Stream::default();
    for release in 0..100_i64 {
        let mut last = 0;
        for n in 0..50 {
            let when = release * 60 * HOUR + n * HOUR;
            last = stream.commit("main", "feat: step", when, when, &[]);
        }
        stream.tag(&format!("v1.{release}.0"), last, release * 60 * HOUR + 50 * HOUR);
    }
    let window = Window { from: at(0), until: at(6_000 * HOUR) };
    let report = stream.import().reports(window).remove(0);
    // The first release counts with its tagged commit only.
    assert_eq!((report.counts.completed, report.counts.changes), (100, 99 * 50 + 1));
    exactly(&report.lead_time_commit, (25 * HOUR) as f64);
    exactly(&report.lead_time_commit_p90, (45 * HOUR) as f64);
    exactly(&report.deployment_frequency, 100.0 / 250.0);
    let interval = report.lead_time_commit.interval.unwrap();
    assert!(interval.low >= (24 * HOUR) as f64 && interval.high <= (27 * HOUR) as f64, "{interval:?}");
}
