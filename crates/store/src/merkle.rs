//! The Merkle tree of RFC 6962 section 2.1: pure functions over SHA-256 hashes, no storage.
//!
//! [`Frontier`] is the compact form of a growing tree: appending a leaf costs O(log n) and keeps O(log n) hashes. Proofs
//! are described as ranges of leaves ([`inclusion_ranges`], [`consistency_ranges`]), so that whoever holds the leaves
//! computes their roots in whatever way is cheap there. Verification follows RFC 9162 sections 2.1.3.2 and 2.1.4.2.
//!
//! Invariant: a proof verifies only for exactly one index, size and root; every malformed proof is refused, none panics.

use std::ops::Range;

use sha2::{Digest, Sha256};

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// Why a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The index is not in the tree, or the older tree is larger than the newer one, or it is empty.
    #[error("the proof is about an impossible position")]
    Position,
    /// Too few or too many hashes for the position.
    #[error("the proof has the wrong length")]
    Length,
    /// The hashes lead to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// The hash of a leaf's bytes: SHA-256 of `0x00 || bytes`.
pub fn leaf_hash(bytes: &[u8]) -> Hash {
    Sha256::new().chain_update([0x00]).chain_update(bytes).finalize().into()
}

/// The hash of an inner node: SHA-256 of `0x01 || left || right`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([0x01]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The largest power of two below `n`, for n of at least 2: where RFC 6962 splits a tree.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// A tree's right edge: the roots of its perfect subtrees, largest first, one for each bit of the size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// A tree of that size with these peaks; `None` unless there is one peak for each bit set in the size.
    pub fn from_parts(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The perfect subtrees' roots, largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// The leaves under each peak, in the order of [`Frontier::peaks`].
    pub fn peak_ranges(&self) -> Vec<Range<u64>> {
        let mut start = 0;
        let mut ranges = Vec::with_capacity(self.peaks.len());
        for bit in (0..u64::BITS).rev().filter(|bit| self.size >> bit & 1 == 1) {
            ranges.push(start..start + (1 << bit));
            start += 1 << bit;
        }
        ranges
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        // As in adding one to a binary number: each trailing 1 is a peak of the same height to merge with.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The tree's root.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

impl FromIterator<Hash> for Frontier {
    fn from_iter<T: IntoIterator<Item = Hash>>(leaves: T) -> Self {
        let mut frontier = Self::default();
        leaves.into_iter().for_each(|leaf| frontier.push(leaf));
        frontier
    }
}

/// The root over leaf hashes.
pub fn root(leaves: &[Hash]) -> Hash {
    leaves.iter().copied().collect::<Frontier>().root()
}

/// The leaf ranges whose roots are the inclusion proof of leaf `index` (from 0) in a tree of `size`, in proof order.
pub fn inclusion_ranges(index: u64, size: u64) -> Option<Vec<Range<u64>>> {
    if index >= size {
        return None;
    }
    let mut tree = 0..size;
    let mut ranges = Vec::new();
    while tree.end - tree.start > 1 {
        let middle = tree.start + split(tree.end - tree.start);
        if index < middle {
            ranges.push(middle..tree.end);
            tree.end = middle;
        } else {
            ranges.push(tree.start..middle);
            tree.start = middle;
        }
    }
    ranges.reverse();
    Some(ranges)
}

/// The leaf ranges whose roots prove that the tree of size `to` begins with the tree of size `from`, in proof order.
/// `None` unless `1 <= from <= to`.
pub fn consistency_ranges(from: u64, to: u64) -> Option<Vec<Range<u64>>> {
    if from == 0 || from > to {
        return None;
    }
    let mut tree = 0..to;
    let mut ranges = Vec::new();
    while tree.end != from {
        let middle = tree.start + split(tree.end - tree.start);
        if from <= middle {
            ranges.push(middle..tree.end);
            tree.end = middle;
        } else {
            ranges.push(tree.start..middle);
            tree.start = middle;
        }
    }
    // The older tree's own root is known to the verifier when the walk never went right.
    if tree.start != 0 {
        ranges.push(tree);
    }
    ranges.reverse();
    Some(ranges)
}

/// The inclusion proof of leaf `index` among these leaves.
pub fn prove_inclusion(leaves: &[Hash], index: u64) -> Option<Vec<Hash>> {
    Some(roots(leaves, &inclusion_ranges(index, leaves.len() as u64)?))
}

/// The proof that these leaves begin with the tree of size `from`.
pub fn prove_consistency(leaves: &[Hash], from: u64) -> Option<Vec<Hash>> {
    Some(roots(leaves, &consistency_ranges(from, leaves.len() as u64)?))
}

fn roots(leaves: &[Hash], ranges: &[Range<u64>]) -> Vec<Hash> {
    ranges.iter().map(|range| root(&leaves[range.start as usize..range.end as usize])).collect()
}

/// Whether the leaf is at `index` (from 0) in the tree of that size and root.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Position);
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    match (last == 0, hash == *root) {
        (false, _) => Err(ProofError::Length),
        (true, false) => Err(ProofError::Root),
        (true, true) => Ok(()),
    }
}

/// Whether the tree (`to`, `root_to`) begins with the tree (`from`, `root_from`). Nothing can be shown about an empty
/// older tree, so `from` must be at least 1.
pub fn verify_consistency(
    from: u64,
    to: u64,
    root_from: &Hash,
    root_to: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if from == 0 || from > to {
        return Err(ProofError::Position);
    }
    if from == to {
        return match (proof.is_empty(), root_from == root_to) {
            (false, _) => Err(ProofError::Length),
            (true, false) => Err(ProofError::Root),
            (true, true) => Ok(()),
        };
    }
    let shared = from.trailing_zeros();
    let (mut node, mut last) = ((from - 1) >> shared, (to - 1) >> shared);
    let (start, rest) = if from.is_power_of_two() {
        (*root_from, proof)
    } else {
        proof.split_first().map(|(first, rest)| (*first, rest)).ok_or(ProofError::Length)?
    };
    let (mut older, mut newer) = (start, start);
    for sibling in rest {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            older = node_hash(sibling, &older);
            newer = node_hash(sibling, &newer);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            newer = node_hash(&newer, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    match (last == 0, older == *root_from && newer == *root_to) {
        (false, _) => Err(ProofError::Length),
        (true, false) => Err(ProofError::Root),
        (true, true) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
