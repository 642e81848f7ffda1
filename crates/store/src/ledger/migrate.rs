//! Copies a whole ledger into another database, and proves that the copy is the same.
//!
//! The records are copied as they lie, so that every body, hash and root stays what it was; the people behind the pseudonyms come
//! first, so that no record is there without them. Nobody can append to the original meanwhile. What was copied before an
//! interruption stays, and the next attempt goes on after it.
//!
//! Invariant: a target that holds anything but the beginning of the original is not written to; `Ok` means that size, root every
//! byte of every record and every person were read back from the target and compared.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::database::{Found, StoredPerson, Transaction, View, WritingConnection};
use super::head::{self, HeadRow};
use super::place::Place;
use super::verify;
use super::wire::Row;
use crate::error::Error;
use crate::merkle::{Frontier, Hash};

/// Records that are copied in one commit, and compared at once.
const PAGE: usize = 512;

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Records in both.
    pub size: u64,
    /// The root of both.
    pub root: Hash,
    /// Records that were copied now; fewer than `size` after an interruption.
    pub copied: u64,
}

/// Why a ledger was not copied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MigrateError {
    /// One of the two can't be used.
    #[error(transparent)]
    Store(#[from] Error),
    /// The original is damaged; see [`crate::Ledger::verify`].
    #[error("the ledger has {damages} damages, and a copy would have them too")]
    Unsound {
        /// How many.
        damages: u64,
    },
    /// The target holds another ledger, or more than the original. Nothing was changed there.
    #[error("the target holds {size} records that are not the beginning of this ledger")]
    Different {
        /// How many.
        size: u64,
    },
    /// What was read back is not what was copied.
    #[error("record {sequence} is not the same in the target")]
    Unequal {
        /// The first that differs; 0 is the head.
        sequence: u64,
    },
    /// The people behind the pseudonyms are not the same in both.
    #[error("the people in the target are not those of this ledger")]
    People,
}

/// A row that is kept.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    sequence: i64,
    at: i64,
    format: i64,
    body: Vec<u8>,
    leaf: Vec<u8>,
}

/// Copies the ledger at one place to another; `progress` is told how many records the target has of how many.
pub fn migrate(
    from: &Place,
    to: &Place,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Migration, MigrateError> {
    let (source, target) = (from.database()?, to.database()?);
    // A reader makes nothing where there is nothing.
    drop(source.open_reader()?);
    let mut source = source.open_writer(false)?;
    let mut original = source.begin()?;
    let found = verify::verify(&mut *original)?;
    if !found.is_sound() {
        return Err(MigrateError::Unsound { damages: found.damages_total });
    }
    let head = HeadRow::read(&mut *original)?;
    let mut target = target.open_writer(false)?;
    let begun = begun(&mut *original, &head, &mut *target)?;
    copy(&mut *original, &head, &mut *target, begun, progress)?;
    let mut copy = target.view()?;
    compare(&mut *original, &mut *copy)?;
    let size = head.frontier.size();
    Ok(Migration { size, root: head.frontier.root(), copied: size - begun })
}

/// How much of the original the target has already.
fn begun(
    original: &mut dyn View,
    head: &HeadRow,
    target: &mut dyn WritingConnection,
) -> Result<u64, MigrateError> {
    let there = head::tail(&mut *target.view()?)?;
    let size = there.frontier.size();
    let mut beginning = Frontier::default();
    if size <= head.frontier.size() {
        original.leaves(0..size, &mut |leaf| beginning.push(leaf))?;
    }
    if beginning == there.frontier { Ok(size) } else { Err(MigrateError::Different { size }) }
}

fn copy(
    original: &mut dyn View,
    head: &HeadRow,
    target: &mut dyn WritingConnection,
    begun: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), MigrateError> {
    let size = head.frontier.size();
    let mut done = begun;
    if done < size {
        copy_people(original, target)?;
    }
    while done < size {
        let rows = page(original, done)?;
        let mut transaction = target.begin()?;
        append(&mut *transaction, done, &rows)?;
        transaction.commit()?;
        done += rows.len() as u64;
        progress(done, size);
    }
    Ok(())
}

/// Gives the target the people of the original and no others: one of an interrupted attempt may have been erased since.
fn copy_people(original: &mut dyn View, target: &mut dyn WritingConnection) -> Result<(), MigrateError> {
    let people = people(original)?;
    let mut transaction = target.begin()?;
    let there = self::people(&mut *transaction)?;
    let gone: Vec<_> = there.iter().filter(|person| !people.contains(person)).collect();
    for person in &gone {
        transaction.remove_person(person)?;
    }
    for person in people.iter().filter(|person| !there.contains(person)) {
        transaction.add_person(person)?;
    }
    transaction.commit()?;
    if !gone.is_empty() {
        target.purge()?;
    }
    Ok(())
}

fn people(view: &mut dyn View) -> Result<BTreeSet<StoredPerson>, Error> {
    Ok(view.people()?.into_iter().collect())
}

/// Adds the rows after the first `done` records, if that is all that is there.
fn append(transaction: &mut dyn Transaction, done: u64, rows: &[Kept]) -> Result<(), MigrateError> {
    let mut head = HeadRow::read(transaction)?;
    if head.frontier.size() != done {
        return Err(MigrateError::Different { size: head.frontier.size() });
    }
    let borrowed: Vec<Row<'_>> = rows.iter().map(Kept::borrow).collect();
    transaction.insert(&borrowed)?;
    for row in rows {
        let leaf = row.leaf.as_slice().try_into();
        head.frontier.push(leaf.map_err(|_| MigrateError::Unequal { sequence: row.sequence as u64 })?);
        head.last_at = Some(row.at);
    }
    Ok(transaction.replace_head(&head.stored())?)
}

/// Holds the people, every record and the head of one against the other.
fn compare(original: &mut dyn View, copy: &mut dyn View) -> Result<(), MigrateError> {
    if original.head()? != copy.head()? {
        return Err(MigrateError::Unequal { sequence: 0 });
    }
    if people(original)? != people(copy)? {
        return Err(MigrateError::People);
    }
    let mut done = 0;
    loop {
        let (one, other) = (page(original, done)?, page(copy, done)?);
        if one != other {
            let differs = one.iter().zip(&other).position(|(one, other)| one != other);
            let offset = differs.unwrap_or(one.len().min(other.len())) as u64;
            return Err(MigrateError::Unequal { sequence: done + offset + 1 });
        }
        if one.is_empty() {
            return Ok(());
        }
        done += one.len() as u64;
    }
}

fn page(view: &mut dyn View, after: u64) -> Result<Vec<Kept>, Error> {
    let mut rows = Vec::new();
    view.rows(after as i64, &mut |found| {
        if let Found::Row(row) = found {
            rows.push(Kept::of(&row));
        }
        if rows.len() < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(rows)
}

impl Kept {
    fn of(row: &Row<'_>) -> Self {
        let (body, leaf) = (row.body.to_vec(), row.leaf.to_vec());
        Self { sequence: row.sequence, at: row.at, format: row.format, body, leaf }
    }

    fn borrow(&self) -> Row<'_> {
        let Self { sequence, at, format, body, leaf } = self;
        Row { sequence: *sequence, at: *at, format: *format, body, leaf }
    }
}
