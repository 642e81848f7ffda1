//! What is recorded: the real binary under events, commands and rollouts, all at once. Runs beneath strace, as its own process.
//!
//! One stage makes a ledger from nothing with several processes at the same time, deploys, starts the server, lets events pour in
//! while two rollouts go on (one is promoted, one is taken back) and tasks run in between. Leaves out judging: that is done from
//! the recording. Invariant: when it ends well, everything that it started has ended.

use std::time::Duration;

use camino::Utf8Path;

use super::pour::{Pour, Reports};
use crate::figures::process::{self, Running};
use crate::figures::shop::{Build, PATIENCE, Shop};

const MANIFEST: &str = include_str!("stage/powercut.toml");
/// Users' requests a second, so that canaries get evidence.
const RATE: u32 = 120;
/// Senders of events at once.
const SENDERS: u32 = 4;
/// Runs of all tasks before, between and after the rollouts.
const RUNS: u32 = 4;
/// The first commands that find no ledger and make it.
const FIRST: usize = 3;

/// `chaos-stage NAME PROGRAM FOLDER SEED EVENTS`.
pub(crate) fn run(arguments: &[&str]) -> Result<bool, String> {
    let ["powercut", program, folder, seed, events] = arguments else {
        return Err(format!("there is no stage {arguments:?}"));
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
    powercut(Utf8Path::new(program), Utf8Path::new(folder), number(seed)?, number(events)? as u32)?;
    Ok(true)
}

fn powercut(program: &Utf8Path, folder: &Utf8Path, seed: u64, events: u32) -> Result<(), String> {
    let shop = Shop::create(program, folder, MANIFEST)?;
    let build = |name: &str, errors| shop.commit(&Build { name: name.into(), errors, seed });
    build("first", 0.0)?;
    from_nothing(&shop)?;
    ended(shop.ship()?, &[0], "the first ship")?;
    let mut server = shop.start(&["server", "--listen", "127.0.0.1:0", "--format", "json"], "server")?;
    let pour = Pour::at(&mut server, shop.repository())?;
    let mut load = shop.load(RATE)?;
    let result = std::thread::scope(|scope| {
        let sending = scope.spawn(|| pour.all(SENDERS, events));
        let rollouts = || {
            run_tasks(&shop)?;
            build("good", 0.0)?;
            ended(shop.ship()?, &[0], "a good ship")?;
            run_tasks(&shop)?;
            build("bad", 0.5)?;
            ended(shop.ship()?, &[6], "a bad ship")?;
            run_tasks(&shop)
        };
        let rolled = rollouts();
        rolled.and(sending.join().unwrap_or_else(|_| Err("a sender panicked".into())))
    });
    load.interrupt()?;
    server.interrupt()?;
    shop.ask(&["down"])?;
    let left = remaining(&shop)?;
    let reports: Reports = result?;
    if !left.is_empty() {
        return Err(format!("processes {left:?} are left over"));
    }
    reports.write(folder)
}

/// An exit code that is expected; others mean that the stage shows something else than it should.
fn ended(code: Option<i32>, expected: &[i32], what: &str) -> Result<(), String> {
    if code.is_some_and(|code| expected.contains(&code)) {
        return Ok(());
    }
    Err(format!("{what} ended with {code:?}, not {expected:?}"))
}

/// Processes of the shop that have not ended after a while. strace and this process name only the folder above it.
fn remaining(shop: &Shop) -> Result<Vec<u32>, String> {
    let deadline = process::now() + PATIENCE;
    loop {
        let left = process::belonging_to(shop.repository());
        if left.is_empty() || process::now() > deadline {
            return Ok(left);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Several commands at once, none of which finds a ledger.
fn from_nothing(shop: &Shop) -> Result<(), String> {
    let start =
        |number: usize| shop.start(&["run", "--force", "--format", "json"], &format!("first{number}"));
    let mut all = (0..FIRST).map(start).collect::<Result<Vec<Running>, _>>()?;
    for running in &mut all {
        running.wait(PATIENCE)?.ok_or("a first command does not end")?;
    }
    Ok(())
}

/// Runs all tasks a few times, while the server appends as well.
fn run_tasks(shop: &Shop) -> Result<(), String> {
    for number in 0..RUNS {
        let mut running = shop.start(&["run", "--force", "--format", "json"], &format!("run{number}"))?;
        let status = running.wait(PATIENCE)?.ok_or("a run does not end")?;
        ended(status.code(), &[0], "a run")?;
    }
    Ok(())
}
