//! One daemon for each folder: a lock on a file in it, which the system gives back however the daemon ends.
//!
//! Invariant: whoever has the file in hand is the only one; it is never deleted, so that nobody locks a name that others have lost.

use std::fs::File;
use std::time::Duration;

use camino::Utf8Path;
use rustix::fs::FlockOperation;

/// How long a lock is waited for whose owner does not answer: the system takes its time to clear away one that was killed a moment ago.
const WAIT: Duration = Duration::from_secs(5);
const TRIED_EVERY: Duration = Duration::from_millis(20);

/// Takes the lock at `path`; `None` when another one has it, at once if that one answers on `socket`.
pub(crate) async fn take(path: &Utf8Path, socket: &Utf8Path) -> std::io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
        let answers = tokio::net::UnixStream::connect(socket).await.is_ok();
        if answers || tokio::time::Instant::now() > deadline {
            return Ok(None);
        }
        tokio::time::sleep(TRIED_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_given_back_a_moment_later_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let (path, socket) = (folder.join("lock"), folder.join("socket"));
        let first = take(&path, &socket).await.unwrap().unwrap();
        let second = take(&path, &socket);
        let give_back = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            drop(first);
        };
        assert!(tokio::join!(second, give_back).0.unwrap().is_some());
    }

    #[tokio::test]
    async fn whoever_answers_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let (path, socket) = (folder.join("lock"), folder.join("socket"));
        let _first = take(&path, &socket).await.unwrap().unwrap();
        let _answers = tokio::net::UnixListener::bind(&socket).unwrap();
        assert!(take(&path, &socket).await.unwrap().is_none());
    }
}
