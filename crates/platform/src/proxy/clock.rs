//! The clock that grants run on. Owns nothing else: everything below it takes the time as an argument.

use std::time::Duration;

/// Time since boot, suspend included (`CLOCK_BOOTTIME`): a machine that slept through a grant finds it ended.
pub fn boottime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}
