//! Reads the manifest's file.
//!
//! Invariant: never more than the limit is read, and only from a regular file.

use std::fs::File;
use std::io::{ErrorKind, Read};

use camino::Utf8Path;
use delivery::code::Code;
use delivery::limits::MANIFEST_BYTES_MAX;
use delivery::problem::Problem;

use crate::Manifest;

/// The manifest's name.
pub const FILE_NAME: &str = "trimtab.toml";

/// Reads and checks `trimtab.toml` in the directory.
///
/// # Errors
/// One problem when the file can't be read (missing, no file, too large, not UTF-8), else all problems of its text.
pub fn load(directory: &Utf8Path) -> Result<Manifest, Vec<Problem>> {
    let path = directory.join(FILE_NAME);
    let text = read(&path).map_err(|problem| vec![*problem])?;
    crate::parse(&path, &text)
}

fn read(path: &Utf8Path) -> Result<String, Box<Problem>> {
    let metadata = std::fs::metadata(path).map_err(|error| Box::new(unreadable(path, &error)))?;
    if !metadata.is_file() {
        let problem = Problem::new(Code::ManifestUnreadable, format!("{path} is not a file"));
        return Err(Box::new(problem.hint("remove it, then run `trimtab init`")));
    }
    if metadata.len() > MANIFEST_BYTES_MAX {
        return Err(Box::new(too_large(path, metadata.len())));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| Box::new(unreadable(path, &error)))?;
    if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(Box::new(too_large(path, bytes.len() as u64)));
    }
    String::from_utf8(bytes)
        .map_err(|error| Box::new(not_utf8(path, error.as_bytes(), error.utf8_error().valid_up_to())))
}

fn unreadable(path: &Utf8Path, error: &std::io::Error) -> Problem {
    if error.kind() == ErrorKind::NotFound {
        let place = path.parent().filter(|parent| !parent.as_str().is_empty());
        let message = format!("there is no {FILE_NAME} in {}", place.unwrap_or(Utf8Path::new(".")));
        return Problem::new(Code::ManifestMissing, message)
            .hint("run `trimtab init` to write one, or change to the project's top directory");
    }
    let problem = Problem::new(Code::ManifestUnreadable, format!("{path} can't be read")).because(error);
    match error.kind() {
        ErrorKind::PermissionDenied => problem.hint(format!("allow it: chmod u+r {path}")),
        _ => problem.hint("check the path and the disk"),
    }
}

pub(crate) fn too_large(path: &Utf8Path, bytes: u64) -> Problem {
    let message = format!("{path} has {bytes} bytes; a manifest has at most {MANIFEST_BYTES_MAX}");
    Problem::new(Code::ManifestTooLarge, message).hint("check that this is the right file; it was not read")
}

fn not_utf8(path: &Utf8Path, bytes: &[u8], valid: usize) -> Problem {
    let line = 1 + String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default()).matches('\n').count();
    let message = format!("{path} is not UTF-8: line {line}, byte {valid}");
    let hint = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "this is UTF-16: save the file as UTF-8",
        _ => "save the file as UTF-8",
    };
    Problem::new(Code::ManifestNotUtf8, message).hint(hint)
}
