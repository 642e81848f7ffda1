//! Where a project's ledger is, and the one way to open it.
//!
//! The variable `TRIMTAB_LEDGER` says it, else the manifest's `ledger`, else what was said the last time, which is kept in the
//! state folder; else it is the file there. Who takes a release back at night may have another environment, or a manifest that
//! can't be read: they must not find an empty ledger instead of the one that everybody else uses.
//!
//! Invariant: every command opens the ledger here.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use delivery::code::Code;
use delivery::layout::Layout;
use delivery::{EnvironmentName, Problem, ServiceName};
use manifest::Manifest;
use store::{Access, Address, Committer, LEASE_TTL, Leases, Ledger, Place};

use crate::environment;

/// Overrides where the ledger is.
const VARIABLE: &str = "TRIMTAB_LEDGER";
/// Overrides how long a lease in a database lives, in milliseconds.
const LEASE_VARIABLE: &str = "TRIMTAB_LEASE_TTL_MS";
/// Shorter, and a busy machine loses leases that it could renew; longer, and a dead controller is missed for long.
const LEASE_MS: std::ops::RangeInclusive<u64> = 300..=600_000;

/// Where the ledger of a project is.
#[derive(Debug, Clone)]
pub(crate) struct Whereabouts {
    layout: Layout,
    /// `None` is the file in the state folder.
    address: Option<String>,
    /// Made when they are first asked for.
    leases: Arc<OnceLock<Result<Leases, store::Error>>>,
}

impl Whereabouts {
    /// By the manifest, where it can be read.
    pub(crate) fn find(layout: &Layout, manifest: Option<&Manifest>) -> Self {
        let remembered = || std::fs::read_to_string(layout.ledger_address()).ok();
        let said = environment::variable(VARIABLE)
            .filter(|said| !said.is_empty())
            .or_else(|| manifest.and_then(|manifest| manifest.ledger.clone()))
            .or_else(|| remembered().map(|text| text.trim().to_owned()));
        Self { layout: layout.clone(), address: said, leases: Arc::default() }
    }

    /// In the database at that address.
    pub(crate) fn at(layout: &Layout, address: &str) -> Self {
        Self { layout: layout.clone(), address: Some(address.to_owned()), leases: Arc::default() }
    }

    /// As people are told it.
    pub(crate) fn name(&self) -> String {
        self.address.clone().unwrap_or_else(|| self.layout.ledger().to_string())
    }

    /// Keeps it for those who can't be told.
    pub(crate) fn remember(&self) -> std::io::Result<()> {
        let Some(address) = &self.address else { return Ok(()) };
        let path = self.layout.ledger_address();
        let line = format!("{address}\n");
        if std::fs::read_to_string(&path).is_ok_and(|there| there == line) {
            return Ok(());
        }
        std::fs::write(path, line)
    }

    /// Whether it is in a database on a server.
    pub(crate) fn on_server(&self) -> bool {
        self.address.is_some()
    }

    /// Refuses what is for files only; `instead` says how it is done for a database.
    pub(crate) fn require_file(&self, what: &str, instead: &str) -> Result<(), Vec<Problem>> {
        let Some(address) = &self.address else { return Ok(()) };
        let message = format!("{what} is for a ledger in a file, and the one here is at {address}");
        Err(vec![Problem::new(Code::RequestInvalid, message).hint(instead)])
    }

    pub(crate) fn place(&self) -> Result<Place, store::Error> {
        let Some(text) = &self.address else { return Ok(Place::File(self.layout.ledger())) };
        Address::parse(text, &environment::variable).map(|address| Place::Postgres(Box::new(address)))
    }

    /// Opens it for appending; makes it when there is none.
    pub(crate) fn open(&self) -> Result<Ledger, store::Error> {
        Ledger::open_at(&self.place()?, Access::ReadWrite, Committer::Thread)
    }

    /// Opens it for reading; `None` when nothing was ever recorded.
    pub(crate) fn open_to_read(&self) -> Result<Option<Ledger>, store::Error> {
        match Ledger::open_at(&self.place()?, Access::ReadOnly, Committer::Thread) {
            Ok(ledger) => Ok(Some(ledger)),
            Err(store::Error::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The leases that belong to it.
    pub(crate) fn leases(&self) -> Result<Leases, store::Error> {
        let made = self.leases.get_or_init(|| {
            let wanted = environment::variable(LEASE_VARIABLE).and_then(|text| text.parse().ok());
            let ttl = wanted.filter(|ms| LEASE_MS.contains(ms)).map_or(LEASE_TTL, Duration::from_millis);
            Leases::of(&self.place()?, &self.layout.leases(), ttl)
        });
        made.clone()
    }
}

/// Refuses to go on where the environment leads to a ledger of somebody's, for what must have one of its own.
pub(crate) fn refuse_elsewhere(what: &str) -> Result<(), Problem> {
    match environment::variable(VARIABLE).filter(|said| !said.is_empty()) {
        None => Ok(()),
        Some(_) => Err(Problem::new(
            Code::RequestInvalid,
            format!("{what} keeps a ledger of its own, and {VARIABLE} names another"),
        )
        .hint(format!("unset it for this command: env -u {VARIABLE} trimtab demo"))),
    }
}

/// Whether a controller holds the lease of the service in the environment now. Leases that can't be asked are not held: who then
/// tries to take one is refused.
pub(crate) fn driven(
    leases: &Result<Leases, store::Error>,
    service: &ServiceName,
    environment: &EnvironmentName,
) -> bool {
    let name = delivery::layout::lease_name(service, environment);
    leases.as_ref().is_ok_and(|leases| leases.holder(&name).is_ok_and(|holder| holder.is_some()))
}

/// A store's error as problems.
#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
pub(crate) fn problems(error: store::Error) -> Vec<Problem> {
    vec![error.problem()]
}
