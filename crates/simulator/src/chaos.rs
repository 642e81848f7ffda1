//! What strikes processes, machines, disks, sites and guards, one stroke after the other until the storm is over.
//!
//! Invariant: when the storm is over everything works again: power, disks, ways, clocks.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::dice::Dice;
use crate::disk::{Stop, Trouble};
use crate::fault::Fault;
use crate::universe::Universe;

/// One kind of stroke. Its place here is its place in a profile's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stroke {
    /// See [`Fault::ControllerKilled`].
    Kill,
    /// See [`Fault::ControllerKilledWriting`].
    KillWriting,
    /// See [`Fault::ControllerPaused`].
    Pause,
    /// See [`Fault::PowerCut`].
    PowerCut,
    /// See [`Fault::PowerCutWriting`].
    PowerCutWriting,
    /// See [`Fault::DiskReadError`].
    ReadError,
    /// See [`Fault::DiskWriteError`].
    WriteError,
    /// See [`Fault::DiskShortWrite`].
    ShortWrite,
    /// See [`Fault::DiskSyncError`].
    SyncError,
    /// See [`Fault::DiskFull`].
    Full,
    /// See [`Fault::DiskLyingSync`].
    LyingSync,
    /// See [`Fault::DiskBitFlip`].
    BitFlip,
    /// See [`Fault::Partitioned`].
    Partition,
    /// A controller is killed and starts with a wrong clock.
    Clock,
    /// See [`Fault::PlatformRestarted`].
    RestartPlatform,
    /// See [`Fault::GuardKilled`].
    KillGuard,
    /// See [`Fault::GuardPaused`].
    PauseGuard,
}

/// All of them.
pub(crate) const STROKES: [Stroke; 17] = [
    Stroke::Kill,
    Stroke::KillWriting,
    Stroke::Pause,
    Stroke::PowerCut,
    Stroke::PowerCutWriting,
    Stroke::ReadError,
    Stroke::WriteError,
    Stroke::ShortWrite,
    Stroke::SyncError,
    Stroke::Full,
    Stroke::LyingSync,
    Stroke::BitFlip,
    Stroke::Partition,
    Stroke::Clock,
    Stroke::RestartPlatform,
    Stroke::KillGuard,
    Stroke::PauseGuard,
];

/// Seconds in a year.
const YEAR: f64 = 31_557_600.0;
/// How often countdowns are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Probability, at each look, that chaos strikes what it lies in wait for.
const AMBUSH: f64 = 0.15;
/// The share of clocks, which are wrong in two ways, beside their part of all strokes.
const AMBUSH_CLOCK: f64 = 0.1;
/// A disk fails after so many operations at most.
const SOON: usize = 120;
/// The same for an ambush: before the phase has passed.
const SOON_AMBUSH: usize = 10;

/// Strikes until the storm is over, then mends everything.
pub(crate) async fn run(universe: Arc<Universe>) {
    let mut dice = Dice::of(universe.seed, "chaos");
    let mut next = universe.now() + pause(&universe, &mut dice);
    while !universe.over() {
        sleep(LOOK).await;
        watch(&universe, &mut dice).await;
        let lure = universe.lure() * AMBUSH;
        if dice.chance(lure) {
            let clock = dice.chance(AMBUSH_CLOCK);
            let stroke = if clock { Stroke::Clock } else { STROKES[dice.below(STROKES.len())] };
            strike(&universe, &mut dice, stroke, SOON_AMBUSH).await;
        }
        if universe.stormy() && universe.now() >= next {
            next = universe.now() + pause(&universe, &mut dice);
            if let Some(stroke) = draw(&universe, &mut dice) {
                strike(&universe, &mut dice, stroke, SOON).await;
            }
        }
    }
    universe.disk.disk().soothe();
    universe.inner().partitions.clear();
    universe.tell(|| "the storm is over".to_owned());
    // A machine that was stopped in the last moment is started.
    watch(&universe, &mut dice).await;
}

fn pause(universe: &Universe, dice: &mut Dice) -> Duration {
    Duration::from_millis((dice.between(0.2, 1.8) * universe.profile.pace_ms) as u64)
}

fn draw(universe: &Universe, dice: &mut Dice) -> Option<Stroke> {
    let weights = &universe.profile.strokes;
    let mut point = dice.between(0.0, weights.iter().sum());
    STROKES
        .into_iter()
        .zip(weights)
        .find(|(_, weight)| {
            point -= **weight;
            **weight > 0.0 && point <= 0.0
        })
        .map(|(stroke, _)| stroke)
}

