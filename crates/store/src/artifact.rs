//! Artifacts: a set of files under one digest that is the same on every machine.
//!
//! The digest is the SHA-256 of the canonical list: the line `trimtab-artifact-v1`, then for each file, sorted bytewise by
//! path, `<mode> <sha256> <size> <path>` with mode `100644` or `100755`, each line ended by a newline. Owners, times, other
//! mode bits and empty directories are left out, so that they can't make two builds differ. The list and the files are
//! documents in [`Blobs`], the list under the artifact's digest itself.
//!
//! Invariant: [`unpack`] makes a directory for which [`check`] gives the list's digest, or nothing; no path in a list
//! leads out of that directory.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use delivery::artifact::Artifact;
use delivery::code::Code;
use delivery::layout::STATE_DIRECTORY;
use delivery::limits::{ARTIFACT_BYTES_MAX, ARTIFACT_FILES_MAX};
use delivery::{Digest, Problem, ServiceName};

use crate::blob::{BlobError, Blobs, Key, Space, at, make_directory};

const HEADER: &str = "trimtab-artifact-v1";
/// Folders of a project that no file of an artifact comes from: they hold history, keys and tokens.
const KEPT: [&str; 2] = [".git", STATE_DIRECTORY];

/// Why an artifact was not packed, unpacked or checked.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// No files at all.
    #[error("there are no files to package")]
    Empty,
    /// More than `ARTIFACT_FILES_MAX` files.
    #[error("there are more than {ARTIFACT_FILES_MAX} files")]
    TooMany,
    /// More than `ARTIFACT_BYTES_MAX` bytes.
    #[error("the files have more than {ARTIFACT_BYTES_MAX} bytes")]
    TooLarge,
    /// The path is absolute, climbs with `..`, or holds control characters or bytes that are not UTF-8.
    #[error("the path {path:?} can't be in an artifact")]
    Path {
        /// The path.
        path: String,
    },
    /// A symbolic link that leads out of the packaged directory or into a state folder, or one in an unpacked artifact.
    #[error("the symbolic link {path} leads elsewhere")]
    Link {
        /// The link.
        path: Utf8PathBuf,
    },
    /// Neither a file nor a link to one.
    #[error("{path} is not a file")]
    NotAFile {
        /// What it is.
        path: Utf8PathBuf,
    },
    /// A stored list that is not in the canonical form.
    #[error("the stored file list of {digest} can't be read")]
    List {
        /// The artifact.
        digest: Digest,
    },
    /// The directory's content is not the artifact's.
    #[error("{directory} holds {found}, not {expected}")]
    Changed {
        /// Where.
        directory: Utf8PathBuf,
        /// What it should hold.
        expected: Digest,
        /// What it holds.
        found: Digest,
    },
    /// The store or the file system failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl ArtifactError {
    /// As a person is told it.
    pub fn problem(&self) -> Problem {
        let packing = |hint: &str| Problem::new(Code::ArtifactUnpackable, self.to_string()).hint(hint);
        match self {
            Self::Empty => packing("check the service's artifact patterns and the outputs of its build task"),
            Self::TooMany | Self::TooLarge => packing("narrow the service's artifact patterns"),
            Self::Path { .. } => packing("rename the file, or leave it out of the artifact patterns"),
            Self::Link { .. } => {
                packing("replace the link by the file, or leave it out of the artifact patterns")
            }
            Self::NotAFile { .. } => packing("name only files in the artifact patterns"),
            Self::List { .. } | Self::Changed { .. } => Problem::new(Code::ArtifactChanged, self.to_string())
                .hint("find out what changed it, then build and ship again"),
            Self::Blob(error) => error.problem(),
        }
    }
}

/// One file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Relative to the artifact's root, with `/`.
    pub path: Utf8PathBuf,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// SHA-256 of its content.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// An artifact's files, sorted bytewise by path, each path once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileList {
    entries: Vec<FileEntry>,
}

impl FileList {
    /// Sorts and checks the entries.
    fn new(mut entries: Vec<FileEntry>) -> Result<Self, ArtifactError> {
        entries.sort_by(|a, b| a.path.as_str().cmp(b.path.as_str()));
        if entries.len() > ARTIFACT_FILES_MAX {
            return Err(ArtifactError::TooMany);
        }
        let mut bytes = 0_u64;
        for (index, entry) in entries.iter().enumerate() {
            check_path(&entry.path)?;
            if index > 0 && entries[index - 1].path.as_str() == entry.path.as_str() {
                return Err(ArtifactError::Path { path: entry.path.to_string() });
            }
            bytes = bytes.saturating_add(entry.size);
        }
        if bytes > ARTIFACT_BYTES_MAX {
            return Err(ArtifactError::TooLarge);
        }
        Ok(Self { entries })
    }

