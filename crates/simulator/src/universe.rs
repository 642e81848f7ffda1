//! Everything that the parts of one simulation share.
//!
//! Invariant: one thread runs it, tokio's paused clock is its time, and every chance comes from its seed; so the same seed gives the
//! same trace, byte for byte.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use delivery::rollout::RolloutPlan;
use delivery::{Recorded, RevisionId, RolloutId, ServiceName, Timestamp};
use rollout::state::State;
use sha2::{Digest as _, Sha256};
use store::Entry;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::coverage::Coverage;
use crate::dice::Dice;
use crate::fault::{Fault, Phase};
use crate::office;
use crate::oracle::{Oracle, Outside, UNDERWAY_MAX};
use crate::profile::Profile;
use crate::site::{Behaviour, Site};
use crate::vfs::Mounted;

/// The true time at which every simulation begins.
pub(crate) const BEGAN_SECOND: i64 = 1_800_000_000;

/// Calls to sites within one instant; more is a controller that spins.
const CALLS_MAX: u32 = 2_000;
/// Looks at the time within one instant; more is a controller that spins without asking anybody.
const CLOCK_READINGS_MAX: u32 = 50_000;
/// Records of one simulation; more is a controller that spins.
const RECORDS_MAX: u64 = 60_000;

/// One controller process, as the universe knows it.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// Its name on the disk, new with each start.
    pub(crate) name: String,
    /// It does nothing until then.
    pub(crate) asleep_until: Duration,
    /// Seconds that the next start's clock is off.
    pub(crate) clock_off: i64,
}

/// What is shared, behind one lock.
#[derive(Debug)]
pub(crate) struct Inner {
    /// The sites.
    pub(crate) sites: Vec<Site>,
    /// What must hold.
    pub(crate) oracle: Oracle,
    /// What was broken when.
    pub(crate) coverage: Coverage,
    /// Chances of the network and of the platforms' interfaces.
    pub(crate) dice: Dice,
    /// By controller.
    pub(crate) processes: Vec<Process>,
    /// Until when a controller can't reach a site.
    pub(crate) partitions: Vec<((usize, usize), Duration)>,
    /// Older readings by site, for late ones.
    pub(crate) readings: Vec<Vec<delivery::traffic::Sample>>,
    /// Holders of rollouts, with when their right ends.
    pub(crate) leases: Vec<(RolloutId, usize, Duration)>,
    trace: Sha256,
    lines: Vec<String>,
    effects: u64,
    /// Calls at the present instant.
    calls: Momentary,
    /// Looks at the time.
    clock_readings: Momentary,
}

/// A count that begins anew whenever time has passed.
#[derive(Debug, Default)]
struct Momentary {
    at: Duration,
    count: u32,
}

impl Momentary {
    /// One more at this time; gives how many there are.
    fn add(&mut self, now: Duration) -> u32 {
        if self.at != now {
            *self = Self { at: now, count: 0 };
        }
        self.count += 1;
        self.count
    }
}

/// A simulation's world.
#[derive(Debug)]
pub(crate) struct Universe {
    /// The seed of all of it.
    pub(crate) seed: u64,
    /// What goes wrong, and how often.
    pub(crate) profile: Profile,
    /// The machine's disk.
    pub(crate) disk: Mounted,
    /// Wakes those who wait for a controller's end.
    pub(crate) kills: Vec<Notify>,
    began: Instant,
    verbose: bool,
    inner: Mutex<Inner>,
}

impl Universe {
    /// A new world. With `verbose` the trace's lines are kept.
    pub(crate) fn new(
        seed: u64,
        profile: Profile,
        sites: Vec<Site>,
        disk: Mounted,
        verbose: bool,
    ) -> Arc<Self> {
        let controllers = profile.controllers;
        let inner = Inner {
            readings: vec![Vec::new(); sites.len()],
            sites,
            oracle: Oracle::default(),
            coverage: Coverage::default(),
            dice: Dice::of(seed, "network"),
            processes: (0..controllers).map(|_| Process::default()).collect(),
            partitions: Vec::new(),
            leases: Vec::new(),
            trace: Sha256::new(),
            lines: Vec::new(),
            effects: 0,
            calls: Momentary::default(),
            clock_readings: Momentary::default(),
        };
        Arc::new(Self {
            seed,
            profile,
            disk,
            kills: (0..controllers).map(|_| Notify::new()).collect(),
            began: Instant::now(),
            verbose,
            inner: Mutex::new(inner),
        })
    }

