//! The next semantic version, from conventional commits since the last version tag (requirement A2).
//!
//! Rules, in order: a breaking change raises the major number (while that is 0, the minor one), `feat` the minor one,
//! everything else the patch one, also commits that follow no convention: what is shipped is never the same version twice.
//! Without a version tag the version is 0.1.0. On the tagged commit itself it is the tag's version. Pre-release
//! tags (`v1.2.0-rc.1`) are no base: the commits before them have not been released yet.
//!
//! A service's tags are `web-v1.2.3`, `web/v1.2.3` or `web@1.2.3`; a service without such tags is versioned by the plain
//! ones, `v1.2.3` or `1.2.3`. "Last" is the highest version that the current commit holds, not the nearest: a patch of an old
//! line must not lower the trunk's version.

use camino::Utf8PathBuf;
use delivery::ServiceName;
use delivery::change::Commit;
use semver::Version;

use crate::conventional;
use crate::error::Error;
use crate::log::{Entry, History};
use crate::repository::{Repository, Tag};

/// Which number a change raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bump {
    /// Nothing that a user must know of.
    Patch,
    /// Something new.
    Minor,
    /// Something that worked before no longer does.
    Major,
}

/// A computed version and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextVersion {
    /// The version.
    pub version: Version,
    /// The tag it counts from; `None` when there is no version tag.
    pub since: Option<Tag>,
    /// What the commits since then raise; `None` when there are none, or no tag to raise.
    pub bump: Option<Bump>,
    /// The commits since then, newest first.
    pub commits: Vec<Commit>,
    /// One sentence: why this version.
    pub reason: String,
}

/// What one message raises.
pub fn bump(message: &str) -> Bump {
    match conventional::parse(message) {
        _ if conventional::announces_break(message) => Bump::Major,
        Some(change) if change.breaking => Bump::Major,
        Some(change) if change.kind == "feat" => Bump::Minor,
        _ => Bump::Patch,
    }
}

/// The version after `last`. Pre-release and build parts are dropped.
pub fn raise(last: &Version, bump: Bump) -> Version {
    match bump {
        Bump::Major if last.major > 0 => Version::new(last.major + 1, 0, 0),
        Bump::Major | Bump::Minor => Version::new(last.major, last.minor + 1, 0),
        Bump::Patch => Version::new(last.major, last.minor, last.patch + 1),
    }
}

/// Splits a tag into what stands before the version (empty, or a service's name) and the version. `None` when it is no
/// version tag.
pub fn read_tag(name: &str) -> Option<(&str, Version)> {
    for separator in ["-v", "/v", "@"] {
        if let Some((service, version)) = name.rsplit_once(separator)
            && !service.is_empty()
            && let Ok(version) = Version::parse(version)
        {
            return Some((service, version));
        }
    }
    let version = Version::parse(name.strip_prefix('v').unwrap_or(name)).ok()?;
    Some(("", version))
}

/// The highest released version among the tags: the service's own, or without such the plain ones.
pub fn last<'a>(tags: &'a [Tag], service: Option<&ServiceName>) -> Option<(&'a Tag, Version)> {
    let highest = |wanted: &str| {
        tags.iter()
            .filter_map(|tag| read_tag(&tag.name).map(|(owner, version)| (tag, owner, version)))
            .filter(|(_, owner, version)| *owner == wanted && version.pre.is_empty())
            .map(|(tag, _, version)| (tag, version))
            .max_by(|a, b| a.1.cmp_precedence(&b.1))
    };
    service.and_then(|service| highest(service.as_str())).or_else(|| highest(""))
}

/// The version that the entries (newest first, all since `last`) make.
pub fn next(last: Option<(&Tag, Version)>, entries: &[Entry]) -> NextVersion {
    let commits = entries.iter().map(|entry| entry.commit.clone()).collect();
    let Some((tag, version)) = last else {
        let reason = "there is no version tag yet".to_owned();
        return NextVersion { version: Version::new(0, 1, 0), since: None, bump: None, commits, reason };
    };
    // The oldest among the weightiest: the commit that first called for it.
    let weightiest = entries
        .iter()
        .rev()
        .map(|entry| (bump(&entry.message), entry))
        .reduce(|best, this| if this.0 > best.0 { this } else { best });
    let since = Some(tag.clone());
    let Some((bump, entry)) = weightiest else {
        let reason = format!("nothing was committed since {}", tag.name);
        return NextVersion { version, since, bump: None, commits, reason };
    };
    let what = match bump {
        Bump::Major => "breaking change",
        Bump::Minor => "feature",
        Bump::Patch => "change",
    };
    let reason = format!("{what} since {}: {}", tag.name, entry.commit.subject);
    NextVersion { version: raise(&version, bump), since, bump: Some(bump), commits, reason }
}

/// The version of the current commit. `paths` are the service's folders in a monorepo; empty means the whole repository.
/// [`Error::Shallow`] in a shallow clone, whose tags and commits would give a wrong version without a sign.
pub fn compute(
    repository: &Repository,
    service: Option<&ServiceName>,
    paths: &[Utf8PathBuf],
) -> Result<NextVersion, Error> {
    repository.require_whole()?;
    let tags = repository.tags_reachable()?;
    let last = last(&tags, service);
    let after = last.as_ref().map(|(tag, _)| tag.commit.clone());
    let entries = repository.entries(&History { after, paths: paths.to_vec(), ..History::default() })?;
    Ok(next(last, &entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn numbers_are_raised() {
        let cases = [
            ("1.2.3", Bump::Major, "2.0.0"),
            ("1.2.3", Bump::Minor, "1.3.0"),
            ("1.2.3", Bump::Patch, "1.2.4"),
            ("0.2.3", Bump::Major, "0.3.0"),
            ("0.2.3", Bump::Minor, "0.3.0"),
            ("0.2.3", Bump::Patch, "0.2.4"),
        ];
        for (from, by, to) in cases {
            assert_eq!(raise(&version(from), by), version(to), "{from} {by:?}");
        }
    }

    #[test]
    fn messages_raise_numbers() {
        assert_eq!(bump("feat: x"), Bump::Minor);
        assert_eq!(bump("fix!: x"), Bump::Major);
        assert_eq!(bump("perf: x"), Bump::Patch);
        assert_eq!(bump("Update README"), Bump::Patch);
        assert_eq!(bump("Rework the API\n\nBREAKING CHANGE: all of it"), Bump::Major);
        assert_eq!(bump("feat: x\n\nBREAKING CHANGE:\nall of it"), Bump::Major);
        assert_eq!(bump("Rework the API\n\nNo BREAKING CHANGE: none of it"), Bump::Patch);
    }

    #[test]
    fn tags_are_read() {
        assert_eq!(read_tag("v1.2.3"), Some(("", version("1.2.3"))));
        assert_eq!(read_tag("1.2.3"), Some(("", version("1.2.3"))));
        assert_eq!(read_tag("web-v1.2.3"), Some(("web", version("1.2.3"))));
        assert_eq!(read_tag("web/v1.2.3-rc.1"), Some(("web", version("1.2.3-rc.1"))));
        assert_eq!(read_tag("@scope/web@1.2.3"), Some(("@scope/web", version("1.2.3"))));
        assert_eq!(read_tag("v1.2.3-v2"), Some(("", version("1.2.3-v2"))));
        for other in ["latest", "v1", "v1.2", "v01.2.3", "release-2024", "", "v", "-v1.2.3"] {
            assert_eq!(read_tag(other), None, "{other}");
        }
    }
}
