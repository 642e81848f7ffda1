//! Verification of a whole ledger: everything that can be recomputed is, and every disagreement is reported.
//!
//! Streams through the records once, in constant memory. What it can't find: a ledger whose end was cut off and whose head
//! was rewritten to match. That takes a copy of an earlier root and [`crate::Ledger::prove_consistency`].
//!
//! Invariant: a ledger that only ever was appended to has no damage, whatever its records mean.

use std::fmt;
use std::ops::ControlFlow;

use super::database::View;
use super::head::HeadRow;
use super::people::Census;
use super::scan::{Scanned, scan};
use crate::error::Error;
use crate::merkle::{Frontier, Hash};

/// How many damages and unreadable records a [`Verification`] lists; the rest are counted.
pub const LISTED_MAX: usize = 10_000;

/// What is wrong with a record, or with the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Records up to this sequence (included) are missing.
    Missing(u64),
    /// The leaf hash is not that of the body: one of the two was changed.
    Leaf,
    /// The body says that it is another record.
    Sequence(u64),
    /// The time beside the body is not the one in it.
    Time,
    /// The time is before that of the record before it.
    Order,
    /// No record format has this number.
    Format(i64),
    /// The database can't read it.
    Database(String),
    /// Who is behind this pseudonym is not known, and nothing says that it was erased.
    Person(String),
    /// Who is behind this pseudonym is known again, after it was erased.
    PersonBack(String),
    /// The head does not agree with the records, or with itself.
    Head(String),
    /// The record is what was written, but this Trimtab can't make sense of it. Not damage.
    Unreadable(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(to) => write!(f, "missing, up to record {to}"),
            Self::Leaf => f.write_str("changed: its hash is another"),
            Self::Sequence(found) => write!(f, "in the wrong place: it is record {found}"),
            Self::Time => f.write_str("changed: the time beside it is another"),
            Self::Order => f.write_str("earlier than the record before it"),
            Self::Format(format) => write!(f, "of the unknown format {format}"),
            Self::Database(detail) => write!(f, "not readable from the database: {detail}"),
            Self::Person(name) => {
                write!(f, "the address of {name} is missing or was changed, and was never erased")
            }
            Self::PersonBack(name) => {
                write!(f, "the address of {name} is there, though this record says it was erased")
            }
            Self::Head(detail) => f.write_str(detail),
            Self::Unreadable(detail) => write!(f, "not understood by this Trimtab: {detail}"),
        }
    }
}

/// One disagreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The record; 0 is the head.
    pub sequence: u64,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sequence {
            0 => write!(f, "head: {}", self.fault),
            sequence => write!(f, "record {sequence}: {}", self.fault),
        }
    }
}

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Records found.
    pub size: u64,
    /// The root recomputed over their bodies.
    pub root: Hash,
    /// The first [`LISTED_MAX`] damages, in order, the head last.
    pub damages: Vec<Damage>,
    /// All damages.
    pub damages_total: u64,
    /// The first [`LISTED_MAX`] records that are whole but not understood (unknown event, newer version).
    pub unreadable: Vec<Damage>,
    /// All of those.
    pub unreadable_total: u64,
}

impl Verification {
    /// Whether the ledger is what was written, all of it.
    pub fn is_sound(&self) -> bool {
        self.damages_total == 0
    }

    fn note(&mut self, sequence: u64, fault: Fault) {
        let (list, total) = match fault {
            Fault::Unreadable(_) => (&mut self.unreadable, &mut self.unreadable_total),
            _ => (&mut self.damages, &mut self.damages_total),
        };
        *total += 1;
        if list.len() < LISTED_MAX {
            list.push(Damage { sequence, fault });
        }
    }
}

/// Verifies everything that the view shows.
pub(super) fn verify(view: &mut dyn View) -> Result<Verification, Error> {
    let head = match HeadRow::read(view) {
        Ok(head) => Ok(head),
        Err(Error::Damaged { detail }) => Err(detail),
        Err(other) => return Err(other),
    };
    let mut found = Verification {
        size: 0,
        root: crate::merkle::empty_root(),
        damages: Vec::new(),
        damages_total: 0,
        unreadable: Vec::new(),
        unreadable_total: 0,
    };
    let mut frontier = Frontier::default();
    let mut census = Census::default();
    let mut last_at = None;
    let size = head.as_ref().ok().map(|head| head.frontier.size());
    let scanned = scan(view, 0, size, &mut |item| {
        match item {
            Scanned::Missing { from, to } => found.note(from, Fault::Missing(to)),
            Scanned::Unreadable { sequence, detail } => found.note(sequence, Fault::Database(detail)),
            Scanned::Row(row) => {
                found.size += 1;
                let (leaf, opened) = row.open();
                frontier.push(leaf);
                match opened {
                    Ok(recorded) => census.note(recorded),
                    Err(fault) => found.note(row.sequence as u64, fault),
                }
                if last_at.is_some_and(|last| row.at < last) {
                    found.note(row.sequence as u64, Fault::Order);
                }
                last_at = Some(row.at);
            }
        }
        ControlFlow::Continue(())
    });
    match scanned {
        Err(Error::Damaged { detail }) => found.note(found.size + 1, Fault::Database(detail)),
        other => other?,
    }
    found.root = frontier.root();
    let complete = found.damages_total + found.unreadable_total == 0;
    census.compare(view, complete).into_iter().for_each(|(sequence, fault)| found.note(sequence, fault));
    match view.misplaced() {
        Ok(0) => {}
        Ok(count) => found.note(0, Fault::Head(format!("{count} records have no valid sequence"))),
        Err(error) => found.note(0, Fault::Database(error.to_string())),
    }
    compare_head(head, &frontier, last_at, &mut found);
    Ok(found)
}

fn compare_head(
    head: Result<HeadRow, String>,
    frontier: &Frontier,
    last_at: Option<i64>,
    found: &mut Verification,
) {
    let head = match head {
        Ok(head) => head,
        Err(detail) => return found.note(0, Fault::Head(detail)),
    };
    if head.frontier.size() != frontier.size() {
        let detail = format!("it counts {} records, there are {}", head.frontier.size(), frontier.size());
        found.note(0, Fault::Head(detail));
    } else if head.frontier != *frontier {
        found.note(0, Fault::Head("its root is not that of the records".to_owned()));
    }
    if head.last_at != last_at {
        found.note(0, Fault::Head("its time is not the last record's".to_owned()));
    }
}
