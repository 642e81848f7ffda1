//! Reads the command line and calls the one command that it names.

use std::process::ExitCode;

use crate::place::Place;
use crate::tree::Tree;
use crate::{codegen, deadman, figures, test, tidy};

const USAGE: &str = "usage: cargo xtask COMMAND

  test [--quick]      install what is missing, then run every check (README's second command);
                      --quick leaves out the browser and the tests in binaries named real_*
  tidy                our style as a test: prints file:line: message
  figures NAME        take the promised figures on this machine: kill9 [--rounds N], bad-build [--runs N], small, all,
                      quick (eight rounds of kill9, as in test)
  deadman             kill, stop and cut off the control plane, and see the canary taken back:
                      [--kills N] [--front embedded|haproxy] [--no-guard] [--ttl SECONDS] [--lanes N] [--seed N]
                      [--minutes N] [--binary PATH];
                      or quick (six kills, as in test)
  codegen             write the generated pages of docs/reference";

/// Runs the command; usage errors end with 2, failures with 1.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["test"] => Place::find().map(|place| test::run(&place, test::Scope::All)),
        ["test", "--quick"] => Place::find().map(|place| test::run(&place, test::Scope::Quick)),
        ["tidy"] => with_tree(|tree| tidy::report(tree, &[tidy::Family::Code, tidy::Family::Docs])),
        ["figures", name, ref options @ ..] => {
            Place::find().and_then(|place| figures::run(&place, name, options))
        }
        ["deadman", "quick"] => Place::find().and_then(|place| deadman::quick(&place)).map(|remark| {
            eprintln!("{remark}");
            true
        }),
        ["deadman", ref options @ ..] => Place::find().and_then(|place| deadman::run(&place, options)),
        ["codegen"] => with_tree(codegen::write),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn with_tree(run: impl FnOnce(&Tree) -> Result<(), String>) -> Result<bool, String> {
    run(&Tree::load(&Place::find()?.root)?).map(|()| true)
}