    /// The files.
    pub fn entries(&self) -> &[FileEntry] {
        &self.entries
    }

    /// The canonical text that the digest is over.
    pub fn canonical(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for FileEntry { path, executable, sha256, size } in &self.entries {
            let mode = if *executable { "100755" } else { "100644" };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{mode} {sha256} {size} {path}");
        }
        text
    }

    /// The artifact's digest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.canonical().as_bytes())
    }

    /// The artifact that the list is of.
    pub fn artifact(&self, service: &ServiceName) -> Artifact {
        Artifact {
            service: service.clone(),
            digest: self.digest(),
            files: self.entries.len() as u64,
            bytes: self.entries.iter().map(|entry| entry.size).sum(),
        }
    }

    /// Reads a canonical text; `None` for any other text.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return None;
        }
        let mut entries = Vec::new();
        for line in lines {
            let mut fields = line.splitn(4, ' ');
            let executable = match fields.next()? {
                "100755" => true,
                "100644" => false,
                _ => return None,
            };
            let sha256 = Digest::new(fields.next()?).ok()?;
            let size = fields.next()?.parse().ok()?;
            entries.push(FileEntry { path: fields.next()?.into(), executable, sha256, size });
        }
        let list = Self::new(entries).ok()?;
        (list.canonical() == text).then_some(list)
    }
}

/// Packs the files (relative to `root`; order and repetitions don't matter) and stores them with their list. Symbolic
/// links are followed as long as they stay inside `root` and don't lead to what git and we keep there.
pub fn pack(
    root: &Utf8Path,
    files: &[Utf8PathBuf],
    service: &ServiceName,
    blobs: &Blobs,
) -> Result<(Artifact, FileList), ArtifactError> {
    let files: BTreeSet<&str> = files.iter().map(|path| path.as_str()).collect();
    if files.is_empty() {
        return Err(ArtifactError::Empty);
    }
    if files.len() > ARTIFACT_FILES_MAX {
        return Err(ArtifactError::TooMany);
    }
    let real_root = root.canonicalize_utf8().map_err(at(root))?;
    let mut sources = Vec::with_capacity(files.len());
    let mut bytes = 0_u64;
    for path in files {
        let path = Utf8Path::new(path);
        check_path(path)?;
        let whole = root.join(path);
        let real = whole.canonicalize_utf8().map_err(at(&whole))?;
        let inner = real.strip_prefix(&real_root).ok();
        let kept = |inner: &Utf8Path| inner.components().any(|part| KEPT.contains(&part.as_str()));
        if inner.is_none_or(kept) {
            return Err(ArtifactError::Link { path: path.to_owned() });
        }
        let metadata = std::fs::metadata(&real).map_err(at(&real))?;
        if !metadata.is_file() {
            return Err(ArtifactError::NotAFile { path: path.to_owned() });
        }
        bytes = bytes.saturating_add(metadata.len());
        if bytes > ARTIFACT_BYTES_MAX {
            return Err(ArtifactError::TooLarge);
        }
        sources.push((path.to_owned(), is_executable(&metadata), real));
    }
    let stored = blobs.put_files(Space::Sha256, sources.iter().map(|(_, _, real)| real.as_std_path()))?;
    let entries = sources.into_iter().zip(stored).map(|((path, executable, _), (key, size))| {
        Ok(FileEntry { path, executable, sha256: digest(key.hash)?, size })
    });
    let list = FileList::new(entries.collect::<Result<_, ArtifactError>>()?)?;
    blobs.put_document(list.canonical().as_bytes())?;
    Ok((list.artifact(service), list))
}

/// The stored list of the artifact with that digest.
pub fn load(digest: &Digest, blobs: &Blobs) -> Result<FileList, ArtifactError> {
    let text = blobs.document(digest)?;
    std::str::from_utf8(&text)
        .ok()
        .and_then(FileList::parse)
        .ok_or_else(|| ArtifactError::List { digest: digest.clone() })
}

/// Reads every stored file of the artifact and checks it against the list, without unpacking anything.
pub fn verify(list: &FileList, blobs: &Blobs) -> Result<(), ArtifactError> {
    for entry in &list.entries {
        blobs.require_whole(Key::of_digest(&entry.sha256)?, entry.size)?;
    }
    Ok(())
}

