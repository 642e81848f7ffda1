//! Proofs about the ledger as it stands, from the stored leaf hashes.
//!
//! Invariant: a proof that is handed out has been verified against the head's root; a ledger whose leaves don't lead to
//! its root gives none.

use std::ops::Range;

use camino::Utf8Path;
use delivery::limits::BATCH_RECORDS_MAX;
use rusqlite::Connection;

use super::head::HeadRow;
use crate::error::Error;
use crate::merkle::{self, Frontier, Hash, ProofError};

/// That a record is in a ledger of some size and root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// The record, from 1. Its index in the tree is one less.
    pub sequence: u64,
    /// The ledger's size.
    pub size: u64,
    /// The ledger's root.
    pub root: Hash,
    /// The record's leaf hash.
    pub leaf: Hash,
    /// The hashes beside the path from the leaf to the root.
    pub hashes: Vec<Hash>,
}

impl InclusionProof {
    /// Whether it holds.
    pub fn verify(&self) -> Result<(), ProofError> {
        let index = self.sequence.checked_sub(1).ok_or(ProofError::Position)?;
        merkle::verify_inclusion(&self.leaf, index, self.size, &self.hashes, &self.root)
    }
}

/// That a ledger begins with an older state of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// The older size.
    pub from_size: u64,
    /// The older root, recomputed: compare it with the one you kept.
    pub from_root: Hash,
    /// The newer size.
    pub size: u64,
    /// The newer root.
    pub root: Hash,
    /// The proof's hashes.
    pub hashes: Vec<Hash>,
}

impl ConsistencyProof {
    /// Whether it holds.
    pub fn verify(&self) -> Result<(), ProofError> {
        merkle::verify_consistency(self.from_size, self.size, &self.from_root, &self.root, &self.hashes)
    }
}

pub(super) fn inclusion(
    path: &Utf8Path,
    connection: &mut Connection,
    sequence: u64,
) -> Result<InclusionProof, Error> {
    let transaction = connection.transaction().map_err(|error| Error::from_sqlite(path, &error))?;
    let head = HeadRow::read(path, &transaction)?;
    let size = head.frontier.size();
    let ranges = sequence.checked_sub(1).and_then(|index| merkle::inclusion_ranges(index, size));
    let ranges = ranges.ok_or(Error::NoSuchRecord { sequence })?;
    let hashes = range_roots(path, &transaction, &ranges)?;
    // Only the stored hash stands for the record itself: `head.root` says whether it is the right one.
    let leaf = range_root(path, &transaction, sequence - 1..sequence)?;
    let proof = InclusionProof { sequence, size, root: head.frontier.root(), leaf, hashes };
    proof.verify().map_err(|_| damaged())?;
    Ok(proof)
}

pub(super) fn consistency(
    path: &Utf8Path,
    connection: &mut Connection,
    from_size: u64,
) -> Result<ConsistencyProof, Error> {
    let transaction = connection.transaction().map_err(|error| Error::from_sqlite(path, &error))?;
    let head = HeadRow::read(path, &transaction)?;
    let size = head.frontier.size();
    let ranges =
        merkle::consistency_ranges(from_size, size).ok_or(Error::NoSuchRecord { sequence: from_size })?;
    let hashes = range_roots(path, &transaction, &ranges)?;
    let from_root = range_root(path, &transaction, 0..from_size)?;
    let proof = ConsistencyProof { from_size, from_root, size, root: head.frontier.root(), hashes };
    proof.verify().map_err(|_| damaged())?;
    Ok(proof)
}

fn damaged() -> Error {
    Error::Damaged { detail: "its leaf hashes don't lead to its root".to_owned() }
}

fn range_roots(path: &Utf8Path, connection: &Connection, ranges: &[Range<u64>]) -> Result<Vec<Hash>, Error> {
    // A proof has at most two hashes for each level of the tree.
    debug_assert!(ranges.len() <= 2 * u64::BITS as usize && ranges.len() < BATCH_RECORDS_MAX);
    ranges.iter().map(|range| range_root(path, connection, range.clone())).collect()
}

/// The root over the leaves of a range (from 0, end excluded).
fn range_root(path: &Utf8Path, connection: &Connection, range: Range<u64>) -> Result<Hash, Error> {
    let fault = |error: rusqlite::Error| Error::from_sqlite(path, &error);
    let mut statement = connection
        .prepare("SELECT leaf FROM record WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence")
        .map_err(fault)?;
    let mut rows = statement.query([range.start as i64, range.end as i64]).map_err(fault)?;
    let mut frontier = Frontier::default();
    while let Some(row) = rows.next().map_err(fault)? {
        frontier.push(row.get(0).map_err(fault)?);
    }
    if frontier.size() == range.end - range.start { Ok(frontier.root()) } else { Err(damaged()) }
}
