//! What files hold, without reading those that did not change.
//!
//! Remembers size, times, inode and mode of each file that was hashed, beside the hash. A file whose signature is the same is
//! taken to be the same, unless it was hashed so soon after its last change that a second change could carry the same time
//! ("racily clean", as git calls it): such entries are never trusted. Leaves out which files matter (see `tree`).
//! Invariant: a hash in hand is that of the file's content at one moment after it was asked for, or of a moment since which
//! its change time shows no change.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;

use blake3::Hash;
use camino::Utf8Path;

use crate::wire::{Reader, Writer};

/// First field of the file; another one means another format.
const FORMAT: u64 = 1;
/// Kernels stamp files by a clock that ticks every 10 ms or faster; two ticks.
const TICK_NS: i128 = 20_000_000;
/// File systems that store whole seconds.
const COARSE_TICK_NS: i128 = 2_000_000_000;
/// With more files than this, those that a run did not look at are forgotten, so that deleted ones do not pile up.
const ENTRIES_MAX: usize = 200_000;
/// Most source files fit, so that one read takes the whole file.
const BUFFER_BYTES: usize = 128 << 10;

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Executable,
    Link,
}

impl Kind {
    pub(crate) fn code(self) -> u64 {
        match self {
            Self::Plain => 0,
            Self::Executable => 1,
            Self::Link => 2,
        }
    }

    pub(crate) fn from_code(code: u64) -> Option<Self> {
        [Self::Plain, Self::Executable, Self::Link].into_iter().find(|kind| kind.code() == code)
    }
}

/// A path's kind and content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) kind: Kind,
    /// Of the bytes; for a link, of its text and of the file that it leads to.
    pub(crate) hash: Hash,
}

/// What shows that a file was written, whatever it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signature {
    size: u64,
    modified_ns: i128,
    changed_ns: i128,
    inode: u64,
    device: u64,
    mode: u32,
}

impl Signature {
    pub(crate) fn of(meta: &Metadata) -> Self {
        let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            size: meta.size(),
            modified_ns: ns(meta.mtime(), meta.mtime_nsec()),
            changed_ns: ns(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
            device: meta.dev(),
            mode: meta.mode(),
        }
    }

    /// Whether a change right after `now` would surely show.
    pub(crate) fn settled(&self, now_ns: i128) -> bool {
        let latest = self.changed_ns.max(self.modified_ns);
        let tick = if latest % 1_000_000_000 == 0 { COARSE_TICK_NS } else { TICK_NS };
        latest + tick < now_ns
    }
}

#[derive(Debug, Clone, Copy)]
struct Known {
    signature: Signature,
    state: State,
    settled: bool,
    /// The generation in which the signature was last compared; 0 for never in this run.
    compared: u64,
    /// The generation in which another signature was found than before in this run; 0 for never.
    moved: u64,
}

/// What is known of a path without reading it.
#[derive(Debug)]
pub(crate) enum Look {
    Absent,
    Same(State),
    /// Must be hashed; its size in bytes.
    Unknown(u64),
}

/// Hashes by path. Paths are relative to the root.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    known: HashMap<String, Known>,
    changed: bool,
}

