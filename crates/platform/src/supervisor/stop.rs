//! Ends a process with everything that it started.
//!
//! SIGTERM to its group and to descendants that left the group, a grace, then SIGKILL until nothing is found. Descendants
//! that cleared their environment, left their group and lost their parent before they were first seen are found only as our
//! adopted orphans, when the edge ends.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Child;
use tokio::time::Instant;

use crate::process::{self, Children, Identity};

const POLL: Duration = Duration::from_millis(10);
/// Rounds of SIGKILL: one would do, were it not for processes that fork while they are being listed.
const KILL_ROUNDS: u32 = 50;

/// Stops the child, which leads the group `pid`, and its descendants. A grace of zero kills at once.
pub(super) async fn all(child: &mut Child, pid: u32, marker: &str, grace: Duration, children: &Children) {
    let mut family = process::family(Some(pid), marker);
    if !grace.is_zero() {
        ask(pid, &family);
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline {
            let leader_ended = !matches!(child.try_wait(), Ok(None));
            if leader_ended && !family.iter().any(|member| process::is_running(*member)) {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
    }
    for _ in 0..KILL_ROUNDS {
        // Adds those that were started meanwhile; parentage is still whole for the ones whose parents live.
        family.extend(process::family(Some(pid), marker));
        family.retain(|member| process::is_running(*member));
        if family.is_empty() {
            break;
        }
        process::signal_group(pid, Signal::KILL);
        family.iter().for_each(|member| process::signal(*member, Signal::KILL));
        tokio::time::sleep(POLL).await;
        children.reap();
    }
    let _ = child.start_kill();
    let _ = child.wait().await;
    children.ended(pid);
    children.reap();
}

fn ask(pid: u32, family: &BTreeSet<Identity>) {
    process::signal_group(pid, Signal::TERM);
    // Those that left the group were not asked yet; a second SIGTERM to the others does no harm but could cut a handler
    // short, so only the outsiders are asked.
    let members: BTreeSet<u32> =
        process::table().iter().filter(|row| row.group == pid).map(|row| row.identity.pid).collect();
    family
        .iter()
        .filter(|member| !members.contains(&member.pid))
        .for_each(|member| process::signal(*member, Signal::TERM));
}
