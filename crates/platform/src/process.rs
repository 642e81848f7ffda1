//! What the operating system says about processes, and how to signal them without hitting a stranger.
//!
//! A process is named by pid and start time, because pids are reused. Facts come from Linux' `/proc`; on a system without it
//! every list is empty and only process groups are signalled. It deliberately starts nothing: [`crate::edge`] starts the
//! daemon, the supervisor starts instances. Invariant: a signal to an [`Identity`] is sent only while that pid still has that
//! start time.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};

mod port;

pub use port::{Holder, PortError, free_port, holder, is_strangers};

/// Every process that an edge starts has this variable: `KEY.REVISION.INDEX.GENERATION.`. Descendants inherit it, which is
/// how they are found after they left the process group, and after the edge that started them died.
pub const MARKER: &str = "TRIMTAB_INSTANCE";

/// One process, not to be mixed up with a later one that got the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Its pid.
    pub pid: u32,
    /// When it started, in clock ticks since the machine booted (`/proc/PID/stat`, field 22).
    pub start: u64,
}

/// One line of the process table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Which process.
    pub identity: Identity,
    /// Its parent's pid.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Whether it has ended and waits to be reaped.
    pub zombie: bool,
}

/// The process that has this pid now.
pub fn identity(pid: u32) -> Option<Identity> {
    row(pid).map(|row| row.identity)
}

/// Whether this very process still runs (a zombie does not).
pub fn is_running(process: Identity) -> bool {
    row(process.pid).is_some_and(|row| row.identity == process && !row.zombie)
}

fn row(pid: u32) -> Option<Row> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&stat)
}

/// The second field is the program's name in parentheses and may itself hold spaces and parentheses, so fields are counted
/// from the last one.
fn parse_stat(stat: &str) -> Option<Row> {
    let pid = stat.split(' ').next()?.parse().ok()?;
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
    Some(Row {
        identity: Identity { pid, start: fields.get(19)?.parse().ok()? },
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        zombie: matches!(*fields.first()?, "Z" | "X"),
    })
}

/// Every process that can be seen now.
pub fn table() -> Vec<Row> {
    pids().into_iter().filter_map(row).collect()
}

fn pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The running members of the process group `leader`, its descendants by parentage, and every process whose [`MARKER`]
/// starts with `marker`.
pub fn family(leader: Option<u32>, marker: &str) -> BTreeSet<Identity> {
    let table = table();
    let mut found: BTreeSet<u32> = BTreeSet::new();
    if let Some(leader) = leader {
        found.extend(table.iter().filter(|row| row.group == leader).map(|row| row.identity.pid));
        found.insert(leader);
        // Parentage: repeat until no row is added; depth is small.
        loop {
            let before = found.len();
            found.extend(
                table
                    .iter()
                    .filter(|row| found.contains(&row.parent))
                    .map(|r| r.identity.pid)
                    .collect::<Vec<_>>(),
            );
            if found.len() == before {
                break;
            }
        }
    }
    let own = std::process::id();
    table
        .iter()
        .filter(|row| !row.zombie && row.identity.pid != own)
        .filter(|row| found.contains(&row.identity.pid) || has_marker(row.identity.pid, marker))
        .map(|row| row.identity)
        .collect()
}

/// Whether the process was started with a [`MARKER`] that starts with `marker`.
fn has_marker(pid: u32, marker: &str) -> bool {
    let wanted = format!("{MARKER}={marker}");
    std::fs::read(Path::new("/proc").join(pid.to_string()).join("environ"))
        .is_ok_and(|variables| variables.split(|b| *b == 0).any(|v| v.starts_with(wanted.as_bytes())))
}

/// Sends the signal if that very process still runs. The gap between look and signal can't be closed without a pidfd; a
/// pid would have to be reused within microseconds.
pub fn signal(process: Identity, signal: Signal) {
    if is_running(process)
        && let Some(pid) = Pid::from_raw(process.pid as i32)
    {
        // It may have ended since: that is what was wanted.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Sends the signal to every member of the process group. Call it only while the leader is not reaped, or at once after: a
/// group's number is not reused while it has members.
pub fn signal_group(leader: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(leader as i32) {
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

/// Makes this process the one that inherits its orphaned descendants, instead of init.
pub fn become_reaper() {
    #[cfg(target_os = "linux")]
    {
        // Refused only by kernels before 3.4; then orphans are found by their marker alone.
        let _ = rustix::process::set_child_subreaper(Pid::from_raw(1));
    }
}

/// Raises how many files this process, and what it starts, may have open, towards `wanted`. Gives what it is now.
pub fn raise_files_max(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    let now = current.unwrap_or(u64::MAX);
    let reachable = wanted.min(maximum.unwrap_or(u64::MAX));
    let raised = Rlimit { current: Some(reachable), maximum };
    if now < reachable && rustix::process::setrlimit(Resource::Nofile, raised).is_ok() {
        reachable
    } else {
        now
    }
}

/// Our direct children, which their own tasks wait for. Everything else below us is an inherited orphan.
#[derive(Debug, Default)]
pub struct Children(Mutex<HashSet<u32>>);

impl Children {
    /// Starts a child and notes it in one step, so that [`reap`](Self::reap) can't take its exit status in between.
    pub fn start<T, E>(&self, spawn: impl FnOnce() -> Result<(T, u32), E>) -> Result<(T, u32), E> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (child, pid) = spawn()?;
        known.insert(pid);
        Ok((child, pid))
    }

    /// The child was waited for.
    pub fn ended(&self, pid: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    }

    /// Reaps inherited orphans that ended. Gives those that still run.
    pub fn reap(&self) -> Vec<Identity> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = std::process::id();
        let mut running = Vec::new();
        for row in table() {
            let pid = row.identity.pid;
            if row.parent != own || known.contains(&pid) {
                continue;
            }
            if row.zombie {
                if let Some(pid) = Pid::from_raw(pid as i32) {
                    let _ = rustix::process::waitid(
                        WaitId::Pid(pid),
                        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
                    );
                }
            } else {
                running.push(row.identity);
            }
        }
        running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b (c)) S 7 40 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 9 9";
        let row = parse_stat(stat).unwrap();
        assert_eq!(row.identity, Identity { pid: 42, start: 123_456 });
        assert_eq!((row.parent, row.group, row.zombie), (7, 40, false));
        assert_eq!(parse_stat("42 (x"), None);
    }

    #[test]
    fn this_process_is_running_and_another_start_time_is_not() {
        let own = identity(std::process::id()).unwrap();
        assert!(is_running(own));
        assert!(!is_running(Identity { start: own.start + 1, ..own }));
    }
}
