//! Blobs: bytes kept under the hash of what they are.
//!
//! Two key spaces in one directory: BLAKE3 for caches ([`BlobId`]), SHA-256 for evidence and artifacts
//! ([`delivery::Digest`], "documents"), because signatures and provenance speak SHA-256. A blob is written to a temporary
//! file, synced and renamed into place, so a name always has its whole content, or none. Left out: deletion and quotas.
//!
//! Invariant: what is read is what was put, or an error; a damaged blob is repaired by putting it again.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use delivery::code::Code;
use delivery::limits::ARTIFACT_BYTES_MAX;
use delivery::{Digest, Problem};

/// The largest blob in bytes. Checked before it is read.
pub const BLOB_BYTES_MAX: u64 = ARTIFACT_BYTES_MAX;
/// Files that are held open at once while many are stored.
const STAGED_FILES_MAX: usize = 256;
const CHUNK_BYTES: usize = 128 << 10;

/// The BLAKE3 hash of a blob, in lower-case hexadecimal when printed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId([u8; 32]);

impl BlobId {
    /// The id that these bytes have.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// From the hash itself.
    pub fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({self})")
    }
}

impl std::str::FromStr for BlobId {
    type Err = BlobError;
    fn from_str(text: &str) -> Result<Self, BlobError> {
        let mut hash = [0; 32];
        let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut hash) {
            Ok(()) if lower => Ok(Self(hash)),
            _ => Err(BlobError::NotAnId),
        }
    }
}

/// Why a blob was not stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Nothing is stored under that hash.
    #[error("there is no blob {id}")]
    Missing {
        /// The hash.
        id: String,
    },
    /// What is stored is not what was put.
    #[error("blob {id} is damaged")]
    Damaged {
        /// The hash.
        id: String,
    },
    /// Larger than [`BLOB_BYTES_MAX`].
    #[error("a blob of {bytes} bytes is larger than {BLOB_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// The text is not 64 lower-case hexadecimal digits.
    #[error("a blob's id is 64 lower-case hexadecimal digits")]
    NotAnId,
    /// The file system failed.
    #[error("{path} can't be used")]
    Io {
        /// Which file.
        path: Utf8PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

impl BlobError {
    /// As a person is told it.
    pub fn problem(&self) -> Problem {
        use std::io::ErrorKind;
        let code = match self {
            Self::Missing { .. } | Self::NotAnId => Code::ThingUnknown,
            Self::Damaged { .. } => Code::StoreDamaged,
            Self::TooLarge { .. } => Code::RecordTooLarge,
            Self::Io { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Code::StoreFull,
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Code::StoreReadOnly,
                _ => Code::StoreUnavailable,
            },
        };
        let problem = Problem::new(code, self.to_string());
        match self {
            Self::Missing { .. } => problem.hint("build it again"),
            Self::Damaged { .. } => problem.hint("build it again, which puts a whole one in its place"),
            Self::TooLarge { .. } => problem.hint("leave large files out of the declared outputs"),
            Self::NotAnId => problem,
            Self::Io { source, .. } => {
                problem.because(source).hint("check the space on the disk and your permissions")
            }
        }
    }
}

/// Attaches the path to a file system error.
pub(crate) fn at(path: &Utf8Path) -> impl FnOnce(std::io::Error) -> BlobError + '_ {
    |source| BlobError::Io { path: path.to_owned(), source }
}

/// A running hash of one of the two kinds.
enum Hasher {
    Blake3(Box<blake3::Hasher>),
    Sha256(sha2::Sha256),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
            Self::Sha256(hasher) => sha2::Digest::update(hasher, bytes),
        }
    }

    fn finish(self) -> [u8; 32] {
        match self {
            Self::Blake3(hasher) => *hasher.finalize().as_bytes(),
            Self::Sha256(hasher) => sha2::Digest::finalize(hasher).into(),
        }
    }
}

/// The two key spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Blake3,
    Sha256,
}

impl Space {
    fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
        }
    }

    fn hasher(self) -> Hasher {
        match self {
            Self::Blake3 => Hasher::Blake3(Box::default()),
            Self::Sha256 => Hasher::Sha256(sha2::Sha256::default()),
        }
    }
}

/// A hash in one of the spaces: names a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) space: Space,
    pub(crate) hash: [u8; 32],
}

