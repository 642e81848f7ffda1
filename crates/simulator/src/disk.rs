//! A disk that fails: what is written is in a cache until it is synced, and any of it may be lost at a power cut.
//!
//! Pure: bytes in, bytes out; [`crate::vfs`] is SQLite's door to it. The model is that of a file system such as ext4 with barriers: a
//! synced byte stays; of unsynced writes any subset survives a power cut, each torn at sectors; pages whose sync failed are
//! clean afterwards, so a later sync does not write them. Left out: writes that land in the wrong place.
//!
//! Invariant: what was synced is kept. Only [`Trouble::BitFlip`] and [`Trouble::LyingSync`] break that, and
//! [`Disk::flipped`] and [`Disk::lied`] say so from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind};
use std::time::Duration;

use crate::dice::Dice;
use crate::fault::Fault;

/// What a torn write is torn at.
const SECTOR: usize = 512;
/// Locks on the log's index within one instant; more is a process that spins.
const LOCKS_MAX: u32 = 20_000;

/// What goes wrong with the next operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The operation after so many more fails, with nothing done.
    ReadError(u32),
    /// As above, for writes.
    WriteError(u32),
    /// A write is done in part, then fails.
    ShortWrite(u32),
    /// A sync fails; what it should have written is lost at a power cut.
    SyncError(u32),
    /// Files can't grow.
    Full,
    /// Syncs say that they are done, and are not.
    LyingSync,
    /// A bit of a file turns around.
    BitFlip,
}

impl Trouble {
    fn fault(self) -> Fault {
        match self {
            Self::ReadError(_) => Fault::DiskReadError,
            Self::WriteError(_) => Fault::DiskWriteError,
            Self::ShortWrite(_) => Fault::DiskShortWrite,
            Self::SyncError(_) => Fault::DiskSyncError,
            Self::Full => Fault::DiskFull,
            Self::LyingSync => Fault::DiskLyingSync,
            Self::BitFlip => Fault::DiskBitFlip,
        }
    }
}

/// What is stopped when a countdown ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// One process: its operations fail from then on.
    Process(String),
    /// The machine.
    Power,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Debug, Default, Clone)]
struct File {
    /// What processes read.
    cached: Vec<u8>,
    /// What survives.
    synced: Vec<u8>,
    /// What may survive, oldest first.
    unsynced: Vec<Change>,
}

/// The disk of one machine, with the locks and the shared memory of the processes that use it.
#[derive(Debug)]
pub(crate) struct Disk {
    dice: Dice,
    files: BTreeMap<String, File>,
    troubles: Vec<Trouble>,
    ends: Vec<(Trouble, Duration)>,
    countdown: Option<(u32, Stop)>,
    /// Processes that have done something.
    known: BTreeSet<String>,
    dead: BTreeSet<String>,
    off: bool,
    /// Locks taken at the present instant.
    locking: Option<(tokio::time::Instant, u32)>,
    spun: bool,
    stopped: Vec<Stop>,
    happened: Vec<Fault>,
    flipped: bool,
    /// Syncs that were not done, and whether something was lost by them.
    owes: bool,
    lied: bool,
    /// Database locks by handle.
    pub(crate) locks: BTreeMap<u64, (String, sqlite_vfs::LockKind)>,
    /// The write-ahead log's index in shared memory, by region.
    pub(crate) shared: BTreeMap<u32, Box<[u8; 32_768]>>,
    /// Locks on the shared memory: slot to handles and whether exclusive.
    pub(crate) slots: BTreeMap<u8, (BTreeSet<u64>, bool)>,
}

fn broken(what: &str) -> Error {
    Error::other(what.to_owned())
}

impl Disk {
    /// An empty disk.
    pub(crate) fn new(dice: Dice) -> Self {
        Self {
            dice,
            files: BTreeMap::new(),
            troubles: Vec::new(),
            ends: Vec::new(),
            countdown: None,
            known: BTreeSet::new(),
            dead: BTreeSet::new(),
            off: false,
            locking: None,
            spun: false,
            stopped: Vec::new(),
            happened: Vec::new(),
            flipped: false,
            owes: false,
            lied: false,
            locks: BTreeMap::new(),
            shared: BTreeMap::new(),
            slots: BTreeMap::new(),
        }
    }

    /// Whether a bit has turned.
    pub(crate) fn flipped(&self) -> bool {
        self.flipped
    }

    /// Whether a power cut took what the disk had said to be safe.
    pub(crate) fn lied(&self) -> bool {
        self.lied
    }

    /// Lets something go wrong from now on. A bit flips at once.
    pub(crate) fn trouble(&mut self, trouble: Trouble) {
        if trouble == Trouble::BitFlip {
            return self.flip();
        }
        self.troubles.retain(|other| std::mem::discriminant(other) != std::mem::discriminant(&trouble));
        self.troubles.push(trouble);
    }

    /// Ends all that is going wrong.
    pub(crate) fn soothe(&mut self) {
        self.troubles.clear();
        self.ends.clear();
        self.countdown = None;
    }

