//! Whether the simulation bites: it is run on the product with one bug at a time, and must find it.
//!
//! The bugs are in the product's own code, at their places, behind [`delivery::seeded`]. Invariant: a bug counts as found only
//! by a violation that the product without it does not have at the same seed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use delivery::seeded::{self, Bug};

use crate::run::simulate_checked;

/// Seeds that are tried for each bug.
const SEEDS: u64 = 20_000;
/// The share that must be found.
const FOUND_LEAST: f64 = 0.95;

/// The first seed that found a bug, and by what.
type Catch = Option<(u64, String)>;

/// `[--seeds N] [NAME ...]`; `None` when they can't be understood.
pub fn from_arguments(words: &[&str]) -> Option<bool> {
    let (seeds, words) = match words {
        ["--seeds", seeds, rest @ ..] => (seeds.parse().ok()?, rest),
        other => (SEEDS, other),
    };
    if words.is_empty() {
        return Some(all(seeds, Bug::ALL));
    }
    let named = |name: &&str| Bug::ALL.iter().copied().find(|bug| bug.name() == *name);
    let bugs: Vec<Bug> = words.iter().map(named).collect::<Option<_>>()?;
    Some(all(seeds, &bugs))
}

fn all(seeds: u64, bugs: &[Bug]) -> bool {
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(Bug, Catch)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let catch = hunt(*bug, seeds);
                    match &catch {
                        Some((seed, how)) => println!("{:<28} seed {seed}: {how}", bug.name()),
                        None => println!("{:<28} NOT FOUND in {seeds} seeds", bug.name()),
                    }
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((*bug, catch));
                }
            });
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let caught = found.iter().filter(|(_, catch)| catch.is_some()).count();
    println!("{caught} of {} seeded bugs found", found.len());
    caught as f64 >= FOUND_LEAST * found.len() as f64
}

fn hunt(bug: Bug, seeds: u64) -> Catch {
    for seed in 0..seeds {
        seeded::plant(Some(bug));
        let violation = simulate_checked(seed, false).violation;
        seeded::plant(None);
        if let Some(how) = violation
            && simulate_checked(seed, false).violation.is_none()
        {
            return Some((seed, how));
        }
    }
    None
}