    /// The true time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The true time as a wall clock shows it.
    pub(crate) fn wall(&self) -> Timestamp {
        let began = Timestamp::from_second(BEGAN_SECOND).unwrap_or(Timestamp::UNIX_EPOCH);
        let elapsed = Duration::from_micros(self.now().as_micros() as u64);
        began.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    /// Whether this site can show that a good build gets through when nothing fails: it has enough traffic to judge by, and
    /// a renewal is there long before a grant ends.
    pub(crate) fn demanding(&self, site: usize) -> bool {
        self.profile.latency_ms < 100.0 && self.inner().sites[site].rate >= 800.0
    }

    /// Whether faults happen now.
    pub(crate) fn stormy(&self) -> bool {
        !self.over() && self.now() >= self.profile.dawn
    }

    /// Whether nothing fails any more.
    pub(crate) fn over(&self) -> bool {
        self.now() >= self.profile.storm
    }

    /// How much chaos longs to strike now, from 0 to 1: the more, the sooner a rollout's phase passes.
    pub(crate) fn lure(&self) -> f64 {
        if !self.stormy() {
            return 0.0;
        }
        let lure = |phase: Phase| phase.lure(self.profile.ambush);
        let phases = |state: &State| {
            state.rollouts_active().into_iter().filter_map(Phase::of).map(lure).fold(0.0, f64::max)
        };
        phases(&self.inner().oracle.state)
    }

    /// The same for a request about one rollout.
    pub(crate) fn lure_request(&self, rollout: &RolloutId) -> f64 {
        if !self.stormy() {
            return 0.0;
        }
        let phase = self.inner().oracle.state.rollouts.get(rollout).and_then(Phase::of);
        phase.map_or(0.0, |phase| phase.lure_requests(self.profile.ambush))
    }

    /// What is shared. Never held over an await.
    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line to the trace.
    pub(crate) fn tell(&self, line: impl FnOnce() -> String) {
        let now = self.now();
        self.inner().tell(now, self.verbose, line);
    }

    /// Checks what holds at every moment, after something happened.
    pub(crate) fn check(&self) {
        let now = self.now();
        let disk = self.disk.disk();
        let (flipped, lied, spun) = (disk.flipped(), disk.lied(), disk.spun());
        drop(disk);
        let mut inner = self.inner();
        let Inner { sites, oracle, readings, .. } = &mut *inner;
        oracle.flipped |= flipped;
        oracle.lied |= lied;
        if spun {
            oracle.blame("I9", "a controller spins at the ledger");
        }
        let mut lines = Vec::new();
        for (index, site) in sites.iter_mut().enumerate() {
            site.settle(now);
            for (at, happened) in site.take_happened() {
                oracle.happened(index, at, &happened);
                // An old reading that claims to be the first of a step can't be told from a true one: see the safety case.
                readings[index].clear();
                lines.push(format!("site {index}: {happened:?}"));
            }
        }
        oracle.watch(now, sites);
        inner.effects += lines.len() as u64;
        for line in lines {
            inner.tell(now, self.verbose, || line);
        }
    }

    /// Somebody read this part of the ledger.
    pub(crate) fn read_entries(&self, entries: Vec<Entry>) {
        let records = entries.into_iter().filter_map(|entry| match entry {
            Entry::Record(recorded) => Some(recorded),
            Entry::Quarantined { .. } => None,
        });
        self.read(&records.collect::<Vec<_>>());
    }

    /// Somebody read these records.
    pub(crate) fn read(&self, records: &[Recorded]) {
        let now = self.now();
        // Requests of the storm have arrived by then.
        let must_serve = now > self.profile.storm + UNDERWAY_MAX && self.profile.latency_ms < 100.0;
        let mut inner = self.inner();
        for recorded in records {
            let Inner { sites, oracle, .. } = &mut *inner;
            let place = |plan: &RolloutPlan| {
                let site = site_of(&plan.revision.service);
                let of = |revision: &RevisionId| behaviour_of(sites, site, revision);
                (site, of(&plan.revision.id), plan.stable.as_ref().map_or(Behaviour::GOOD, of))
            };
            let outside = Outside { now, sites, place: &place, author: office::AUTHOR, must_serve };
            if oracle.read(recorded, &outside) {
                assert!(recorded.sequence < RECORDS_MAX, "I9: a controller spins, and records it");
                inner.tell(now, self.verbose, || {
                    let event = serde_json::to_string(&recorded.event).unwrap_or_default();
                    format!("record {} at {} {event}", recorded.sequence, recorded.at)
                });
            }
        }
    }

    /// Counts a call to a site. Too many in one instant, or too many records, are a controller that spins: nothing would ever end.
    pub(crate) fn count_call(&self) -> bool {
        let now = self.now();
        let mut inner = self.inner();
        let spins = inner.calls.add(now) > CALLS_MAX;
        if spins {
            inner.oracle.blame("I9", "a controller spins");
        }
        spins
    }

    /// Counts a look at the time. Who spins on that alone never lets time pass, so nothing but a panic ends it.
    pub(crate) fn count_clock_reading(&self) {
        let readings = self.inner().clock_readings.add(self.now());
        assert!(readings <= CLOCK_READINGS_MAX, "I9: a controller spins on its clock");
    }

    /// Compares a live state with what the records add up to (I10).
    pub(crate) fn compare(&self, live: &State) {
        let mut inner = self.inner();
        let oracle = &mut inner.oracle;
        if !oracle.lied && !oracle.flipped && live.size == oracle.state.size && *live != oracle.state {
            oracle.blame("I10", format!("a live state differs from the replay at {} records", live.size));
        }
    }

    /// A fault struck everybody who was at work.
    pub(crate) fn strike(&self, fault: Fault) {
        let mut inner = self.inner();
        let Inner { oracle, coverage, .. } = &mut *inner;
        for phase in oracle.state.rollouts_active().into_iter().filter_map(Phase::of) {
            if fault.strikes_in(phase) {
                coverage.note(fault, phase);
            }
        }
        drop(inner);
        self.tell(|| format!("fault: {}", fault.name()));
    }

    /// A fault struck one rollout.
    pub(crate) fn strike_one(&self, fault: Fault, rollout: Option<&RolloutId>) {
        let mut inner = self.inner();
        let Inner { oracle, coverage, .. } = &mut *inner;
        let phase = rollout.and_then(|id| oracle.state.rollouts.get(id)).and_then(Phase::of);
        if let Some(phase) = phase.filter(|phase| fault.strikes_in(*phase)) {
            coverage.note(fault, phase);
        }
        drop(inner);
        self.tell(|| format!("fault: {}", fault.name()));
    }

    /// The trace's hash in hexadecimal, its lines where they were kept, and how many effects there were.
    pub(crate) fn end(&self) -> (String, Vec<String>, u64) {
        let mut inner = self.inner();
        let hash = inner.trace.clone().finalize();
        let hash = hex::encode(hash);
        (hash, std::mem::take(&mut inner.lines), inner.effects)
    }
}

impl Inner {
    fn tell(&mut self, now: Duration, verbose: bool, line: impl FnOnce() -> String) {
        let line = format!("{:>10.3} {}", now.as_secs_f64(), line());
        self.trace.update(line.as_bytes());
        self.trace.update(b"\n");
        if verbose {
            self.lines.push(line);
        }
    }
}

/// The site of a service: services are named after it.
pub(crate) fn site_of(service: &ServiceName) -> usize {
    service.as_str().rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn behaviour_of(sites: &[Site], site: usize, revision: &RevisionId) -> Behaviour {
    let known = sites.get(site).and_then(|site| site.behaviours.get(revision));
    known.copied().unwrap_or(Behaviour::GOOD)
}
