//! Puts the ledger of a backup, or a part of it, in the place of the ledger.
//!
//! Three steps: the backup is checked and its ledger copied to a folder beside the ledger, where it is verified record by
//! record and cut to the point that is wanted ([`Staged`]); the caller appends to it what the restore means; then it takes
//! the ledger's name in one step, and what had the name before is kept in `replaced/` ([`Staged::put`]).
//!
//! People come with the backup. Who was erased since is erased again ([`Staged::erased_since`]), as far as the erasure is on
//! record here or in the part of the backup that is cut off.
//!
//! Invariant: until the last step the ledger is as it was, and after it the old one is whole under its new name. A ledger
//! that another process has open is never replaced.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::{Digest, Event, Timestamp};

use super::backup::{self, About, BLOBS, BackupError, LEDGER, Part, at};
use super::database::StoredHead;
use super::head::HeadRow;
use super::people::Census;
use super::seen::Witness;
use super::sqlite::copy::{self, Hold};
use super::sqlite::upgrade::Schema;
use super::{Access, Head, Ledger};
use crate::blob;
use crate::error::Error;
use crate::merkle::Frontier;

/// Where to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After this record.
    Sequence(u64),
    /// After the last record of this time or an earlier one.
    Time(Timestamp),
}

/// A ledger whose place is to be taken by another one. Nobody else can open it while this lives.
pub struct Held {
    ledger: Utf8PathBuf,
    /// `None` when there is no ledger.
    hold: Option<Hold>,
}

/// The end of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its records.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
    /// When the last one was recorded.
    pub last_at: Option<Timestamp>,
}

impl Held {
    /// Takes hold of the ledger at the path, or of the place, when there is none. [`Error::Locked`] when another process has it
    /// open.
    pub fn take(ledger: &Utf8Path) -> Result<Self, BackupError> {
        let there = ledger.try_exists().map_err(at(ledger))?;
        let hold = if there { Some(Hold::take(ledger)?) } else { None };
        Ok(Self { ledger: ledger.to_owned(), hold })
    }

    /// How far the ledger goes, or went as far as was seen here; `None` when nothing is known of it.
    pub fn end(&self) -> Option<End> {
        let seen = Witness::at(format!("{}.seen", self.ledger).into()).read();
        let seen = seen.map(|seen| (seen.size, seen.root, Some(seen.last_at)));
        let head = self.hold.as_ref().and_then(Hold::head);
        let head = head
            .and_then(|head| Some((u64::try_from(head.size).ok()?, hex::encode(head.root), head.last_at)));
        let (size, root, last_at) = seen.into_iter().chain(head).max_by_key(|(size, ..)| *size)?;
        let last_at = last_at.and_then(|at| Timestamp::from_microsecond(at).ok());
        Some(End { size, root: Digest::new(root).ok()?, last_at })
    }

    /// Who was erased, as far as the records can be read.
    fn erased(&self) -> Result<BTreeSet<String>, Error> {
        let Some(hold) = &self.hold else { return Ok(BTreeSet::new()) };
        let Some(mut view) = hold.view(&self.ledger)? else { return Ok(BTreeSet::new()) };
        let size = view.last_sequence()?;
        Ok(Census::of(view.as_mut(), size)?.0.erased())
    }

    /// Where it goes when another one takes its place, named by what it holds.
    fn old_name(&self) -> Utf8PathBuf {
        let name = match self.hold.as_ref().and_then(Hold::head) {
            Some(head) if head.root.len() == 32 => {
                format!("{}-records-{}", head.size, &hex::encode(head.root)[..12])
            }
            _ => "unreadable".to_owned(),
        };
        backup::free(&self.ledger.with_file_name("replaced").join(name))
    }
}

/// A ledger that is ready to be put in the place of another one.
pub struct Staged {
    part: Part,
    ledger: Utf8PathBuf,
    backup: Option<Utf8PathBuf>,
    head: Head,
    about: Option<About>,
    /// Who was erased in the part that was cut off.
    erased: BTreeSet<String>,
}

