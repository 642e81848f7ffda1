//! A release: version + artifact + changelog + evidence, one immutable record (requirement A4).

use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;
use crate::change::{Commit, Person};
use crate::id::{Digest, ReleaseId, RunId};

/// What is carried through the environments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its id.
    pub id: ReleaseId,
    /// Semantic version (semver 2.0.0 text), computed from the history.
    pub version: String,
    /// The commit it was built from.
    pub commit: Commit,
    /// What was built; `artifact.service` is the release's service.
    pub artifact: Artifact,
    /// Everyone who had a hand in the commits since the release before it; none of them may approve it.
    pub authors: Vec<Person>,
    /// Subjects of the commits since the release before it, newest first.
    pub changelog: Vec<String>,
    /// The run that built and checked it.
    pub run: RunId,
    /// SHA-256 of the DSSE envelope that holds its provenance.
    pub provenance: Digest,
}

impl Release {
    /// Whether the identity had a hand in what is released.
    pub fn is_by(&self, email: &str) -> bool {
        self.commit.is_by(email) || self.authors.iter().any(|person| person.is(email))
    }
}
