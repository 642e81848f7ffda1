//! Reads the command line and calls the one command that it names.

use std::process::ExitCode;

use crate::place::Place;
use crate::tree::Tree;
use crate::{chaos, codegen, deadman, figures, overload, sim, tamper, test, tidy, upgrade};

const USAGE: &str = "usage: cargo xtask COMMAND

  test [--quick]      install what is missing, then run every check (README's second command);
                      --quick leaves out the browser and the tests in binaries named real_*
  tidy                our style as a test: prints file:line: message
  figures NAME        take the promised figures on this machine: kill9 [--rounds N], bad-build [--runs N], small, all,
                      quick (eight rounds of kill9, as in test)
  tamper              change a ledger's file at random, --rounds N times (10,000), and see that every change is found
  deadman             kill, stop and cut off the control plane, and see the canary taken back:
                      [--kills N] [--front embedded|haproxy] [--no-guard] [--ttl SECONDS] [--lanes N] [--seed N]
                      [--minutes N] [--binary PATH];
                      or quick (six kills, as in test)
  powercut [--images N] [--events N] [--seed N] [--control]
                      cut the power of recorded runs of the release binary, and open what is left; the control must lose
  eio [--sweep N] [--step N]
                      let the k-th fsync fail for k = 1..N (200), or each N-th of them, while events pour in; then the kill switch
  diskfull [--rounds N]
                      fill the disk of the ledger, and of the edge, while events pour in and a canary is under way
  overload            what the server does under ten times what it can take: [--seconds N] [--clients N] [--idle N]
  sim OPTION          the deterministic simulator: --seeds A..B, --replay SEED, --bugs [--seeds N] [NAME ...]
  upgrade [--rounds N] [--events N]
                      migrations killed and under load, golden stores, backup and restore of a large ledger
  golden [NAME]       write the golden stores of the newest schema, once
  leader [--debug] [--rounds N] [--lanes N] [--seed N] [--minutes N]
                      stop holders of a lease in PostgreSQL past its end, let another take over, and count what they still do;
                      leader quick: 45 seconds of it
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
        ["tamper", ref options @ ..] => Place::find().and_then(|place| tamper::run(&place, options)),
        ["deadman", "quick"] => Place::find().and_then(|place| deadman::quick(&place)).map(|remark| {
            eprintln!("{remark}");
            true
        }),
        ["deadman", ref options @ ..] => Place::find().and_then(|place| deadman::run(&place, options)),
        ["powercut", ref options @ ..] => Place::find().and_then(|place| chaos::powercut(&place, options)),
        ["eio", ref options @ ..] => Place::find().and_then(|place| chaos::eio(&place, options)),
        ["diskfull", ref options @ ..] => Place::find().and_then(|place| chaos::diskfull(&place, options)),
        // What `diskfull` runs beneath mounts of its own.
        ["chaos-full", ref arguments @ ..] => chaos::full(arguments),
        // What `powercut` records, beneath strace.
        ["chaos-stage", ref arguments @ ..] => chaos::stage(arguments),
        ["overload", ref options @ ..] => Place::find().and_then(|place| overload::run(&place, options)),
        ["sim", ref options @ ..] => Place::find().and_then(|place| sim::run(&place, options)),
        ["upgrade", ref options @ ..] => Place::find().and_then(|place| upgrade::run(&place, options)),
        ["golden", ref name @ ..] if name.len() < 2 => {
            Place::find().and_then(|place| upgrade::golden(&place, name))
        }
        ["leader", ref options @ ..] => Place::find().and_then(|place| figures::leader(&place, options)),
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
