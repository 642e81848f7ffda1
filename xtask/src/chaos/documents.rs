//! What the ledger names but does not hold: documents (envelopes, lists of files) and the key that signs.
//!
//! Invariant: what a record names is durable before the record is.

use super::disk::Image;
use super::reference::Reference;
use super::steps::{Replay, Step};

const DOCUMENTS: &str = ".trimtab/blobs/sha256/";
const KEY: &str = ".trimtab/keys/signing.pem";

/// Files that records name.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    /// Path, content, and the first record that names it.
    named: Vec<(String, Vec<u8>, u64)>,
}

impl Documents {
    /// Those of a recording and its ledger.
    pub(crate) fn of(steps: &[Step], reference: &Reference) -> Result<Self, String> {
        let mut replay = Replay::new(true);
        steps.iter().try_for_each(|step| replay.step(step))?;
        let named = replay.disk.live().into_iter().filter_map(|(path, content)| {
            let name = match path.strip_prefix(DOCUMENTS) {
                Some(digest) => digest.replace('/', ""),
                // It is recorded before it is kept, and kept before it signs.
                None if path == KEY => "\"release.created\"".to_owned(),
                None => return None,
            };
            let first = reference.first_naming(&name)?;
            Some((path, content, first))
        });
        Ok(Self { named: named.collect() })
    }

    /// Judges an image whose ledger has so many records. Gives how many files they name.
    pub(crate) fn judge(&self, image: &Image, size: u64) -> Result<usize, String> {
        let named = || self.named.iter().filter(|(_, _, first)| *first <= size);
        match named().find(|(path, content, _)| image.get(path) != Some(content)) {
            Some((path, _, first)) => Err(format!("record {first} names {path}, which is gone or torn")),
            None => Ok(named().count()),
        }
    }
}