impl Key {
    /// A digest's key.
    pub(crate) fn of_digest(digest: &Digest) -> Result<Self, BlobError> {
        let mut hash = [0; 32];
        hex::decode_to_slice(digest.as_str(), &mut hash).map_err(|_| BlobError::NotAnId)?;
        Ok(Self { space: Space::Sha256, hash })
    }

    fn missing(self) -> BlobError {
        BlobError::Missing { id: hex::encode(self.hash) }
    }

    fn damaged(self) -> BlobError {
        BlobError::Damaged { id: hex::encode(self.hash) }
    }
}

impl From<&BlobId> for Key {
    fn from(id: &BlobId) -> Self {
        Self { space: Space::Blake3, hash: id.0 }
    }
}

/// A directory of blobs. Clones share it; any number of processes may use one directory.
#[derive(Debug, Clone)]
pub struct Blobs {
    directory: Utf8PathBuf,
    counter: Arc<AtomicU64>,
}

impl Blobs {
    /// Uses the directory, which is made (0700) when it is missing. Removes what dead writers left.
    pub fn open(directory: &Utf8Path) -> Result<Self, BlobError> {
        let temporary = directory.join("tmp");
        make_directory(&temporary)?;
        sweep(&temporary);
        Ok(Self { directory: directory.to_owned(), counter: Arc::default() })
    }

    /// Stores the bytes; on the disk when it returns.
    pub fn put(&self, bytes: &[u8]) -> Result<BlobId, BlobError> {
        let key = self.put_in(Space::Blake3, &mut &*bytes, Utf8Path::new("memory"))?.0;
        Ok(BlobId(key.hash))
    }

    /// Stores a file's content and gives its size in bytes.
    pub fn put_file(&self, path: &Path) -> Result<(BlobId, u64), BlobError> {
        let (key, size) = self.put_file_in(Space::Blake3, path)?;
        Ok((BlobId(key.hash), size))
    }

    /// The blob's bytes, checked.
    pub fn get(&self, id: &BlobId) -> Result<Vec<u8>, BlobError> {
        self.get_in(id.into())
    }

    /// Writes the blob to a file of its own (never a link into the store), replacing what is there. Of the mode, the
    /// permission bits count. The content is checked before the file appears under its name.
    pub fn restore(&self, id: &BlobId, to: &Path, mode: u32) -> Result<(), BlobError> {
        self.restore_in(id.into(), to, mode & 0o777).map(drop)
    }

    /// Whether there is such a blob. Does not read it.
    pub fn contains(&self, id: &BlobId) -> bool {
        self.file(id.into()).is_file()
    }

    /// Stores bytes under their SHA-256: envelopes, file lists, reports.
    pub fn put_document(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        self.put_in(Space::Sha256, &mut &*bytes, Utf8Path::new("memory"))?;
        Ok(Digest::of(bytes))
    }

    /// The document's bytes, checked.
    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>, BlobError> {
        self.get_in(Key::of_digest(digest)?)
    }

    /// As [`Blobs::put_file`], in either space.
    fn put_file_in(&self, space: Space, path: &Path) -> Result<(Key, u64), BlobError> {
        let (temporary, key, size) = self.stage_file(space, path)?;
        self.keep(temporary, key, size)
    }

