//! A repository and the questions that the rest of Trimtab asks of it.

use std::collections::HashMap;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::change::{Commit, Person};
use delivery::{CommitId, Timestamp};

use crate::error::Error;
use crate::git::{Flow, Git, failed};
use crate::graph::Graph;
use crate::limits::{CONTACTS_MAX, DIRTY_PATHS_MAX, TAGS_MAX};
use crate::log::{self, Entry, History};

/// A git repository with a work tree.
#[derive(Debug, Clone)]
pub struct Repository {
    root: Utf8PathBuf,
    git: Git,
}

/// A path that is not as the commit has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Relative to the root; with a trailing slash for a repository within the work tree.
    pub path: Utf8PathBuf,
    /// Whether git does not know the path at all.
    pub untracked: bool,
}

/// A tag that leads to a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Its name without `refs/tags/`.
    pub name: String,
    /// The commit it leads to, annotated tags followed.
    pub commit: CommitId,
    /// When it was made: the tagger's date of an annotated tag, otherwise the commit's committer date.
    pub at: Timestamp,
}

impl Repository {
    /// The repository that the directory lies in. [`Error::Missing`] when there is none, or it has no work tree.
    pub fn discover(directory: &Utf8Path) -> Result<Self, Error> {
        const ARGUMENTS: [&str; 2] = ["rev-parse", "--show-toplevel"];
        let answer = Git::at(directory).ask(&ARGUMENTS)?;
        if !answer.success {
            let absent = ["not a git repository", "must be run in a work tree", "cannot change to"];
            return Err(if absent.iter().any(|words| answer.complaint.contains(words)) {
                Error::Missing { directory: directory.to_owned() }
            } else {
                failed(&ARGUMENTS, &answer.complaint)
            });
        }
        let path = String::from_utf8(answer.stdout).map_err(|_| Error::Unexpected {
            command: "rev-parse".to_owned(),
            detail: "the repository's path is not UTF-8".to_owned(),
        })?;
        let root = Utf8PathBuf::from(path.strip_suffix('\n').unwrap_or(&path));
        Ok(Self { git: Git::at(&root), root })
    }

    /// The top of the work tree, absolute.
    pub fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// Where the directory lies in the repository, relative to its root; empty for the root itself.
    pub fn path_of(&self, directory: &Utf8Path) -> Result<Utf8PathBuf, Error> {
        let prefix = Git::at(directory).answer(&["rev-parse", "--show-prefix"])?;
        Ok(Utf8PathBuf::from(String::from_utf8_lossy(&prefix).trim_end_matches(['\n', '/'])))
    }

