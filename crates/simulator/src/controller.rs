//! A controller process: it opens the ledger, looks for rollouts that nobody drives, and drives them with the real driver.
//!
//! All of its work is one future, so that a death at any await is dropping it and a pause is not polling it. Invariant: nothing of a
//! process outlives it but what it had under way on the network.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use delivery::RolloutId;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rollout::driver::{DriveError, Driver, Notice, Wish};
use rollout::follower::Follower;
use store::{Access, Committer, Ledger, Place};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use crate::clock::DriftingClock;
use crate::dice::Dice;
use crate::fault::Fault;
use crate::link::Link;
use crate::profile::Ambush;
use crate::universe::{Universe, site_of};
use crate::vfs;

/// The time between two looks for work.
const LOOK: Duration = Duration::from_millis(700);
/// More than one life of all others can record.
const RECORDS_READ: usize = 100_000;
/// A lease that is not renewed ends.
const LEASE: Duration = Duration::from_secs(4);
/// A live state is held against the replay once in so many records.
const COMPARED_ONE_IN: usize = 40;

/// Opens the machine's ledger as one process.
pub(crate) fn open(universe: &Universe, process: &str) -> Result<Ledger, store::Error> {
    let path = universe.disk.path(process, "ledger.db");
    let place = Place::VfsFile { vfs: vfs::NAME.to_owned(), path };
    let seed = Box::new(Dice::of(universe.seed, process));
    Ledger::open_seeded(&place, Access::ReadWrite, Committer::Caller, seed)
}

/// Starts the controller, and starts it again whenever it died, for ever.
pub(crate) async fn run(universe: Arc<Universe>, index: usize) {
    let mut dice = Dice::of(universe.seed, &format!("controller {index}"));
    let mut generation = 0_u32;
    loop {
        generation += 1;
        let name = format!("c{index}g{generation}");
        universe.inner().processes[index].name.clone_from(&name);
        universe.tell(|| format!("{name} starts"));
        let work = Pausable {
            universe: &universe,
            index,
            pause: None,
            work: Box::pin(live(&universe, index, &name, &mut dice)),
        };
        tokio::select! {
            biased;
            () = universe.kills[index].notified() => {}
            () = work => {}
        }
        universe.disk.disk().kill(&name);
        universe.tell(|| format!("{name} is gone"));
        let away_ms = if universe.profile.ambush == Ambush::Nowhere { 15_000.0 } else { 800.0 };
        let wait = dice.span(50.0, away_ms);
        sleep(if universe.over() { Duration::from_millis(200) } else { wait }).await;
    }
}

/// One life. Ends when the ledger can't be used.
async fn live(universe: &Arc<Universe>, index: usize, name: &str, dice: &mut Dice) {
    let Ok(ledger) = open(universe, name) else { return };
    // What somebody recorded who died before he could read it.
    let known = universe.inner().oracle.records();
    let Ok(news) = ledger.read(known, RECORDS_READ) else { return };
    universe.read_entries(news);
    let Ok(mut follower) = Follower::open(ledger) else { return };
    let clock = clock(universe, index, dice, &follower);
    let mut driven: Vec<RolloutId> = Vec::new();
    let mut drivers = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(ended) = drivers.next(), if !drivers.is_empty() => {
                let (id, end): (RolloutId, Result<_, DriveError>) = ended;
                driven.retain(|other| *other != id);
                universe.tell(|| format!("{name} ends driving {id}: {end:?}"));
            }
            () = sleep(LOOK) => {
                match follower.catch_up() {
                    Ok(news) => universe.read(&news),
                    Err(error) => return universe.tell(|| format!("{name} can't read: {error}")),
                }
                universe.check();
                for rollout in follower.state().rollouts_active() {
                    let id = &rollout.plan.id;
                    let may = holds_lease(universe, index, id);
                    if may && !driven.contains(id) {
                        driven.push(id.clone());
                        let site = site_of(&rollout.plan.revision.service);
                        let link = Link::new(Arc::clone(universe), index, name.to_owned(), site, id.clone());
                        let comparing = dice.clone();
                        drivers.push(drive(universe, follower.clone(), link, &clock, name, id.clone(), comparing));
                    }
                }
            }
        }
    }
}

fn clock(universe: &Arc<Universe>, index: usize, dice: &mut Dice, follower: &Follower) -> DriftingClock {
    let stormy = !universe.over() && universe.profile.clocks;
    let pace = if stormy { dice.between(0.92, 1.08) } else { 1.0 };
    let off = std::mem::take(&mut universe.inner().processes[index].clock_off);
    if stormy {
        universe.strike(Fault::ClockDrift);
    }
    match off {
        0 => {}
        1.. => universe.strike(Fault::ClockAhead),
        _ => universe.strike(Fault::ClockBehind),
    }
    DriftingClock::anchored(Arc::clone(universe), off, pace, follower.state().last_at)
}

/// Takes or renews the lease. Where leases are not respected, everybody has every lease while things go wrong.
/// (With nothing but fencing, two controllers could take a rollout from each other for ever.)
fn holds_lease(universe: &Universe, index: usize, rollout: &RolloutId) -> bool {
    if !universe.profile.leases && !universe.over() {
        return true;
    }
    let now = universe.now();
    let mut inner = universe.inner();
    let free = |holder: usize, until: Duration| holder == index || until <= now;
    match inner.leases.iter_mut().find(|(id, ..)| id == rollout) {
        Some((_, holder, until)) if free(*holder, *until) => {
            (*holder, *until) = (index, now + LEASE);
            true
        }
        Some(_) => false,
        None => {
            inner.leases.push((rollout.clone(), index, now + LEASE));
            true
        }
    }
}

async fn drive(
    universe: &Universe,
    mut follower: Follower,
    mut link: Link,
    clock: &DriftingClock,
    name: &str,
    id: RolloutId,
    mut dice: Dice,
) -> (RolloutId, Result<delivery::rollout::RolloutOutcome, DriveError>) {
    let lowered = link.lowered();
    let (_keep, wish) = watch::channel(Wish::Continue);
    let mut observe = |notice: Notice<'_>| {
        if let Notice::Recorded(recorded, state) = notice {
            universe.read(std::slice::from_ref(recorded));
            if dice.below(COMPARED_ONE_IN) == 0 {
                universe.compare(state);
            }
        }
    };
    let driver = Driver {
        follower: &mut follower,
        world: &mut link,
        clock,
        holder: name.to_owned(),
        wish,
        observe: &mut observe,
    };
    let end = driver.drive(&id).await;
    if matches!(end, Err(DriveError::Ledger(_))) && !lowered.load(Ordering::Relaxed) {
        universe
            .inner()
            .oracle
            .blame("I12", format!("the ledger failed, and the canary of {id} was left alone"));
    }
    (id, end)
}

/// Work that is not looked after while its process is asleep.
struct Pausable<'a> {
    universe: &'a Universe,
    index: usize,
    pause: Option<Pin<Box<Sleep>>>,
    work: Pin<Box<dyn Future<Output = ()> + 'a>>,
}

impl Future for Pausable<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let now = this.universe.now();
        let until = this.universe.inner().processes[this.index].asleep_until;
        if until > now {
            let pause = this.pause.get_or_insert_with(|| Box::pin(sleep(until.saturating_sub(now))));
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        this.pause = None;
        this.work.as_mut().poll(context)
    }
}
