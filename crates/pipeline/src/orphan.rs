//! Processes that a task leaves behind, also those that left its process group.
//!
//! While tasks run, Trimtab is a child subreaper (prctl(2), PR_SET_CHILD_SUBREAPER): a process whose parents are gone becomes our
//! child. Each task's environment carries a cookie in [`COOKIE`], which tells whose it was; Jenkins and the GitHub runner find
//! strays the same way. Leaves out processes that clear their environment and leave their group: they can't be told from
//! others, and are not touched. Invariant: only processes of the group or with the cookie are ever signalled.

use std::sync::Mutex;
use std::sync::PoisonError;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpgid, waitpid};

/// The variable that carries a task's cookie.
pub(crate) const COOKIE: &str = "TRIMTAB_ATTEMPT";

static RUNS: Mutex<usize> = Mutex::new(0);

/// Makes this process a subreaper for as long as any of these lives.
#[derive(Debug)]
pub(crate) struct Subreaper(());

impl Subreaper {
    pub(crate) fn new() -> Self {
        let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
        *runs += 1;
        if *runs == 1 {
            set_subreaper(true);
        }
        Self(())
    }
}

impl Drop for Subreaper {
    fn drop(&mut self) {
        let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
        *runs -= 1;
        if *runs == 0 {
            set_subreaper(false);
        }
    }
}

#[cfg(target_os = "linux")]
fn set_subreaper(on: bool) {
    // Fails only on kernels before 3.4; then strays outside the group are missed, nothing else.
    let _ = rustix::process::set_child_subreaper(on.then(rustix::process::getpid));
}

#[cfg(not(target_os = "linux"))]
fn set_subreaper(_on: bool) {}

/// One task's processes.
#[derive(Debug)]
pub(crate) struct Family {
    /// The process group that the task's main process leads.
    group: Pid,
    /// `TRIMTAB_ATTEMPT=...`
    cookie: String,
    /// Strays that were signalled and not collected yet: once ended they no longer show their cookie.
    signalled: Vec<Pid>,
}

impl Family {
    pub(crate) fn new(group: Pid, cookie: &str) -> Self {
        Self { group, cookie: format!("{COOKIE}={cookie}"), signalled: Vec::new() }
    }

    /// Collects those that ended and gives the number of those that live; the group counts as one.
    pub(crate) fn living(&mut self) -> usize {
        while let Ok(Some(_)) = waitpgid(self.group, WaitOptions::NOHANG) {}
        self.signalled.retain(|stray| matches!(waitpid(Some(*stray), WaitOptions::NOHANG), Ok(None)));
        let group = usize::from(rustix::process::test_kill_process_group(self.group).is_ok());
        group + self.strays().len()
    }

    /// Signals all of them.
    pub(crate) fn signal(&mut self, signal: Signal) {
        // Either may be gone already.
        let _ = kill_process_group(self.group, signal);
        for stray in self.strays() {
            let _ = kill_process(stray, signal);
            if !self.signalled.contains(&stray) {
                self.signalled.push(stray);
            }
        }
    }

    /// Our children that carry the cookie and are outside the group. A stray's own children become ours when it ends, so
    /// asking again until nothing is left finds them all.
    fn strays(&self) -> Vec<Pid> {
        children().into_iter().filter(|child| self.owns(*child)).collect()
    }

    fn owns(&self, child: Pid) -> bool {
        if rustix::process::getpgid(Some(child)).is_ok_and(|group| group == self.group) {
            return false;
        }
        let Ok(environment) = std::fs::read(format!("/proc/{}/environ", child.as_raw_nonzero())) else {
            return false;
        };
        environment.split(|byte| *byte == 0).any(|variable| variable == self.cookie.as_bytes())
    }
}

/// Children that were given to us: the kernel hands them to the first thread.
fn children() -> Vec<Pid> {
    let own = std::process::id();
    let text = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}
