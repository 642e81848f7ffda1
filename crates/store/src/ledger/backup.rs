//! Backups: a folder with a whole copy of the ledger, the blobs that its records name, and the digests of both.
//!
//! ```text
//! backup.json    what it is: size, root, schema, when
//! ledger.db      the ledger
//! blobs/         envelopes and artifacts, under the hashes of what they are
//! SHA256SUMS     of all of these; `sha256sum --check SHA256SUMS` reads it
//! ```
//!
//! The ledger is copied before the blobs, so every blob that a record names is in the backup: it is stored before it is
//! recorded, and blobs are never deleted. Left out on purpose: private keys and tokens, which are secrets and can be
//! replaced; the task cache; what edges know of the processes that run on this machine.
//!
//! Invariant: a folder of the backup's name is a whole backup. It is written under another name, verified, synced and only then
//! renamed. Any change to any of its files is found by [`check`].

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use camino::{Utf8Path, Utf8PathBuf};
use delivery::code::Code;
use delivery::{Digest, Problem, Timestamp};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::sqlite::copy;
use super::{Access, Ledger};
use crate::blob::{self, BlobError};
use crate::error::Error;

const VERSION: u32 = 1;
const ABOUT: &str = "backup.json";
const SUMS: &str = "SHA256SUMS";
/// The ledger's file in a backup.
pub(super) const LEDGER: &str = "ledger.db";
/// The blobs' folder in a backup.
pub(super) const BLOBS: &str = "blobs";
/// A description is a few hundred bytes; beyond this it is not ours.
const ABOUT_BYTES_MAX: u64 = 1 << 20;
/// A line of the sums takes about 140 bytes, so this is a million files.
const SUMS_BYTES_MAX: u64 = 140 << 20;

/// What a backup says that it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Of this format.
    version: u32,
    /// The Trimtab that made it.
    pub trimtab: String,
    /// The ledger's schema.
    pub schema: i64,
    /// Number of records.
    pub size: u64,
    /// Root of the Merkle tree over them.
    pub root: Digest,
    /// When the last one was recorded.
    pub last_at: Option<Timestamp>,
    /// When the backup was made; `None` for a copy that was kept before a change of the schema.
    pub taken_at: Option<Timestamp>,
    /// Blobs in it.
    pub blobs: u64,
    /// Blobs that were damaged where they lay and are not in it.
    pub damaged: Vec<String>,
}

