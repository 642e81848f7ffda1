//! Small secrets in files that only their owner can read.
//!
//! Invariant: a secret's file is there whole or not at all, whoever is killed and however many make it at once.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};

use camino::Utf8Path;
use delivery::Digest;

/// Larger is not a token.
const BYTES_MAX: u64 = 4_096;

/// The file's text, which `make` gives on first use. Of several who make it at once one is first, and all get that one's. Refuses a
/// file that others can read.
pub(crate) fn file(path: &Utf8Path, make: impl FnOnce() -> String) -> Result<String, Error> {
    match read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        there => return there,
    }
    let folder = path.parent().filter(|folder| !folder.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let secret = make();
    // Secrets differ, so drafts do.
    let draft = folder.join(format!(".draft-{}", Digest::of(secret.as_bytes()).short()));
    let written = write(&draft, &secret).and_then(|()| match std::fs::hard_link(&draft, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let removed = std::fs::remove_file(&draft);
    written.and(removed)?;
    File::open(folder)?.sync_all()?;
    read(path)
}

fn write(path: &Utf8Path, secret: &str) -> Result<(), Error> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn whoever_asks_at_the_same_time_gets_the_same_secret() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        for round in 0..100 {
            let path = folder.join(format!("keys-{round}")).join("token");
            let start = Barrier::new(8);
            let got: Vec<Result<String, Error>> = std::thread::scope(|scope| {
                let ask = |number: u32| {
                    let (path, start) = (&path, &start);
                    scope.spawn(move || {
                        start.wait();
                        file(path, || format!("secret of {number}"))
                    })
                };
                let asked: Vec<_> = (0..8).map(ask).collect();
                asked.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let first = got[0].as_ref().unwrap();
            assert!(got.iter().all(|one| one.as_ref().unwrap() == first), "{got:?}");
            assert_eq!(path.parent().unwrap().read_dir_utf8().unwrap().count(), 1, "no draft stays");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("token");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(file(&path, || "new".into()).unwrap_err().kind(), ErrorKind::InvalidData);
        std::fs::write(&path, "kept\n").unwrap();
        assert_eq!(file(&path, || "new".into()).unwrap(), "kept");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(file(&path, || "new".into()).unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
}
