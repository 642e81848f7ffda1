//! Verification before a promotion (requirement C8): is this the artifact that a builder we trust made of that commit?
//!
//! Order: size, envelope, payload type, signature; only then is the payload read: statement type, predicate type, build type,
//! builder, subject, parameters. Each step refuses on doubt. Pure: takes bytes, keys and the expectation.

use delivery::code::Code;
use delivery::{CommitId, Digest, Problem, ServiceName};

use crate::dsse::{Envelope, EnvelopeError};
use crate::key::PublicKey;
use crate::statement::{
    BUILD_TYPE, BUILDER_LOCAL, Dependency, PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, Statement,
};

/// What the provenance must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Digest of the artifact in hand, just computed from its files.
    pub digest: Digest,
    /// The release's commit.
    pub commit: CommitId,
    /// The release's service.
    pub service: ServiceName,
}

/// Why provenance was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The envelope is malformed or not signed by a trusted key.
    #[error("the provenance can't be trusted")]
    Envelope(#[from] EnvelopeError),
    /// The signed payload is not a statement as we write it.
    #[error("the signed provenance is not valid: {detail}")]
    Malformed {
        /// What the parser said.
        detail: String,
    },
    /// A type or builder other than ours.
    #[error("the provenance's {what} is {found:?}, expected {expected:?}")]
    Type {
        /// Which type.
        what: &'static str,
        /// What it says.
        found: String,
        /// What we know.
        expected: &'static str,
    },
    /// Another artifact than the one in hand was signed.
    #[error("the artifact's digest is {found}, but {signed} was signed")]
    ArtifactChanged {
        /// What was signed.
        signed: Digest,
        /// What is in hand.
        found: Digest,
    },
    /// It was made for another commit or service.
    #[error("the provenance is of {what} {signed}, expected {expected}")]
    Other {
        /// `commit` or `service`.
        what: &'static str,
        /// What was signed.
        signed: String,
        /// What was expected.
        expected: String,
    },
}

impl VerifyError {
    /// The problem as a person is told it.
    pub fn problem(&self) -> Problem {
        let (code, hint) = match self {
            Self::ArtifactChanged { .. } => (
                Code::ArtifactChanged,
                "the files changed after they were signed: find out how, then ship the commit again (trimtab ship)",
            ),
            Self::Envelope(EnvelopeError::KeyUnknown { .. }) => (
                Code::SignatureInvalid,
                "it was signed with a key that this project's ledger does not name: ship the commit again here (trimtab ship)",
            ),
            _ => (Code::SignatureInvalid, "ship the commit again (trimtab ship) to build and sign it afresh"),
        };
        let problem = Problem::new(code, self.to_string()).hint(hint);
        match std::error::Error::source(self) {
            Some(source) => problem.because(source),
            None => problem,
        }
    }
}

/// Verifies an envelope's bytes against the trusted keys and the expectation; gives the statement, all of which is then
/// known to be signed.
pub fn verify(envelope: &[u8], trusted: &[PublicKey], expected: &Expected) -> Result<Statement, VerifyError> {
    let envelope = Envelope::parse(envelope)?;
    require_type("payload type", &envelope.payload_type, PAYLOAD_TYPE)?;
    let opened = envelope.open(trusted)?;
    let statement: Statement = serde_json::from_slice(&opened.payload)
        .map_err(|error| VerifyError::Malformed { detail: error.to_string() })?;
    let definition = &statement.predicate.build_definition;
    require_type("statement type", &statement.statement_type, STATEMENT_TYPE)?;
    require_type("predicate type", &statement.predicate_type, PREDICATE_TYPE)?;
    require_type("build type", &definition.build_type, BUILD_TYPE)?;
    require_type("builder", &statement.predicate.run_details.builder.id, BUILDER_LOCAL)?;

    let [subject] = &statement.subject[..] else {
        let detail = format!("it has {} subjects instead of one", statement.subject.len());
        return Err(VerifyError::Malformed { detail });
    };
    if subject.digest.sha256 != expected.digest {
        return Err(VerifyError::ArtifactChanged {
            signed: subject.digest.sha256.clone(),
            found: expected.digest.clone(),
        });
    }
    let parameters = &definition.external_parameters;
    require("service", &subject.name, expected.service.as_str())?;
    require("service", parameters.service.as_str(), expected.service.as_str())?;
    require("commit", parameters.commit.as_str(), expected.commit.as_str())?;
    let [source] = &definition.resolved_dependencies[..] else {
        return Err(VerifyError::Malformed { detail: "it does not name exactly one source".to_owned() });
    };
    require("commit", source.digest.git_commit.as_str(), expected.commit.as_str())?;
    if *source != Dependency::source(parameters) {
        return Err(VerifyError::Malformed {
            detail: "its source is not the repository it names".to_owned(),
        });
    }
    Ok(statement)
}

fn require_type(what: &'static str, found: &str, expected: &'static str) -> Result<(), VerifyError> {
    if found == expected {
        return Ok(());
    }
    Err(VerifyError::Type { what, found: found.chars().take(200).collect(), expected })
}

fn require(what: &'static str, signed: &str, expected: &str) -> Result<(), VerifyError> {
    if signed == expected {
        return Ok(());
    }
    Err(VerifyError::Other {
        what,
        signed: signed.chars().take(200).collect(),
        expected: expected.to_owned(),
    })
}
