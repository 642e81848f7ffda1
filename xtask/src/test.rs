//! `cargo xtask test`: one command that installs what is missing and runs every check, in order, timed, to the end.
//!
//! A check that fails does not stop the ones after it, so one run tells everything. Invariant: the command succeeds only if
//! every step that belongs to the scope ran and passed; what the scope leaves out is said.

mod browser;
mod doctests;
mod summary;
mod tools;

use std::time::{Duration, Instant};

use delivery::text::duration;

use crate::place::Place;
use crate::shell::Call;
use crate::tidy::{self, Family};
use crate::tree::Tree;
use crate::{chaos, deadman, figures, overload, sim, tamper};
use summary::Counts;

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything.
    All,
    /// Without the browser and without the tests that start many real processes.
    Quick,
}

/// What a step came to; `Ok` carries a remark for the table.
type Outcome = Result<String, String>;

/// A step that ran.
struct Step {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

/// Runs every step and prints the table; the last line printed is nextest's count. Gives whether all passed.
pub(crate) fn run(place: &Place, scope: Scope) -> bool {
    let mut counts = Counts::default();
    let mut steps = Vec::new();
    let mut step = |name, run: &mut dyn FnMut() -> Outcome| steps.push(timed(name, run));
    let cargo = |arguments: &[&str]| Call::new(place, "cargo", arguments);

    step("fmt", &mut || {
        tools::component(place, "fmt", "rustfmt")
            .and_then(|()| done(cargo(&["fmt", "--all", "--", "--check"]).run()))
    });
    step("clippy", &mut || {
        tools::component(place, "clippy", "clippy")?;
        done(cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).run())
    });
    step("tidy", &mut || done(tidy::report(&Tree::load(&place.root)?, &[Family::Code])));
    step("tests", &mut || {
        tools::git(place).and_then(|()| tools::nextest(place))?;
        tools::haproxy(place)?;
        tools::postgres(place)?;
        let profile = if scope == Scope::Quick { "quick" } else { "default" };
        let result = cargo(&["nextest", "run", "--workspace", "--profile", profile])
            .run_watched(|line| counts.see(line));
        result.and_then(|()| counts.remark())
    });
    step("kill -9 (quick)", &mut || figures::quick(place));
    step("tampering", &mut || tamper::quick(place));
    step("dead man (quick)", &mut || tools::haproxy(place).and_then(|_| deadman::quick(place)));
    step("leader (quick)", &mut || tools::postgres(place).and_then(|()| figures::leader_quick(place)));
    step("power cuts", &mut || tools::strace(place).and_then(|()| chaos::powercut_quick(place)));
    step("EIO", &mut || tools::strace(place).and_then(|()| chaos::eio_quick(place)));
    step("disk full", &mut || chaos::diskfull_quick(place));
    step("overload (quick)", &mut || overload::quick(place));
    step("simulator", &mut || sim::quick(place));
    step("doc tests", &mut || doctests::run(place));
    if scope == Scope::All {
        step("browser", &mut || browser::run(place));
    }
    step("docs", &mut || done(tidy::report(&Tree::load(&place.root)?, &[Family::Docs])));

    print!("{}", table(&steps));
    if scope == Scope::Quick {
        println!("--quick left out: browser, tests in binaries named real_*");
    }
    let passed = steps.iter().all(|step| step.outcome.is_ok());
    println!("{counts}");
    passed
}

fn done(result: Result<(), String>) -> Outcome {
    result.map(|()| String::new())
}

#[expect(clippy::disallowed_methods, reason = "steps are timed for the table, nothing is decided by it")]
fn timed(name: &'static str, run: &mut dyn FnMut() -> Outcome) -> Step {
    eprintln!("\n== {name}");
    let start = Instant::now();
    let outcome = run();
    if let Err(message) = &outcome {
        eprintln!("error: {name}: {message}");
    }
    Step { name, outcome, took: start.elapsed() }
}

fn table(steps: &[Step]) -> String {
    let mut table = String::from("\nstep            result  time\n");
    for step in steps {
        let (result, remark) = match &step.outcome {
            Ok(remark) => ("ok", remark),
            Err(message) => ("FAILED", message),
        };
        let took = duration(step.took.as_millis() as u64);
        let line = format!("{:<15} {result:<7} {took:<12} {remark}", step.name);
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_failed_and_why() {
        let step = |name, outcome| Step { name, outcome, took: Duration::from_millis(1500) };
        let text =
            table(&[step("fmt", Ok(String::new())), step("browser", Err("chromium is missing".into()))]);
        assert!(text.contains("fmt             ok      1.5 s\n"), "{text}");
        assert!(text.contains("browser         FAILED  1.5 s        chromium is missing\n"), "{text}");
    }
}
