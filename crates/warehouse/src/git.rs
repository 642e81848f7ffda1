//! DORA from git alone: version tags stand for deployments, so that a team sees figures before it adopts anything.
//!
//! A tag tells when a release was made, not when it reached users, and nothing of failures. So all of it is marked as inferred, and
//! a failure is inferred only from the plainest sign: a patch release of nothing but fixes within [`FIX_WITHIN`]. Absence of
//! that sign is not reported as absence of failures.
//!
//! Tags are read as `repo::version` reads them. Only where it can read none, others with a version at their end (`app-1.2.3`,
//! Maven's way) are taken, if all have the same name before it: with several, nobody knows which are releases of what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use delivery::{CommitId, Timestamp};
use repo::graph::Node;
use repo::{Graph, Repository, Tag, conventional, version};

use crate::deployment::{Confidence, Deployment, Failure, FailureKind};
use crate::dora::{self, DoraReport, Scope, Source};
use crate::ledger::changes_of;
use crate::window::Window;

/// The environment's name in these reports.
pub const GIT_ENVIRONMENT: &str = "production (from tags)";
/// How soon the next release must come to count as a fix of the one before.
const FIX_WITHIN: Duration = Duration::from_hours(72);

/// A release as its tag tells it.
#[derive(Debug, Clone)]
struct Tagged {
    name: String,
    commit: CommitId,
    at: Timestamp,
    numbers: (u64, u64, u64),
}

/// Reports on a repository: one report for each service that has version tags of its own (`web-v1.2.3`), one for the plain ones
/// (`v1.2.3`; its service's name is empty). Without any version tag there is one report, which says so. The trunk is the
/// current branch. Errors: no commits, a shallow clone, git failing.
pub fn from_git(repository: &Repository, window: Window) -> Result<Vec<DoraReport>, repo::Error> {
    repository.require_whole()?;
    let head = repository.head()?.id;
    let tags = repository.tags()?;
    let tags_count = tags.len();
    let releases = releases(tags);
    let tags_unread = if releases.values().all(Vec::is_empty) { tags_count } else { 0 };
    let tips: BTreeSet<&CommitId> =
        releases.values().flatten().map(|release| &release.commit).chain([&head]).collect();
    let graph = repository.graph(&tips.into_iter().cloned().collect::<Vec<_>>())?;
    let merged = graph.merged_at(&head);
    let observed_from = graph.nodes().iter().map(|node| node.committed_at).min().unwrap_or(window.from);
    Ok(releases
        .into_iter()
        .map(|(service, releases)| {
            let environment = GIT_ENVIRONMENT.to_owned();
            let scope = Scope { service, environment, source: Source::GitTags, observed_from, tags_unread };
            dora::report(scope, &deployments(&graph, &merged, &releases), window)
        })
        .collect())
}

/// The releases of each service, oldest first. Pre-releases are none.
fn releases(tags: Vec<Tag>) -> BTreeMap<String, Vec<Tagged>> {
    let known = tags.iter().any(|tag| version::read_tag(&tag.name).is_some());
    let names: BTreeSet<&str> =
        tags.iter().filter_map(|tag| named_version(&tag.name)).map(|(name, _)| name).collect();
    let one_name = !known && names.len() == 1;
    let mut releases: BTreeMap<String, Vec<Tagged>> = BTreeMap::new();
    for tag in tags {
        let read = version::read_tag(&tag.name)
            .or_else(|| version::read_tag(named_version(&tag.name).filter(|_| one_name)?.1));
        let Some((service, number)) = read else { continue };
        if number.pre.is_empty() {
            let numbers = (number.major, number.minor, number.patch);
            let service = service.to_owned();
            let tagged = Tagged { name: tag.name, commit: tag.commit, at: tag.at, numbers };
            releases.entry(service).or_default().push(tagged);
        }
    }
    if releases.is_empty() {
        releases.insert(String::new(), Vec::new());
    }
    for of_service in releases.values_mut() {
        of_service.sort_by(|a, b| (a.at, a.numbers, &a.name).cmp(&(b.at, b.numbers, &b.name)));
        // `v1.2.3` and `1.2.3` for the same thing are one release: the one tagged first.
        let mut seen = BTreeSet::new();
        of_service.retain(|release| seen.insert(release.numbers));
    }
    releases
}

