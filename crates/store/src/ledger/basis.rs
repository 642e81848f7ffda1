//! What a conditional append rests on: how much its caller had read, and which later records would change its mind.
//!
//! A condition on the whole ledger starves: while others append all the time, nobody's last reading is ever the newest. So a
//! caller names what its decision depends on, and records that have nothing to do with it don't disturb.
//!
//! Invariant: when in doubt (a record that can't be read, more of them than are looked through) the condition has failed.

use std::ops::ControlFlow;

use delivery::Event;
use delivery::seeded::{self, Bug};

use super::database::View;
use super::scan::{self, Scanned};
use crate::error::Error;

/// Later records that are looked through; a caller that is further behind has to read first. They are read by the
/// one thread that writes, so this bounds what a slow caller costs everybody else.
pub const BASIS_RECORDS_MAX: u64 = 1_024;

type Unsettles = Box<dyn Fn(&Event) -> bool + Send>;

/// See the module.
pub struct Basis {
    size: u64,
    unsettles: Unsettles,
}

impl std::fmt::Debug for Basis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Basis").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Basis {
    /// The first `size` records, and nothing may have come after them.
    pub fn whole(size: u64) -> Self {
        Self::until(size, |_| true)
    }

    /// The first `size` records, and nothing that `unsettles` may have come after them. The function runs on the ledger's
    /// writing thread: it only looks at the event.
    pub fn until(size: u64, unsettles: impl Fn(&Event) -> bool + Send + 'static) -> Self {
        Self { size, unsettles: Box::new(unsettles) }
    }

    /// Whether it still holds in a ledger of `size` records, as the view shows it.
    pub(super) fn holds(&self, view: &mut dyn View, size: u64) -> Result<bool, Error> {
        if self.size == size || seeded::is(Bug::BasisIgnored) {
            return Ok(true);
        }
        if size.checked_sub(self.size).is_none_or(|later| later > BASIS_RECORDS_MAX) {
            return Ok(false);
        }
        let from = if seeded::is(Bug::BasisLastOnly) { size - 1 } else { self.size };
        let mut holds = true;
        scan::scan(view, from, Some(size), &mut |item| {
            holds = match item {
                Scanned::Row(row) => row.open().1.is_ok_and(|recorded| !(self.unsettles)(&recorded.event)),
                Scanned::Missing { .. } | Scanned::Unreadable { .. } => false,
            };
            if holds { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(holds)
    }
}
