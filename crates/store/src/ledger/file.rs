//! Which file a name stands for.
//!
//! A restore puts another file under the ledger's name. Whoever still has the old one open must neither write to it, where
//! nobody would find it again, nor go on reading in it.

use std::os::unix::fs::MetadataExt;

use camino::Utf8Path;

/// A file, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file that has the name now; `None` when none can be seen.
    pub(super) fn of(path: &Utf8Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}
