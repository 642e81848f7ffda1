//! `cargo xtask upgrade`: the long form of what the tests of upgrades, backups and restores do in short, with figures.
//! `cargo xtask golden`: writes the golden stores of the newest schema.
//!
//! Leaves the work to the crates' own tests and examples. Invariant: a round that fails ends the command with an error.

use crate::place::Place;
use crate::shell::Call;
use crate::words::Words;

/// What is run when nothing is said.
const ROUNDS: u32 = 100;
const EVENTS: u32 = 1_000_000;

/// `cargo xtask upgrade [--rounds N] [--events N]`.
pub(crate) fn run(place: &Place, options: &[&str]) -> Result<bool, String> {
    let (mut rounds, mut events) = (ROUNDS, EVENTS);
    let mut words = Words::of("upgrade", options);
    while let Some(name) = words.name() {
        match name {
            "--rounds" => rounds = words.number()?,
            "--events" => events = words.number()?,
            _ => return Err(words.unknown()),
        }
    }
    let (rounds, events) = (rounds.to_string(), events.to_string());
    println!("\n== upgrades, killed and under load, {rounds} rounds");
    let test = [
        "test",
        "--release",
        "-p",
        "store",
        "--test",
        "real_upgrade",
        "--",
        "--nocapture",
        "--test-threads=1",
    ];
    Call::new(place, "cargo", &test).with("TRIMTAB_ROUNDS", &rounds).run()?;
    println!("\n== golden stores, backups, restores");
    Call::new(place, "cargo", &["test", "--release", "-p", "rollout", "--test", "golden"]).run()?;
    Call::new(place, "cargo", &["test", "--release", "-p", "store", "--test", "ledger", "backup::"]).run()?;
    println!("\n== {events} events");
    let target = place.target.as_str();
    let figures = ["run", "--release", "-p", "store", "--example", "backup_figures", "--", &events, target];
    Call::new(place, "cargo", &figures).run().map(|()| true)
}

/// `cargo xtask golden [NAME]`.
pub(crate) fn golden(place: &Place, name: &[&str]) -> Result<bool, String> {
    let run = ["run", "-p", "rollout", "--example", "golden", "--"];
    Call::new(place, "cargo", &[&run, name].concat()).run().map(|()| true)
}
