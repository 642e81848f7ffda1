//! What the API answers and the pages show: version 1 of our own types, made from the fold.
//!
//! Pages are made from the very values that the API gives out, so there is nothing that only a page knows. Leaves out
//! HTML. Invariant: every list is bounded, and says how many there are.

pub(crate) mod arms;
pub(crate) mod log;
pub(crate) mod rollout;
pub(crate) mod state;
pub(crate) mod when;

use serde::Serialize;

/// The version of everything in here.
pub(crate) const VERSION: u32 = 1;

/// Part of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Bounded<T> {
    /// Those that are shown.
    pub(crate) items: Vec<T>,
    /// How many there are.
    pub(crate) total: usize,
}

impl<T> Bounded<T> {
    /// `50 of 1,204`, or nothing when all are there.
    pub(crate) fn shown(&self) -> Option<String> {
        let (shown, total) = (self.items.len() as u64, self.total as u64);
        (shown < total)
            .then(|| format!("{} of {}", crate::words::thousands(shown), crate::words::thousands(total)))
    }
}
