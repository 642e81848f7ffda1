//! `figures kill9`: the controller is killed with SIGKILL at random points of real rollouts, and another goes on.
//!
//! A third of the kills strike at a uniformly random time, a third within milliseconds after a commit to the ledger, a third
//! within milliseconds after the edge saved its state, which is between doing an effect and answering it. A quarter of the
//! controllers that go on are killed too; some start so late that the edge's grant has run out; some are `trimtab server`.
//! Leaves out killing the edge (`platform`'s tests) and power cuts. Invariant: only kills that hit a rollout under way
//! count as rounds; every round is judged, hit or not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::rollout::{RollbackCause, RolloutOutcome};
use delivery::{Event, RolloutId};

use super::dice::Dice;
use super::evidence::{Faults, Record, examine};
use super::process::{self, Running};
use super::report::{Figure, Report};
use super::shop::{Build, PATIENCE, Shop, load_counts};
use super::strike::{self, Aim, Course};
use crate::lanes;

const MANIFEST: &str = include_str!("shop/kill9.toml");
/// Requests a second in each lane.
const RATE: u32 = 150;
/// Longer than the manifest's grant.
const GRANT_GONE: Duration = Duration::from_millis(2_300);

/// What is run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The binary under test.
    pub(crate) program: Utf8PathBuf,
    /// A folder for repositories, on the disk that is meant.
    pub(crate) folder: Utf8PathBuf,
    /// Kills that hit a rollout under way.
    pub(crate) rounds: u32,
    /// Repositories at work at the same time.
    pub(crate) lanes: u32,
    /// Chooses where to strike.
    pub(crate) seed: u64,
}

/// What came of a lane.
#[derive(Debug, Default)]
struct Tally {
    hits: u32,
    misses: u32,
    kills: u32,
    records: u64,
    effects: u64,
    /// Lines that controllers told, each of a durable record.
    told: u64,
    /// Rollouts that were seen at a raised weight, by asking the edge.
    watched: u64,
    faults: Faults,
    /// The last record before each hit.
    places: BTreeMap<String, u32>,
    /// How rollouts ended.
    ends: BTreeMap<String, u32>,
    /// Endings that break no promise, but are not what the build deserved.
    unexpected: Vec<String>,
    requests: u64,
    failures: u64,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<Report, String> {
    let started = process::now();
    let mut sum = Tally::default();
    lanes::run(options.rounds, options.lanes, |lane, rounds| Lane::run(options, lane, rounds))?
        .into_iter()
        .for_each(|tally| sum.add(tally));
    Ok(sum.report(started.elapsed()))
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.kills += other.kills;
        self.records += other.records;
        self.effects += other.effects;
        self.told += other.told;
        self.watched += other.watched;
        self.requests += other.requests;
        self.failures += other.failures;
        self.faults.add(other.faults);
        self.unexpected.extend(other.unexpected);
        other.places.into_iter().for_each(|(place, n)| *self.places.entry(place).or_default() += n);
        other.ends.into_iter().for_each(|(end, n)| *self.ends.entry(end).or_default() += n);
    }

    fn report(&self, took: Duration) -> Report {
        let count = |list: &[String]| list.len() as f64;
        let mut report = Report::new(vec![
            Figure::new("kill9.rounds", f64::from(self.hits), "kills during a rollout"),
            Figure::new("kill9.kills", f64::from(self.kills), "kills in all"),
            Figure::new("kill9.lost", count(&self.faults.lost), "records or effects").at_most(0.0),
            Figure::new("kill9.duplicates", count(&self.faults.duplicate), "effects or records").at_most(0.0),
            Figure::new("kill9.stuck", count(&self.faults.stuck), "rollouts or processes").at_most(0.0),
            Figure::new("kill9.above-plan", count(&self.faults.above), "weights").at_most(0.0),
            Figure::new("kill9.records", self.records as f64, "ledger records judged"),
            Figure::new("kill9.effects", self.effects as f64, "journalled effects judged"),
            Figure::new("kill9.told", self.told as f64, "acknowledged records looked for"),
            Figure::new("kill9.watched", self.watched as f64, "rollouts seen at a raised weight"),
            Figure::new("kill9.requests", self.requests as f64, "user requests meanwhile"),
            Figure::new("kill9.time", took.as_secs_f64(), "s"),
        ]);
        self.faults.all().for_each(|fault| report.remark(format!("fault: {fault}")));
        let list = |counts: &BTreeMap<String, u32>| {
            counts.iter().map(|(what, n)| format!("{n} {what}")).collect::<Vec<_>>().join(", ")
        };
        self.unexpected.iter().for_each(|words| report.remark(format!("unexpected: {words}")));
        report.remark(format!("last record before the kill: {}", list(&self.places)));
        report.remark(format!("rollouts ended: {}", list(&self.ends)));
        report.remark(format!("{} kills came before or after the rollout", self.misses));
        report
    }
}

/// One repository at work.
struct Lane<'a> {
    options: &'a Options,
    shop: Arc<Shop>,
    dice: Dice,
    tally: Tally,
    builds: u64,
    /// Good, bad.
    courses: [Course; 2],
}

