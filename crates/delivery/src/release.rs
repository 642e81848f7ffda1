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
    /// Everyone who had a hand in the commits since the service's release before it, wherever in the repository, and in its
    /// own; none of them may approve it. For the first release of a repository, only who had a hand in its own commit.
    pub authors: Vec<Person>,
    /// Subjects of the commits since the release before it, newest first.
    pub changelog: Vec<String>,
    /// The run that built and checked it.
    pub run: RunId,
    /// SHA-256 of the DSSE envelope that holds its provenance.
    pub provenance: Digest,
}

impl Release {
    /// Everyone who had a hand in it, some more than once.
    pub fn people(&self) -> impl Iterator<Item = &Person> {
        self.commit.people().chain(&self.authors)
    }
}
