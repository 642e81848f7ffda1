//! What a release adds to those before it: its commits, its people, its version.
//!
//! People come from every commit of the repository, whatever it touches: a change to a shared folder changes the service, too.
//! Versions and changelogs may be those of the service's own folder. Leaves out where releases serve: whose changes enter an
//! environment is the promotion's question.
//!
//! Invariant: the people of a line of releases, each since the one before it, are all people of its commits but those that its
//! first holds; so nobody is lost between two releases (requirement D1).

use camino::Utf8PathBuf;
use delivery::change::{Commit, Person};
use delivery::release::Release;
use delivery::{CommitId, ServiceName, Timestamp};
use semver::Version;

use crate::error::Error;
use crate::log::History;
use crate::repository::Repository;
use crate::version::{self, Bump};

/// What is released and what was before.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The commit that is released: the current one.
    pub commit: &'a Commit,
    /// The service, where there are several: its own tags count.
    pub service: Option<&'a ServiceName>,
    /// The service's folders, relative to the repository's root; empty means all of it.
    pub paths: &'a [Utf8PathBuf],
    /// The service's releases, newest first.
    pub own: &'a [&'a Release],
    /// The project's first release, of whatever service: what a new service counts from.
    pub first: Option<&'a Release>,
}

/// What the release adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// Its version, which no other release of the service has.
    pub version: String,
    /// Everyone who had a hand in it, each once.
    pub authors: Vec<Person>,
    /// The commits that its changelog names, newest first.
    pub changelog: Vec<Commit>,
    /// The commit of the release before it, if history was rewritten and the repository has it no longer.
    pub lost: Option<CommitId>,
}

/// Where the release's own commits begin.
enum Since {
    /// There was no release. All of history would be new, and everyone in it an author: only the commit at hand counts.
    Nothing,
    /// After this commit.
    Commit(CommitId),
    /// With what was committed at this time or later: no commit that was released is there any longer.
    Time(Timestamp),
}

/// Answers from the history.
pub fn trace(repository: &Repository, question: &Question<'_>) -> Result<Lineage, Error> {
    let (since, lost) = since(repository, question)?;
    let all = commits(repository, &since, &[], question)?;
    let changelog = match question.paths {
        [] => all.clone(),
        paths => commits(repository, &since, paths, question)?,
    };
    let people = all.iter().chain([question.commit]).flat_map(Commit::people).cloned().collect();
    Ok(Lineage {
        version: version(repository, question)?.to_string(),
        authors: repository.known(people)?,
        changelog,
        lost,
    })
}

/// A release whose commit is gone after a rewritten history is passed over for one before it: that only makes more new.
fn since(repository: &Repository, question: &Question<'_>) -> Result<(Since, Option<CommitId>), Error> {
    // Services that begin together are each a first release.
    let first = question.first.filter(|release| release.commit.id != question.commit.id);
    let before = || question.own.iter().copied().chain(first);
    let Some(newest) = before().next() else { return Ok((Since::Nothing, None)) };
    for release in before() {
        let commit = &release.commit.id;
        if repository.holds(commit)? {
            let lost = (*commit != newest.commit.id).then(|| newest.commit.id.clone());
            return Ok((Since::Commit(commit.clone()), lost));
        }
    }
    Ok((Since::Time(newest.commit.committed_at), Some(newest.commit.id.clone())))
}

fn commits(
    repository: &Repository,
    since: &Since,
    paths: &[Utf8PathBuf],
    question: &Question<'_>,
) -> Result<Vec<Commit>, Error> {
    let mut history = History { paths: paths.to_vec(), ..History::default() };
    match since {
        Since::Nothing => Ok(vec![question.commit.clone()]),
        Since::Commit(commit) => {
            history.after = Some(commit.clone());
            repository.commits(&history)
        }
        Since::Time(time) => {
            let mut commits = repository.commits(&history)?;
            commits.retain(|commit| commit.committed_at >= *time);
            Ok(commits)
        }
    }
}

/// Between two tags several releases may be made; each gets a number of its own, above those that its commit holds, raised as
/// the commits since then ask. Releases of other lines only take their numbers away.
fn version(repository: &Repository, question: &Question<'_>) -> Result<Version, Error> {
    let next = version::compute(repository, question.service, question.paths)?;
    let (mut version, mut bump) = (next.version, next.bump.unwrap_or(Bump::Patch));
    for release in question.own {
        if !repository.contains(&release.commit.id)? {
            continue;
        }
        if let Ok(former) = Version::parse(&release.version)
            && version <= former
        {
            let after = Some(release.commit.id.clone());
            let history = History { after, paths: question.paths.to_vec(), ..History::default() };
            let entries = repository.entries(&history)?;
            bump = entries.iter().map(|entry| version::bump(&entry.message)).max().unwrap_or(Bump::Patch);
            version = version::raise(&former, bump);
        }
        break;
    }
    while question.own.iter().any(|release| release.version == version.to_string()) {
        version = version::raise(&version, bump);
    }
    Ok(version)
}
