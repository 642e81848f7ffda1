//! Where environments listen: users reach each service at an address of its own in each environment.
//!
//! Leaves out what an address looks like (see `format`).
//!
//! Invariant: without an issue, every service has an address in every environment, and no two are the same. None is
//! derived from another, so that a service that is added moves nobody else's.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use delivery::ServiceName;
use delivery::code::Code;
use delivery::environment::Listen;

use crate::hints::toml_string;
use crate::issue::{Issue, Issues, Span};
use crate::read::References;
use crate::view::View;

/// How far the addresses lie apart that a hint proposes for the services of one environment.
const PORTS_APART: u16 = 10;

/// The addresses that are given out.
pub(crate) struct Doors<'t> {
    services: Vec<&'t str>,
    taken: BTreeMap<u16, Vec<(SocketAddr, String)>>,
}

impl<'t> Doors<'t> {
    /// For the services of the manifest.
    pub(crate) fn new(root: View<'t>) -> Self {
        Self { services: root.names("service"), taken: BTreeMap::new() }
    }

    /// Where the environment listens.
    pub(crate) fn open(&mut self, environment: View<'_>, words: &str, issues: &mut Issues) -> Listen {
        let known = References::new("service", self.services.clone());
        let addresses = environment.addresses("listen");
        if let [only] = addresses.as_slice()
            && only.service.is_none()
        {
            let (address, span) = only.given.clone();
            let Some(address) = address else { return Listen::One(String::new()) };
            if self.services.len() > 1 {
                let count = delivery::text::count(self.services.len() as u64, "service");
                let message = format!("{words} has one address for {count}");
                let issue = Issue::new(Code::ManifestValue, span, message).label("each needs its own");
                issues.push(issue.hint(self.proposal(address)));
            } else {
                self.take(words, address, span, issues);
            }
            return Listen::One(address.to_string());
        }
        let mut each = BTreeMap::new();
        for found in &addresses {
            let (Some((service, place)), (Some(address), span)) = (&found.service, found.given.clone())
            else {
                continue;
            };
            known.check(service, place, &format!("`listen` of {words}"), issues);
            self.take(&format!("service `{service}` in {words}"), address, span, issues);
            if let Ok(service) = ServiceName::new(*service) {
                each.insert(service, address.to_string());
            }
        }
        let has = |service: &&str| {
            addresses.iter().any(|found| found.service.as_ref().is_some_and(|(name, _)| name == service))
        };
        for service in self.services.iter().filter(|service| environment.has("listen") && !has(service)) {
            let message = format!("`listen` of {words} has no address for service `{service}`");
            let span = environment.span("listen").unwrap_or_default();
            let hint = format!("add {service} = \"127.0.0.1:8080\", with a port of its own");
            issues.push(Issue::new(Code::ManifestKeyMissing, span, message).hint(hint));
        }
        Listen::Each(each)
    }

    /// Two proxies can't listen at one address; 0.0.0.0 stands for all of them. Port 0 is always free.
    fn take(&mut self, words: &str, address: SocketAddr, span: Span, issues: &mut Issues) {
        if address.port() == 0 {
            return;
        }
        let others = self.taken.entry(address.port()).or_default();
        let same = |other: &SocketAddr| {
            other.ip() == address.ip() || other.ip().is_unspecified() || address.ip().is_unspecified()
        };
        if let Some((_, other)) = others.iter().find(|(other, _)| same(other)) {
            let message = format!("{words} listens at the same address as {other}");
            let issue = Issue::new(Code::ManifestValue, span, message);
            issues.push(issue.label("taken").hint("give each its own port".to_owned()));
        }
        others.push((address, words.to_owned()));
    }

    /// What to write instead of one address.
    fn proposal(&self, first: SocketAddr) -> String {
        let mut port = first.port();
        let entry = |service: &&str| {
            let address = toml_string(&SocketAddr::new(first.ip(), port).to_string());
            port = if port == 0 { 0 } else { port.checked_add(PORTS_APART).unwrap_or(0) };
            format!("{service} = {address}")
        };
        let entries: Vec<String> = self.services.iter().take(PROPOSED_MAX).map(entry).collect();
        format!("write listen = {{ {} }}", entries.join(", "))
    }
}

/// Services that a hint writes out.
const PROPOSED_MAX: usize = 12;
