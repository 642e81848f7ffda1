//! One file a command: its arguments, whose documentation is its manual, and what it does.

pub(crate) mod approve;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod edge;
pub(crate) mod explain;
pub(crate) mod init;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod report;
pub(crate) mod rollback;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod server;
pub(crate) mod ship;
pub(crate) mod status;
pub(crate) mod why;

/// How a command ends: with an exit, or with problems, the first of which gives the exit.
pub(crate) type Result = std::result::Result<delivery::exit::Exit, Vec<delivery::Problem>>;
