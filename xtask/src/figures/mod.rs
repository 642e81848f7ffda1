//! `cargo xtask figures`: takes the figures that the project promises, on this machine, and says which bound is broken.
//!
//! What they mean and what they were is in `docs/explanation/figures.md`. Leaves out figures of one crate by itself, which are
//! that crate's examples. Invariant: nothing here knows more of Trimtab than its command line, its ledger and its journal
//! tell; the binary under test is the one that users get.

mod bad_build;
pub(crate) mod dice;
pub(crate) mod evidence;
mod kill;
mod leader;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod shop;
mod small;
pub(crate) mod strike;

use std::time::Duration;

use camino::Utf8PathBuf;

use crate::place::Place;
use crate::shell::Call;
use crate::words::Words;
use report::Report;

/// What can be asked for; `quick` is what the test command runs.
const NAMES: [&str; 5] = ["kill9", "bad-build", "small", "all", "quick"];

/// How much is done.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Settings {
    rounds: u32,
    runs: u32,
    lanes: u32,
    seed: u64,
}

/// `cargo xtask figures NAME [--rounds N] [--runs N] [--lanes N] [--seed N]`; gives whether every bound holds.
pub(crate) fn run(place: &Place, name: &str, options: &[&str]) -> Result<bool, String> {
    let settings = settings(options)?;
    if name == "quick" {
        return quick(place).map(|_| true);
    }
    if !NAMES.contains(&name) {
        return Err(format!("there are no figures {name:?}; known: {}", NAMES.join(", ")));
    }
    Call::new(place, "cargo", &["build", "--release", "-p", "trimtab"]).run()?;
    let program = place.target.join("release/trimtab");
    let mut holds = true;
    for part in &NAMES[..3] {
        if name != "all" && name != *part {
            continue;
        }
        let folder = folder(place, part)?;
        let report = match *part {
            "kill9" => kill::run(&kill_options(&settings, program.clone(), folder.clone()))?,
            "bad-build" => bad_build::run(&bad_build::Options {
                program: program.clone(),
                folder: folder.clone(),
                runs: settings.runs,
                lanes: settings.lanes,
                seed: settings.seed,
            })?,
            _ => small::run(&program, &folder)?,
        };
        holds &= finish(&report, &folder);
        if *part == "small" {
            small::delegate(place)?;
        }
    }
    Ok(holds)
}

/// A few rounds of `kill9` for the test command, against the debug binary. Gives a remark.
pub(crate) fn quick(place: &Place) -> Result<String, String> {
    Call::new(place, "cargo", &["build", "-p", "trimtab"]).run()?;
    let settings = Settings { rounds: 8, ..Settings::standard() };
    let folder = folder(place, "quick")?;
    let report = kill::run(&kill_options(&settings, place.target.join("debug/trimtab"), folder.clone()))?;
    if finish(&report, &folder) { Ok("8 kills".into()) } else { Err(report.broken()) }
}

/// `cargo xtask leader [--debug] [--rounds N] [--lanes N] [--seed N] [--minutes N]`; gives whether every bound holds.
pub(crate) fn leader(place: &Place, options: &[&str]) -> Result<bool, String> {
    if *options == ["quick"] {
        return leader_quick(place).map(|_| true);
    }
    let (profile, options) = match options {
        ["--debug", rest @ ..] => ("debug", rest),
        options => ("release", options),
    };
    let mut settings = Settings { rounds: 1_000, ..Settings::standard() };
    let mut most = Duration::from_hours(24);
    let mut words = Words::of("leader", options);
    while let Some(name) = words.name() {
        match name {
            "--minutes" => most = Duration::from_mins(u64::from(words.number()?)),
            _ => settings.take(name, &mut words)?,
        }
    }
    let release: &[&str] = if profile == "release" { &["--release"] } else { &[] };
    Call::new(place, "cargo", &[&["build", "-p", "trimtab"], release].concat()).run()?;
    lead(place, profile, &settings, most).map(|(_, holds)| holds)
}

/// A few rounds of `leader` for the test command, against the debug binary. Gives a remark.
pub(crate) fn leader_quick(place: &Place) -> Result<String, String> {
    Call::new(place, "cargo", &["build", "-p", "trimtab"]).run()?;
    let settings = Settings { rounds: 20, ..Settings::standard() };
    // However slow the machine is, it does not take longer; what was done is said.
    let (report, holds) = lead(place, "debug", &settings, Duration::from_secs(45))?;
    if holds { Ok(format!("{} stops", report.value("leader.rounds"))) } else { Err(report.broken()) }
}

fn lead(place: &Place, profile: &str, settings: &Settings, most: Duration) -> Result<(Report, bool), String> {
    let folder = folder(place, "leader")?;
    let report = leader::run(&leader::Options {
        program: place.target.join(profile).join("trimtab"),
        folder: folder.clone(),
        rounds: settings.rounds,
        lanes: settings.lanes,
        seed: settings.seed,
        most,
    })?;
    let holds = finish(&report, &folder);
    Ok((report, holds))
}

fn kill_options(settings: &Settings, program: Utf8PathBuf, folder: Utf8PathBuf) -> kill::Options {
    kill::Options { program, folder, rounds: settings.rounds, lanes: settings.lanes, seed: settings.seed }
}

fn settings(options: &[&str]) -> Result<Settings, String> {
    let mut settings = Settings::standard();
    let mut words = Words::of("figures", options);
    while let Some(name) = words.name() {
        settings.take(name, &mut words)?;
    }
    Ok(settings)
}

impl Settings {
    /// What is done when nothing is said.
    fn standard() -> Self {
        Self { rounds: 200, runs: 20, lanes: 2, seed: 1 }
    }

    /// Takes in one option.
    fn take(&mut self, name: &str, words: &mut Words<'_>) -> Result<(), String> {
        match name {
            "--rounds" => self.rounds = words.number()?,
            "--runs" => self.runs = words.number()?,
            "--lanes" => self.lanes = words.number()?,
            "--seed" => self.seed = u64::from(words.number()?),
            _ => return Err(words.unknown()),
        }
        Ok(())
    }
}

/// A new folder beside the build results: on a real disk, and not in the checkout.
pub(crate) fn folder(place: &Place, part: &str) -> Result<Utf8PathBuf, String> {
    let folder = place.target.join("figures").join(format!("{part}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{folder}: {error}"))?;
    Ok(folder)
}

/// Prints the report. What was measured is kept when a bound is broken, for whoever looks for the reason.
pub(crate) fn finish(report: &Report, folder: &Utf8PathBuf) -> bool {
    report.print();
    if report.holds() {
        let _ = std::fs::remove_dir_all(folder);
    } else {
        eprintln!("broken: {}\nwhat was measured is in {folder}", report.broken());
    }
    report.holds()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_mistakes_are_named() {
        assert_eq!(settings(&["--rounds", "3"]).unwrap().rounds, 3);
        assert_eq!(settings(&["--rounds"]).unwrap_err(), "--rounds needs a value");
        assert_eq!(settings(&["--speed", "3"]).unwrap_err(), "figures knows no --speed");
        assert_eq!(settings(&["--runs", "many"]).unwrap_err(), "--runs needs a number, not \"many\"");
    }
}
