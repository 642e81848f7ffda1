//! A time, told absolutely and from the reader's moment.

use delivery::{Timestamp, text};
use serde::{Serialize, Serializer};

/// A time and the moment at which it is told. Serialised as the time alone (RFC 3339).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct When {
    pub(crate) at: Timestamp,
    pub(crate) now: Timestamp,
}

impl When {
    /// For machines.
    pub(crate) fn iso(&self) -> String {
        self.at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
    }

    /// `2026-11-23 13:05:22 UTC`.
    pub(crate) fn full(&self) -> String {
        self.at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
    }

    /// The moment at which it is told: `2026-11-23 13:05:22 UTC`.
    pub(crate) fn now_full(&self) -> String {
        Self { at: self.now, now: self.now }.full()
    }

    /// `13:05:22`, with the date when it is another day.
    pub(crate) fn clock(&self) -> String {
        let today = self.at.strftime("%F").to_string() == self.now.strftime("%F").to_string();
        self.at.strftime(if today { "%H:%M:%S" } else { "%-d %b %H:%M:%S" }).to_string()
    }

    /// `3 min ago`.
    pub(crate) fn age(&self) -> String {
        let ms = delivery::clock::millis_between(self.at, self.now);
        match ms {
            0..5_000 => "just now".into(),
            _ => format!("{} ago", coarse(ms)),
        }
    }

    /// `3 min`.
    pub(crate) fn length(&self) -> String {
        coarse(delivery::clock::millis_between(self.at, self.now))
    }
}

/// One unit is enough for an age.
fn coarse(ms: u64) -> String {
    match ms / 1_000 {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3_600 => format!("{} min", s / 60),
        s @ 3_600..172_800 => format!("{} h", s / 3_600),
        s => text::count(s / 86_400, "day"),
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.at.serialize(serializer)
    }
}