impl<'a> Lane<'a> {
    fn run(options: &'a Options, number: u32, rounds: u32) -> Result<Tally, String> {
        let folder = options.folder.join(format!("lane{number}"));
        let mut lane = Self {
            options,
            shop: Arc::new(Shop::create(&options.program, &folder, MANIFEST)?),
            dice: Dice::new(options.seed, u64::from(number)),
            tally: Tally::default(),
            builds: 0,
            courses: [Course::default(); 2],
        };
        let result = lane.work(rounds);
        // Whatever happened, nothing of ours is left running.
        let left = lane.shop.down()?;
        result?;
        if !left.is_empty() {
            lane.tally.faults.stuck.push(format!("processes {left:?} are left over at the end"));
        }
        Ok(lane.tally)
    }

    fn work(&mut self, rounds: u32) -> Result<(), String> {
        self.build(false)?;
        match self.shop.ship()? {
            Some(0) => {}
            code => {
                return Err(format!("the first deployment ended with {code:?}: see {}", self.options.folder));
            }
        }
        let mut load = self.shop.load(RATE)?;
        for bad in [false, true] {
            self.build(bad)?;
            self.courses[usize::from(bad)] = Course::of(&self.shop)?;
        }
        let most = rounds * 3 + 10;
        let mut round = 0;
        while self.tally.hits < rounds && round < most {
            self.round(round)?;
            round += 1;
        }
        load.interrupt()?;
        (self.tally.requests, self.tally.failures) = load_counts(&load)?;
        if self.tally.hits < rounds {
            return Err(format!("only {} of {round} kills hit a rollout", self.tally.hits));
        }
        Ok(())
    }

    fn build(&mut self, bad: bool) -> Result<(), String> {
        self.builds += 1;
        let name = format!("{}{}", if bad { "bad" } else { "good" }, self.builds);
        let errors = if bad { 0.5 } else { 0.001 };
        self.shop.commit(&Build { name, errors, seed: self.builds })
    }

    /// Waits for the point and kills; false when the program ended before.
    fn strike(&self, running: &mut Running, aim: Aim) -> Result<bool, String> {
        if strike::reach(&self.shop, running, aim)? { running.kill() } else { Ok(false) }
    }

    fn round(&mut self, round: u32) -> Result<(), String> {
        let bad = round % 2 == 1;
        self.build(bad)?;
        let base = self.shop.records(0)?.last().map_or(0, |record| record.sequence);
        let journal_base = self.shop.journal(0)?.last().map_or(0, |entry| entry.number);
        let seen = Mutex::new(BTreeMap::new());
        let done = AtomicBool::new(false);
        let shop = Arc::clone(&self.shop);
        let result = std::thread::scope(|scope| {
            scope.spawn(|| watch(&shop, &seen, &done));
            let result = self.torture(bad, base);
            done.store(true, Ordering::Relaxed);
            result
        });
        let mut faults = result?;
        let (records, journal) = (self.shop.records(base)?, self.shop.journal(journal_base)?);
        let seen = seen.into_inner().unwrap_or_default();
        faults.add(examine((base, &records), (journal_base, &journal), &seen));
        self.settled(&mut faults)?;
        self.tally.records += records.len() as u64;
        self.tally.effects += journal.len() as u64;
        self.tally.watched += seen.len() as u64;
        self.count_ends(bad, &records);
        let number = round + 1;
        for fault in faults.all() {
            eprintln!("{} round {number}: {fault}", self.options.folder);
        }
        self.tally.faults.add(faults);
        Ok(())
    }

    /// Ships, kills, goes on to the end; gives what the controllers had promised and did not keep.
    fn torture(&mut self, bad: bool, base: u64) -> Result<Faults, String> {
        let mut faults = Faults::default();
        let course = self.courses[usize::from(bad)];
        let aim = Aim::draw(&mut self.dice, course);
        let mut first = self.shop.start(&["ship"], "ship-first")?;
        let killed = self.strike(&mut first, aim)?;
        let at_kill = self.shop.records(base)?;
        self.tally.told += acknowledged(&first.talk, &at_kill, &mut faults)?;
        self.count_hit(killed, &at_kill);
        if self.dice.chance(0.25) {
            std::thread::sleep(GRANT_GONE);
        }
        if self.dice.chance(0.25) {
            let aim = Aim::After(self.dice.time(Duration::ZERO, course.whole));
            let mut second = self.shop.start(&["ship", "--again"], "ship-second")?;
            self.tally.kills += u32::from(self.strike(&mut second, aim)?);
            let records = self.shop.records(base)?;
            self.tally.told += acknowledged(&second.talk, &records, &mut faults)?;
        }
        if self.dice.chance(0.2) && self.shop.rollouts_active()? > 0 {
            self.serve(&mut faults)?;
        }
        let mut last = self.shop.start(&["ship", "--again"], "ship-last")?;
        match last.wait(PATIENCE)?.map(|status| status.code()) {
            None => faults.stuck.push("the controller that goes on does not end".into()),
            Some(code) if code == Some(if bad { 6 } else { 0 }) => {}
            Some(code) => {
                let talk = std::fs::read_to_string(&last.talk).unwrap_or_default();
                self.tally.unexpected.push(format!("bad {bad}: ship --again ended with {code:?}: {talk}"));
            }
        }
        let records = self.shop.records(base)?;
        self.tally.told += acknowledged(&last.talk, &records, &mut faults)?;
        if !records.starts_with(&at_kill) {
            faults.lost.push(format!("what was recorded at the kill, after {base}, is not there any more"));
        }
        Ok(faults)
    }

