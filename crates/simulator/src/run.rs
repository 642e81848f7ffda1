//! One simulation from its seed to its verdict, and many of them side by side.

use std::sync::Arc;
use std::time::Duration;

use crate::chaos::{self, STROKES};
use crate::coverage::Coverage;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::profile::Profile;
use crate::site::Site;
use crate::universe::Universe;
use crate::vfs::Mounted;
use crate::{controller, office};

/// Once nothing fails any more, everything ends within this time of the simulated world (I9).
pub const CALM_MAX: Duration = Duration::from_mins(30);
/// A world that is excused from I9 is watched for so long.
const EXCUSED: Duration = Duration::from_mins(1);
/// How often it is looked whether everything has ended.
const LOOK: Duration = Duration::from_millis(500);

/// What came of a simulation.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The broken promise, if one was.
    pub violation: Option<String>,
    /// SHA-256 of its trace.
    pub trace: String,
    /// The trace's lines, where they were asked for.
    pub lines: Vec<String>,
    /// What was broken when.
    pub coverage: Coverage,
    /// Records in the ledger.
    pub records: u64,
    /// Effects that took place.
    pub effects: u64,
    /// Rollouts, and how many of them were completed.
    pub rollouts: (usize, usize),
    /// How long it took in its own time.
    pub lasted: Duration,
}

/// Simulates one seed. With `verbose` the report has the trace's lines.
pub fn simulate(seed: u64, verbose: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    match runtime {
        Ok(runtime) => runtime.block_on(live(seed, verbose)),
        Err(error) => unreachable!("a runtime without input and output needs nothing: {error}"),
    }
}

/// [`simulate`], with a panic of the product as a violation.
pub fn simulate_checked(seed: u64, verbose: bool) -> Report {
    std::panic::catch_unwind(|| simulate(seed, verbose)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Report {
            seed,
            violation: Some(format!("panic: {}", text.unwrap_or_default())),
            trace: String::new(),
            lines: Vec::new(),
            coverage: Coverage::default(),
            records: 0,
            effects: 0,
            rollouts: (0, 0),
            lasted: Duration::ZERO,
        }
    })
}

async fn live(seed: u64, verbose: bool) -> Report {
    let profile = Profile::of(seed, STROKES.len());
    let mut dice = Dice::of(seed, "sites");
    let sites = (0..profile.sites).map(|_| site(&mut dice)).collect();
    let disk = Mounted::new(seed, Disk::new(Dice::of(seed, "disk")));
    let universe = Universe::new(seed, profile, sites, disk, verbose);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(chaos::run(Arc::clone(&universe)));
    tasks.spawn(office::run(Arc::clone(&universe)));
    let local = tokio::task::LocalSet::new();
    for index in 0..universe.profile.controllers {
        local.spawn_local(controller::run(Arc::clone(&universe), index));
    }
    local.run_until(until_over(&universe)).await;
    let report = report(&universe);
    drop(local);
    tasks.shutdown().await;
    report
}

fn site(dice: &mut Dice) -> Site {
    let rate = if dice.chance(0.1) { 0.0 } else { dice.between(20.0, 2_000.0) };
    let balancer = dice.chance(0.5);
    let guards = if balancer || dice.chance(0.3) { 2 } else { 1 };
    let paces: Vec<f64> = (0..guards).map(|_| dice.between(0.95, 1.05)).collect();
    Site::new(rate, balancer, &paces)
}

async fn until_over(universe: &Universe) {
    let end = universe.profile.storm + CALM_MAX;
    loop {
        tokio::time::sleep(LOOK).await;
        universe.check();
        let now = universe.now();
        let mut inner = universe.inner();
        let broken = inner.oracle.violation().is_some();
        let begun = inner.oracle.rollouts().0;
        let slow = universe.profile.latency_ms >= 100.0;
        let proven = (0..universe.profile.sites)
            .all(|site| slow || inner.sites[site].rate < 800.0 || inner.oracle.served_well(site));
        let ended = begun >= universe.profile.rollouts && inner.oracle.unfinished().is_empty();
        let done = universe.over() && ended && proven;
        // What the disk has lost or changed may keep rollouts from ending; their canaries must be without traffic.
        let excused = inner.oracle.lied || inner.oracle.flipped;
        if broken || done || (excused && now > universe.profile.storm + EXCUSED) {
            return;
        }
        if now > end {
            let unfinished: Vec<String> = inner.oracle.unfinished().iter().map(ToString::to_string).collect();
            let planned = universe.profile.rollouts;
            inner
                .oracle
                .blame("I9", format!("{begun} of {planned} rollouts began, not ended: {unfinished:?}"));
            return;
        }
    }
}

fn report(universe: &Universe) -> Report {
    let (trace, lines, effects) = universe.end();
    let inner = universe.inner();
    Report {
        seed: universe.seed,
        violation: inner.oracle.violation().map(ToOwned::to_owned),
        trace,
        lines,
        coverage: inner.coverage.clone(),
        records: inner.oracle.records(),
        effects,
        rollouts: inner.oracle.rollouts(),
        lasted: universe.now(),
    }
}