    /// Stores many files for the price of few waits: all are written, then synced, which finds most of them on the disk
    /// already, then renamed into place; each folder is synced once.
    pub(crate) fn put_files<'a>(
        &self,
        space: Space,
        paths: impl ExactSizeIterator<Item = &'a Path>,
    ) -> Result<Vec<(Key, u64)>, BlobError> {
        let mut stored = Vec::with_capacity(paths.len());
        let mut parents = BTreeSet::new();
        let mut paths = paths.peekable();
        while paths.peek().is_some() {
            let mut staged = Vec::new();
            // Staged files stay open, and open files are few.
            for path in paths.by_ref().take(STAGED_FILES_MAX) {
                let (temporary, key, size) = self.stage_file(space, path)?;
                if !self.is_whole(key, size) {
                    staged.push((temporary, key));
                }
                stored.push((key, size));
            }
            for (temporary, _) in &staged {
                temporary.file.sync_all().map_err(at(&temporary.path))?;
            }
            for (temporary, key) in staged {
                parents.insert(self.place(temporary, key)?);
            }
        }
        parents.iter().try_for_each(|parent| sync_directory(parent))?;
        Ok(stored)
    }

    fn put_in(&self, space: Space, source: &mut dyn Read, name: &Utf8Path) -> Result<(Key, u64), BlobError> {
        let (temporary, key, size) = self.stage(space, source, name)?;
        self.keep(temporary, key, size)
    }

    /// Syncs a staged file and puts it in its place, unless the same content is there already.
    fn keep(&self, temporary: Temporary, key: Key, size: u64) -> Result<(Key, u64), BlobError> {
        if self.is_whole(key, size) {
            return Ok((key, size));
        }
        temporary.file.sync_all().map_err(at(&temporary.path))?;
        let parent = self.place(temporary, key)?;
        sync_directory(&parent)?;
        Ok((key, size))
    }

    fn stage_file(&self, space: Space, path: &Path) -> Result<(Temporary, Key, u64), BlobError> {
        let name = Utf8PathBuf::from_path_buf(path.to_owned())
            .unwrap_or_else(|path| path.to_string_lossy().into_owned().into());
        let mut file = File::open(path).map_err(at(&name))?;
        let bytes = file.metadata().map_err(at(&name))?.len();
        if bytes > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge { bytes });
        }
        self.stage(space, &mut file, &name)
    }

    /// Copies the source to a temporary file while hashing it. One pass, so that what was hashed is what is stored even
    /// when the source changes meanwhile.
    fn stage(
        &self,
        space: Space,
        source: &mut dyn Read,
        name: &Utf8Path,
    ) -> Result<(Temporary, Key, u64), BlobError> {
        let mut temporary = self.temporary(&self.directory.join("tmp"))?;
        let mut hasher = space.hasher();
        let size = copy(source, name, &mut temporary.file, &temporary.path, &mut hasher)?;
        Ok((temporary, Key { space, hash: hasher.finish() }, size))
    }

    /// Renames a synced temporary file to its place and gives the directory, which is to be synced.
    fn place(&self, temporary: Temporary, key: Key) -> Result<Utf8PathBuf, BlobError> {
        let target = self.file(key);
        let parent = target.parent().unwrap_or(&self.directory).to_owned();
        if !parent.is_dir() {
            make_directory(&parent)?;
            // The new directory's own name must last, too.
            // The names of the two folders above it, and of the store itself.
            parent.ancestors().skip(1).take(3).try_for_each(sync_directory)?;
        }
        temporary.rename(&target)?;
        Ok(parent)
    }

    fn get_in(&self, key: Key) -> Result<Vec<u8>, BlobError> {
        let (mut file, path) = self.open_in(key)?;
        let bytes = file.metadata().map_err(at(&path))?.len();
        if bytes > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge { bytes });
        }
        let mut content = Vec::with_capacity(bytes as usize);
        file.read_to_end(&mut content).map_err(at(&path))?;
        let mut hasher = key.space.hasher();
        hasher.update(&content);
        if hasher.finish() == key.hash { Ok(content) } else { Err(key.damaged()) }
    }

    pub(crate) fn restore_in(&self, key: Key, to: &Path, mode: u32) -> Result<u64, BlobError> {
        let to = Utf8Path::from_path(to)
            .ok_or_else(|| at(Utf8Path::new("target"))(std::io::ErrorKind::InvalidFilename.into()))?;
        let (mut file, path) = self.open_in(key)?;
        let parent = to.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
        let mut temporary = self.temporary(parent)?;
        let mut hasher = key.space.hasher();
        let size = copy(&mut file, &path, &mut temporary.file, &temporary.path, &mut hasher)?;
        if hasher.finish() != key.hash {
            return Err(key.damaged());
        }
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        temporary.file.set_permissions(permissions).map_err(at(&temporary.path))?;
        temporary.rename(to)?;
        Ok(size)
    }

    fn open_in(&self, key: Key) -> Result<(File, Utf8PathBuf), BlobError> {
        let path = self.file(key);
        match File::open(&path) {
            Ok(file) => Ok((file, path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(key.missing()),
            Err(source) => Err(BlobError::Io { path, source }),
        }
    }

    /// An error unless the blob is stored and undamaged.
    pub(crate) fn require_whole(&self, key: Key, size: u64) -> Result<(), BlobError> {
        if self.is_whole(key, size) { Ok(()) } else { Err(key.damaged()) }
    }

    /// Whether the blob is stored and undamaged.
    fn is_whole(&self, key: Key, size: u64) -> bool {
        let Ok((mut file, path)) = self.open_in(key) else { return false };
        let mut hasher = key.space.hasher();
        file.metadata().is_ok_and(|metadata| metadata.len() == size)
            && copy(&mut file, &path, &mut std::io::sink(), &path, &mut hasher).is_ok()
            && hasher.finish() == key.hash
    }

    fn file(&self, key: Key) -> Utf8PathBuf {
        let name = hex::encode(key.hash);
        self.directory.join(key.space.name()).join(&name[..2]).join(&name[2..])
    }

    /// A new file in the directory, removed again unless it is renamed. It is locked while it lives, which tells a
    /// sweep that its writer does.
    fn temporary(&self, directory: &Utf8Path) -> Result<Temporary, BlobError> {
        loop {
            let number = self.counter.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!(".trimtab-{}-{number}.tmp", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) if file.try_lock().is_ok() => return Ok(Temporary { file, path, kept: false }),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(BlobError::Io { path, source }),
            }
        }
    }
}