    /// Lets `trimtab server` go on with what was left behind.
    fn serve(&self, faults: &mut Faults) -> Result<(), String> {
        let mut server = self.shop.start(&["server", "--listen", "127.0.0.1:0"], "server")?;
        while self.shop.rollouts_active()? > 0 {
            if server.started.elapsed() > PATIENCE {
                faults.stuck.push("a server does not bring a rollout to its end".into());
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        server.kill().map(|_| ())
    }

    /// Counts a kill by where it struck.
    fn count_hit(&mut self, killed: bool, records: &[Record]) {
        self.tally.kills += u32::from(killed);
        let planned = records.iter().any(|record| matches!(record.event, Event::RolloutPlanned { .. }));
        let finished = records.iter().any(|record| matches!(record.event, Event::RolloutFinished { .. }));
        if !killed || !planned || finished {
            self.tally.misses += 1;
            return;
        }
        self.tally.hits += 1;
        let place = strike::place(records);
        *self.tally.places.entry(place.to_owned()).or_default() += 1;
    }

    /// The world after a round: nothing under way, no canary, a sound ledger, one edge with one instance.
    fn settled(&self, faults: &mut Faults) -> Result<(), String> {
        let active = self.shop.rollouts_active()?;
        if active > 0 {
            faults.stuck.push(format!("{active} rollouts are under way after the round"));
        }
        if !self.shop.sound()? {
            faults.lost.push("the ledger does not verify".into());
        }
        match self.shop.edge() {
            None => faults.stuck.push("the edge does not answer after the round".into()),
            Some(edge) => {
                if edge.weight > 0 {
                    faults.above.push(format!("the edge is left at weight {}", edge.weight));
                }
                if edge.roles != ["stable"] {
                    faults.stuck.push(format!("the edge is left with {:?}", edge.roles));
                }
            }
        }
        Ok(())
    }

    fn count_ends(&mut self, bad: bool, records: &[Record]) {
        let build = if bad { "bad" } else { "good" };
        for record in records {
            if let Event::RolloutFinished { rollout, outcome } = &record.event {
                let end = match outcome {
                    RolloutOutcome::Completed => "completed",
                    RolloutOutcome::RolledBack => cause_of(rollout, records),
                };
                *self.tally.ends.entry(format!("{build} {end}")).or_default() += 1;
            }
        }
    }
}

/// Why a rollout was first to be taken back, in a few words.
fn cause_of(id: &RolloutId, records: &[Record]) -> &'static str {
    let cause = records.iter().find_map(|record| match &record.event {
        Event::RollbackRequested { rollout, cause } if rollout == id => Some(cause),
        _ => None,
    });
    match cause {
        Some(RollbackCause::Harm { .. }) => "taken back for harm",
        Some(RollbackCause::GrantExpired) => "taken back after its grant ran out",
        Some(RollbackCause::Inconclusive { .. }) => "taken back without evidence",
        Some(RollbackCause::PlatformRefused { .. }) => "taken back after a refusal",
        Some(RollbackCause::StartFailed { .. }) => "taken back after it did not start",
        Some(RollbackCause::Requested { .. }) => "taken back by a person",
        None => "taken back",
    }
}

/// Checks that every line a controller told, which it does only for what is durable, has its record.
fn acknowledged(talk: &Utf8Path, records: &[Record], faults: &mut Faults) -> Result<u64, String> {
    let talk = std::fs::read_to_string(talk).map_err(|error| format!("{talk}: {error}"))?;
    let mut recorded: BTreeMap<String, u32> = BTreeMap::new();
    for record in records {
        *recorded.entry(record.at.strftime("%H:%M:%S%.3f").to_string()).or_default() += 1;
    }
    let mut count = 0;
    let told = talk.lines().filter_map(|line| line.split_once("  "));
    for (stamp, words) in told.filter(|(stamp, _)| stamp.len() == 12 && stamp.as_bytes()[2] == b':') {
        count += 1;
        match recorded.get_mut(stamp) {
            Some(count) if *count > 0 => *count -= 1,
            _ => faults.lost.push(format!("told, but not recorded: {stamp} {words}")),
        }
    }
    Ok(count)
}

/// Notes the highest weight in force for each rollout, as the edge itself says.
fn watch(shop: &Shop, seen: &Mutex<BTreeMap<String, u16>>, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        if let Some(edge) = shop.edge()
            && let Some(rollout) = edge.rollout
            && let Ok(mut seen) = seen.lock()
        {
            let highest = seen.entry(rollout).or_default();
            *highest = edge.weight.max(*highest);
        }
        std::thread::sleep(Duration::from_millis(15));
    }
}
