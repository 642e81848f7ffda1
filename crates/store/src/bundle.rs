//! A record with the proof that it is in a ledger, in one file: the text form of c2sp.org/tlog-proof@v1.
//!
//! The record's bytes are the file's `extra` data, so that a verifier needs nothing else: their leaf hash, the index and
//! the hashes lead to the root in the checkpoint, and the checkpoint is signed. What is in `extra` is as trustworthy as
//! that and no more: [`Bundle::holds`] is asked before anybody looks at it.
//!
//! Invariant: [`Bundle::parse`] takes exactly what the specification allows; nothing panics, whatever the text.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, hash, number};
use crate::merkle::{Hash, ProofError, leaf_hash, verify_inclusion};

/// A file: a record of 65,535 bytes in base64, 64 hashes, and a checkpoint.
pub const BUNDLE_BYTES_MAX: usize = 256 << 10;
/// Hashes in a proof: one for each level of the tree.
const HASHES_MAX: usize = u64::BITS as usize;
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The record's bytes as they are in the ledger.
    pub record: Vec<u8>,
    /// Its place in the tree, from 0: one less than its sequence.
    pub index: u64,
    /// The hashes beside the path from the leaf to the root.
    pub hashes: Vec<Hash>,
    /// The signed note around the checkpoint, as it was read; not yet verified.
    pub checkpoint: String,
}

/// Why a text is not a bundle. Reads after "it is not a proof: ".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// More than [`BUNDLE_BYTES_MAX`].
    #[error("it is larger than {BUNDLE_BYTES_MAX} bytes")]
    Size,
    /// The first line is another.
    #[error("its first line is not {HEADER}")]
    Header,
    /// No record beside the proof.
    #[error("it has no record in it (the line 'extra')")]
    Record,
    /// No place in the tree.
    #[error("it has no index")]
    Index,
    /// Something else than a hash, or too many of them.
    #[error("a line of its proof is not a hash")]
    Hash,
    /// Nothing after the hashes.
    #[error("it has no checkpoint")]
    Checkpoint,
}

impl Bundle {
    /// Reads the text.
    pub fn parse(text: &str) -> Result<Self, BundleError> {
        if text.len() > BUNDLE_BYTES_MAX {
            return Err(BundleError::Size);
        }
        let (proof, checkpoint) = text.split_once("\n\n").ok_or(BundleError::Checkpoint)?;
        let mut lines = proof.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(BundleError::Header);
        }
        let extra = lines.next().and_then(|line| line.strip_prefix("extra "));
        let record = extra.and_then(|text| STANDARD.decode(text).ok()).ok_or(BundleError::Record)?;
        let index = lines.next().and_then(|line| number(line.strip_prefix("index ")?));
        let index = index.ok_or(BundleError::Index)?;
        let hashes: Vec<Hash> = lines.map(hash).collect::<Option<_>>().ok_or(BundleError::Hash)?;
        if hashes.len() > HASHES_MAX {
            return Err(BundleError::Hash);
        }
        Ok(Self { record, index, hashes, checkpoint: checkpoint.to_owned() })
    }

    /// Whether the record is at its place in the ledger that the checkpoint, which must have been verified, stands for.
    pub fn holds(&self, checkpoint: &Checkpoint) -> Result<(), ProofError> {
        let leaf = leaf_hash(&self.record);
        verify_inclusion(&leaf, self.index, checkpoint.size, &self.hashes, &checkpoint.root)
    }
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}\nextra {}\nindex {}", STANDARD.encode(&self.record), self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::merkle::{prove_inclusion, root};

    fn bundle(size: u64, index: u64) -> (Bundle, Checkpoint) {
        let record = |number: u64| format!("record {number}").into_bytes();
        let leaves: Vec<Hash> = (0..size).map(|number| leaf_hash(&record(number))).collect();
        let checkpoint = Checkpoint { origin: "log".into(), size, root: root(&leaves) };
        let hashes = prove_inclusion(&leaves, index).unwrap();
        let note = format!("{}\n\u{2014} log AAAAAAAA\n", checkpoint.text());
        (Bundle { record: record(index), index, hashes, checkpoint: note }, checkpoint)
    }

    #[test]
    fn the_text_is_the_specifications() {
        let text = bundle(3, 1).0.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["c2sp.org/tlog-proof@v1", "extra cmVjb3JkIDE=", "index 1"]);
        assert_eq!((lines.len(), lines[5], lines[6], lines[7]), (11, "", "log", "3"));
    }

    #[test]
    fn other_texts_are_refused() {
        let whole = bundle(3, 1).0.to_string();
        let refused = [
            (String::new(), BundleError::Checkpoint),
            (whole.replace("@v1", "@v2"), BundleError::Header),
            (whole.replace("extra ", "more "), BundleError::Record),
            (whole.replace("extra cmVjb3JkIDE=\n", ""), BundleError::Record),
            (whole.replace("index 1", "index 01"), BundleError::Index),
            (whole.replacen("index 1\n", "index 1\nAAAA\n", 1), BundleError::Hash),
            (whole.replace("\n\n", "\n"), BundleError::Checkpoint),
            (format!("{whole}{}", " ".repeat(BUNDLE_BYTES_MAX)), BundleError::Size),
        ];
        for (text, error) in refused {
            assert_eq!(Bundle::parse(&text), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_holds(size in 1_u64..300, at in any::<prop::sample::Index>()) {
            let (bundle, checkpoint) = bundle(size, at.index(size as usize) as u64);
            let read = Bundle::parse(&bundle.to_string()).unwrap();
            prop_assert_eq!(&read, &bundle);
            prop_assert!(read.holds(&checkpoint).is_ok());
            let other = Bundle { record: b"another".to_vec(), ..read };
            prop_assert!(other.holds(&checkpoint).is_err());
        }

        #[test]
        fn nonsense_never_panics(text in "(c2sp.org/tlog-proof@v1\n)?(extra )?\\PC{0,40}(\n\\PC{0,40}){0,6}") {
            let _ = Bundle::parse(&text);
        }
    }
}
