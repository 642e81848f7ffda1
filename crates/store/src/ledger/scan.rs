//! Going through the records in order, past whatever is wrong with them.
//!
//! A missing record is reported as a gap. When a page of the database itself is broken, the scan goes on one record at a
//! time, so that one bad page hides only its own records.
//!
//! Invariant: ends, and never reports the same sequence twice, whatever the database holds.

use std::ops::ControlFlow;

use super::database::{Found, Passage, View};
use super::wire::Row;
use crate::error::Error;
use crate::merkle::leaf_hash;

/// What the scan came upon.
pub(super) enum Scanned<'a> {
    /// A row, not yet looked into.
    Row(Row<'a>),
    /// No rows with these sequences (both ends included).
    Missing { from: u64, to: u64 },
    /// The database can't read this row.
    Unreadable { sequence: u64, detail: String },
}

impl<'a> Scanned<'a> {
    /// The bytes of the record here, if they are what was hashed; else what is wrong, in a clause.
    pub(super) fn body(&self) -> Result<&'a [u8], String> {
        match self {
            Self::Row(row) if leaf_hash(row.body) == row.leaf => Ok(row.body),
            Self::Row(row) => Err(format!("record {} was changed", row.sequence)),
            Self::Missing { from, .. } => Err(format!("record {from} is missing")),
            Self::Unreadable { sequence, detail } => {
                Err(format!("record {sequence} can't be read: {detail}"))
            }
        }
    }
}

type Visitor<'a> = dyn FnMut(Scanned<'_>) -> ControlFlow<()> + 'a;

/// Visits what comes after `after`, in order, until the visitor breaks or the records end. `size` is the head's count,
/// where it is known: records up to there that are not found are reported as missing.
pub(super) fn scan(
    view: &mut dyn View,
    after: u64,
    size: Option<u64>,
    visit: &mut Visitor<'_>,
) -> Result<(), Error> {
    let Ok(start) = i64::try_from(after) else { return Ok(()) };
    let mut done = after;
    let mut flow = ControlFlow::Continue(());
    let passage = view.rows(start, &mut |found| {
        flow = visit_found(found, &mut done, visit);
        flow
    })?;
    if flow.is_break() {
        return Ok(());
    }
    match (passage, size) {
        (Passage::Through, Some(size)) if size > done => {
            let _ = visit(Scanned::Missing { from: done + 1, to: size });
            Ok(())
        }
        (Passage::Through, _) => Ok(()),
        (Passage::Broken(_), Some(size)) => one_by_one(view, done, size, visit),
        (Passage::Broken(detail), None) => Err(Error::Damaged { detail }),
    }
}

fn one_by_one(view: &mut dyn View, mut done: u64, size: u64, visit: &mut Visitor<'_>) -> Result<(), Error> {
    while done < size {
        let sequence = done + 1;
        let mut flow = None;
        let read = view.row(sequence as i64, &mut |found| {
            let after = visit_found(found, &mut done, visit);
            flow = Some(after);
            after
        });
        let flow = match (read, flow) {
            (_, Some(flow)) => flow,
            (Ok(()), None) => visit(Scanned::Missing { from: sequence, to: sequence }),
            (Err(Error::Damaged { detail }), None) => visit(Scanned::Unreadable { sequence, detail }),
            (Err(other), None) => return Err(other),
        };
        if flow.is_break() {
            return Ok(());
        }
        done = sequence;
    }
    Ok(())
}

fn visit_found(found: Found<'_>, done: &mut u64, visit: &mut Visitor<'_>) -> ControlFlow<()> {
    let sequence = match &found {
        Found::Row(row) => row.sequence,
        Found::Unreadable { sequence, .. } => *sequence,
    };
    let number = sequence as u64;
    if number > *done + 1 {
        visit(Scanned::Missing { from: *done + 1, to: number - 1 })?;
    }
    *done = number;
    match found {
        Found::Row(row) => visit(Scanned::Row(row)),
        Found::Unreadable { detail, .. } => visit(Scanned::Unreadable { sequence: number, detail }),
    }
}
