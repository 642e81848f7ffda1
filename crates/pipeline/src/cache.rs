//! The content-addressed cache of task results.
//!
//! Layout below the cache directory: `v1/entries/<key>` (sealed entries), `v1/inputs/<hash>` (input lists, shared by tasks),
//! `v1/logs/<key>`, `v1/blobs` (contents), `v1/latest` (the last entry of each task: for explanations, durations and a fast
//! no-op), `v1/stat` (hashes by file signature), `v1/quarantine` (what was found damaged). Every file is written beside its
//! place and renamed, so that several runs may share one cache; a torn or altered file is found by its hash, put aside and
//! treated as absent.
//!
//! Leaves out running and deciding what to run. Invariant: nothing here fails a run; trouble becomes a warning.

pub(crate) mod entry;
pub(crate) mod explain;
pub(crate) mod key;
mod latest;
pub(crate) mod stat;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use blake3::Hash;
use camino::{Utf8Path, Utf8PathBuf};
use delivery::TaskName;
use std::os::unix::fs::PermissionsExt as _;
use store::{BlobId, Blobs};

use entry::{Entry, Output};
use explain::{Difference, differences};
use key::Inputs;
use latest::{Latest, Owners};
use stat::{Kind, Look, State, Stats};

use crate::tree::link_above;

/// Bytes that may be hashed on the scheduler's own thread; more is handed to a thread of its own.
const INLINE_BYTES_MAX: u64 = 256 << 10;

/// How much work a question may cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// No more than a few milliseconds.
    Glance,
    /// As much as it takes.
    Full,
}

/// Why states can't be told.
#[derive(Debug)]
pub(crate) enum StateError {
    /// It would take more than a glance.
    Busy,
    /// A sentence that names the path.
    Unreadable(String),
}

/// What the cache has under a key.
#[derive(Debug)]
pub(crate) enum Lookup {
    Found(Box<Entry>),
    Absent,
    Damaged(String),
}

/// How a kept result's files compare to those in the work tree.
#[derive(Debug)]
pub(crate) enum Placement {
    /// These are absent or have another, kept content; empty when all are in place.
    Missing(Vec<Output>),
    /// At this path is something that the cache does not have.
    Foreign(String),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cache {
    root: Utf8PathBuf,
    folder: Utf8PathBuf,
    blobs: Option<Blobs>,
    stats: Mutex<Stats>,
    latest: Mutex<Latest>,
    owners: OnceLock<Owners>,
    warnings: Mutex<Vec<String>>,
    generation: AtomicU64,
}

/// The last known duration of each task in milliseconds, for planning. Empty when nothing is known.
pub fn history(cache_directory: &Utf8Path) -> BTreeMap<TaskName, u64> {
    Latest::read(&cache_directory.join("v1/latest")).durations()
}

impl Cache {
    /// Opens the cache of the repository at `root`. Where it can't be used, nothing is found and nothing kept.
    pub(crate) fn open(cache_directory: &Utf8Path, root: &Utf8Path) -> Self {
        let folder = cache_directory.join("v1");
        let mut warnings = Vec::new();
        let prepared = ["entries", "inputs", "logs", "quarantine"]
            .iter()
            .try_for_each(|name| std::fs::create_dir_all(folder.join(name)));
        if let Err(error) = prepared {
            warnings.push(format!("the cache at {cache_directory} can't be used: {error}"));
        }
        let blobs = match Blobs::open(&folder.join("blobs")) {
            Ok(blobs) => Some(blobs),
            Err(error) => {
                warnings.push(format!("the cache at {cache_directory} can't keep files: {error}"));
                None
            }
        };
        let stats = std::fs::read(folder.join("stat")).map(|bytes| Stats::decode(&bytes)).unwrap_or_default();
        let latest = Latest::read(&folder.join("latest"));
        Self {
            root: root.to_owned(),
            folder,
            blobs,
            stats: Mutex::new(stats),
            latest: Mutex::new(latest),
            owners: OnceLock::new(),
            warnings: Mutex::new(warnings),
            generation: AtomicU64::new(1),
        }
    }

