//! The digest of a folder: SHA-256 over its canonical content list, so that the same files give the same digest on every
//! machine.
//!
//! The list has one line for each file, sorted by path (bytewise): `<mode> <SHA-256 in hex> <path>\n`, where mode is `x` for a
//! file that its owner may execute, `f` for any other and `l` for a symbolic link, whose content is its target; the path
//! is relative, with `/`. Owners, times and empty folders do not count. Refused, because they would differ elsewhere or reach
//! outside: devices, sockets and pipes; links that are absolute or leave the folder; paths that are not UTF-8 or hold a line break.
//!
//! The folder must not change meanwhile: digest the copy that nobody else writes, not the work tree.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use delivery::artifact::Artifact;
use delivery::code::Code;
use delivery::limits::{ARTIFACT_BYTES_MAX, ARTIFACT_FILES_MAX};
use delivery::{Digest, Problem, ServiceName};
use sha2::Digest as _;

use crate::limits::PATH_BYTES_MAX;

/// Why a folder has no digest.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Something in it can't be read.
    #[error("can't read {path}")]
    Unreadable {
        /// What.
        path: Utf8PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in it can't be part of an artifact.
    #[error("{path} can't be part of an artifact: {why}")]
    Unfit {
        /// What.
        path: Utf8PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// It is too large.
    #[error("the artifact has more than {limit}")]
    TooLarge {
        /// The limit with its unit.
        limit: String,
    },
    /// There is no file in it.
    #[error("{path} holds no file")]
    Empty {
        /// The folder.
        path: Utf8PathBuf,
    },
}

impl ArtifactError {
    /// The problem as a person is told it.
    pub fn problem(&self) -> Problem {
        let hint = match self {
            Self::Unreadable { .. } => "check that the build wrote it and that it is readable",
            Self::Unfit { .. } => {
                "leave it out of the service's artifact, or have the build write a plain file instead"
            }
            Self::TooLarge { .. } => "name only what the service needs at run time in its artifact",
            Self::Empty { .. } => "check that the service's artifact names what the build writes",
        };
        let problem = Problem::new(Code::ArtifactUnpackable, self.to_string()).hint(hint);
        match std::error::Error::source(self) {
            Some(source) => problem.because(source),
            None => problem,
        }
    }
}

/// What is in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentList {
    text: String,
    files: u64,
    bytes: u64,
}

impl ContentList {
    /// Reads the folder.
    pub fn of(folder: &Utf8Path) -> Result<Self, ArtifactError> {
        let mut paths = Vec::new();
        collect(folder, Utf8Path::new(""), &mut paths)?;
        if paths.is_empty() {
            return Err(ArtifactError::Empty { path: folder.to_owned() });
        }
        paths.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        let mut list = Self { text: String::new(), files: paths.len() as u64, bytes: 0 };
        for path in paths {
            let (mode, digest) = list.read(folder, &path)?;
            list.text.extend([mode, ' ']);
            list.text.extend([&digest, " ", path.as_str(), "\n"]);
        }
        Ok(list)
    }

    /// The artifact's digest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    /// The list itself.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As the service's artifact.
    pub fn artifact(&self, service: ServiceName) -> Artifact {
        Artifact { service, digest: self.digest(), files: self.files, bytes: self.bytes }
    }

    /// Hashes one file, counting its bytes.
    fn read(&mut self, folder: &Utf8Path, path: &Utf8Path) -> Result<(char, String), ArtifactError> {
        let whole = folder.join(path);
        let unreadable = |source| ArtifactError::Unreadable { path: whole.clone(), source };
        let metadata = std::fs::symlink_metadata(&whole).map_err(unreadable)?;
        if metadata.is_symlink() {
            let target = whole.read_link_utf8().map_err(unreadable)?;
            refuse_escape(path, &target)?;
            return Ok(('l', hex::encode(sha2::Sha256::digest(target.as_str()))));
        }
        let mut file = File::open(&whole).map_err(unreadable)?;
        let mut hash = sha2::Sha256::new();
        let mut buffer = vec![0_u8; 64 << 10];
        loop {
            let read = file.read(&mut buffer).map_err(unreadable)?;
            if read == 0 {
                break;
            }
            self.bytes += read as u64;
            if self.bytes > ARTIFACT_BYTES_MAX {
                return Err(ArtifactError::TooLarge { limit: format!("{ARTIFACT_BYTES_MAX} bytes") });
            }
            hash.update(&buffer[..read]);
        }
        Ok((if metadata.mode() & 0o100 == 0 { 'f' } else { 'x' }, hex::encode(hash.finalize())))
    }
}

/// Collects the files below `relative`, depth first; folders are not entered through links.
fn collect(
    folder: &Utf8Path,
    relative: &Utf8Path,
    paths: &mut Vec<Utf8PathBuf>,
) -> Result<(), ArtifactError> {
    let mut pending = vec![relative.to_owned()];
    while let Some(relative) = pending.pop() {
        let here = folder.join(&relative);
        let unreadable = |source| ArtifactError::Unreadable { path: here.clone(), source };
        for entry in std::fs::read_dir(&here).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                let path = here.join(name.to_string_lossy().as_ref());
                return Err(ArtifactError::Unfit { path, why: "its name is not UTF-8" });
            };
            let path = relative.join(name);
            refuse_unfit(&path, &entry.metadata().map_err(unreadable)?)?;
            if entry.file_type().map_err(unreadable)?.is_dir() {
                pending.push(path);
            } else if paths.len() < ARTIFACT_FILES_MAX {
                paths.push(path);
            } else {
                return Err(ArtifactError::TooLarge { limit: format!("{ARTIFACT_FILES_MAX} files") });
            }
        }
    }
    Ok(())
}

fn refuse_unfit(path: &Utf8Path, metadata: &Metadata) -> Result<(), ArtifactError> {
    let why = if path.as_str().contains(['\n', '\r']) {
        "its name holds a line break"
    } else if path.as_str().len() > PATH_BYTES_MAX {
        "its path is too long"
    } else if !(metadata.is_file() || metadata.is_dir() || metadata.is_symlink()) {
        "it is a device, a socket or a pipe"
    } else {
        return Ok(());
    };
    Err(ArtifactError::Unfit { path: path.to_owned(), why })
}

/// Refuses a link that leads out of the folder, step by step from the link's own place.
fn refuse_escape(path: &Utf8Path, target: &Utf8Path) -> Result<(), ArtifactError> {
    let mut depth = path.components().count().saturating_sub(1);
    for component in target.components() {
        depth = match component {
            Utf8Component::Normal(_) => Some(depth + 1),
            Utf8Component::CurDir => Some(depth),
            Utf8Component::ParentDir => depth.checked_sub(1),
            Utf8Component::RootDir | Utf8Component::Prefix(_) => None,
        }
        .ok_or_else(|| ArtifactError::Unfit { path: path.to_owned(), why: "it links out of the folder" })?;
    }
    Ok(())
}