impl Stats {
    /// Reads the file's bytes; what is damaged or of another format is forgotten.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let known = Reader::unseal(bytes).and_then(|mut reader| Self::read(&mut reader)).unwrap_or_default();
        Self { known, changed: false }
    }

    fn read(reader: &mut Reader<'_>) -> Option<HashMap<String, Known>> {
        if reader.number()? != FORMAT {
            return None;
        }
        let count = reader.count()?;
        let mut known = HashMap::with_capacity(count);
        for _ in 0..count {
            let path = reader.text()?;
            let mut time =
                || Some(i128::from(reader.number()? as i64) * 1_000_000_000 + i128::from(reader.number()?));
            let (modified_ns, changed_ns) = (time()?, time()?);
            let signature = Signature {
                modified_ns,
                changed_ns,
                size: reader.number()?,
                inode: reader.number()?,
                device: reader.number()?,
                mode: u32::try_from(reader.number()?).ok()?,
            };
            let state = State { kind: Kind::from_code(reader.number()?)?, hash: reader.hash()? };
            known.insert(path, Known { signature, state, settled: true, compared: 0, moved: 0 });
        }
        Some(known)
    }

    /// The file's bytes, if anything changed since they were read. Entries that could be racy are left out.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        if !self.changed {
            return None;
        }
        let roomy = self.known.len() <= ENTRIES_MAX;
        let keeps = |known: &Known| known.settled && (roomy || known.compared > 0);
        let kept: Vec<_> = self.known.iter().filter(|(_, known)| keeps(known)).collect();
        let mut writer = Writer::default();
        writer.number(FORMAT);
        writer.number(kept.len() as u64);
        for (path, Known { signature, state, .. }) in kept {
            writer.text(path);
            for time in [signature.modified_ns, signature.changed_ns] {
                writer.number(time.div_euclid(1_000_000_000) as u64);
                writer.number(time.rem_euclid(1_000_000_000) as u64);
            }
            writer.number(signature.size);
            writer.number(signature.inode);
            writer.number(signature.device);
            writer.number(u64::from(signature.mode));
            writer.number(state.kind.code());
            writer.hash(&state.hash);
        }
        Some(writer.seal())
    }

    /// Looks at a path. Within one generation (no task ended in between) a path is looked at once.
    pub(crate) fn look(&mut self, root: &Utf8Path, path: &str, generation: u64) -> io::Result<Look> {
        let known = self.known.get_mut(path);
        if let Some(known) = &known
            && known.compared == generation
        {
            return Ok(Look::Same(known.state));
        }
        let meta = match root.join(path).symlink_metadata() {
            Ok(meta) => meta,
            Err(error) if is_absent(&error) => return Ok(Look::Absent),
            Err(error) => return Err(error),
        };
        match known {
            // A link's target can change without the link, so links are read each time.
            Some(known) if known.settled && known.signature == Signature::of(&meta) && !meta.is_symlink() => {
                known.compared = generation;
                Ok(Look::Same(known.state))
            }
            _ if meta.is_dir() => Err(io::Error::other("it is a folder")),
            _ if meta.is_file() || meta.is_symlink() => Ok(Look::Unknown(meta.size())),
            _ => Err(io::Error::other("it is neither a file, a folder nor a link")),
        }
    }

    /// Remembers what [`hash`] found.
    pub(crate) fn learn(&mut self, path: &str, hashed: Hashed, generation: u64) {
        let Hashed { signature, state, settled } = hashed;
        let before = self.known.get(path);
        self.changed |= settled || before.is_some_and(|known| known.settled);
        let moved = match before {
            Some(known) if known.compared > 0 && known.signature != signature => generation,
            Some(known) => known.moved,
            None => 0,
        };
        self.known.insert(path.to_owned(), Known { signature, state, settled, compared: generation, moved });
    }

    /// Whether the file was written after the generation, be it with the same content.
    pub(crate) fn moved_since(&self, path: &str, generation: u64) -> bool {
        self.known.get(path).is_some_and(|known| known.moved > generation)
    }

    /// The file is gone.
    pub(crate) fn forget(&mut self, path: &str) {
        self.changed |= self.known.remove(path).is_some();
    }

    /// Remembers a file that was just written with this content, without reading it again.
    pub(crate) fn learn_written(&mut self, root: &Utf8Path, path: &str, state: State, generation: u64) {
        if let Ok(meta) = root.join(path).symlink_metadata() {
            let signature = Signature::of(&meta);
            self.learn(path, Hashed { signature, state, settled: false }, generation);
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A fresh hash with the signature that it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hashed {
    signature: Signature,
    pub(crate) state: State,
    settled: bool,
}

/// Reads and hashes a file or link; `None` when there is nothing of that name. A file that changes while it is read is
/// refused.
pub(crate) fn hash(root: &Utf8Path, path: &str) -> io::Result<Option<Hashed>> {
    let full = root.join(path);
    let meta = match full.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    if meta.is_symlink() {
        return hash_link(&full, &meta).map(Some);
    }
    if !meta.is_file() {
        return Err(io::Error::other("it is neither a file nor a link"));
    }
    for _ in 0..2 {
        // The clock is read first: a change after this instant has a later time, or makes the entry unsettled.
        let now = kernel_time_ns();
        let mut file = File::open(&full)?;
        let before = Signature::of(&file.metadata()?);
        let hash = hash_reader(&mut file)?;
        if Signature::of(&file.metadata()?) == before {
            let kind = if before.mode & 0o111 == 0 { Kind::Plain } else { Kind::Executable };
            let state = State { kind, hash };
            return Ok(Some(Hashed { signature: before, state, settled: before.settled(now) }));
        }
    }
    Err(io::Error::other("it changes while it is read"))
}

fn hash_link(full: &Utf8Path, meta: &Metadata) -> io::Result<Hashed> {
    let mut hasher = blake3::Hasher::new();
    let text = full.read_link()?;
    let text = text.as_os_str().as_encoded_bytes();
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text);
    if full.metadata().is_ok_and(|target| target.is_file()) {
        hasher.update(hash_reader(&mut File::open(full)?)?.as_bytes());
    }
    let state = State { kind: Kind::Link, hash: hasher.finalize() };
    Ok(Hashed { signature: Signature::of(meta), state, settled: false })
}

fn hash_reader(file: &mut File) -> io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize()),
            Ok(length) => drop(hasher.update(&buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The clock that the kernel stamps files with. Not for deciding about time: only for telling whether a stamp is old enough
/// that the next change gets another one, which no other clock can tell.
pub(crate) fn kernel_time_ns() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

#[cfg(test)]
mod tests;