    /// A task ended: files may be different from here on.
    pub(crate) fn advance(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(crate) fn warn(&self, warning: String) {
        let mut warnings = lock(&self.warnings);
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// What the paths are; `None` for one that is absent.
    pub(crate) fn states(
        &self,
        paths: Vec<String>,
        effort: Effort,
    ) -> Result<Vec<(String, Option<State>)>, StateError> {
        let generation = self.generation();
        let unreadable = |path: &str, error: &io::Error| StateError::Unreadable(format!("{path}: {error}"));
        let mut states = Vec::with_capacity(paths.len());
        let mut unknown = Vec::new();
        let mut bytes = 0;
        {
            let mut stats = lock(&self.stats);
            for path in paths {
                match stats.look(&self.root, &path, generation).map_err(|error| unreadable(&path, &error))? {
                    Look::Absent => states.push((path, None)),
                    Look::Same(state) => states.push((path, Some(state))),
                    Look::Unknown(size) => {
                        unknown.push(states.len());
                        bytes += size;
                        states.push((path, None));
                    }
                }
            }
        }
        if effort == Effort::Glance && bytes > INLINE_BYTES_MAX {
            return Err(StateError::Busy);
        }
        for at in unknown {
            let (path, state) = &mut states[at];
            let hashed = stat::hash(&self.root, path).map_err(|error| unreadable(path, &error))?;
            if let Some(hashed) = hashed {
                *state = Some(hashed.state);
                lock(&self.stats).learn(path, hashed, generation);
            }
        }
        Ok(states)
    }

    /// The entry of a key.
    pub(crate) fn lookup(&self, task: &TaskName, key: &Hash) -> Lookup {
        if let Some(entry) = lock(&self.latest).entry(task, key) {
            return Lookup::Found(Box::new(entry));
        }
        let path = self.entry_path(key);
        match std::fs::read(&path) {
            Ok(bytes) => match Entry::decode(&bytes).filter(|entry| entry.parts.key() == *key) {
                Some(entry) => Lookup::Found(Box::new(entry)),
                None => Lookup::Damaged(self.quarantine(&path, "its entry does not match its hash")),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Lookup::Absent,
            Err(error) => Lookup::Damaged(format!("{path}: {error}")),
        }
    }

    /// What differs from the task's last kept run.
    pub(crate) fn explain_miss(
        &self,
        task: &TaskName,
        parts: &key::Parts,
        inputs: &Inputs,
    ) -> Vec<Difference> {
        let Some(before) = lock(&self.latest).key(task) else { return vec![Difference::FirstRun] };
        let Lookup::Found(before) = self.lookup(task, &before) else { return vec![Difference::EntryGone] };
        let listed = before.parts.inputs.filter(|hash| Some(*hash) != parts.inputs).and_then(|hash| {
            let bytes = std::fs::read(self.inputs_path(&hash)).ok()?;
            (blake3::hash(&bytes) == hash).then(|| Inputs::decode(&bytes)).flatten()
        });
        differences(&before.parts, parts, listed.as_ref().map(|before| (before, inputs)))
    }

    /// Which of the entry's outputs are not in place. A file that stands there instead is only ever replaced if the cache could
    /// give it back; else somebody's work could be lost, and the task is to be run.
    pub(crate) fn placement(&self, entry: &Entry, effort: Effort) -> Result<Placement, StateError> {
        let paths = entry.outputs.iter().map(|output| output.path.clone()).collect();
        let mut missing = Vec::new();
        for (output, (path, state)) in entry.outputs.iter().zip(self.states(paths, effort)?) {
            match state {
                Some(state) if state == output.state => {}
                Some(state) if state.kind != Kind::Link && !self.has(&state.hash) => {
                    return Ok(Placement::Foreign(path));
                }
                _ => missing.push(output.clone()),
            }
        }
        if let Some(link) = missing.iter().find_map(|output| link_above(&self.root, &output.path)) {
            return Err(StateError::Unreadable(format!("{link} is a link")));
        }
        Ok(Placement::Missing(missing))
    }

    fn has(&self, hash: &Hash) -> bool {
        self.blobs.as_ref().is_some_and(|blobs| blobs.contains(&BlobId::from_bytes(*hash.as_bytes())))
    }

    /// Puts outputs back. On an error the entry is put aside, and some may have been put back.
    pub(crate) fn restore(&self, key: &Hash, outputs: &[Output]) -> Result<(), String> {
        for output in outputs {
            if let Err(reason) = self.restore_one(output) {
                let reason = format!("{} can't be put back: {reason}", output.path);
                lock(&self.latest).forget(key);
                return Err(self.quarantine(&self.entry_path(key), &reason));
            }
        }
        Ok(())
    }

    fn restore_one(&self, output: &Output) -> Result<(), String> {
        let to = self.root.join(&output.path);
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(|error| error.to_string())?;
        }
        if output.state.kind == Kind::Link {
            return restore_link(&output.link, &to).map_err(|error| error.to_string());
        }
        let blobs = self.blobs.as_ref().ok_or("there is no blob store")?;
        let blob = BlobId::from_bytes(*output.state.hash.as_bytes());
        blobs.restore(&blob, to.as_std_path(), output.mode).map_err(|error| error.to_string())?;
        lock(&self.stats).learn_written(&self.root, &output.path, output.state, self.generation());
        Ok(())
    }

    /// Keeps an output's content.
    pub(crate) fn keep(&self, path: &str, state: State) -> Result<Output, String> {
        let full = self.root.join(path);
        let unreadable = |error: io::Error| format!("{path}: {error}");
        let mode = full.symlink_metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        let mut link = String::new();
        if state.kind == Kind::Link {
            link = full.read_link_utf8().map_err(unreadable)?.into_string();
        } else {
            let blobs = self.blobs.as_ref().ok_or("there is no blob store")?;
            let (blob, _) = blobs.put_file(full.as_std_path()).map_err(|error| format!("{path}: {error}"))?;
            if blob.as_bytes() != state.hash.as_bytes() {
                return Err(format!("{path} changed while it was kept"));
            }
        }
        Ok(Output { path: path.to_owned(), state, mode, link })
    }

    /// Keeps a result.
    pub(crate) fn save(
        &self,
        task: &TaskName,
        entry: &Entry,
        inputs: &Inputs,
        log: &Utf8Path,
    ) -> io::Result<()> {
        let key = entry.parts.key();
        if let Some(hash) = entry.parts.inputs {
            let path = self.inputs_path(&hash);
            if !path.exists() {
                write_in_place(&path, &inputs.encode())?;
            }
        }
        let kept_log = self.log_path(&key);
        let staged = staging(&kept_log);
        std::fs::copy(log, &staged).and_then(|_| std::fs::rename(&staged, &kept_log))?;
        let bytes = entry.encode();
        write_in_place(&self.entry_path(&key), &bytes)?;
        lock(&self.latest).put(task, key, entry.duration_ms, bytes);
        Ok(())
    }

    /// The result was put in place: it is the task's last one now.
    pub(crate) fn adopt(&self, task: &TaskName, key: Hash, entry: &Entry) {
        let mut latest = lock(&self.latest);
        if latest.key(task) != Some(key) {
            latest.put(task, key, entry.duration_ms, entry.encode());
        }
    }

    /// Which files the tasks are known to have written, as of the first question of the run.
    pub(crate) fn owners(&self) -> &Owners {
        self.owners.get_or_init(|| {
            let read = |key: &Hash| Entry::decode(&std::fs::read(self.entry_path(key)).ok()?);
            lock(&self.latest).owners(&read)
        })
    }

    /// Whether any of the files was written after the generation, be it with the same content.
    pub(crate) fn moved_since<'p>(
        &self,
        mut paths: impl Iterator<Item = &'p String>,
        generation: u64,
    ) -> bool {
        let stats = lock(&self.stats);
        paths.any(|path| stats.moved_since(path, generation))
    }

    /// Removes a file of the work tree, and the folders below `base` that this empties.
    pub(crate) fn remove(&self, path: &str, base: &str) -> io::Result<()> {
        if let Some(link) = link_above(&self.root, path) {
            return Err(io::Error::other(format!("{link} is a link")));
        }
        std::fs::remove_file(self.root.join(path))?;
        lock(&self.stats).forget(path);
        let above = path.rmatch_indices('/').map(|(at, _)| &path[..at]);
        for folder in above.take_while(|folder| folder.len() > base.len()) {
            if std::fs::remove_dir(self.root.join(folder)).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Remembers how long a task took that is not kept.
    pub(crate) fn learn_duration(&self, task: &TaskName, duration_ms: u64) {
        lock(&self.latest).learn_duration(task, duration_ms);
    }

    /// The kept log of a result.
    pub(crate) fn log_path(&self, key: &Hash) -> Utf8PathBuf {
        self.folder.join("logs").join(key.to_hex().as_str())
    }

    fn entry_path(&self, key: &Hash) -> Utf8PathBuf {
        self.folder.join("entries").join(key.to_hex().as_str())
    }

    fn inputs_path(&self, hash: &Hash) -> Utf8PathBuf {
        self.folder.join("inputs").join(hash.to_hex().as_str())
    }

    /// Moves a damaged file out of the way and gives the reason back.
    fn quarantine(&self, path: &Utf8Path, reason: &str) -> String {
        let aside = self.folder.join("quarantine").join(path.file_name().unwrap_or("unnamed"));
        if std::fs::rename(path, &aside).is_ok() {
            self.warn(format!("a cache entry was put aside: {reason} ({aside})"));
        }
        reason.to_owned()
    }

    /// Writes what was learnt and gives the warnings.
    pub(crate) fn close(&self) -> Vec<String> {
        let stats = lock(&self.stats).encode();
        let written = stats.map_or(Ok(()), |bytes| write_in_place(&self.folder.join("stat"), &bytes));
        if let Err(error) = written.and_then(|()| lock(&self.latest).write(&self.folder.join("latest"))) {
            self.warn(format!("the cache's index can't be written: {error}"));
        }
        std::mem::take(&mut *lock(&self.warnings))
    }
}

fn restore_link(text: &str, to: &Utf8Path) -> io::Result<()> {
    let staged = staging(to);
    std::os::unix::fs::symlink(text, &staged)?;
    std::fs::rename(&staged, to)
}

/// A name beside the target that no other process or thread uses.
fn staging(target: &Utf8Path) -> Utf8PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = target.file_name().unwrap_or("file");
    target.with_file_name(format!(".{name}.{}.{count}", std::process::id()))
}

/// Writes a file so that readers see all of it or nothing.
fn write_in_place(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    let staged = staging(path);
    std::fs::write(&staged, bytes).and_then(|()| std::fs::rename(&staged, path)).inspect_err(|_| {
        // The write failed already; what is left of it is only waste.
        drop(std::fs::remove_file(&staged));
    })
}

/// A panic while a lock is held leaves nothing half-done here, so the data stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
