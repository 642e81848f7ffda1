//! The tampering drill: random changes to a real ledger's file, each of which must be found.
//!
//! `cargo run --release -p store --example tamper -- --rounds 10000 --seed 1`. Each round takes a fresh copy of the file, changes
//! it in one of the ways of `change`, and asks what a user would ask: open, verify, hold against a checkpoint that was kept
//! elsewhere. Whether a change had any effect is judged by reading the tables plainly, without any of the ledger's code: a
//! bit in a part of the file that SQLite does not use changes nothing, is counted apart, and does not count as a round.
//! Every tenth round leaves the ledger alone, or lets it grow, and must raise no alarm.
//!
//! Ends with 1 when a change was missed or an alarm was false, and says which seed and round.

mod change;
mod ground;

use std::collections::BTreeMap;
use std::process::ExitCode;

use change::{Change, Random};
use ground::{Ground, Verdict};

#[derive(Default)]
struct Tally {
    tried: u64,
    found: u64,
    /// Found only because a checkpoint had been kept elsewhere.
    by_checkpoint: u64,
    without_effect: u64,
}

fn main() -> ExitCode {
    let (mut rounds, mut seed) = (10_000_u64, 1_u64);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for pair in arguments.chunks(2) {
        match (pair[0].as_str(), pair.get(1).and_then(|value| value.parse().ok())) {
            ("--rounds", Some(value)) => rounds = value,
            ("--seed", Some(value)) => seed = value,
            _ => {
                eprintln!("usage: tamper [--rounds N] [--seed N]");
                return ExitCode::from(2);
            }
        }
    }
    match drill(rounds, seed) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the drill and prints its figures; gives how many changes were missed and alarms were false.
fn drill(rounds: u64, seed: u64) -> Result<u64, String> {
    let ground = Ground::new()?;
    let mut random = Random(seed);
    let mut tallies: BTreeMap<&'static str, Tally> = BTreeMap::new();
    let (mut tried, mut untouched, mut wrong) = (0, 0, 0);
    let mut attempt = 0_u64;
    while tried < rounds {
        attempt += 1;
        ground.reset()?;
        if attempt.is_multiple_of(10) {
            untouched += 1;
            if random.below(2) == 0 {
                ground.grow()?;
            }
            let verdict = ground.judge();
            if verdict != Verdict::Sound {
                wrong += 1;
                println!("FALSE ALARM: seed {seed}, attempt {attempt}: {verdict:?}");
            }
            continue;
        }
        let change = Change::draw(&mut random);
        change.apply(&ground, &mut random)?;
        let tally = tallies.entry(change.name()).or_default();
        let effect = ground.differs();
        let verdict = ground.judge();
        if !effect {
            tally.without_effect += 1;
            continue;
        }
        tried += 1;
        tally.tried += 1;
        match verdict {
            Verdict::Sound => {
                wrong += 1;
                println!("MISSED: seed {seed}, attempt {attempt}: {}", change.name());
            }
            Verdict::Found => tally.found += 1,
            Verdict::FoundByCheckpoint => {
                tally.found += 1;
                tally.by_checkpoint += 1;
            }
        }
    }
    print(&tallies, untouched, wrong);
    Ok(wrong)
}

fn print(tallies: &BTreeMap<&'static str, Tally>, untouched: u64, wrong: u64) {
    println!(
        "{:<44} {:>7} {:>7} {:>15} {:>15}",
        "change", "tried", "found", "by a checkpoint", "without effect"
    );
    let mut sum = Tally::default();
    for (name, tally) in tallies {
        let Tally { tried, found, by_checkpoint, without_effect } = tally;
        println!("{name:<44} {tried:>7} {found:>7} {by_checkpoint:>15} {without_effect:>15}");
        sum.tried += tried;
        sum.found += found;
        sum.by_checkpoint += by_checkpoint;
        sum.without_effect += without_effect;
    }
    println!(
        "{} of {} tamperings found ({} of them by a checkpoint alone); {} changes had no effect; {untouched} untouched or grown \
         ledgers; {wrong} missed or false alarms",
        sum.found, sum.tried, sum.by_checkpoint, sum.without_effect
    );
}
