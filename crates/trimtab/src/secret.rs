//! Small secrets in files that only their owner can read.

use std::fs::OpenOptions;
use std::io::{Error, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};

use camino::Utf8Path;

/// Larger is not a token.
const BYTES_MAX: u64 = 4_096;

/// The file's text, which `make` gives on first use. Refuses a file that others can read.
pub(crate) fn file(path: &Utf8Path, make: impl FnOnce() -> String) -> Result<String, Error> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let secret = make();
            file.write_all(secret.as_bytes())?;
            file.sync_all()?;
            Ok(secret)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => read(path),
        Err(error) => Err(error),
    }
}

fn read(path: &Utf8Path) -> Result<String, Error> {
    let metadata = path.metadata()?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            format!("others can read it; run: chmod 600 {path}"),
        ));
    }
    if metadata.len() == 0 || metadata.len() > BYTES_MAX {
        return Err(Error::new(ErrorKind::InvalidData, format!("it is not a token; remove it: rm {path}")));
    }
    std::fs::read_to_string(path).map(|text| text.trim().to_owned())
}
