//! The ledger in PostgreSQL, on a real server that each test starts by itself: the same as in SQLite, byte for byte, and no
//! acknowledged record lost or doubled whatever becomes of connections and servers.

#![expect(clippy::unwrap_used, reason = "tests")]

mod conformance;
mod faults;
mod ground;
mod leases;
mod migration;
mod processes;
mod proxy;
mod servers;
mod tls;

use delivery::{Actor, Event, Timestamp};

pub(crate) fn actor() -> Actor {
    Actor::Machine("test".into())
}

pub(crate) fn event(incident: &str) -> Event {
    Event::IncidentResolved { incident: incident.into() }
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).unwrap()
}