/// Why there is no backup, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is something at the path.
    #[error("there is something at {path} already")]
    Exists {
        /// Where.
        path: Utf8PathBuf,
    },
    /// Another process is writing to the same place.
    #[error("another process is at work on {path}")]
    Busy {
        /// Where.
        path: Utf8PathBuf,
    },
    /// There is no backup there.
    #[error("{path} is no backup: {detail}")]
    NotABackup {
        /// Where.
        path: Utf8PathBuf,
        /// What is missing.
        detail: String,
    },
    /// What is there is not what was written.
    #[error("the backup {path} is damaged: {detail}")]
    Damaged {
        /// The backup.
        path: Utf8PathBuf,
        /// The first thing that is wrong.
        detail: String,
    },
    /// The ledger that was to be backed up is damaged itself.
    #[error("the ledger is damaged, so its copy would be no backup: {detail}")]
    Unsound {
        /// The first damage.
        detail: String,
    },
    /// The backup has no such record or time.
    #[error("the backup can't be restored to {wanted}: {detail}")]
    NoSuchPoint {
        /// What was asked for.
        wanted: String,
        /// What there is.
        detail: String,
    },
    /// The ledger can't be used.
    #[error(transparent)]
    Ledger(#[from] Error),
    /// A blob can't be used.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The file system failed.
    #[error("{path} can't be used")]
    Io {
        /// Which file.
        path: Utf8PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

impl BackupError {
    /// As a person is told it.
    pub fn problem(&self) -> Problem {
        let problem = |code, hint: &str| Problem::new(code, self.to_string()).hint(hint);
        match self {
            Self::Exists { .. } => problem(Code::LedgerExists, "name a place where there is nothing yet"),
            Self::Busy { .. } => problem(Code::StoreLocked, "wait until it has finished"),
            Self::NotABackup { .. } => {
                problem(Code::ThingUnknown, "name a folder that 'trimtab ledger backup' has written")
            }
            Self::Damaged { .. } => problem(
                Code::BackupDamaged,
                "nothing was changed; use another backup, and keep this one for what can be read of it",
            ),
            Self::Unsound { .. } => problem(
                Code::StoreDamaged,
                "see 'trimtab ledger verify'; to keep what there is, stop Trimtab and copy .trimtab",
            ),
            Self::NoSuchPoint { .. } => problem(Code::ThingUnknown, "name a record or a time that it has"),
            Self::Ledger(error) => error.problem(),
            Self::Blob(error) => error.problem(),
            Self::Io { path, source } => Error::from_io(path, source).problem().because(source),
        }
    }

    /// The error and its cause in one sentence.
    pub(super) fn detail(&self) -> String {
        match self {
            Self::Io { path, source } => format!("{path}: {source}"),
            other => other.to_string(),
        }
    }
}

/// Attaches the path to a file system error.
pub(super) fn at(path: &Utf8Path) -> impl FnOnce(std::io::Error) -> BackupError + '_ {
    |source| BackupError::Io { path: path.to_owned(), source }
}

impl About {
    /// Reads what a folder says that it is. Does not check that it is so.
    pub fn read(folder: &Utf8Path) -> Result<Self, BackupError> {
        let not = |detail: String| BackupError::NotABackup { path: folder.to_owned(), detail };
        let path = folder.join(ABOUT);
        let text = limited(&path, ABOUT_BYTES_MAX).map_err(|error| not(format!("{ABOUT}: {error}")))?;
        let damaged = |detail: String| BackupError::Damaged { path: folder.to_owned(), detail };
        let about: Self =
            serde_json::from_slice(&text).map_err(|error| damaged(format!("{ABOUT}: {error}")))?;
        if about.version == VERSION {
            return Ok(about);
        }
        Err(damaged(format!("{ABOUT} is of version {}, this Trimtab knows {VERSION}", about.version)))
    }
}

fn limited(path: &Utf8Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.len() > bytes_max {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    let mut text = Vec::new();
    file.take(bytes_max).read_to_end(&mut text)?;
    Ok(text)
}

/// Where the copies of a ledger are kept that are made before its schema changes.
pub(super) fn folder(ledger: &Utf8Path) -> Utf8PathBuf {
    ledger.with_file_name("backups")
}

/// A folder that is being filled under a name of its own. Dropping it removes it.
pub(super) struct Part {
    path: Utf8PathBuf,
    /// Locked while somebody fills the folder, which tells what a killed process left from what another one does.
    _lock: File,
    kept: bool,
}

impl Part {
    /// The folder beside `target`; what a killed process left in it is removed.
    pub(super) fn of(target: &Utf8Path) -> Result<Self, BackupError> {
        let name = target.file_name().unwrap_or_default();
        let path = target.with_file_name(format!(".{name}.part"));
        if let Some(parent) = target.parent().filter(|parent| !parent.as_str().is_empty()) {
            blob::make_directory(parent)?;
        }
        blob::make_directory(&path)?;
        let lock = File::open(&path).map_err(at(&path))?;
        lock.try_lock().map_err(|_| BackupError::Busy { path: path.clone() })?;
        // Emptied rather than replaced: the lock is on the folder itself.
        for entry in path.read_dir_utf8().map_err(at(&path))? {
            let entry = entry.map_err(at(&path))?;
            let directory = entry.file_type().map_err(at(&path))?.is_dir();
            let removed = if directory {
                std::fs::remove_dir_all(entry.path())
            } else {
                std::fs::remove_file(entry.path())
            };
            removed.map_err(at(entry.path()))?;
        }
        Ok(Self { path, _lock: lock, kept: false })
    }

    /// Where it is now.
    pub(super) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Gives it its name, durably. Nothing may be there.
    pub(super) fn keep_as(mut self, target: &Utf8Path) -> Result<(), BackupError> {
        sync_all(&self.path)?;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            self.path.as_str(),
            rustix::fs::CWD,
            target.as_str(),
            flags,
        )
        .map_err(|error| match error {
            rustix::io::Errno::EXIST => BackupError::Exists { path: target.to_owned() },
            error => at(target)(error.into()),
        })?;
        self.kept = true;
        sync_parent(target)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Syncs every file and folder below the folder, and the folder itself. Not the whole file system: what others write there is
/// not ours to wait for, and can be gigabytes.
pub(super) fn sync_all(folder: &Utf8Path) -> Result<(), BackupError> {
    for entry in folder.read_dir_utf8().map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        let kind = entry.file_type().map_err(at(entry.path()))?;
        if kind.is_dir() {
            sync_all(entry.path())?;
        } else if kind.is_file() {
            sync(entry.path())?;
        }
    }
    sync(folder)
}

fn sync(path: &Utf8Path) -> Result<(), BackupError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(at(path))
}

pub(super) fn sync_parent(path: &Utf8Path) -> Result<(), BackupError> {
    let parent = path.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    sync(parent)
}

/// Writes a backup of the ledger and the blobs while others append. Blocks the thread.
pub fn write(
    ledger: &Utf8Path,
    blobs: &Utf8Path,
    to: &Utf8Path,
    taken_at: Timestamp,
) -> Result<About, BackupError> {
    if to.try_exists().map_err(at(to))? {
        return Err(BackupError::Exists { path: to.to_owned() });
    }
    let part = Part::of(to)?;
    let file = part.path().join(LEDGER);
    copy::copy(ledger, &file)?;
    let found = Ledger::open(&file, Access::ReadOnly)?.verify()?;
    if let Some(damage) = found.damages.first() {
        return Err(BackupError::Unsound { detail: damage.to_string() });
    }
    let copied = blob::copy_all(blobs, &part.path().join(BLOBS))?;
    let mut about = describe(&file)?;
    about.taken_at = Some(taken_at);
    about.blobs = copied.files;
    about.damaged = copied.damaged;
    seal(part.path(), &about)?;
    part.keep_as(to)?;
    Ok(about)
}

/// Keeps a copy of the ledger behind the connection, whose lock the caller holds. There may be one of the same records
/// already, from a migration that was killed: then that one stays, if it is whole.
pub(super) fn keep(
    ledger: &Utf8Path,
    source: &Connection,
    schema: i64,
    step: &dyn Fn(),
) -> Result<(), BackupError> {
    let folder = folder(ledger);
    let working = folder.join("before-a-change-of-the-schema");
    let part = Part::of(&working)?;
    let file = part.path().join(LEDGER);
    copy::copy_of(ledger, source, &file, step)?;
    let about = describe(&file)?;
    let mut target = folder.join(format!("schema-{schema}-records-{}-{}", about.size, about.root.short()));
    if target.exists() {
        match check(&target) {
            Ok(there) if there == about => return Ok(()),
            _ => target = free(&target),
        }
    }
    seal(part.path(), &about)?;
    part.keep_as(&target)
}

/// A name like this one that nothing has yet.
pub(super) fn free(wanted: &Utf8Path) -> Utf8PathBuf {
    let numbered = (2..).map(|number| Utf8PathBuf::from(format!("{wanted}-{number}")));
    let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
    // The names don't end, but the files do.
    names.find(|name| !name.exists()).unwrap_or_else(|| wanted.to_owned())
}

/// What the copy in that file is. A damaged ledger has a description too: what its head says.
fn describe(file: &Utf8Path) -> Result<About, BackupError> {
    let fault = |error: rusqlite::Error| BackupError::Ledger(super::sqlite::meaning(file, &error));
    let connection = Connection::open(file).map_err(fault)?;
    let schema = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(fault)?;
    let head = connection.query_row("SELECT size, root, last_at FROM head", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Option<i64>>(2)?))
    });
    let (size, root, last_at) = head.unwrap_or_default();
    Ok(About {
        version: VERSION,
        trimtab: env!("CARGO_PKG_VERSION").to_owned(),
        schema,
        size: u64::try_from(size).unwrap_or_default(),
        root: Digest::new(hex::encode(root)).unwrap_or_else(|_| Digest::of(b"")),
        last_at: last_at.and_then(|at| Timestamp::from_microsecond(at).ok()),
        taken_at: None,
        blobs: 0,
        damaged: Vec::new(),
    })
}

