//! `cargo xtask sim`: the deterministic simulator, built and started.
//!
//! What it simulates and promises is in the crate `simulator` and in `docs/explanation/safety-case.md`. Invariant: a run fails when a
//! promise was broken, when a fault was hardly tried somewhere, or when the seeded bugs are not found.

use crate::place::Place;
use crate::shell::Call;

/// The seeds of the test command.
const QUICK_SEEDS: &str = "0..2000";
/// Seeded bugs of the test command, which few seeds find: they show that the oracle looks.
const QUICK_BUGS: [&str; 9] = [
    "no-fence",
    "settled-grant-fires",
    "renew-while-withdrawing",
    "ack-before-sync",
    "act-before-record",
    "time-goes-back",
    "head-lacks-last",
    "grant-too-long",
    "rollback-holds",
];
const QUICK_BUG_SEEDS: &str = "100";

/// `--seeds A..B`, `--replay SEED` or `--bugs [--seeds N] [NAME ...]`.
pub(crate) fn run(place: &Place, options: &[&str]) -> Result<bool, String> {
    match options {
        ["--seeds", seeds] => start(place, &[], &["run", "--seeds", seeds]),
        ["--replay", seed] => start(place, &[], &["replay", seed]),
        ["--bugs", rest @ ..] => start(place, &["--features", "seeded-bugs"], &[&["bugs"], rest].concat()),
        _ => {
            return Err(
                "usage: cargo xtask sim --seeds A..B | --replay SEED | --bugs [--seeds N] [NAME ...]".into(),
            );
        }
    }
    .map(|()| true)
}

/// What the test command runs. Gives a remark.
pub(crate) fn quick(place: &Place) -> Result<String, String> {
    run(place, &["--seeds", QUICK_SEEDS])?;
    run(place, &[&["--bugs", "--seeds", QUICK_BUG_SEEDS], &QUICK_BUGS[..]].concat())?;
    Ok(format!("seeds {QUICK_SEEDS}, and {} seeded bugs found", QUICK_BUGS.len()))
}

fn start(place: &Place, features: &[&str], arguments: &[&str]) -> Result<(), String> {
    let cargo = [&["run", "--release", "--quiet", "-p", "simulator"], features, &["--"], arguments].concat();
    Call::new(place, "cargo", &cargo).run()
}
