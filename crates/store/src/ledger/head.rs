//! The ledger's head: size, root and the Merkle frontier, kept in one row that every commit replaces.
//!
//! Invariant: a [`HeadRow`] in hand agrees with itself (the frontier has the size's peaks and gives the root); [`tail`]
//! also holds it against the last records.

use std::ops::ControlFlow;

use super::database::{Found, Passage, StoredHead, View};
use crate::error::Error;
use crate::merkle::{Frontier, Hash, leaf_hash};

/// How many of the last records are checked whenever a writer opens the ledger.
const TAIL_RECORDS: u64 = 1_024;

/// The head, checked against itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeadRow {
    pub(super) frontier: Frontier,
    /// Microseconds since 1970; `None` in an empty ledger.
    pub(super) last_at: Option<i64>,
}

fn damaged(detail: impl Into<String>) -> Error {
    Error::Damaged { detail: detail.into() }
}

impl HeadRow {
    /// Reads and checks the row.
    pub(super) fn read(view: &mut dyn View) -> Result<Self, Error> {
        Self::check(view.head()?.ok_or_else(|| damaged("its head is missing"))?)
    }

    fn check(stored: StoredHead) -> Result<Self, Error> {
        let StoredHead { size, root, frontier, last_at } = stored;
        let size = u64::try_from(size).map_err(|_| damaged("its head has a negative size"))?;
        let (peaks, rest) = frontier.as_chunks::<32>();
        let frontier = Frontier::from_parts(size, peaks.to_vec())
            .filter(|_| rest.is_empty())
            .ok_or_else(|| damaged("its head's frontier does not fit its size"))?;
        if frontier.root() != *root {
            return Err(damaged("its head's root is not the frontier's"));
        }
        if last_at.is_none() != (size == 0) {
            return Err(damaged("its head's time does not fit its size"));
        }
        Ok(Self { frontier, last_at })
    }

    /// As it is stored.
    pub(super) fn stored(&self) -> StoredHead {
        StoredHead {
            size: self.frontier.size() as i64,
            root: self.frontier.root().to_vec(),
            frontier: self.frontier.peaks().concat(),
            last_at: self.last_at,
        }
    }

    /// The cheap check of every commit: the last record is the one that the head counts.
    pub(super) fn agrees(&self, view: &mut dyn View) -> Result<(), Error> {
        let last = view.last_sequence()?;
        if last == self.frontier.size() {
            return Ok(());
        }
        Err(damaged(format!("its head counts {} records, but the last one is {last}", self.frontier.size())))
    }
}

/// Reads the head and holds it against the last records: their bodies, leaf hashes, and those peaks that lie entirely
/// within them. Bounded work, whatever the ledger's size.
pub(super) fn tail(view: &mut dyn View) -> Result<HeadRow, Error> {
    let head = HeadRow::read(view)?;
    head.agrees(view)?;
    let size = head.frontier.size();
    let first = size - size.min(TAIL_RECORDS);
    let (leaves, last_at) = last_leaves(view, first)?;
    if last_at != head.last_at {
        return Err(damaged("its head's time is not the last record's"));
    }
    let peaks = head.frontier.peak_ranges().into_iter().zip(head.frontier.peaks());
    for (range, peak) in peaks.filter(|(range, _)| range.start >= first) {
        let within = &leaves[(range.start - first) as usize..(range.end - first) as usize];
        if crate::merkle::root(within) != *peak {
            let detail =
                format!("records {} to {} are not those that the head covers", range.start + 1, range.end);
            return Err(damaged(detail));
        }
    }
    Ok(head)
}

/// The leaf hashes of the records after `first`, computed and held against the stored ones, and the last one's time.
fn last_leaves(view: &mut dyn View, first: u64) -> Result<(Vec<Hash>, Option<i64>), Error> {
    let mut leaves: Vec<Hash> = Vec::new();
    let mut last_at = None;
    let mut wrong = None;
    let passage = view.rows(first as i64, &mut |found| {
        let expected = first + leaves.len() as u64 + 1;
        let complaint = match found {
            Found::Unreadable { sequence, detail } => Some(format!("record {sequence}: {detail}")),
            Found::Row(row) if u64::try_from(row.sequence) != Ok(expected) => {
                Some(format!("record {expected} is missing"))
            }
            Found::Row(row) => {
                let leaf = leaf_hash(row.body);
                leaves.push(leaf);
                last_at = Some(row.at);
                (row.leaf != leaf).then(|| format!("record {} was changed", row.sequence))
            }
        };
        match complaint {
            None => ControlFlow::Continue(()),
            Some(complaint) => {
                wrong = Some(complaint);
                ControlFlow::Break(())
            }
        }
    })?;
    match (wrong, passage) {
        (Some(detail), _) | (None, Passage::Broken(detail)) => Err(damaged(detail)),
        (None, Passage::Through) => Ok((leaves, last_at)),
    }
}