    /// Lets something go wrong until then.
    pub(crate) fn trouble_until(&mut self, trouble: Trouble, until: Duration) {
        self.trouble(trouble);
        self.ends.push((trouble, until));
    }

    /// Ends what has lasted long enough.
    pub(crate) fn pass(&mut self, now: Duration) {
        let (over, going_on): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.ends).into_iter().partition(|(_, until)| *until <= now);
        self.ends = going_on;
        self.troubles.retain(|trouble| over.iter().all(|(ended, _)| ended != trouble));
    }

    /// Stops a process or the machine after so many more operations.
    pub(crate) fn stop_after(&mut self, operations: u32, stop: Stop) {
        self.countdown = Some((operations, stop));
    }

    /// What has happened since the last call.
    pub(crate) fn take_happened(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.happened)
    }

    /// What was stopped by a countdown since the last call.
    pub(crate) fn take_stopped(&mut self) -> Vec<Stop> {
        std::mem::take(&mut self.stopped)
    }

    /// The process is gone: its operations fail, its locks are free.
    pub(crate) fn kill(&mut self, process: &str) {
        self.dead.insert(process.to_owned());
        self.release(process);
    }

    fn release(&mut self, process: &str) {
        let handles: BTreeSet<u64> =
            self.locks.iter().filter(|(_, (owner, _))| owner == process).map(|(handle, _)| *handle).collect();
        self.locks.retain(|handle, _| !handles.contains(handle));
        for (holders, _) in self.slots.values_mut() {
            holders.retain(|holder| !handles.contains(holder));
        }
        self.slots.retain(|_, (holders, _)| !holders.is_empty());
    }

    /// The power goes out: no process survives, and everything fails until [`Self::power_on`].
    pub(crate) fn power_off(&mut self) {
        self.dead.append(&mut self.known);
        self.off = true;
    }

    /// The power comes back: what was synced is there, and some of what was not.
    pub(crate) fn power_on(&mut self) {
        let mut files = std::mem::take(&mut self.files);
        for file in files.values_mut() {
            let changes = std::mem::take(&mut file.unsynced);
            // All, none, or any subset.
            let (keep, torn) = match self.dice.below(6) {
                0 => (0.0, 0.0),
                1 => (1.0, 0.0),
                _ => (self.dice.between(0.0, 1.0), 0.8),
            };
            for change in changes {
                if self.dice.chance(keep) {
                    self.survive(&mut file.synced, change, torn);
                }
            }
            file.cached.clone_from(&file.synced);
        }
        self.files = files;
        self.lied |= self.owes;
        self.locks.clear();
        self.shared.clear();
        self.slots.clear();
        self.off = false;
        self.countdown = None;
    }

    fn survive(&mut self, bytes: &mut Vec<u8>, change: Change, torn: f64) {
        match change {
            Change::Write { offset, bytes: new } if self.dice.chance(torn) => {
                self.happened.push(Fault::DiskTornWrite);
                for (index, sector) in new.chunks(SECTOR).enumerate() {
                    if self.dice.chance(0.5) {
                        write(bytes, offset + index * SECTOR, sector);
                    }
                }
            }
            change => apply(bytes, &change),
        }
    }

    /// Counts a lock at this instant. A process that takes too many spins: it would never let time pass, so it is stopped.
    pub(crate) fn count_lock(&mut self, process: &str, now: tokio::time::Instant) {
        let before = self.locking.filter(|(instant, _)| *instant == now).map_or(0, |(_, count)| count);
        self.locking = Some((now, before + 1));
        if before >= LOCKS_MAX {
            self.spun = true;
            self.kill(process);
        }
    }

    /// Whether a process was stopped because it would have gone on for ever.
    pub(crate) fn spun(&self) -> bool {
        self.spun
    }

    /// Whether the process can't do anything any more.
    pub(crate) fn gone(&self, process: &str) -> bool {
        self.off || self.dead.contains(process)
    }

    /// Counts an operation of a process and says whether it may go on.
    fn step(&mut self, process: &str) -> Result<(), Error> {
        if !self.known.contains(process) {
            self.known.insert(process.to_owned());
        }
        if let Some((left, stop)) = self.countdown.take() {
            if let Some(left) = left.checked_sub(1) {
                self.countdown = Some((left, stop));
            } else {
                match &stop {
                    Stop::Process(process) => self.kill(&process.clone()),
                    Stop::Power => self.power_off(),
                }
                self.stopped.push(stop);
            }
        }
        if self.gone(process) { Err(broken("the process is gone")) } else { Ok(()) }
    }

    /// Whether a trouble of this kind strikes now.
    fn strikes(&mut self, of: fn(u32) -> Trouble) -> bool {
        let kind = std::mem::discriminant(&of(0));
        let Some(index) = self.troubles.iter().position(|t| std::mem::discriminant(t) == kind) else {
            return false;
        };
        let (Trouble::ReadError(left)
        | Trouble::WriteError(left)
        | Trouble::ShortWrite(left)
        | Trouble::SyncError(left)) = self.troubles[index]
        else {
            return false;
        };
        if left > 0 {
            self.troubles[index] = of(left - 1);
            return false;
        }
        let trouble = self.troubles.remove(index);
        self.happened.push(trouble.fault());
        true
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    pub(crate) fn create(&mut self, process: &str, name: &str) -> Result<(), Error> {
        self.step(process)?;
        if !self.files.contains_key(name) && self.troubles.contains(&Trouble::Full) {
            self.happened.push(Fault::DiskFull);
            return Err(ErrorKind::StorageFull.into());
        }
        self.files.entry(name.to_owned()).or_default();
        Ok(())
    }

    pub(crate) fn delete(&mut self, process: &str, name: &str) -> Result<(), Error> {
        self.step(process)?;
        self.files.remove(name).map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(crate) fn length(&self, name: &str) -> u64 {
        self.files.get(name).map_or(0, |file| file.cached.len() as u64)
    }

    pub(crate) fn read(
        &mut self,
        process: &str,
        name: &str,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        self.step(process)?;
        if self.strikes(Trouble::ReadError) {
            return Err(broken("the disk can't be read"));
        }
        let file = self.files.get(name).ok_or(ErrorKind::NotFound)?;
        let start = (offset as usize).min(file.cached.len());
        let there = (file.cached.len() - start).min(buffer.len());
        buffer[..there].copy_from_slice(&file.cached[start..start + there]);
        buffer[there..].fill(0);
        if there < buffer.len() { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    pub(crate) fn write(
        &mut self,
        process: &str,
        name: &str,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Error> {
        self.step(process)?;
        if self.strikes(Trouble::WriteError) {
            return Err(broken("the disk can't be written"));
        }
        let offset = offset as usize;
        let grows = offset + bytes.len() > self.length(name) as usize;
        if grows && self.troubles.contains(&Trouble::Full) {
            self.happened.push(Fault::DiskFull);
            // What the VFS library turns into SQLITE_FULL.
            return Err(ErrorKind::WriteZero.into());
        }
        let short = self.strikes(Trouble::ShortWrite);
        let done = if short { &bytes[..self.dice.below(bytes.len())] } else { bytes };
        self.change(name, Change::Write { offset, bytes: done.to_vec() })?;
        if short { Err(broken("the write was cut short")) } else { Ok(()) }
    }

    pub(crate) fn set_length(&mut self, process: &str, name: &str, length: u64) -> Result<(), Error> {
        self.step(process)?;
        self.change(name, Change::Length(length as usize))
    }

    fn change(&mut self, name: &str, change: Change) -> Result<(), Error> {
        let file = self.files.get_mut(name).ok_or(ErrorKind::NotFound)?;
        apply(&mut file.cached, &change);
        file.unsynced.push(change);
        Ok(())
    }

    pub(crate) fn sync(&mut self, process: &str, name: &str) -> Result<(), Error> {
        self.step(process)?;
        let failed = self.strikes(Trouble::SyncError);
        let lies = self.troubles.contains(&Trouble::LyingSync);
        let file = self.files.get_mut(name).ok_or(ErrorKind::NotFound)?;
        if failed {
            // The pages count as clean now; each may have reached the platter or not.
            let changes = std::mem::take(&mut file.unsynced);
            for change in changes {
                if self.dice.chance(0.5) {
                    apply(&mut file.synced, &change);
                }
            }
            return Err(broken("the sync failed"));
        }
        if lies {
            if !file.unsynced.is_empty() {
                self.owes = true;
                self.happened.push(Fault::DiskLyingSync);
            }
            return Ok(());
        }
        for change in std::mem::take(&mut file.unsynced) {
            apply(&mut file.synced, &change);
        }
        Ok(())
    }

    fn flip(&mut self) {
        let names: Vec<String> = self
            .files
            .iter()
            .filter(|(_, file)| !file.cached.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        // Mostly at rest: see below for a log.
        let logs = self.dice.chance(0.2);
        let names: Vec<String> = names.into_iter().filter(|name| name.ends_with("-wal") == logs).collect();
        let Some(name) = self.dice.pick(&names).cloned() else { return };
        let Some(file) = self.files.get_mut(&name) else { return };
        let (index, bit) = (self.dice.below(file.cached.len()), self.dice.below(8));
        file.cached[index] ^= 1 << bit;
        self.flipped = true;
        if let Some(byte) = file.synced.get_mut(index) {
            *byte ^= 1 << bit;
        }
        // SQLite takes a damaged frame of its log for the log's end, at the next recovery: what came after it is gone unseen.
        self.lied |= name.ends_with("-wal");
        self.happened.push(Fault::DiskBitFlip);
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes: new } => write(bytes, *offset, new),
        Change::Length(length) => bytes.resize(*length, 0),
    }
}

fn write(bytes: &mut Vec<u8>, offset: usize, new: &[u8]) {
    if bytes.len() < offset + new.len() {
        bytes.resize(offset + new.len(), 0);
    }
    bytes[offset..offset + new.len()].copy_from_slice(new);
}
