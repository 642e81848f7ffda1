//! A lease on this machine, for as long as the process lives.
//!
//! It is a lock on a file (`flock`), so the kernel gives it back at the death of the process, however it dies. It is no
//! fencing token: effects carry the ledger's epoch for that. Directories on network file systems are not supported.
//!
//! Invariant: of all holders of one name in one directory, at most one has it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::LeaseError;

/// The holder's text that is read back, at most.
const HOLDER_BYTES_MAX: u64 = 1_024;
/// How often an acquirer tries while others only look at the lease, which takes each of them a few microseconds.
const TRIES: u32 = 500;
/// The wait between two tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(1);

/// A held lock. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lease without waiting. `holder` is what others are told who find it taken: process and purpose.
    pub(super) fn acquire(directory: &Utf8Path, name: &str, holder: &str) -> Result<Self, LeaseError> {
        let path = path(directory, name)?;
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        // Never deleted: a lock on a deleted file excludes nobody.
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => {
                    file.set_len(0)?;
                    file.write_all(holder.as_bytes())?;
                    return Ok(Self { file });
                }
                // Whoever has it excludes even those who only look; who looks does not.
                Err(TryLockError::WouldBlock) if file.try_lock_shared().is_ok() => {
                    file.unlock()?;
                    std::thread::sleep(BETWEEN_TRIES);
                }
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) => return Err(LeaseError::Io(error)),
            }
        }
        Err(LeaseError::Held { holder: name_in(file)? })
    }

    /// Who has the lease now, as far as can be told; `None` when nobody has. Only looks: it never takes the lease, writes
    /// nothing, and makes nothing.
    pub(super) fn holder(directory: &Utf8Path, name: &str) -> Option<String> {
        let file = File::open(path(directory, name).ok()?).ok()?;
        // Shared, so that any number may look at once. It is given back with the file.
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => name_in(file).ok(),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }
}

fn path(directory: &Utf8Path, name: &str) -> Result<Utf8PathBuf, LeaseError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        let error = std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a plain file name");
        return Err(LeaseError::Io(error));
    }
    Ok(directory.join(format!("{name}.lock")))
}

fn name_in(file: File) -> std::io::Result<String> {
    let mut text = Vec::new();
    file.take(HOLDER_BYTES_MAX).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    Ok(if text.trim().is_empty() { "another process".into() } else { text.trim().to_owned() })
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Others should not read an old holder's name between the next lock and its writing.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use delivery::code::Code;

    use super::*;

    #[test]
    fn is_held_once_and_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(directory.path()).unwrap().join("new");
        let lease = Lock::acquire(&directory, "ship", "process 1 (ship)").unwrap();
        match Lock::acquire(&directory, "ship", "process 2") {
            Err(error @ LeaseError::Held { .. }) => {
                assert_eq!(error.to_string(), "it is held by process 1 (ship)");
                assert_eq!(error.problem().code, Code::StoreLocked);
            }
            other => panic!("{other:?}"),
        }
        assert!(Lock::acquire(&directory, "server", "process 2").is_ok());
        drop(lease);
        assert!(Lock::acquire(&directory, "ship", "process 2").is_ok());
    }

    #[test]
    fn looking_at_a_lease_neither_takes_it_nor_forgets_its_holder() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(directory.path()).unwrap();
        assert_eq!(Lock::holder(directory, "ship"), None);
        let lease = Lock::acquire(directory, "ship", "process 1 (ship)").unwrap();
        assert_eq!(Lock::holder(directory, "ship").as_deref(), Some("process 1 (ship)"));
        assert_eq!(Lock::holder(directory, "ship").as_deref(), Some("process 1 (ship)"));
        drop(lease);
        assert_eq!(Lock::holder(directory, "ship"), None);
        // However often it is looked at, it can be had.
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| (0..20_000).filter_map(|_| Lock::holder(directory, "ship")).count());
            while !looking.is_finished() {
                Lock::acquire(directory, "ship", "process 2").expect("nobody else has it");
            }
        });
    }

    #[test]
    fn names_stay_in_the_directory() {
        for name in ["", "../x", ".", "a/b", "a\0b"] {
            assert!(
                matches!(Lock::acquire(Utf8Path::new("/tmp"), name, "x"), Err(LeaseError::Io(_))),
                "{name:?}"
            );
        }
    }
}