impl Staged {
    /// Checks the backup and stages its ledger, up to the point.
    pub fn of_backup(
        backup: &Utf8Path,
        ledger: &Utf8Path,
        until: Option<Until>,
    ) -> Result<Self, BackupError> {
        let about = backup::check(backup)?;
        if about.schema > Schema::RELEASED.number() {
            let known = Schema::RELEASED.number();
            let needs = Some(about.trimtab);
            return Err(Error::Newer { found: about.schema, known, needs, kept: None }.into());
        }
        let part = Part::of(&ledger.with_file_name("restore"))?;
        let staged = part.path().join(LEDGER);
        std::fs::copy(backup.join(LEDGER), &staged).map_err(at(&staged))?;
        let head = verified(&staged, |detail| BackupError::Damaged { path: backup.to_owned(), detail })?;
        if head.size != about.size || hex::encode(head.root) != about.root.as_str() {
            let detail = format!(
                "its ledger has {} records and root {}, which is not what it was made with",
                head.size,
                hex::encode(head.root)
            );
            return Err(BackupError::Damaged { path: backup.to_owned(), detail });
        }
        let (head, erased) = match until {
            Some(until) => cut(&staged, head, until)?,
            None => (head, BTreeSet::new()),
        };
        let (ledger, backup) = (ledger.to_owned(), Some(backup.to_owned()));
        Ok(Self { part, ledger, backup, head, about: Some(about), erased })
    }

    /// Stages the ledger that is in the place itself, to take it as what was restored.
    pub fn of_itself(held: &Held) -> Result<Self, BackupError> {
        let ledger = &held.ledger;
        let Some(hold) = &held.hold else {
            return Err(Error::Missing { path: ledger.clone() }.into());
        };
        let part = Part::of(&ledger.with_file_name("restore"))?;
        let staged = part.path().join(LEDGER);
        hold.copy(ledger, &staged)?;
        let head = verified(&staged, |detail| BackupError::Unsound { detail })?;
        let erased = BTreeSet::new();
        Ok(Self { part, ledger: ledger.to_owned(), backup: None, head, about: None, erased })
    }

    /// The staged ledger's file, to be appended to and closed again before it is put.
    pub fn file(&self) -> Utf8PathBuf {
        self.part.path().join(LEDGER)
    }

    /// The head that it was staged with.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Who is on record in it and was erased in the history that is given up: appending these events to it erases them again.
    /// What can't be read of the ledger that is there erases nobody.
    pub fn erased_since(&self, held: &Held) -> Result<Vec<Event>, Error> {
        let mut gone = held.erased().unwrap_or_default();
        gone.extend(self.erased.iter().cloned());
        let ledger = Ledger::open(&self.file(), Access::ReadOnly)?;
        let still = ledger.with_view(|view| Census::of(view, self.head.size)?.0.still(view, &gone))?;
        Ok(still.into_iter().map(|person| Event::PersonErased { person }).collect())
    }

    /// What the backup says that it is.
    pub fn about(&self) -> Option<&About> {
        self.about.as_ref()
    }

    /// Puts it in the place, and the backup's blobs where blobs are kept. Gives the file that the old ledger has now.
    pub fn put(self, held: Held, blobs: &Utf8Path) -> Result<Option<Utf8PathBuf>, BackupError> {
        if let Some(backup) = &self.backup {
            let from = backup.join(BLOBS);
            if from.is_dir() {
                backup::make_private(blobs)?;
                blob::copy_all(&from, blobs)?;
                backup::sync_all(blobs)?;
            }
        }
        let file = self.file();
        copy::close(&file)?;
        // What came into being beside it while it was written to.
        remove(std::fs::remove_file(format!("{file}.seen")), &file)?;
        remove(std::fs::remove_dir_all(backup::folder(&file)), &file)?;
        let Self { part, ledger, .. } = self;
        let old = held.old_name();
        backup::make_private(old.parent().unwrap_or(&ledger))?;
        // Until the two files change their names the new one has the old one's; a crash leaves no more than a copy too many.
        part.keep_as(&old)?;
        let witness = Witness::at(format!("{ledger}.seen").into());
        witness.forget().map_err(at(&ledger))?;
        let kept = exchange(&ledger, &old, held.hold.is_some())?;
        drop(held);
        Ok(kept)
    }
}

