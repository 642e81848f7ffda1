//! Which process holds a lock on the ledger's files, for whoever waits for it in vain.
//!
//! Asks the system's list of locks (`/proc/locks`, proc_locks(5)) and never opens the files: closing a descriptor of them would take
//! SQLite's own locks away. Invariant: a guess is never told; where the list says nothing there is no answer.

use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};

/// The processes that hold locks on the ledger or its shared memory, for people; without our own.
pub(super) fn holders(ledger: &Utf8Path) -> Option<String> {
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let files = [ledger.to_owned(), Utf8PathBuf::from(format!("{ledger}-shm"))];
    let inodes: Vec<u64> =
        files.iter().filter_map(|file| Some(std::fs::metadata(file).ok()?.ino())).collect();
    let processes = writers(&locks, &inodes, std::process::id());
    let named: Vec<String> = processes.into_iter().map(named).collect();
    (!named.is_empty()).then(|| named.join(" and "))
}

/// The processes other than `own` that hold a lock for writing on a file of these numbers.
fn writers(locks: &str, inodes: &[u64], own: u32) -> Vec<u32> {
    let holder = |line: &str| {
        // `6: POSIX  ADVISORY  WRITE 19584 fe:00:1991722 1073741826 1073742335`; a waiting one has `->` after the number.
        let [_, "POSIX", _, "WRITE", process, file, ..] = line.split_whitespace().collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let inode = file.rsplit_once(':')?.1.parse().ok()?;
        let process = process.parse().ok().filter(|process| *process != own)?;
        inodes.contains(&inode).then_some(process)
    };
    let mut found: Vec<u32> = locks.lines().filter_map(holder).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// `process 19584 (trimtab), which is stopped`.
fn named(process: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let program = field("Name:").map(|name| format!(" ({name})")).unwrap_or_default();
    let stopped = field("State:").is_some_and(|state| state.starts_with(['T', 't']));
    format!("process {process}{program}{}", if stopped { ", which is stopped" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "1: FLOCK  ADVISORY  WRITE 10 fe:00:77 0 EOF
2: POSIX  ADVISORY  WRITE 19584 fe:00:77 1073741826 1073742335
2: -> POSIX  ADVISORY  WRITE 12 fe:00:77 1073741826 1073742335
3: POSIX  ADVISORY  READ  13 fe:00:77 1073741826 1073742335
4: POSIX  ADVISORY  WRITE 14 fe:00:78 120 120
5: POSIX  ADVISORY  WRITE 14 fe:00:77 120 120
6: POSIX  ADVISORY  WRITE 15 fe:00:79 120 120
";

    #[test]
    fn only_those_who_hold_it_for_writing_are_named() {
        assert_eq!(writers(LOCKS, &[77, 78], 1), [14, 19_584]);
        assert_eq!(writers(LOCKS, &[77, 78], 14), [19_584]);
        assert!(writers(LOCKS, &[1], 1).is_empty());
        assert!(writers("nonsense", &[77], 1).is_empty());
    }

    #[test]
    fn a_process_is_named_as_it_is() {
        let own = std::process::id();
        assert!(named(own).starts_with(&format!("process {own} (")), "{}", named(own));
        assert!(!named(own).contains("stopped"));
    }
}
