//! What a build leaves behind: a directory tree, named by what is in it.

use serde::{Deserialize, Serialize};

use crate::id::{Digest, ServiceName};

/// A packaged artifact. Its digest is the SHA-256 of the canonical file list (see `store::artifact`), so the same files
/// give the same digest on every machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The service it was built for.
    pub service: ServiceName,
    /// SHA-256 of the canonical file list.
    pub digest: Digest,
    /// Number of files.
    pub files: u64,
    /// Sum of the files' sizes in bytes.
    pub bytes: u64,
}
