//! `cargo xtask leader`: controllers are stopped (SIGSTOP) for longer than their lease lives, another takes over, and then they go on (SIGCONT).
//!
//! A real PostgreSQL holds ledger and leases; two `trimtab server` replicas and one `trimtab ship` after another work on it, with a real
//! edge and real requests. What counts is what the edge's own journal says: an effect of an older generation after one of a newer, or
//! of a stopped controller after it went on, is a stale effect.
//!
//! Two nets must hold. Mostly the controller hears that its lease is lost before it does anything. In a third of the rollouts the first
//! one is deaf: it believes in its lease for minutes, and the lease is taken from it in the database. Then only the ledger's and the edge's
//! generations are left, and the edge must refuse whatever comes after the next generation's first word.
//!
//! Left out: clocks that differ (all is on one machine), and kills (`kill9`). Invariant: only stops of a controller that held the
//! lease of a rollout under way, and that another took over from, count as rounds.

use std::collections::BTreeMap;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::clock::{Clock as _, SteadyClock};
use delivery::{Event, Timestamp};
use testbed::PostgresServer;

use super::dice::Dice;
use super::evidence::{Entry, Faults, Record, examine};
use super::process::{self, Running};
use super::report::{Figure, Report};
use super::shop::{Build, PATIENCE, Shop, load_counts};
use crate::lanes;

const MANIFEST: &str = include_str!("shop/leader.toml");
/// Requests a second in each lane.
const RATE: u32 = 150;
/// How long a lease lives here. The edge's grant lives much longer, so that a rollout goes on after a take-over.
const LEASE_MS: u64 = 1_500;
/// How long a deaf controller's does.
const DEAF_MS: u64 = 600_000;
/// How long a take-over may take: the lease, a server's period, and a busy machine.
const TAKE_OVER: Duration = Duration::from_secs(40);

/// What is run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The binary under test.
    pub(crate) program: Utf8PathBuf,
    /// A folder for repositories, on the disk that is meant.
    pub(crate) folder: Utf8PathBuf,
    /// Stops that count.
    pub(crate) rounds: u32,
    /// Repositories at work at the same time.
    pub(crate) lanes: u32,
    /// Chooses when to stop.
    pub(crate) seed: u64,
    /// No further rollout is begun after this long, however many rounds there were.
    pub(crate) most: Duration,
}

/// What came of a lane.
#[derive(Debug, Default)]
struct Tally {
    rounds: u32,
    /// Of them, with a controller that believed in its lease.
    deaf: u32,
    misses: u32,
    stale: Vec<String>,
    faults: Faults,
    effects: u64,
    requests: u64,
    failures: u64,
    /// How controllers that were stopped ended their work.
    ends: BTreeMap<&'static str, u32>,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<Report, String> {
    let started = process::now();
    let server = PostgresServer::start()?;
    let mut sum = Tally::default();
    lanes::run(options.rounds, options.lanes, |lane, rounds| Lane::run(options, &server, lane, rounds))?
        .into_iter()
        .for_each(|tally| sum.add(tally));
    Ok(sum.report(started.elapsed()))
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.rounds += other.rounds;
        self.deaf += other.deaf;
        self.misses += other.misses;
        self.effects += other.effects;
        self.requests += other.requests;
        self.failures += other.failures;
        self.stale.extend(other.stale);
        self.faults.add(other.faults);
        other.ends.into_iter().for_each(|(end, n)| *self.ends.entry(end).or_default() += n);
    }

    fn report(&self, took: Duration) -> Report {
        let count = |list: &[String]| list.len() as f64;
        let mut report = Report::new(vec![
            Figure::new("leader.rounds", f64::from(self.rounds), "stopped holders that were taken over from"),
            Figure::new("leader.deaf", f64::from(self.deaf), "of them that believed in their lease"),
            Figure::new("leader.stale", count(&self.stale), "effects of a stale holder").at_most(0.0),
            Figure::new("leader.lost", count(&self.faults.lost), "records or effects").at_most(0.0),
            Figure::new("leader.duplicates", count(&self.faults.duplicate), "effects or records")
                .at_most(0.0),
            Figure::new("leader.stuck", count(&self.faults.stuck), "rollouts or processes").at_most(0.0),
            Figure::new("leader.above-plan", count(&self.faults.above), "weights").at_most(0.0),
            Figure::new("leader.effects", self.effects as f64, "journalled effects judged"),
            Figure::new("leader.requests", self.requests as f64, "user requests meanwhile"),
            Figure::new("leader.failures", self.failures as f64, "of them failed"),
            Figure::new("leader.time", took.as_secs_f64(), "s"),
        ]);
        self.stale.iter().chain(self.faults.all()).for_each(|fault| report.remark(format!("fault: {fault}")));
        let ends: Vec<String> = self.ends.iter().map(|(end, n)| format!("{n} {end}")).collect();
        report.remark(format!("stopped controllers, when they went on: {}", ends.join(", ")));
        report.remark(format!("{} stops came before or after the rollout", self.misses));
        report
    }
}

