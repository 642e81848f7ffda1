//! What a manifest says, checked: every name is a name, every reference is defined, every path stays inside, the task
//! graph has no circle, and every default is filled in.
//!
//! Leaves out positions (they live in the problems) and the wire format's spelling (see `keys`). Environments and their
//! strategies are the vocabulary's own types.
//!
//! Invariant: [`crate::parse`] makes these values and checks all of the above; nothing here is checked again.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use delivery::environment::Environment;
use delivery::network::Network;
use delivery::{EnvironmentName, GateName, ServiceName, TaskName};

/// A checked `trimtab.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The project's name, for people and for labels.
    pub project: String,
    /// What is deployed, by name.
    pub services: Vec<Service>,
    /// What is run, by name. Their `needs` form no circle.
    pub tasks: Vec<Task>,
    /// What must hold of a change, by name.
    pub gates: Vec<Gate>,
    /// Where releases go, in the order of promotion.
    pub environments: Vec<Environment>,
    /// How the environments' proxies read requests. No rule of entering, so no approval hangs on it.
    pub fronts: BTreeMap<EnvironmentName, Front>,
    /// The branch that releases are made from; `main` unless said otherwise.
    pub trunk: String,
    /// The address of the PostgreSQL database that holds the ledger; `None` for a file in the state folder.
    pub ledger: Option<String>,
}

/// How an environment's proxy reads requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Front {
    /// Whose word about the client is taken.
    pub trusted_proxies: Vec<Network>,
    /// The request header that chooses the arm.
    pub override_header: Option<String>,
    /// Another splitter than our own.
    pub haproxy: Option<Haproxy>,
}

/// An HAProxy that splits the traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Haproxy {
    /// The unix socket of its runtime API.
    pub socket: Utf8PathBuf,
    /// The backend's name; `{service}` in it stands for the service's name.
    pub backend: String,
    /// What the names of stable's servers begin with.
    pub stable: String,
    /// The same for the canary's.
    pub canary: String,
    /// Whether a guard watches over it.
    pub guard: bool,
}

/// Something that is deployed: an artifact, and how to start it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Relative to the manifest; `.` unless said otherwise. Artifact globs are relative to it, and it is where `start` runs.
    pub directory: Utf8PathBuf,
    /// Globs of the files that are deployed, relative to `directory`. At least one.
    pub artifact: Vec<String>,
    /// Program and arguments; `{port}` in any argument stands for the port to listen on, which is in `PORT` too.
    pub start: Vec<String>,
    /// Environment variables that are set.
    pub environment: BTreeMap<String, String>,
    /// Names of environment variables that are handed through.
    pub pass: Vec<String>,
    /// When an instance counts as ready.
    pub ready: Readiness,
    /// Processes of one revision, 1 to 64.
    pub instances: u32,
    /// How long an instance may take to end after it was asked to, in milliseconds.
    pub stop_ms: u64,
}

/// When an instance counts as ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// A GET of this path (it starts with `/`) must answer 2xx; without it, accepting a connection is enough.
    pub path: Option<String>,
    /// How long an instance may take, in milliseconds; longer and the revision has failed to start.
    pub within_ms: u64,
}

/// A node of the task graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its name.
    pub name: TaskName,
    /// Program and arguments; no shell is involved. At least the program.
    pub command: Vec<String>,
    /// Where it runs, relative to the manifest; `.` unless said otherwise. All its globs are relative to it.
    pub directory: Utf8PathBuf,
    /// Globs of the files that its result depends on; empty means unknown. `!` in front takes files out again.
    pub inputs: Vec<String>,
    /// Globs of the files that it writes, kept in and restored from the cache.
    pub outputs: Vec<String>,
    /// Tasks that must have succeeded first.
    pub needs: Vec<TaskName>,
    /// Environment variables that are set. They are part of what its result depends on.
    pub environment: BTreeMap<String, String>,
    /// Names of environment variables that are handed through. Their values are part of what its result depends on.
    pub pass: Vec<String>,
    /// Longest run in milliseconds.
    pub timeout_ms: u64,
    /// Globs of the JUnit reports that it writes.
    pub junit: Vec<String>,
    /// Whether an unchanged task may be skipped. True by default when there are inputs.
    pub cache: bool,
}

/// What must hold of a change before it may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Its name.
    pub name: GateName,
    /// Tasks that must have succeeded. At least one.
    pub tasks: Vec<TaskName>,
    /// Tests that must have been executed at least; 1 by default when one of the tasks declares JUnit reports, else 0.
    pub tests_min: u64,
    /// Findings of level "error" that are let pass; 0 by default.
    pub errors_max: u64,
}

impl Manifest {
    /// The service of this name.
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.services.iter().find(|service| service.name == *name)
    }

    /// The task of this name. Logarithmic: tasks are in the order of their names.
    pub fn task(&self, name: &TaskName) -> Option<&Task> {
        let index = self.tasks.binary_search_by(|task| task.name.cmp(name)).ok()?;
        self.tasks.get(index)
    }

    /// The gate of this name.
    pub fn gate(&self, name: &GateName) -> Option<&Gate> {
        self.gates.iter().find(|gate| gate.name == *name)
    }

    /// The environment of this name.
    pub fn environment(&self, name: &EnvironmentName) -> Option<&Environment> {
        self.environments.iter().find(|environment| environment.name == *name)
    }
}