/// Makes the directory hold exactly the artifact. Nothing is done when it does already; else it is built beside and
/// renamed into place, so that the directory never holds a part of it.
pub fn unpack(list: &FileList, blobs: &Blobs, to: &Utf8Path) -> Result<(), ArtifactError> {
    let digest = list.digest();
    if check(to).is_ok_and(|found| found == digest) {
        return Ok(());
    }
    let name = to.file_name().ok_or_else(|| ArtifactError::Path { path: to.to_string() })?;
    let parent = to.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    make_directory(parent)?;
    let building = Scratch::new(parent, name, "new")?;
    let mut directories = BTreeSet::new();
    for entry in &list.entries {
        let path = building.path.join(&entry.path);
        if let Some(directory) = path.parent()
            && directories.insert(directory.to_owned())
        {
            make_directory(directory)?;
        }
        let mode = if entry.executable { 0o755 } else { 0o644 };
        blobs.restore_in(Key::of_digest(&entry.sha256)?, path.as_std_path(), mode)?;
    }
    let found = check(&building.path)?;
    if found != digest {
        return Err(ArtifactError::Changed { directory: to.to_owned(), expected: digest, found });
    }
    // What is there already is not the artifact: it goes aside first, because a rename replaces only empty directories.
    let old = Scratch::new(parent, name, "old")?;
    match std::fs::rename(to, old.path.join("replaced")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(to)(error).into()),
        _ => {}
    }
    match std::fs::rename(&building.path, to) {
        Ok(()) => Ok(()),
        // Another process may have unpacked the same meanwhile.
        Err(_) if check(to).is_ok_and(|found| found == digest) => Ok(()),
        Err(error) => Err(at(to)(error).into()),
    }
}

/// The digest of what the directory holds now. Any file more or less, any changed byte or execute bit gives another;
/// a symbolic link or a special file is an error.
pub fn check(directory: &Utf8Path) -> Result<Digest, ArtifactError> {
    let mut entries = Vec::new();
    let mut pending = vec![Utf8PathBuf::new()];
    let mut bytes = 0_u64;
    while let Some(below) = pending.pop() {
        let whole = directory.join(&below);
        for entry in std::fs::read_dir(&whole).map_err(at(&whole))? {
            let entry = entry.map_err(at(&whole))?;
            let name = entry.file_name();
            let name =
                name.to_str().ok_or_else(|| ArtifactError::Path { path: name.to_string_lossy().into() })?;
            let path = below.join(name);
            let kind = entry.file_type().map_err(at(&path))?;
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() {
                let entry = entry_of(directory, path)?;
                bytes = bytes.saturating_add(entry.size);
                entries.push(entry);
            } else if kind.is_symlink() {
                return Err(ArtifactError::Link { path });
            } else {
                return Err(ArtifactError::NotAFile { path });
            }
            if entries.len() + pending.len() > 2 * ARTIFACT_FILES_MAX {
                return Err(ArtifactError::TooMany);
            }
            if bytes > ARTIFACT_BYTES_MAX {
                return Err(ArtifactError::TooLarge);
            }
        }
    }
    Ok(FileList::new(entries)?.digest())
}

fn entry_of(directory: &Utf8Path, path: Utf8PathBuf) -> Result<FileEntry, ArtifactError> {
    use sha2::Digest as _;
    let whole = directory.join(&path);
    let mut file = File::open(&whole).map_err(at(&whole))?;
    let executable = is_executable(&file.metadata().map_err(at(&whole))?);
    let mut hasher = sha2::Sha256::new();
    let mut chunk = vec![0; 128 << 10];
    let mut size = 0;
    loop {
        let read = file.read(&mut chunk).map_err(at(&whole))?;
        if read == 0 {
            break;
        }
        size += read as u64;
        hasher.update(&chunk[..read]);
    }
    Ok(FileEntry { path, executable, sha256: digest(hasher.finalize().into())?, size })
}

fn is_executable(metadata: &std::fs::Metadata) -> bool {
    metadata.permissions().mode() & 0o100 != 0
}

fn digest(hash: [u8; 32]) -> Result<Digest, ArtifactError> {
    Digest::new(hex::encode(hash)).map_err(|_| BlobError::NotAnId.into())
}

/// Plain relative paths only. Control characters are out because the list has one file a line and is shown to people.
fn check_path(path: &Utf8Path) -> Result<(), ArtifactError> {
    let plain = !path.as_str().is_empty()
        && path.components().all(|part| matches!(part, Utf8Component::Normal(_)))
        && path.components().map(|part| part.as_str().len() + 1).sum::<usize>() == path.as_str().len() + 1
        && !path.as_str().chars().any(char::is_control);
    if plain { Ok(()) } else { Err(ArtifactError::Path { path: path.to_string() }) }
}

/// A directory beside the target, removed with all that it holds unless it was renamed.
struct Scratch {
    path: Utf8PathBuf,
}

impl Scratch {
    fn new(parent: &Utf8Path, name: &str, kind: &str) -> Result<Self, ArtifactError> {
        for number in 0_u32.. {
            let path = parent.join(format!(".{name}.{kind}-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(at(&path)(error).into()),
            }
        }
        Err(ArtifactError::TooMany)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests;
