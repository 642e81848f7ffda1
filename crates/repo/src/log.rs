//! One commit as `git log` prints it, and which commits to print. Authors and committers are those that the mailmap names.
//!
//! Fields are separated by NUL, which no field can hold, and a record has a fixed number of them; text is decoded
//! leniently (a message in another encoding must not hide a commit), dates are clamped (a broken clock must not either).

use camino::Utf8PathBuf;
use delivery::change::{Commit, Person};
use delivery::{CommitId, Timestamp};

use crate::error::Error;
use crate::git::{Flow, Git};
use crate::limits::{CO_AUTHORS_MAX, COMMITS_MAX};

/// Which commits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Leave out this commit and all that it holds.
    pub after: Option<CommitId>,
    /// Start here and go back; empty means the current commit.
    pub tips: Vec<CommitId>,
    /// Only commits that touch one of these paths (relative to the root, taken literally); empty means all.
    pub paths: Vec<Utf8PathBuf>,
    /// Follow only the first parent of merges: the trunk's own commits.
    pub first_parent: bool,
    /// Pass over tips that this repository does not have: they were rewritten away, or never fetched.
    pub tips_may_miss: bool,
    /// Stop after so many.
    pub limit: Option<usize>,
}

impl History {
    /// Everything after one commit up to another.
    pub fn between(after: CommitId, until: CommitId) -> Self {
        Self { after: Some(after), tips: vec![until], ..Self::default() }
    }

    /// Only the newest commit of each tip's history.
    pub(crate) fn newest() -> Self {
        Self { limit: Some(1), ..Self::default() }
    }
}

/// A commit with its place in the graph and its whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The commit.
    pub commit: Commit,
    /// Its parents, first parent first; more than one for a merge.
    pub parents: Vec<CommitId>,
    /// The message, at most [`crate::limits::FIELD_BYTES_MAX`] of it.
    pub message: String,
}

const FORMAT: &str = "--format=tformat:%H%x00%P%x00%aN%x00%aE%x00%at%x00%cN%x00%cE%x00%ct%x00%B";
const FIELDS: usize = 9;

/// Hands over each commit, newest first.
pub(crate) fn read(
    git: &Git,
    history: &History,
    each: &mut dyn FnMut(Entry) -> Result<(), Error>,
) -> Result<(), Error> {
    let limit = format!("--max-count={}", history.limit.unwrap_or(COMMITS_MAX + 1));
    let mut arguments = vec!["log", "-z", FORMAT, "--no-color", "--no-decorate", &limit];
    if history.first_parent {
        arguments.push("--first-parent");
    }
    if history.tips_may_miss {
        arguments.push("--ignore-missing");
    }
    // Tips go through standard input: there may be more of them (tags) than an argument list holds.
    let mut revisions = String::new();
    for tip in &history.tips {
        revisions.push_str(tip.as_str());
        revisions.push('\n');
    }
    if history.tips.is_empty() {
        revisions.push_str("HEAD\n");
    }
    if let Some(after) = &history.after {
        revisions.push('^');
        revisions.push_str(after.as_str());
        revisions.push('\n');
    }
    arguments.extend(["--stdin", "--end-of-options", "--"]);
    arguments.extend(history.paths.iter().map(|path| path.as_str()));

    let mut fields: Vec<String> = Vec::with_capacity(FIELDS);
    let mut commits = 0_usize;
    git.pieces(&arguments, Some(revisions.as_bytes()), 0, &mut |field| {
        fields.push(String::from_utf8_lossy(field).into_owned());
        if fields.len() < FIELDS {
            return Ok(Flow::More);
        }
        commits += 1;
        if commits > COMMITS_MAX {
            return Err(Error::TooMuch {
                command: "log".to_owned(),
                limit: format!("{COMMITS_MAX} commits"),
            });
        }
        each(entry(&mut fields)?)?;
        Ok(Flow::More)
    })?;
    if fields.is_empty() { Ok(()) } else { Err(unexpected("a record that ends too early")) }
}

/// Turns one record into an entry; leaves `fields` empty for the next.
fn entry(fields: &mut Vec<String>) -> Result<Entry, Error> {
    let record: [String; FIELDS] =
        std::mem::take(fields).try_into().map_err(|_| unexpected("a record of another length"))?;
    fields.reserve(FIELDS);
    let [id, parents, author, author_email, authored, committer, committer_email, committed, message] =
        record;
    let committed_at = moment(&committed).unwrap_or(Timestamp::UNIX_EPOCH);
    let commit = Commit {
        id: object_name(&id)?,
        author: Person { name: author, email: author_email.to_lowercase() },
        committer: Person { name: committer, email: committer_email.to_lowercase() },
        co_authors: co_authors(&message),
        authored_at: moment(&authored).unwrap_or(committed_at),
        committed_at,
        subject: message.lines().next().unwrap_or_default().trim().to_owned(),
    };
    let parents = parents.split_ascii_whitespace().map(object_name).collect::<Result<_, _>>()?;
    Ok(Entry { commit, parents, message })
}

/// Seconds since 1970 as git prints them, clamped to what a timestamp can hold; `None` for no number.
pub(crate) fn moment(seconds: &str) -> Option<Timestamp> {
    let seconds: i64 = seconds.trim().parse().ok()?;
    let clamped = seconds.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(clamped).ok()
}

pub(crate) fn object_name(text: &str) -> Result<CommitId, Error> {
    CommitId::new(text).map_err(|error| unexpected(&format!("{:?} is no commit: {error}", clip(text))))
}

fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

fn unexpected(detail: &str) -> Error {
    Error::Unexpected { command: "log".to_owned(), detail: detail.to_owned() }
}

/// The people named in `Co-authored-by: Name <address>` lines. Anywhere in the message: naming one co-author too many only
/// makes one approver fewer, missing one would let an author approve their own change.
fn co_authors(message: &str) -> Vec<Person> {
    const KEY: &str = "co-authored-by:";
    let mut people: Vec<Person> = Vec::new();
    for line in message.lines() {
        let line = line.trim();
        let Some((key, rest)) = line.split_at_checked(KEY.len()) else { continue };
        if !key.eq_ignore_ascii_case(KEY) || people.len() == CO_AUTHORS_MAX {
            continue;
        }
        let Some((name, address)) = rest.rsplit_once('<') else { continue };
        let email = address.trim().trim_end_matches('>').trim().to_lowercase();
        if !email.is_empty() && !people.iter().any(|person| person.is(&email)) {
            people.push(Person { name: name.trim().to_owned(), email });
        }
    }
    people
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn co_authors_are_found_however_they_are_cased() {
        let message = "feat: x\n\nbody\n\nCo-authored-by: Ada L <Ada@Example.org>\nco-Authored-By:Bob <b@x>\nCo-authored-by: nobody\n\
             Co-authored-by: Ada again <ada@example.org>\n";
        let found = co_authors(message);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Person { name: "Ada L".into(), email: "ada@example.org".into() });
        assert!(found[1].is("B@x"));
    }

    #[test]
    fn broken_dates_are_clamped() {
        assert_eq!(moment("0"), Some(Timestamp::UNIX_EPOCH));
        assert!(moment("99999999999999999").is_some());
        assert_eq!(moment(""), None);
    }
}
