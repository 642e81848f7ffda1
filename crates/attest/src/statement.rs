//! The provenance statement: in-toto Statement v1 with the SLSA provenance v1 predicate.
//!
//! Its own wire types, read strictly: an unknown field is refused, because a parameter that we do not understand may have
//! changed what was built (SLSA asks for that in `externalParameters`; we ask it everywhere, since we read only what we
//! wrote). A later format gets another `buildType`.

use delivery::{CommitId, Digest, RunId, ServiceName, TaskName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::address;
use crate::dsse::Envelope;
use crate::key::SigningKey;

/// Media type of the payload.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Type of the statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// Type of the predicate.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// How we build: the manifest's tasks, on a commit.
pub const BUILD_TYPE: &str = "https://trimtab.dev/build/tasks@v1";
/// A build by `trimtab run` or `trimtab ship` on somebody's machine: SLSA Build Level 1.
pub const BUILDER_LOCAL: &str = "https://trimtab.dev/builder/local@v1";

/// An in-toto statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub statement_type: String,
    /// What it is about: exactly one artifact.
    pub subject: Vec<Subject>,
    /// [`PREDICATE_TYPE`].
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// How it came to be.
    pub predicate: Provenance,
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The service's name.
    pub name: String,
    /// The artifact's digest.
    pub digest: Sha256,
}

/// A digest set with SHA-256 only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sha256 {
    /// SHA-256 of the artifact's canonical content list (see [`crate::artifact`]).
    pub sha256: Digest,
}

/// SLSA provenance v1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Provenance {
    /// What was built from what.
    pub build_definition: BuildDefinition,
    /// Where and when.
    pub run_details: RunDetails,
}

/// What was built from what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BuildDefinition {
    /// [`BUILD_TYPE`].
    pub build_type: String,
    /// What the user asked for.
    pub external_parameters: ExternalParameters,
    /// What the build was given.
    pub resolved_dependencies: Vec<Dependency>,
}

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalParameters {
    /// Address of the repository without credentials, query and fragment, or its folder's name when it has no remote.
    pub repository: String,
    /// Branch; absent when the head was detached.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Commit.
    pub commit: CommitId,
    /// Service.
    pub service: ServiceName,
    /// The tasks that ran, in the order of the plan.
    pub tasks: Vec<TaskName>,
}

/// A thing that went into the build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// Where it is from, such as `git+https://example.org/shop.git@refs/heads/main`; absent when it has no address that others
    /// could use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// What it is called, where it has no address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its digest.
    pub digest: GitCommit,
}

/// A digest set with a git commit only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitCommit {
    /// The commit's object name.
    #[serde(rename = "gitCommit")]
    pub git_commit: CommitId,
}

/// Where and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunDetails {
    /// Who built it.
    pub builder: Builder,
    /// Which run, when.
    pub metadata: Metadata,
}

/// Who built it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Builder {
    /// Names the trust in it, such as [`BUILDER_LOCAL`].
    pub id: String,
}

/// Which run, when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    /// The run's id.
    pub invocation_id: RunId,
    /// When it began.
    pub started_on: Timestamp,
    /// When it ended.
    pub finished_on: Timestamp,
}

/// What a finished build tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The artifact's digest.
    pub digest: Digest,
    /// The service it is for.
    pub service: ServiceName,
    /// Address of the repository without credentials (`repo::Repository::origin`), or its folder's name.
    pub repository: String,
    /// Branch, where there was one.
    pub branch: Option<String>,
    /// Commit.
    pub commit: CommitId,
    /// The tasks that ran, in the order of the plan.
    pub tasks: Vec<TaskName>,
    /// The run.
    pub run: RunId,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

impl Dependency {
    /// The source that the parameters name: what is signed here and compared when it is verified.
    pub(crate) fn source(parameters: &ExternalParameters) -> Self {
        let uri = address::uri(&parameters.repository, parameters.reference.as_deref());
        let name = uri.is_none().then(|| parameters.repository.clone());
        Self { uri, name, digest: GitCommit { git_commit: parameters.commit.clone() } }
    }
}

impl Statement {
    /// The statement of a build on this machine.
    pub fn local(build: &Build) -> Self {
        let reference = build.branch.as_ref().map(|branch| format!("refs/heads/{branch}"));
        let external_parameters = ExternalParameters {
            repository: address::public(&build.repository).to_owned(),
            reference,
            commit: build.commit.clone(),
            service: build.service.clone(),
            tasks: build.tasks.clone(),
        };
        Self {
            statement_type: STATEMENT_TYPE.to_owned(),
            subject: vec![Subject {
                name: build.service.to_string(),
                digest: Sha256 { sha256: build.digest.clone() },
            }],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: Provenance {
                build_definition: BuildDefinition {
                    build_type: BUILD_TYPE.to_owned(),
                    resolved_dependencies: vec![Dependency::source(&external_parameters)],
                    external_parameters,
                },
                run_details: RunDetails {
                    builder: Builder { id: BUILDER_LOCAL.to_owned() },
                    metadata: Metadata {
                        invocation_id: build.run.clone(),
                        started_on: build.started_at,
                        finished_on: build.finished_at,
                    },
                },
            },
        }
    }

    /// Signs the statement.
    pub fn seal(&self, key: &SigningKey) -> Envelope {
        // Only strings, lists and objects with fixed keys: there is nothing in it that JSON can't express.
        let payload = serde_json::to_vec(self).unwrap_or_default();
        Envelope::seal(PAYLOAD_TYPE, &payload, key)
    }
}
