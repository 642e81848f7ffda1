//! Proofs about the ledger as it stands, from the stored leaf hashes.
//!
//! Invariant: a proof that is handed out has been verified against the head's root; a ledger whose leaves don't lead to
//! its root gives none.

use std::ops::Range;

use delivery::limits::BATCH_RECORDS_MAX;

use super::database::View;
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

pub(super) fn inclusion(view: &mut dyn View, sequence: u64) -> Result<InclusionProof, Error> {
    let head = HeadRow::read(view)?;
    let size = head.frontier.size();
    let ranges = sequence.checked_sub(1).and_then(|index| merkle::inclusion_ranges(index, size));
    let ranges = ranges.ok_or(Error::NoSuchRecord { sequence })?;
    let hashes = range_roots(view, &ranges)?;
    // Only the stored hash stands for the record itself: `head.root` says whether it is the right one.
    let leaf = range_root(view, sequence - 1..sequence)?;
    let proof = InclusionProof { sequence, size, root: head.frontier.root(), leaf, hashes };
    proof.verify().map_err(|_| damaged())?;
    Ok(proof)
}

pub(super) fn consistency(view: &mut dyn View, from_size: u64) -> Result<ConsistencyProof, Error> {
    let head = HeadRow::read(view)?;
    let size = head.frontier.size();
    let ranges =
        merkle::consistency_ranges(from_size, size).ok_or(Error::NoSuchRecord { sequence: from_size })?;
    let hashes = range_roots(view, &ranges)?;
    let from_root = range_root(view, 0..from_size)?;
    let proof = ConsistencyProof { from_size, from_root, size, root: head.frontier.root(), hashes };
    proof.verify().map_err(|_| damaged())?;
    Ok(proof)
}

fn damaged() -> Error {
    Error::Damaged { detail: "its leaf hashes don't lead to its root".to_owned() }
}

fn range_roots(view: &mut dyn View, ranges: &[Range<u64>]) -> Result<Vec<Hash>, Error> {
    // A proof has at most two hashes for each level of the tree.
    debug_assert!(ranges.len() <= 2 * u64::BITS as usize && ranges.len() < BATCH_RECORDS_MAX);
    ranges.iter().map(|range| range_root(view, range.clone())).collect()
}

/// The root over the leaves of a range (from 0, end excluded).
pub(super) fn range_root(view: &mut dyn View, range: Range<u64>) -> Result<Hash, Error> {
    let mut frontier = Frontier::default();
    view.leaves(range.clone(), &mut |leaf| frontier.push(leaf))?;
    if frontier.size() == range.end - range.start { Ok(frontier.root()) } else { Err(damaged()) }
}
