//! Where Trimtab keeps things: one folder in the repository, and short socket paths outside it.
//!
//! Only names; nothing is touched here.

use camino::{Utf8Path, Utf8PathBuf};

use crate::id::{EnvironmentName, ServiceName};

/// The folder's name in a repository.
pub const STATE_DIRECTORY: &str = ".trimtab";

/// The paths of one project's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: Utf8PathBuf,
}

impl Layout {
    /// For the project whose manifest lies in `project`.
    pub fn of_project(project: &Utf8Path) -> Self {
        Self { root: project.join(STATE_DIRECTORY) }
    }

    /// The folder itself.
    pub fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// The ledger's database.
    pub fn ledger(&self) -> Utf8PathBuf {
        self.root.join("ledger.db")
    }

    /// The address of the database that holds the ledger, where it is not this machine's file.
    pub fn ledger_address(&self) -> Utf8PathBuf {
        self.root.join("ledger.address")
    }

    /// Content-addressed blobs: artifacts' files, provenance envelopes.
    pub fn blobs(&self) -> Utf8PathBuf {
        self.root.join("blobs")
    }

    /// The task cache.
    pub fn cache(&self) -> Utf8PathBuf {
        self.root.join("cache")
    }

    /// Unpacked artifacts, one folder a revision, so that what one revision writes there can't reach another.
    pub fn revisions(&self) -> Utf8PathBuf {
        self.root.join("revisions")
    }

    /// The signing key.
    pub fn signing_key(&self) -> Utf8PathBuf {
        self.root.join("keys").join("signing.pem")
    }

    /// The last checkpoint of the ledger that was signed here.
    pub fn checkpoint(&self) -> Utf8PathBuf {
        self.root.join("checkpoint")
    }

    /// The token that the local API asks for.
    pub fn api_token(&self) -> Utf8PathBuf {
        self.root.join("keys").join("api-token")
    }

    /// The token that reports from outside are sent with. It lets its bearer do nothing else.
    pub fn report_token(&self) -> Utf8PathBuf {
        self.root.join("keys").join("report-token")
    }

    /// Which reports are on record: found again from the ledger when it is gone.
    pub fn recall(&self) -> Utf8PathBuf {
        self.cache().join("reports.db")
    }

    /// Leases of controllers.
    pub fn leases(&self) -> Utf8PathBuf {
        self.root.join("leases")
    }

    /// Captured output of tasks.
    pub fn task_logs(&self) -> Utf8PathBuf {
        self.root.join("logs").join("tasks")
    }

    /// The durable states of all edges, a folder each.
    pub fn edges(&self) -> Utf8PathBuf {
        self.root.join("edges")
    }

    /// An edge's durable state.
    pub fn edge(&self, service: &ServiceName, environment: &EnvironmentName) -> Utf8PathBuf {
        self.edges().join(format!("{service}@{environment}"))
    }

    /// A guard's durable state.
    pub fn guard(&self, service: &ServiceName, environment: &EnvironmentName) -> Utf8PathBuf {
        self.root.join("guards").join(format!("{service}@{environment}"))
    }

    /// Captured output of an edge and of the revisions that it runs.
    pub fn edge_logs(&self, service: &ServiceName, environment: &EnvironmentName) -> Utf8PathBuf {
        self.root.join("logs").join("edges").join(format!("{service}@{environment}"))
    }
}

/// The name of the lease that makes one controller the only one for a service in an environment.
pub fn lease_name(service: &ServiceName, environment: &EnvironmentName) -> String {
    format!("{service}@{environment}")
}