/// The name and the version of a tag that ends in a version after a dash or slash: `app-1.2.3`, `release/1.2.3`.
fn named_version(tag: &str) -> Option<(&str, &str)> {
    let plain = |text: &str| version::read_tag(text).is_some_and(|(name, _)| name.is_empty());
    tag.match_indices(['-', '/'])
        .filter(|(at, _)| *at > 0)
        .map(|(at, _)| (&tag[..at], &tag[at + 1..]))
        .find(|(_, version)| plain(version))
}

fn deployments(graph: &Graph, merged: &[Option<Timestamp>], releases: &[Tagged]) -> Vec<Deployment> {
    let tips: Vec<CommitId> = releases.iter().map(|release| release.commit.clone()).collect();
    let held = graph.first_holding(&tips);
    let rooted = graph.holding_earlier(&tips);
    let mut deployments: Vec<Deployment> = Vec::with_capacity(releases.len());
    for (order, release) in releases.iter().enumerate() {
        let fixed = before_on_line(&releases[..order], release)
            .filter(|before| is_fix(graph, &releases[*before], release, &held[order]));
        if let Some(before) = fixed {
            deployments[before].fail(Failure {
                kind: FailureKind::FixFollowed,
                detected_at: releases[before].at,
                restored_at: Some(release.at),
                confidence: Confidence::Inferred,
            });
        }
        deployments.push(Deployment {
            version: release.name.clone(),
            commit: Some(release.commit.clone()),
            finished_at: release.at,
            rolled_back: false,
            exposed_at: Some(release.at),
            unplanned: fixed.is_some(),
            revert: false,
            failure: None,
            changes: changes_of(graph, merged, &release.commit, &held[order], rooted[order]),
        });
    }
    deployments
}

/// The earlier release that this one raises the patch number of, whatever was released on other lines in between.
fn before_on_line(earlier: &[Tagged], release: &Tagged) -> Option<usize> {
    let (major, minor, patch) = release.numbers;
    let on_line = |before: &Tagged| (before.numbers.0, before.numbers.1) == (major, minor);
    let before = earlier.iter().rposition(on_line)?;
    (earlier[before].numbers.2 < patch).then_some(before)
}

/// Whether the release mends the one before on its line: soon after it, at least one fix, and nothing but fixes and
/// housekeeping.
fn is_fix(graph: &Graph, before: &Tagged, release: &Tagged, held: &[usize]) -> bool {
    let soon = before.at.saturating_add(FIX_WITHIN).is_ok_and(|latest| release.at <= latest);
    if !soon {
        return false;
    }
    let kinds: Vec<Kind> = held.iter().map(|position| kind_of(&graph.nodes()[*position])).collect();
    kinds.contains(&Kind::Fix) && !kinds.contains(&Kind::Other)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fix,
    Housekeeping,
    Other,
}

/// What a commit is, from its subject: the conventional type, otherwise the first word. What is not plainly a fix or
/// housekeeping is other.
fn kind_of(node: &Node) -> Kind {
    if node.parents_named > 1 {
        return Kind::Housekeeping;
    }
    let word = match conventional::parse(&node.subject) {
        Some(change) if change.breaking => return Kind::Other,
        Some(change) => change.kind,
        None => {
            let word = node.subject.split(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty());
            word.unwrap_or_default().to_lowercase()
        }
    };
    match word.as_str() {
        "fix" | "fixes" | "fixed" | "hotfix" | "bugfix" | "revert" | "reverts" => Kind::Fix,
        "chore" | "docs" | "doc" | "ci" | "build" | "test" | "tests" | "style" | "bump" | "release"
        | "changelog" | "version" | "prepare" | "merge" => Kind::Housekeeping,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_told_apart() {
        let kind = |subject: &str, parents_named| {
            let id = CommitId::new("0123456789012345678901234567890123456789").unwrap();
            let at = Timestamp::UNIX_EPOCH;
            kind_of(&Node { id, authored_at: at, committed_at: at, subject: subject.into(), parents_named })
        };
        assert_eq!(kind("fix(web): x", 1), Kind::Fix);
        assert_eq!(kind("Revert \"feat: x\"", 1), Kind::Fix);
        assert_eq!(kind("Fix crash", 1), Kind::Fix);
        assert_eq!(kind("Bump version to 1.2.4", 1), Kind::Housekeeping);
        assert_eq!(kind("Add things", 2), Kind::Housekeeping);
        for other in ["feat: x", "perf: x", "fix!: x", "Update things", "", "fixture: x", "...", "Fixture"] {
            assert_eq!(kind(other, 1), Kind::Other, "{other}");
        }
    }
}