/// Follows up on what the disk did by itself.
async fn watch(universe: &Universe, dice: &mut Dice) {
    let (happened, stopped) = {
        let mut disk = universe.disk.disk();
        disk.pass(universe.now());
        (disk.take_happened(), disk.take_stopped())
    };
    for fault in happened {
        universe.strike(fault);
    }
    for stop in stopped {
        match stop {
            Stop::Process(process) => {
                universe.strike(Fault::ControllerKilledWriting);
                let index = universe.inner().processes.iter().position(|known| known.name == process);
                if let Some(index) = index {
                    universe.kills[index].notify_one();
                }
            }
            Stop::Power => {
                universe.strike(Fault::PowerCutWriting);
                outage(universe, dice).await;
            }
        }
    }
    universe.check();
}

/// The machine is off for a while, and starts with what its disk has kept.
async fn outage(universe: &Universe, dice: &mut Dice) {
    universe.disk.disk().power_off();
    universe.kills.iter().for_each(tokio::sync::Notify::notify_one);
    sleep(dice.span(100.0, 20_000.0)).await;
    universe.disk.disk().power_on();
    universe.tell(|| "the power is back".to_owned());
    let torn = universe.disk.disk().take_happened();
    torn.into_iter().for_each(|fault| universe.strike(fault));
}

async fn strike(universe: &Universe, dice: &mut Dice, stroke: Stroke, soon: usize) {
    let now = universe.now();
    let controller = dice.below(universe.profile.controllers);
    let site = dice.below(universe.profile.sites);
    let soon = dice.below(soon) as u32;
    let arm = |trouble: Trouble| universe.disk.disk().trouble(trouble);
    match stroke {
        Stroke::Kill => {
            universe.strike(Fault::ControllerKilled);
            universe.kills[controller].notify_one();
        }
        Stroke::KillWriting => {
            let process = universe.inner().processes[controller].name.clone();
            universe.disk.disk().stop_after(soon, Stop::Process(process));
        }
        Stroke::Pause => {
            universe.strike(Fault::ControllerPaused);
            universe.inner().processes[controller].asleep_until = now + dice.span(500.0, 600_000.0);
        }
        Stroke::PowerCut => {
            universe.strike(Fault::PowerCut);
            outage(universe, dice).await;
        }
        Stroke::PowerCutWriting => universe.disk.disk().stop_after(soon, Stop::Power),
        Stroke::ReadError => arm(Trouble::ReadError(soon)),
        Stroke::WriteError => arm(Trouble::WriteError(soon / 4)),
        Stroke::ShortWrite => arm(Trouble::ShortWrite(soon / 4)),
        Stroke::SyncError => arm(Trouble::SyncError(soon / 8)),
        Stroke::Full => last(universe, dice, Trouble::Full),
        Stroke::LyingSync => last(universe, dice, Trouble::LyingSync),
        Stroke::BitFlip => arm(Trouble::BitFlip),
        Stroke::Partition => {
            universe.strike(Fault::Partitioned);
            let until = now + dice.span(500.0, 60_000.0);
            universe.inner().partitions.push(((controller, site), until));
        }
        Stroke::Clock => {
            let off = dice.span(1_000.0, YEAR * 1_000.0).as_secs() as i64;
            let off = if dice.chance(0.5) { off } else { -off };
            universe.inner().processes[controller].clock_off = off;
            universe.kills[controller].notify_one();
        }
        Stroke::RestartPlatform => {
            universe.strike(Fault::PlatformRestarted);
            let length = dice.span(50.0, 10_000.0);
            let mut inner = universe.inner();
            inner.sites[site].restart(now, length);
            inner.oracle.disturbed(site, now + length);
        }
        Stroke::KillGuard | Stroke::PauseGuard => {
            let killed = stroke == Stroke::KillGuard;
            universe.strike(if killed { Fault::GuardKilled } else { Fault::GuardPaused });
            let length = dice.span(200.0, 60_000.0);
            let mut inner = universe.inner();
            let guard = dice.below(inner.sites[site].guards());
            inner.sites[site].disturb_guard(now, guard, length, killed);
            inner.oracle.disturbed(site, now + length);
        }
    }
}

/// Something that lasts a while.
fn last(universe: &Universe, dice: &mut Dice, trouble: Trouble) {
    universe.disk.disk().trouble_until(trouble, universe.now() + dice.span(200.0, 20_000.0));
}