/// A controller that was stopped.
#[derive(Debug, Clone)]
struct Stopped {
    process: u32,
    epoch: u64,
    /// Whether it believes in its lease when it goes on.
    deaf: bool,
    /// When it went on.
    continued: Option<Timestamp>,
}

/// One repository at work.
struct Lane<'a> {
    options: &'a Options,
    server: &'a PostgresServer,
    schema: String,
    shop: Shop,
    dice: Dice,
    tally: Tally,
    builds: u64,
}

impl<'a> Lane<'a> {
    fn run(
        options: &'a Options,
        server: &'a PostgresServer,
        number: u32,
        rounds: u32,
    ) -> Result<Tally, String> {
        let folder = options.folder.join(format!("lane{number}"));
        let schema = format!("lane{number}");
        server.sql(&format!("CREATE SCHEMA {schema}"))?;
        let manifest = MANIFEST.replace("@LEDGER@", &server.address(&schema));
        let program = program(&options.program, &folder)?;
        let mut lane = Self {
            options,
            server,
            schema,
            shop: Shop::create(&program, &folder, &manifest)?,
            dice: Dice::new(options.seed, u64::from(number)),
            tally: Tally::default(),
            builds: 0,
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
        let begun = process::now();
        self.build()?;
        match self.shop.ship()? {
            Some(0) => {}
            code => {
                return Err(format!("the first deployment ended with {code:?}: see {}", self.options.folder));
            }
        }
        let mut load = self.shop.load(RATE)?;
        let mut servers = [self.server("server-a")?, self.server("server-b")?];
        let most = rounds * 3 + 10;
        let mut rollouts = 0;
        while self.tally.rounds < rounds && rollouts < most && begun.elapsed() < self.options.most {
            self.rollout()?;
            rollouts += 1;
            // Without one of them nobody takes over from the other, and each round would take minutes to say so.
            for server in &mut servers {
                if server.ended()?.is_some() {
                    return Err(format!("a server has ended by itself: see {}", server.talk));
                }
            }
        }
        for server in &mut servers {
            server.interrupt()?;
            let talk = std::fs::read_to_string(&server.talk).unwrap_or_default();
            let lost = talk.matches("the lease for rollout").count() as u32;
            *self.tally.ends.entry("heard that the lease was lost").or_default() += lost;
            let fenced = talk.matches("has taken over").count() as u32;
            *self.tally.ends.entry("were fenced").or_default() += fenced;
        }
        load.interrupt()?;
        (self.tally.requests, self.tally.failures) = load_counts(&load)?;
        if self.tally.rounds < rounds && begun.elapsed() < self.options.most {
            return Err(format!("only {} rounds in {rollouts} rollouts", self.tally.rounds));
        }
        Ok(())
    }

    fn server(&self, name: &str) -> Result<Running, String> {
        self.shop.start(&["server", "--listen", "127.0.0.1:0"], name)
    }

    /// How long the leases of controllers that are started from now on live.
    fn lease_ms(&self, ms: u64) -> Result<(), String> {
        write_lease_ms(&self.options.folder.join(&self.schema), ms)
    }

    fn build(&mut self) -> Result<(), String> {
        self.builds += 1;
        self.shop.commit(&Build { name: format!("good{}", self.builds), errors: 0.001, seed: self.builds })
    }

    /// One rollout whose holders are stopped, and what is to be said of it.
    fn rollout(&mut self) -> Result<(), String> {
        self.build()?;
        let base = self.shop.records(0)?.last().map_or(0, |record| record.sequence);
        let journal_base = self.shop.journal(0)?.last().map_or(0, |entry| entry.number);
        let deaf = self.dice.chance(1.0 / 3.0);
        self.lease_ms(if deaf { DEAF_MS } else { LEASE_MS })?;
        let mut ship = self.shop.start(&["ship"], "ship")?;
        let stopped = self.torture(&mut ship, base, deaf);
        self.lease_ms(LEASE_MS)?;
        // Nobody stays stopped, whatever failed.
        let stopped = stopped?;
        let mut faults = Faults::default();
        self.conclude(&mut ship, &mut faults)?;
        let (records, journal) = (self.shop.records(base)?, self.shop.journal(journal_base)?);
        faults.add(examine((base, &records), (journal_base, &journal), &BTreeMap::new()));
        if !self.shop.sound()? {
            faults.lost.push("the ledger does not verify".into());
        }
        let stale = stale(&journal, &stopped);
        self.tally.effects += journal.len() as u64;
        for fault in stale.iter().chain(faults.all()) {
            eprintln!("{} after {} rounds: {fault}", self.options.folder, self.tally.rounds);
        }
        self.tally.stale.extend(stale);
        self.tally.faults.add(faults);
        Ok(())
    }

    /// Stops holders and lets them go on again.
    fn torture(&mut self, ship: &mut Running, base: u64, deaf: bool) -> Result<Vec<Stopped>, String> {
        let mut stopped: Vec<Stopped> = Vec::new();
        if !self.reach(ship)? {
            self.tally.misses += 1;
            return Ok(stopped);
        }
        let deaf = deaf.then(|| ship.id());
        let result = self.stop_holders(base, deaf, &mut stopped);
        for holder in &mut stopped {
            if holder.continued.is_none() {
                std::thread::sleep(self.dice.time(Duration::ZERO, Duration::from_millis(400)));
                // Read before, so that nothing that it does afterwards can look earlier.
                let now = SteadyClock::anchored(None).now();
                signal(holder.process, "-CONT")?;
                holder.continued = Some(now);
            }
        }
        result.map(|()| stopped)
    }

    /// Waits until the edge has saved its state a few times since the ship began, so that its rollout is somewhere under way.
    fn reach(&mut self, ship: &mut Running) -> Result<bool, String> {
        let saves = self.dice.count(6);
        let delay = self.dice.time(Duration::ZERO, Duration::from_millis(120));
        let (mut mark, mut seen) = (self.shop.edge_mark(), 0);
        while seen < saves {
            if ship.ended()?.is_some() || ship.started.elapsed() > PATIENCE {
                return Ok(false);
            }
            let now = self.shop.edge_mark();
            seen += u32::from(now != mark);
            mark = now;
            std::thread::sleep(process::GLANCE);
        }
        std::thread::sleep(delay);
        Ok(ship.ended()?.is_none())
    }

    fn stop_holders(
        &mut self,
        base: u64,
        deaf: Option<u32>,
        stopped: &mut Vec<Stopped>,
    ) -> Result<(), String> {
        // A second holder can be stopped too: one server is left to take over.
        let wanted = if self.dice.chance(0.5) { 2 } else { 1 };
        while stopped.len() < wanted {
            let Some((epoch, process)) = holder(&self.shop.records(base)?) else { break };
            if stopped.iter().any(|other| other.process == process) {
                break;
            }
            signal(process, "-STOP")?;
            let deaf = deaf == Some(process);
            stopped.push(Stopped { process, epoch, deaf, continued: None });
            if deaf {
                self.server.sql(&format!(
                    "UPDATE {}.trimtab_lease SET expires_at = clock_timestamp()",
                    self.schema
                ))?;
            }
            match self.taken_over(base, epoch)? {
                Some(true) => {
                    self.tally.rounds += 1;
                    self.tally.deaf += u32::from(deaf);
                }
                // It had just ended.
                Some(false) => {
                    self.tally.misses += 1;
                    break;
                }
                None => {
                    let words = format!("nobody took over from process {process} (generation {epoch})");
                    self.tally.faults.stuck.push(words);
                    break;
                }
            }
            std::thread::sleep(self.dice.time(Duration::ZERO, Duration::from_millis(400)));
        }
        Ok(())
    }

    /// Whether another controller has a higher generation of the rollout; false when it is over.
    fn taken_over(&self, base: u64, epoch: u64) -> Result<Option<bool>, String> {
        let deadline = process::now() + TAKE_OVER;
        while process::now() < deadline {
            let records = self.shop.records(base)?;
            let higher = |record: &Record| match &record.event {
                Event::RolloutAcquired { epoch: found, .. } => *found > epoch,
                _ => false,
            };
            if records.iter().any(higher) {
                return Ok(Some(true));
            }
            if records.iter().any(|record| matches!(record.event, Event::RolloutFinished { .. })) {
                return Ok(Some(false));
            }
            std::thread::sleep(Duration::from_millis(40));
        }
        Ok(None)
    }

    /// Waits for the end of the rollout and of the ship.
    fn conclude(&mut self, ship: &mut Running, faults: &mut Faults) -> Result<(), String> {
        let Some(status) = ship.wait(PATIENCE)? else {
            faults.stuck.push("a ship does not end".into());
            return Ok(());
        };
        let talk = std::fs::read_to_string(&ship.talk).unwrap_or_default();
        let end = match status.code() {
            Some(0) => "ended well",
            _ if talk.contains("the lease for rollout") => "heard that the lease was lost",
            _ if talk.contains("has taken over") => "were fenced",
            _ => "ended otherwise",
        };
        if end == "ended otherwise" {
            eprintln!("ship ended with {status}: {talk}");
        }
        *self.tally.ends.entry(end).or_default() += 1;
        let deadline = process::now() + PATIENCE;
        while self.shop.rollouts_active()? > 0 {
            if process::now() > deadline {
                faults.stuck.push("a rollout does not end".into());
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// The binary with a short lease, as a program of its own in the folder.
fn program(program: &Utf8Path, folder: &Utf8Path) -> Result<Utf8PathBuf, String> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join("trimtab");
    let text = format!("#!/bin/sh\nTRIMTAB_LEASE_TTL_MS=$(cat {folder}/lease-ms) exec {program} \"$@\"\n");
    std::fs::create_dir_all(folder).map_err(|error| format!("{folder}: {error}"))?;
    write_lease_ms(folder, LEASE_MS)?;
    let written = std::fs::write(&path, text)
        .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)));
    written.map(|()| path.clone()).map_err(|error| format!("{path}: {error}"))
}

fn write_lease_ms(folder: &Utf8Path, ms: u64) -> Result<(), String> {
    std::fs::write(folder.join("lease-ms"), ms.to_string()).map_err(|error| format!("{folder}: {error}"))
}

fn signal(process: u32, signal: &str) -> Result<(), String> {
    process::ask(Utf8Path::new("kill"), &[signal, &process.to_string()], Utf8Path::new("/")).map(drop)
}

/// The last generation of a rollout that has not ended, and its holder's process.
fn holder(records: &[Record]) -> Option<(u64, u32)> {
    if records.iter().any(|record| matches!(record.event, Event::RolloutFinished { .. })) {
        return None;
    }
    records.iter().rev().find_map(|record| match &record.event {
        Event::RolloutAcquired { epoch, holder, .. } => {
            let process = holder.rsplit_once("(pid ")?.1.trim_end_matches(')').parse().ok()?;
            Some((*epoch, process))
        }
        _ => None,
    })
}

/// Effects of a generation that was over, from the edge's journal.
fn stale(journal: &[Entry], stopped: &[Stopped]) -> Vec<String> {
    let mut highest = 0;
    let mut found = Vec::new();
    for entry in journal {
        // What the edge did by itself, when a grant ran out, carries the generation that the grant was given to.
        let Some(epoch) = entry.epoch.filter(|_| entry.effect != "expire") else { continue };
        let after = stopped.iter().find(|holder| {
            holder.epoch == epoch
                && !holder.deaf
                // What the edge had taken up before goes on while its controller stands still: starting and draining take long.
                && holder.continued.is_some_and(|continued| entry.at - entry.took >= continued)
        });
        if epoch < highest {
            found.push(format!("effect {} has generation {epoch}, after {highest}", entry.number));
        } else if let Some(holder) = after {
            let words =
                format!("effect {} is of process {}, which had stood still", entry.number, holder.process);
            found.push(words);
        }
        highest = highest.max(epoch);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, second: i64, epoch: u64) -> Entry {
        let at = Timestamp::from_second(second).unwrap();
        Entry {
            number,
            at,
            took: Duration::ZERO,
            effect: "set-weight".into(),
            rollout: None,
            sequence: None,
            epoch: Some(epoch),
            weight: 0,
        }
    }

    #[test]
    fn an_effect_of_an_older_generation_is_stale() {
        assert!(stale(&[entry(1, 0, 1), entry(2, 1, 2), entry(3, 2, 2)], &[]).is_empty());
        assert_eq!(stale(&[entry(1, 0, 1), entry(2, 1, 2), entry(3, 2, 1)], &[]).len(), 1);
    }

    #[test]
    fn an_effect_of_a_holder_that_stood_still_is_stale_even_before_the_edge_heard_of_the_next() {
        let continued = Some(Timestamp::from_second(5).unwrap());
        let stopped = [Stopped { process: 7, epoch: 1, deaf: false, continued }];
        assert!(stale(&[entry(1, 4, 1), entry(2, 6, 2)], &stopped).is_empty());
        assert_eq!(stale(&[entry(1, 4, 1), entry(2, 6, 1)], &stopped).len(), 1);
    }

    #[test]
    fn an_effect_that_was_taken_up_before_the_holder_went_on_is_not_stale() {
        let continued = Some(Timestamp::from_second(5).unwrap());
        let stopped = [Stopped { process: 7, epoch: 1, deaf: false, continued }];
        let long = |took| Entry { took: Duration::from_secs(took), ..entry(1, 6, 1) };
        assert!(stale(&[long(2)], &stopped).is_empty());
        assert_eq!(stale(&[long(1)], &stopped).len(), 1);
    }
}
