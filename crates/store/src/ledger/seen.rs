//! A witness beside the ledger: the newest state of it that was seen here.
//!
//! A ledger that was put back by hand looks whole, because it is: only older. The witness is a small file beside it
//! (`ledger.db.seen`) that says how far the ledger was, and whoever opens the ledger compares. It is written after the commit
//! and not synced, so after a power cut it may say less than there is, never more. What can't be read counts as nothing
//! seen. It can't help where the whole folder was put back: that takes a checkpoint that is kept elsewhere.
//!
//! Invariant: a ledger that lacks what the witness saw is never appended to.

use std::fs::{File, OpenOptions};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use camino::Utf8PathBuf;
use delivery::{Digest, Timestamp};

use super::database::{Found, View};
use super::head::HeadRow;
use crate::error::Error;

/// One line of this length, so that a new one always covers the old one.
const BYTES: usize = 256;
const NAME: &str = "trimtab-seen-v1";

/// The file.
#[derive(Debug)]
pub(super) struct Witness {
    path: Utf8PathBuf,
    file: Option<File>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Records.
    pub(super) size: u64,
    /// The root over them, in hexadecimal.
    pub(super) root: String,
    /// When the last one was recorded, in microseconds since 1970.
    pub(super) last_at: i64,
}

impl Witness {
    /// The witness in that file, which need not be there yet.
    pub(super) fn at(path: Utf8PathBuf) -> Self {
        Self { path, file: None }
    }

    /// Notes what is on the disk. That it can't is no reason to refuse anything.
    pub(super) fn note(&mut self, head: &HeadRow) {
        let Some(last_at) = head.last_at else { return };
        let root = hex::encode(head.frontier.root());
        let line = Seen { size: head.frontier.size(), root, last_at }.line();
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600);
            self.file = options.open(&self.path).ok();
        }
        if let Some(file) = &self.file
            && file.write_all_at(line.as_bytes(), 0).is_err()
        {
            self.file = None;
        }
    }

    /// What was seen last, as far as it can be read.
    pub(super) fn read(&self) -> Option<Seen> {
        let mut line = [0; BYTES];
        File::open(&self.path).ok()?.read_exact_at(&mut line, 0).ok()?;
        Seen::parse(str::from_utf8(&line).ok()?)
    }

    /// Forgets what was seen: another history is about to be put here, by a restore.
    pub(super) fn forget(&self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Seen {
    /// [`Error::Older`] when the ledger lacks what was seen. Compares the one record at the place that was seen last, and the
    /// root where the size is the same: bounded work. That nothing before it was changed is for `verify`.
    ///
    /// The witness must have been read before the head was: others append meanwhile.
    pub(super) fn check(&self, view: &mut dyn View, head: &HeadRow) -> Result<(), Error> {
        let size = head.frontier.size();
        let at = Timestamp::from_microsecond(self.last_at).map_or_else(|_| "?".into(), |at| at.to_string());
        if size < self.size {
            let detail = format!(
                "the ledger has {size} records where {} were seen here, the last of {at}: it is an older one",
                self.size
            );
            return Err(Error::Older { detail });
        }
        let mut recorded = None;
        view.row(self.size as i64, &mut |found| {
            recorded = match found {
                Found::Row(row) => Some(row.at),
                Found::Unreadable { .. } => None,
            };
            ControlFlow::Break(())
        })?;
        let same_root = size > self.size || hex::encode(head.frontier.root()) == self.root;
        if recorded == Some(self.last_at) && same_root {
            return Ok(());
        }
        let detail = format!(
            "the ledger's record {} is not the one that was seen here, of {at}: it is another history",
            self.size
        );
        Err(Error::Older { detail })
    }

    fn line(&self) -> String {
        let text = format!("{NAME} {} {} {}", self.size, self.root, self.last_at);
        let text = format!("{text} {}", Digest::of(text.as_bytes()).short());
        format!("{text:<width$}\n", width = BYTES - 1)
    }

    fn parse(line: &str) -> Option<Self> {
        let (text, check) = line.trim_end().rsplit_once(' ')?;
        let mut words = text.split(' ');
        let (name, size, root, last_at) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let whole = name == NAME && Digest::of(text.as_bytes()).short() == check && words.next().is_none();
        let seen = Self { size: size.parse().ok()?, root: root.to_owned(), last_at: last_at.parse().ok()? };
        whole.then_some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_and_a_damaged_one_is_nothing_seen() {
        let seen = Seen { size: u64::MAX, root: "ab".repeat(32), last_at: i64::MIN };
        let line = seen.line();
        assert_eq!(line.len(), BYTES);
        assert_eq!(Seen::parse(&line), Some(seen));
        for at in 0..150 {
            let mut bytes = line.clone().into_bytes();
            bytes[at] ^= 1;
            assert_eq!(Seen::parse(str::from_utf8(&bytes).unwrap()), None, "byte {at}");
        }
    }
}
