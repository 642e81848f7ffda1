//! One file a command: its arguments, whose documentation is its manual, and what it does.

use delivery::exit::Exit;

pub(crate) mod approve;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod edge;
pub(crate) mod explain;
pub(crate) mod guard;
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
pub(crate) mod store;
pub(crate) mod why;

/// The problems of several ends (services, environments), those of the gravest end first, so that it gives the exit.
pub(crate) fn gravest_first(mut ends: Vec<Vec<delivery::Problem>>) -> Vec<delivery::Problem> {
    let exit = |problems: &Vec<delivery::Problem>| {
        problems.first().map_or(Exit::Success, |problem| problem.code.exit())
    };
    ends.sort_by_key(|problems| std::cmp::Reverse(exit(problems).gravity()));
    ends.into_iter().flatten().collect()
}

/// How a command ends: with an exit, or with problems, the first of which gives the exit.
pub(crate) type Result = std::result::Result<Exit, Vec<delivery::Problem>>;