/// What [`copy_all`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Blobs that are at the target now.
    pub(crate) files: u64,
    /// Names of those that are damaged at the source, and were not copied.
    pub(crate) damaged: Vec<String>,
}

/// Copies every blob of a directory to another one, unless it is whole there already. Nothing is synced. The source is only
/// read; that there is none is no error.
pub(crate) fn copy_all(from: &Utf8Path, to: &Utf8Path) -> Result<Copied, BlobError> {
    let source = Blobs { directory: from.to_owned(), counter: Arc::default() };
    let target = Blobs { directory: to.to_owned(), counter: Arc::default() };
    let mut copied = Copied::default();
    for key in source.keys()? {
        let path = target.file(key);
        let size = std::fs::metadata(source.file(key)).map_err(at(&source.file(key)))?.len();
        if !target.is_whole(key, size) {
            make_directory(path.parent().unwrap_or(to))?;
            match source.restore_in(key, path.as_std_path(), 0o600) {
                Ok(_) => {}
                Err(BlobError::Damaged { id }) => {
                    copied.damaged.push(id);
                    continue;
                }
                Err(other) => return Err(other),
            }
        }
        copied.files += 1;
    }
    Ok(copied)
}

impl Blobs {
    /// The hashes of all that is stored, in order.
    fn keys(&self) -> Result<Vec<Key>, BlobError> {
        let mut keys = Vec::new();
        for space in [Space::Blake3, Space::Sha256] {
            let folder = self.directory.join(space.name());
            for middle in entries(&folder)? {
                for name in entries(&folder.join(&middle))? {
                    let mut hash = [0; 32];
                    // Other names are of temporary files.
                    if hex::decode_to_slice(format!("{middle}{name}"), &mut hash).is_ok() {
                        keys.push(Key { space, hash });
                    }
                }
            }
        }
        Ok(keys)
    }
}

/// The names in a folder, in order; none when there is no such folder.
fn entries(folder: &Utf8Path) -> Result<Vec<String>, BlobError> {
    let listed = match folder.read_dir_utf8() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(at(folder))?,
    };
    let names = listed.map(|entry| entry.map(|entry| entry.file_name().to_owned()));
    let mut names = names.collect::<Result<Vec<_>, _>>().map_err(at(folder))?;
    names.sort();
    Ok(names)
}

struct Temporary {
    file: File,
    path: Utf8PathBuf,
    kept: bool,
}

impl Temporary {
    fn rename(mut self, to: &Utf8Path) -> Result<(), BlobError> {
        std::fs::rename(&self.path, to).map_err(at(to))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes temporary files whose writers are dead. Best effort: what stays is only space.
fn sweep(directory: &Utf8Path) {
    let Ok(entries) = directory.read_dir_utf8() else { return };
    for entry in entries.flatten() {
        if File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

pub(crate) fn make_directory(path: &Utf8Path) -> Result<(), BlobError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

pub(crate) fn sync_directory(path: &Utf8Path) -> Result<(), BlobError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(at(path))
}

fn copy(
    from: &mut dyn Read,
    from_name: &Utf8Path,
    to: &mut dyn Write,
    to_name: &Utf8Path,
    hasher: &mut Hasher,
) -> Result<u64, BlobError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut size = 0;
    loop {
        let read = match from.read(&mut chunk) {
            Ok(0) => return Ok(size),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(at(from_name)(error)),
        };
        size += read as u64;
        if size > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge { bytes: size });
        }
        hasher.update(&chunk[..read]);
        to.write_all(&chunk[..read]).map_err(at(to_name))?;
    }
}

#[cfg(test)]
mod tests;
