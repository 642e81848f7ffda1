//! The captured output of one revision: a ring of two files of bounded size.
//!
//! Lines come masked and cut (see [`crate::mask`]). When the current file is full it becomes the previous one (`.1`) and the
//! one before is forgotten, so that at least the last half of the limit is always there. It deliberately neither syncs nor
//! fails: a full disk loses log lines, never the service. Invariants: both files together hold at most
//! `REVISION_LOG_BYTES_MAX` bytes; of revisions that are gone, the last [`LOGS_MAX`] are kept.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use delivery::limits::{LOG_LINE_BYTES_MAX, REVISION_LOG_BYTES_MAX};

/// Lines of one instance that are kept in memory to explain its death.
const TAIL_LINES: usize = 20;

/// Logs of revisions that don't run any more.
const LOGS_MAX: usize = 20;

/// Removes the oldest logs of revisions that don't run. What can't be read or removed stays for the next time.
pub(crate) fn prune(directory: &Utf8Path, runs: impl Fn(&str) -> bool) {
    let entries = directory.read_dir_utf8().into_iter().flatten().flatten();
    let mut gone: Vec<_> = entries
        .filter(|entry| {
            let revision = entry.file_name().strip_suffix(".log");
            revision.is_some_and(|id| id.starts_with("rev-") && !runs(id))
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.into_path())))
        .collect();
    gone.sort();
    for (_, path) in gone.iter().rev().skip(LOGS_MAX) {
        let _ = std::fs::remove_file(format!("{path}.1"));
        let _ = std::fs::remove_file(path);
    }
}

/// A revision's log.
#[derive(Debug)]
pub(crate) struct RevisionLog {
    path: Utf8PathBuf,
    half_bytes: u64,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    file: Option<File>,
    written: u64,
    lost_lines: u64,
}

impl RevisionLog {
    /// A log at this path; the previous half is beside it with `.1` appended. What is there is continued.
    pub(crate) fn new(path: Utf8PathBuf) -> Self {
        Self::with_limit(path, REVISION_LOG_BYTES_MAX)
    }

    fn with_limit(path: Utf8PathBuf, bytes_max: u64) -> Self {
        // The longest line that `append` takes must fit: text, its replacement characters (3 bytes each), and the prefix.
        Self { path, half_bytes: (bytes_max / 2).max(1), ring: Mutex::default() }
    }

    /// Appends one line; `source` says where it comes from (`0 out`, `1 err`, `edge`).
    pub(crate) fn append(&self, at: delivery::Timestamp, source: &str, line: &str) {
        let line = line.get(..line.floor_char_boundary(LOG_LINE_BYTES_MAX * 3 / 2)).unwrap_or_default();
        let text = format!("{at:.3} {source} {line}\n");
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if self.write(&mut ring, &text).is_err() {
            ring.lost_lines += 1;
            ring.file = None;
        }
    }

    fn write(&self, ring: &mut Ring, text: &str) -> std::io::Result<()> {
        if ring.file.is_none() {
            let file = File::options().create(true).append(true).open(&self.path)?;
            ring.written = file.metadata()?.len();
            ring.file = Some(file);
        }
        if ring.written + text.len() as u64 > self.half_bytes {
            std::fs::rename(&self.path, format!("{}.1", self.path))?;
            ring.file = Some(File::options().create(true).append(true).open(&self.path)?);
            ring.written = 0;
        }
        if let Some(file) = &mut ring.file {
            if ring.lost_lines > 0 {
                let note = format!("[{} lines lost: the log could not be written]\n", ring.lost_lines);
                file.write_all(note.as_bytes())?;
                ring.written += note.len() as u64;
                ring.lost_lines = 0;
            }
            file.write_all(text.as_bytes())?;
            ring.written += text.len() as u64;
        }
        Ok(())
    }
}

/// The last lines of one process' life.
#[derive(Debug, Default)]
pub(crate) struct Tail(Mutex<VecDeque<String>>);

impl Tail {
    /// Notes a line; empty ones explain nothing and are left out.
    pub(crate) fn push(&self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        let end = line.floor_char_boundary(line.len().min(1_000));
        lines.push_back(line[..end].to_owned());
    }

    /// The last line, cut to what fits in a sentence.
    pub(crate) fn last(&self) -> Option<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.back().map(|line| line[..line.floor_char_boundary(line.len().min(300))].trim().to_owned())
    }

    /// Whether the process complained that its port was taken.
    pub(crate) fn tells_of_a_taken_port(&self) -> bool {
        const SIGNS: [&str; 4] = ["address already in use", "eaddrinuse", "address in use", "os error 98"];
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| line.to_lowercase()).any(|line| SIGNS.iter().any(|sign| line.contains(sign)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_bounded_and_keeps_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("rev.log")).unwrap();
        let log = RevisionLog::with_limit(path.clone(), 10_000);
        for n in 0..1_000 {
            log.append(delivery::Timestamp::UNIX_EPOCH, "0 out", &format!("line {n} {}", "x".repeat(50)));
        }
        let current = std::fs::read_to_string(&path).unwrap();
        let previous = std::fs::read_to_string(format!("{path}.1")).unwrap();
        assert!(current.len() + previous.len() <= 10_000);
        assert!(current.len() + previous.len() > 5_000);
        assert!(current.contains("line 999 "));
        assert!(current.starts_with("1970-01-01T00:00:00.000Z 0 out line "));
    }

    #[test]
    fn a_taken_port_is_recognised() {
        let tail = Tail::default();
        tail.push("Error: listen EADDRINUSE: address already in use 127.0.0.1:1");
        tail.push("  ");
        assert!(tail.tells_of_a_taken_port());
        assert!(tail.last().unwrap().starts_with("Error: listen"));
    }

    #[test]
    fn the_last_logs_of_revisions_that_are_gone_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        for n in 0..LOGS_MAX + 3 {
            let path = folder.join(format!("rev-{n:08}.log"));
            let file = File::create(&path).unwrap();
            let age = std::time::Duration::from_secs(1_000 - n as u64);
            file.set_modified(
                std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(10_000) - age,
            )
            .unwrap();
            File::create(format!("{path}.1")).unwrap();
        }
        File::create(folder.join("edge.log")).unwrap();
        prune(folder, |id| id == "rev-00000000");
        let left = |n: usize| folder.join(format!("rev-{n:08}.log")).exists();
        assert!(left(0) && !left(1) && !left(2) && left(3) && folder.join("edge.log").exists());
        assert!(!folder.join("rev-00000001.log.1").exists());
    }
}
