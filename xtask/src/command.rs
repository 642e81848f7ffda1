//! Reads the command line and calls the one command that it names.

use std::process::ExitCode;

use crate::place::Place;
use crate::tree::Tree;
use crate::{codegen, test, tidy};

const USAGE: &str = "usage: cargo xtask COMMAND

  test [--quick]      install what is missing, then run every check (README's second command);
                      --quick leaves out the browser and the tests in binaries named real_*
  tidy                our style as a test: prints file:line: message
  codegen             write the generated pages of docs/reference";

/// Runs the command; usage errors end with 2, failures with 1.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["test"] => in_place(|place| test::run(place, test::Scope::All)),
        ["test", "--quick"] => in_place(|place| test::run(place, test::Scope::Quick)),
        ["tidy"] => in_place(tidy_all),
        ["codegen"] => in_place(|place| codegen::write(&Tree::load(&place.root)?)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn in_place(run: impl FnOnce(&Place) -> Result<(), String>) -> Result<(), String> {
    run(&Place::find()?)
}

fn tidy_all(place: &Place) -> Result<(), String> {
    let tree = Tree::load(&place.root)?;
    tidy::report(&tree, &[tidy::Family::Code, tidy::Family::Docs])
}