fn remove(removed: std::io::Result<()>, path: &Utf8Path) -> Result<(), BackupError> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// Gives the staged file in `folder` the ledger's name and the ledger the staged file's, in one step.
fn exchange(ledger: &Utf8Path, folder: &Utf8Path, there: bool) -> Result<Option<Utf8PathBuf>, BackupError> {
    let staged = folder.join(LEDGER);
    if !there {
        std::fs::rename(&staged, ledger).map_err(at(ledger))?;
        backup::sync_parent(ledger)?;
        std::fs::remove_dir(folder).map_err(at(folder))?;
        return Ok(None);
    }
    // Only a file that is no database has these: of any other one they went into it when it was held. They would be taken
    // for the new one's.
    for suffix in ["-wal", "-shm"] {
        match std::fs::rename(format!("{ledger}{suffix}"), format!("{staged}{suffix}")) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(ledger)(error)),
            _ => {}
        }
    }
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, staged.as_str(), rustix::fs::CWD, ledger.as_str(), flags)
        .map_err(|error| at(ledger)(error.into()))?;
    backup::sync_parent(ledger)?;
    backup::sync_parent(&staged)?;
    Ok(Some(staged))
}

/// The head of the ledger in that file, if all of it is as it was written.
fn verified(file: &Utf8Path, refuse: impl Fn(String) -> BackupError) -> Result<Head, BackupError> {
    // For writing, which brings an older schema to the present one.
    let ledger = match Ledger::open(file, Access::ReadWrite) {
        Err(Error::Damaged { detail }) => return Err(refuse(detail)),
        ledger => ledger?,
    };
    let found = match ledger.verify() {
        Err(Error::Damaged { detail }) => return Err(refuse(detail)),
        found => found?,
    };
    if let Some(damage) = found.damages.first() {
        return Err(refuse(damage.to_string()));
    }
    Ok(ledger.head()?)
}

/// Cuts the ledger in that file to the point. Gives its head, and who was erased in what was cut off.
fn cut(file: &Utf8Path, head: Head, until: Until) -> Result<(Head, BTreeSet<String>), BackupError> {
    let ledger = Ledger::open(file, Access::ReadOnly)?;
    let size = match until {
        Until::Sequence(sequence) => sequence,
        Until::Time(time) => ledger.size_at(time, head.size)?,
    };
    if size == 0 || size > head.size {
        let wanted = match until {
            Until::Sequence(sequence) => format!("record {sequence}"),
            Until::Time(time) => time.to_string(),
        };
        let first = time_of(&ledger, 1)?.map_or_else(String::new, |at| format!(" of {at}"));
        let last = head.last_at.map_or_else(String::new, |at| format!(" of {at}"));
        let detail = format!("it has records 1{first} to {}{last}", head.size);
        return Err(BackupError::NoSuchPoint { wanted, detail });
    }
    let frontier = ledger.with_view(|view| {
        let mut frontier = Frontier::default();
        view.leaves(0..size, &mut |leaf| frontier.push(leaf))?;
        Ok(frontier)
    })?;
    let last_at = time_of(&ledger, size)?;
    let (strangers, erased) = ledger.with_view(|view| {
        let (before, complete) = Census::of(view, size)?;
        // A record that can't be read may name anybody.
        let strangers = if complete { before.strangers(view)? } else { Vec::new() };
        Ok((strangers, Census::of(view, head.size)?.0.erased()))
    })?;
    let row = HeadRow { frontier, last_at: last_at.map(Timestamp::as_microsecond) };
    let stored: StoredHead = row.stored();
    drop(ledger);
    copy::cut(file, &stored, &strangers)?;
    // While it was verified the whole of it was seen.
    Witness::at(format!("{file}.seen").into()).forget().map_err(at(file))?;
    Ok((Head { size, root: row.frontier.root(), last_at }, erased))
}

/// When the record was recorded, whether or not this Trimtab understands it.
fn time_of(ledger: &Ledger, sequence: u64) -> Result<Option<Timestamp>, Error> {
    ledger.with_view(|view| {
        let mut at = None;
        view.row(sequence as i64, &mut |found| {
            if let super::database::Found::Row(row) = found {
                at = Timestamp::from_microsecond(row.at).ok();
            }
            std::ops::ControlFlow::Break(())
        })?;
        Ok(at)
    })
}

impl Ledger {
    /// How many of the first `size` records are of this time or earlier. Their times never decrease.
    fn size_at(&self, time: Timestamp, size: u64) -> Result<u64, Error> {
        let (mut low, mut high) = (0, size);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if time_of(self, middle)?.is_some_and(|at| at <= time) { low = middle } else { high = middle - 1 }
        }
        Ok(low)
    }
}

/// What a root is called in an event.
pub fn digest_of(head: &Head) -> Digest {
    // 32 bytes in hexadecimal are a digest.
    Digest::new(hex::encode(head.root)).unwrap_or_else(|_| Digest::of(b""))
}
