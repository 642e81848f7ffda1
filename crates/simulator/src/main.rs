//! `simulator run --seeds 0..2000`, `simulator replay SEED`, `simulator bugs`: what `cargo xtask sim` starts.
//!
//! Exit code 0: every promise held (or, for `bugs`, enough of the seeded bugs were found); 1: not; 2: wrong usage.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use simulator::coverage::Coverage;
use simulator::run::{Report, simulate_checked};

const USAGE: &str = "usage: simulator run --seeds A..B | replay SEED | bugs [--seeds N] [NAME ...]";
/// In so many seeds each cell of coverage is wanted [`CELL_LEAST`] times; fewer seeds want proportionally less.
const COVERED_SEEDS: u64 = 2_000;
const CELL_LEAST: u64 = 100;
/// Every so many seeds one is simulated twice, to see that a seed gives one trace.
const REPEATED: u64 = 10;
/// Broken seeds that are told one by one.
const TOLD: usize = 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let good = match words[..] {
        ["run", "--seeds", seeds] => range(seeds).map(run),
        ["replay", seed] => seed.parse().ok().map(replay),
        #[cfg(feature = "seeded-bugs")]
        ["bugs", ref rest @ ..] => simulator::bugs::from_arguments(rest),
        _ => None,
    };
    match good {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn range(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..")?;
    let range = from.parse().ok()?..to.parse().ok()?;
    (!range.is_empty()).then_some(range)
}

/// Simulates them all, tells what was broken, and whether something was, or was covered thinly.
fn run(seeds: Range<u64>) -> bool {
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Total::default());
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let mut report = simulate_checked(seed, false);
                    if seed.is_multiple_of(REPEATED) {
                        compare(&mut report);
                    }
                    total.lock().unwrap_or_else(PoisonError::into_inner).add(report);
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    total.tell(seeds.end - seeds.start)
}

/// Simulates the seed once more; another trace is a broken promise of the simulator itself.
fn compare(report: &mut Report) {
    let again = simulate_checked(report.seed, false);
    if again.trace != report.trace && report.violation.is_none() {
        report.violation = Some("its second trace is another: something does not come from the seed".into());
    }
}

#[derive(Default)]
struct Total {
    coverage: Coverage,
    broken: Vec<(u64, String)>,
    /// By seed.
    traces: BTreeMap<u64, String>,
    records: u64,
    effects: u64,
    rollouts: u64,
    completed: u64,
    seconds: u64,
}

impl Total {
    fn add(&mut self, report: Report) {
        self.coverage.add(&report.coverage);
        self.records += report.records;
        self.effects += report.effects;
        self.rollouts += report.rollouts.0 as u64;
        self.completed += report.rollouts.1 as u64;
        self.seconds += report.lasted.as_secs();
        self.traces.insert(report.seed, report.trace);
        if let Some(violation) = report.violation {
            self.broken.push((report.seed, violation));
        }
    }

    /// SHA-256 over all traces, in the order of their seeds.
    fn traces_hash(&self) -> String {
        let hash = self.traces.values().fold(Sha256::new(), Sha256::chain_update);
        hex::encode(hash.finalize())
    }

    fn tell(mut self, seeds: u64) -> bool {
        println!("{}\n", self.coverage.table());
        let hours = self.seconds as f64 / 3_600.0;
        println!(
            "{seeds} seeds, {hours:.0} simulated hours, {} rollouts ({} completed)",
            self.rollouts, self.completed
        );
        println!("{} records, {} effects, {} violations", self.records, self.effects, self.broken.len());
        // The same on every machine, for the same seeds and the same code.
        println!("all traces: {}", self.traces_hash());
        self.broken.sort();
        for (seed, violation) in self.broken.iter().take(TOLD) {
            println!("seed {seed}: {violation}\n  again: cargo xtask sim --replay {seed}");
        }
        let least = CELL_LEAST * seeds / COVERED_SEEDS;
        let thin = self.coverage.thin(least);
        for (fault, phase, count) in &thin {
            println!("thin: {} while {}: {count} of {least}", fault.name(), phase.name());
        }
        self.broken.is_empty() && thin.is_empty()
    }
}

/// Twice, to show that it is the same.
fn replay(seed: u64) -> bool {
    let (report, again) = (simulate_checked(seed, true), simulate_checked(seed, true));
    for line in &report.lines {
        println!("{line}");
    }
    println!("seed {seed}: trace {}, again {}", report.trace, again.trace);
    println!("{}", report.violation.as_deref().unwrap_or("every promise held"));
    if report.trace != again.trace {
        println!("the two runs differ: something in the simulation does not come from the seed");
    }
    report.violation.is_none() && report.trace == again.trace
}
