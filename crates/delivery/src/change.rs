//! A change as version control knows it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::CommitId;

/// A person as git names them. The e-mail address in lower case is the identity that review and approval rules compare.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Person {
    /// Display name.
    pub name: String,
    /// E-mail address.
    pub email: String,
}

impl Person {
    /// Whether both are the same identity.
    pub fn is(&self, email: &str) -> bool {
        self.email.eq_ignore_ascii_case(email)
    }
}

/// One commit, with what delivery needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Object name.
    pub id: CommitId,
    /// Who wrote it.
    pub author: Person,
    /// Who committed it: may differ from the author after a rebase or a merge in a forge.
    pub committer: Person,
    /// `Co-authored-by` trailers: they are authors too when approvals are counted.
    pub co_authors: Vec<Person>,
    /// When it was written (author date).
    pub authored_at: Timestamp,
    /// When it entered the branch (committer date).
    pub committed_at: Timestamp,
    /// First line of the message.
    pub subject: String,
}

impl Commit {
    /// Its author, committer and co-authors, some perhaps more than once.
    pub fn people(&self) -> impl Iterator<Item = &Person> {
        [&self.author, &self.committer].into_iter().chain(&self.co_authors)
    }

    /// Whether the identity had a hand in the commit, as author, committer or co-author.
    pub fn is_by(&self, email: &str) -> bool {
        self.people().any(|person| person.is(email))
    }
}