/// Writes the description and the sums of everything in the folder.
fn seal(folder: &Utf8Path, about: &About) -> Result<(), BackupError> {
    let text = serde_json::to_vec_pretty(about).map_err(|error| at(folder)(error.into()))?;
    write_file(&folder.join(ABOUT), &text)?;
    let mut sums = String::new();
    for name in files(folder)? {
        sums.extend([&digest(&folder.join(&name))?, "  ", name.as_str(), "\n"]);
    }
    write_file(&folder.join(SUMS), sums.as_bytes())
}

fn write_file(path: &Utf8Path, bytes: &[u8]) -> Result<(), BackupError> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, bytes)).map_err(at(path))
}

/// The files below the folder, relative to it, in order.
fn files(folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>, BackupError> {
    let (mut found, mut left) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = left.pop() {
        for entry in next.read_dir_utf8().map_err(at(&next))? {
            let entry = entry.map_err(at(&next))?;
            let path = entry.path().to_owned();
            match entry.file_type().map_err(at(&path))? {
                kind if kind.is_dir() => left.push(path),
                _ => found.extend(path.strip_prefix(folder).ok().map(Utf8Path::to_owned)),
            }
        }
    }
    found.sort();
    Ok(found)
}

fn digest(path: &Utf8Path) -> Result<String, BackupError> {
    let mut hasher = sha2::Sha256::new();
    let mut file = File::open(path).map_err(at(path))?;
    let mut chunk = vec![0; 256 << 10];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hex::encode(hasher.finalize())),
            Ok(read) => hasher.update(&chunk[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(at(path)(error)),
        }
    }
}