    /// Whether the commit is there, in whatever branch or in none. It need not be after history was rewritten.
    pub fn holds(&self, commit: &CommitId) -> Result<bool, Error> {
        let name = format!("{commit}^{{commit}}");
        Ok(self.git.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &name])?.success)
    }

    /// Whether the current commit is this one or descends from it.
    pub fn contains(&self, commit: &CommitId) -> Result<bool, Error> {
        if !self.holds(commit)? {
            return Ok(false);
        }
        let arguments = ["merge-base", "--is-ancestor", commit.as_str(), "HEAD"];
        let answer = self.git.ask(&arguments)?;
        if answer.success || answer.complaint.trim().is_empty() {
            Ok(answer.success)
        } else {
            Err(failed(&arguments, &answer.complaint))
        }
    }

    pub(crate) fn git(&self) -> &Git {
        &self.git
    }

    /// The current commit. [`Error::Empty`] before the first.
    pub fn head(&self) -> Result<Commit, Error> {
        let mut found = None;
        let read = log::read(&self.git, &History::newest(), &mut |entry| {
            found = Some(entry.commit);
            Ok(())
        });
        match (read, found) {
            (Ok(()), Some(commit)) => Ok(commit),
            (Ok(()), None) => Err(Error::Empty),
            (Err(error), _) => Err(self.empty_or(error)?),
        }
    }

    /// [`Error::Empty`] when there is no commit at all, otherwise the error itself.
    fn empty_or(&self, error: Error) -> Result<Error, Error> {
        let head =
            self.git.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", "HEAD^{commit}"])?;
        Ok(if head.success { error } else { Error::Empty })
    }

    /// The current branch; `None` when the head is detached.
    pub fn branch(&self) -> Result<Option<String>, Error> {
        const ARGUMENTS: [&str; 4] = ["symbolic-ref", "--quiet", "--short", "HEAD"];
        let answer = self.git.ask(&ARGUMENTS)?;
        if answer.success {
            Ok(Some(String::from_utf8_lossy(&answer.stdout).trim_end().to_owned()))
        } else if answer.complaint.trim().is_empty() {
            Ok(None)
        } else {
            Err(failed(&ARGUMENTS, &answer.complaint))
        }
    }

    /// Uncommitted changes and files that git does not know and does not ignore, as far as they `count`; of those, at most
    /// [`DIRTY_PATHS_MAX`].
    pub fn dirty(&self, count: &dyn Fn(&Change) -> bool) -> Result<Vec<Utf8PathBuf>, Error> {
        const ARGUMENTS: [&str; 6] = [
            "status",
            "--porcelain=v1",
            "-z",
            "--untracked-files=all",
            "--no-renames",
            "--ignore-submodules=none",
        ];
        let mut paths = Vec::new();
        self.git.pieces(&ARGUMENTS, None, 0, &mut |piece| {
            // Two letters of state, a space, the path.
            let path = String::from_utf8_lossy(piece.get(3..).unwrap_or_default()).into_owned();
            let change = Change { path: path.into(), untracked: piece.starts_with(b"??") };
            if count(&change) {
                paths.push(change.path);
            }
            Ok(if paths.len() < DIRTY_PATHS_MAX { Flow::More } else { Flow::Enough })
        })?;
        Ok(paths)
    }

    /// Whether history is cut off. What is computed from a shallow clone's history is wrong without a sign.
    pub fn is_shallow(&self) -> Result<bool, Error> {
        let answer = self.git.answer(&["rev-parse", "--is-shallow-repository"])?;
        Ok(answer.starts_with(b"true"))
    }

    /// [`Error::Shallow`] unless the history is whole.
    pub fn require_whole(&self) -> Result<(), Error> {
        if self.is_shallow()? { Err(Error::Shallow) } else { Ok(()) }
    }

    /// Who works here: git's `user.name` and `user.email`, as the mailmap names them. Never guessed from the host's name.
    pub fn identity(&self) -> Result<Person, Error> {
        let answer = self.git.ask(&["config", "--null", "--get-regexp", r"^user\.(name|email)$"])?;
        let (mut name, mut email) = (None, None);
        for setting in String::from_utf8_lossy(&answer.stdout).split('\0') {
            // The last setting of a key wins, as it does for git.
            match setting.split_once('\n') {
                Some(("user.name", value)) => name = Some(value.trim().to_owned()),
                Some(("user.email", value)) => email = Some(value.trim().to_lowercase()),
                _ => {}
            }
        }
        let email =
            email.filter(|email| !email.is_empty()).ok_or(Error::IdentityMissing { key: "user.email" })?;
        let name = name.filter(|name| !name.is_empty()).ok_or(Error::IdentityMissing { key: "user.name" })?;
        let person = Person { name, email };
        Ok(self.known(vec![person.clone()])?.pop().unwrap_or(person))
    }

    /// The people as the repository's mailmap names them (gitmailmap(5)), each address once: who works under two addresses
    /// is one person where `.mailmap` says so.
    pub fn known(&self, mut people: Vec<Person>) -> Result<Vec<Person>, Error> {
        people.sort_by(|one, other| one.email.cmp(&other.email));
        people.dedup_by(|one, other| one.is(&other.email));
        // What git can't read as a contact, no mailmap names.
        let strange = |text: &str| text.contains(['<', '>', '\n', '\r', '\0']);
        let (mut known, plain): (Vec<Person>, Vec<Person>) = people
            .into_iter()
            .partition(|person| person.email.is_empty() || strange(&person.email) || strange(&person.name));
        for people in plain.chunks(CONTACTS_MAX) {
            let contacts: Vec<String> =
                people.iter().map(|person| format!("{} <{}>", person.name, person.email)).collect();
            let arguments: Vec<&str> =
                ["check-mailmap", "--"].into_iter().chain(contacts.iter().map(String::as_str)).collect();
            let answer = self.git.answer(&arguments)?;
            for line in String::from_utf8_lossy(&answer).lines() {
                let Some((name, email)) = line.strip_suffix('>').and_then(|line| line.rsplit_once('<'))
                else {
                    let detail = "a line that is no contact".to_owned();
                    return Err(Error::Unexpected { command: "check-mailmap".to_owned(), detail });
                };
                known.push(Person { name: name.trim().to_owned(), email: email.to_lowercase() });
            }
        }
        known.sort_by(|one, other| one.email.cmp(&other.email));
        known.dedup_by(|one, other| one.is(&other.email));
        Ok(known)
    }

    /// Where `origin` lies, without any user name, password or token in the address; `None` when there is none.
    pub fn origin(&self) -> Result<Option<String>, Error> {
        let answer = self.git.ask(&["config", "--null", "--get", "remote.origin.url"])?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let url = text.trim_end_matches('\0');
        Ok((answer.success && !url.is_empty()).then(|| without_credentials(url)))
    }

    /// The commits, newest first.
    pub fn commits(&self, history: &History) -> Result<Vec<Commit>, Error> {
        let mut commits = Vec::new();
        self.each(history, &mut |entry| {
            commits.push(entry.commit);
            Ok(())
        })?;
        Ok(commits)
    }

    /// The commits with their parents and messages, newest first.
    pub fn entries(&self, history: &History) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        self.each(history, &mut |entry| {
            entries.push(entry);
            Ok(())
        })?;
        Ok(entries)
    }

    /// Hands over the commits one by one, newest first, without holding them. [`Error::Empty`] before the first commit.
    pub fn each(
        &self,
        history: &History,
        each: &mut dyn FnMut(Entry) -> Result<(), Error>,
    ) -> Result<(), Error> {
        log::read(&self.git, history, each).or_else(|error| match error {
            Error::Failed { .. } if history.tips.is_empty() => Err(self.empty_or(error)?),
            other => Err(other),
        })
    }

    /// The graph of the commits that the tips hold; of the current commit's when there are none. Tips that this repository does
    /// not have are not in it.
    pub fn graph(&self, tips: &[CommitId]) -> Result<Graph, Error> {
        let mut graph = Graph::default();
        let history = History { tips: tips.to_vec(), tips_may_miss: true, ..History::default() };
        self.each(&history, &mut |entry| {
            graph.push(&entry);
            Ok(())
        })?;
        graph.link();
        Ok(graph)
    }

    /// When each commit entered the trunk that ends in `tip` (`None`: the current commit); see [`Graph::merged_at`].
    pub fn merged_at(&self, tip: Option<&CommitId>) -> Result<HashMap<CommitId, Timestamp>, Error> {
        let tip = match tip {
            Some(tip) => tip.clone(),
            None => self.head()?.id,
        };
        let graph = self.graph(std::slice::from_ref(&tip))?;
        let entered = graph.merged_at(&tip);
        Ok(graph
            .nodes()
            .iter()
            .zip(entered)
            .filter_map(|(node, at)| at.map(|at| (node.id.clone(), at)))
            .collect())
    }

    /// The newest commit of a branch, the one here before the one at `origin`; `None` when there is neither.
    pub fn tip(&self, branch: &str) -> Result<Option<CommitId>, Error> {
        for folder in ["heads", "remotes/origin"] {
            let reference = format!("refs/{folder}/{branch}^{{commit}}");
            let answer =
                self.git.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &reference])?;
            if answer.success {
                return log::object_name(String::from_utf8_lossy(&answer.stdout).trim()).map(Some);
            }
        }
        Ok(None)
    }

    /// All tags that lead to a commit, in no particular order.
    pub fn tags(&self) -> Result<Vec<Tag>, Error> {
        self.read_tags(None)
    }

    /// The tags whose commits the current commit holds.
    pub fn tags_reachable(&self) -> Result<Vec<Tag>, Error> {
        let head = self.head()?.id;
        self.read_tags(Some(&head))
    }

    fn read_tags(&self, merged: Option<&CommitId>) -> Result<Vec<Tag>, Error> {
        const FORMAT: &str = "--format=%(refname)%00%(objecttype)%00%(objectname)%00%(*objecttype)%00%(*objectname)%00\
                              %(creatordate:unix)";
        let merged = merged.map(|commit| format!("--merged={commit}"));
        let mut arguments = vec!["for-each-ref", FORMAT];
        arguments.extend(merged.as_deref());
        arguments.push("refs/tags");
        let mut tags = Vec::new();
        let mut nested = Vec::new();
        self.git.pieces(&arguments, None, b'\n', &mut |line| {
            if tags.len() == TAGS_MAX {
                return Err(Error::TooMuch {
                    command: "for-each-ref".into(),
                    limit: format!("{TAGS_MAX} tags"),
                });
            }
            let line = String::from_utf8_lossy(line);
            let fields: Vec<&str> = line.split('\0').collect();
            let [reference, kind, object, peeled_kind, peeled, at] = fields[..] else {
                return Err(Error::Unexpected {
                    command: "for-each-ref".into(),
                    detail: "another number of fields".into(),
                });
            };
            let name = reference.strip_prefix("refs/tags/").unwrap_or(reference).to_owned();
            let at = log::moment(at).unwrap_or(Timestamp::UNIX_EPOCH);
            match (kind, peeled_kind) {
                ("commit", _) => tags.push(Tag { name, commit: log::object_name(object)?, at }),
                ("tag", "commit") => tags.push(Tag { name, commit: log::object_name(peeled)?, at }),
                // A tag of a tag: git before 2.45 follows only one step here.
                ("tag", "tag") => nested.push((name, at)),
                _ => {}
            }
            Ok(Flow::More)
        })?;
        for (name, at) in nested {
            let object = format!("refs/tags/{name}^{{commit}}");
            let answer = self.git.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &object])?;
            if answer.success {
                let commit = log::object_name(String::from_utf8_lossy(&answer.stdout).trim())?;
                tags.push(Tag { name, commit, at });
            }
        }
        Ok(tags)
    }
}

/// Removes `user:password@` from an address with a scheme. `git@host:path` keeps its user: it is no secret and part of the
/// address.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::without_credentials;

    #[test]
    fn an_address_loses_its_credentials() {
        assert_eq!(
            without_credentials("https://u:secret@example.org/a@b.git"),
            "https://example.org/a@b.git"
        );
        assert_eq!(without_credentials("https://token@example.org"), "https://example.org");
        assert_eq!(without_credentials("git@example.org:a/b.git"), "git@example.org:a/b.git");
    }
}
