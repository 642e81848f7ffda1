//! DORA from git alone: version tags stand for deployments, so that a team sees figures before it adopts anything.
//!
//! A tag tells when a release was made, not when it reached users, and nothing of failures. So all of it is marked as inferred, and
//! a failure is inferred only from the plainest sign: a patch release of nothing but fixes within [`FIX_WITHIN`]. Absence of
//! that sign is not reported as absence of failures.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use delivery::{CommitId, Timestamp};
use repo::graph::Node;
use repo::{Graph, Repository, conventional, version};

use crate::deployment::{Confidence, Deployment, Failure, FailureKind};
use crate::dora::{self, DoraReport, Scope, Source};
use crate::ledger::change_of;
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
    let releases = releases(repository)?;
    let tips: BTreeSet<&CommitId> =
        releases.values().flatten().map(|release| &release.commit).chain([&head]).collect();
    let graph = repository.graph(&tips.into_iter().cloned().collect::<Vec<_>>())?;
    let merged = graph.merged_at(&head);
    let observed_from = graph.nodes().iter().map(|node| node.committed_at).min().unwrap_or(window.from);
    Ok(releases
        .into_iter()
        .map(|(service, releases)| {
            let environment = GIT_ENVIRONMENT.to_owned();
            let scope = Scope { service, environment, source: Source::GitTags, observed_from };
            dora::report(scope, &deployments(&graph, &merged, &releases), window)
        })
        .collect())
}

/// The releases of each service, oldest first. Pre-releases are none.
fn releases(repository: &Repository) -> Result<BTreeMap<String, Vec<Tagged>>, repo::Error> {
    let mut releases: BTreeMap<String, Vec<Tagged>> = BTreeMap::new();
    for tag in repository.tags()? {
        let Some((service, number)) = version::read_tag(&tag.name) else { continue };
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
    Ok(releases)
}

fn deployments(graph: &Graph, merged: &[Option<Timestamp>], releases: &[Tagged]) -> Vec<Deployment> {
    let tips: Vec<CommitId> = releases.iter().map(|release| release.commit.clone()).collect();
    let held = graph.first_holding(&tips);
    let mut deployments: Vec<Deployment> = Vec::with_capacity(releases.len());
    for (order, release) in releases.iter().enumerate() {
        // The first release is a baseline: only the tagged commit counts, not all history before it.
        let baseline: Vec<usize> = graph.position(&release.commit).into_iter().collect();
        let counted = if order == 0 { &baseline } else { &held[order] };
        let fixed =
            order.checked_sub(1).filter(|before| is_fix(graph, &releases[*before], release, &held[order]));
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
            commit: release.commit.clone(),
            finished_at: release.at,
            rolled_back: false,
            reached_users: true,
            unplanned: fixed.is_some(),
            revert: false,
            failure: None,
            changes: counted.iter().map(|position| change_of(graph, merged, *position)).collect(),
        });
    }
    deployments
}

/// Whether the release mends the one before: soon after it, the same version but for the patch number, at least one fix, and
/// nothing but fixes and housekeeping.
fn is_fix(graph: &Graph, before: &Tagged, release: &Tagged, held: &[usize]) -> bool {
    let soon = before.at.saturating_add(FIX_WITHIN).is_ok_and(|latest| release.at <= latest);
    let patch = (before.numbers.0, before.numbers.1) == (release.numbers.0, release.numbers.1)
        && release.numbers.2 > before.numbers.2;
    if !(soon && patch) {
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
