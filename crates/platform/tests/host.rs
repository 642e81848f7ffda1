//! The host platform with real processes: this test program is the edge's daemon and the service too (see `host/roles.rs`).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "host/bed.rs"]
mod bed;
#[path = "host/commands.rs"]
mod commands;
#[path = "host/deaths.rs"]
mod deaths;
#[path = "host/logs.rs"]
mod logs;
#[path = "host/roles.rs"]
mod roles;
#[path = "host/switch.rs"]
mod switch;