/// Reads the whole backup and compares it with its sums: every file is what was written, and none is missing or new. What
/// the ledger in it says of itself is not looked at here.
pub fn check(backup: &Utf8Path) -> Result<About, BackupError> {
    let not = |detail: &str| BackupError::NotABackup { path: backup.to_owned(), detail: detail.to_owned() };
    let damaged = |detail: String| BackupError::Damaged { path: backup.to_owned(), detail };
    if !backup.is_dir() {
        let file = backup.exists();
        return Err(not(if file {
            "a backup is a folder, and that is not one"
        } else {
            "there is no such folder"
        }));
    }
    let path = backup.join(SUMS);
    let text = match limited(&path, SUMS_BYTES_MAX) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !backup.join(ABOUT).exists() => {
            return Err(not(&format!("it has no {SUMS}")));
        }
        text => text.map_err(|error| damaged(format!("{SUMS}: {error}")))?,
    };
    let text = String::from_utf8(text).map_err(|_| damaged(format!("{SUMS} is not text")))?;
    let mut listed: BTreeMap<Utf8PathBuf, &str> = BTreeMap::new();
    for line in text.split_terminator('\n') {
        let Some((sum, name)) = line.split_once("  ") else {
            return Err(damaged(format!("{SUMS} has a line that is no sum")));
        };
        listed.insert(name.into(), sum);
    }
    for name in files(backup)?.into_iter().filter(|name| name != SUMS) {
        let Some(sum) = listed.remove(&name) else {
            return Err(damaged(format!("{name} is not in {SUMS}")));
        };
        if digest(&backup.join(&name))? != sum {
            return Err(damaged(format!("{name} was changed")));
        }
    }
    if let Some(name) = listed.keys().next() {
        return Err(damaged(format!("{name} is missing")));
    }
    if !text.ends_with('\n') {
        return Err(damaged(format!("{SUMS} was cut off")));
    }
    About::read(backup)
}

/// Makes a private folder.
pub(super) fn make_private(path: &Utf8Path) -> Result<(), BackupError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}
