//! One repository at work: a rollout, a fault in its midst, the look at the splitter, the recovery.
//!
//! Leaves out sums and bounds. Invariant: a round ends with a controller that ran to its end, a record without anything under
//! way, and a splitter without canary; whatever else it finds is counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use delivery::Event;
use delivery::rollout::{RollbackCause, RolloutOutcome};

use super::faults::{BlackHole, Fault, Stopped, signal};
use super::probe::Probe;
use super::splitter::{Haproxy, canary_has_traffic};
use super::{GRACE, Kind, Options, Tally, menu};
use crate::figures::dice::Dice;
use crate::figures::evidence::Record;
use crate::figures::process::{self, Running};
use crate::figures::shop::{Build, PATIENCE, Shop};
use crate::figures::strike::{self, Aim, Course};

const MANIFEST: &str = include_str!("shop.toml");
/// The manifest's deadline of a step: how long a canary may be without evidence.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// Requests a second in each lane.
const RATE: u32 = 120;
/// The wait between two looks at the splitter.
const LOOK: Duration = Duration::from_millis(10);
/// How long no canary traffic must be seen before the round goes on.
const QUIET: Duration = Duration::from_millis(600);
/// How often a rollout is begun for `guard rollback`.
const PERSON_TRIES: u32 = 3;
/// How long the splitter is watched after what was stopped has been woken.
const WAKE: Duration = Duration::from_millis(1_500);

struct Lane<'a> {
    options: &'a Options,
    shop: Arc<Shop>,
    haproxy: Option<Haproxy>,
    probe: Probe,
    load: Option<Running>,
    dice: Dice,
    tally: Tally,
    builds: u64,
    course: Course,
}

/// What was done, until it is undone.
#[derive(Default)]
struct Harm {
    stopped: Option<Stopped>,
    hole: Option<BlackHole>,
}

/// Works through so many kills.
pub(super) fn run(options: &Options, number: u32, kills: u32) -> Result<Tally, String> {
    let settings = &options.settings;
    let folder = options.folder.join(format!("lane{number}"));
    let haproxy = match settings.kind {
        Kind::Haproxy => Some(Haproxy::start(&folder.join("haproxy"))?),
        Kind::Embedded => None,
    };
    let shop = Arc::new(Shop::create(&options.program, &folder, &manifest(options, haproxy.as_ref()))?);
    let began = process::now();
    let mut lane = match Lane::begin(options, number, &shop, haproxy) {
        Ok(lane) => lane,
        Err(error) => {
            shop.down()?;
            return Err(error);
        }
    };
    let result = lane.work(kills);
    lane.load = None;
    lane.probe.end();
    (lane.tally.all_requests, lane.tally.all_failures) = lane.probe.between(began, process::now());
    // Whatever happened, nothing of ours is left running.
    let left: Vec<u32> = shop.down()?.into_iter().filter(|id| !lane.is_haproxy(*id)).collect();
    for id in &left {
        signal(*id, "KILL")?;
    }
    result?;
    if !left.is_empty() {
        lane.tally.stuck.push(format!("processes {left:?} are left over at the end"));
    }
    Ok(lane.tally)
}

fn manifest(options: &Options, haproxy: Option<&Haproxy>) -> String {
    let guard = if options.settings.guard { "" } else { ", guard = false" };
    let table = haproxy.map_or_else(String::new, |haproxy| {
        format!("haproxy = {{ socket = \"{}\"{guard} }}", haproxy.socket())
    });
    // HAProxy counts no latencies; at our own proxy they are not what is drilled.
    let latency = if haproxy.is_some() {
        ""
    } else {
        ", latency-from = \"2s\", latency-share-floor = 0.5, warm-up = \"0ms\""
    };
    MANIFEST
        .replace("@LISTEN@", haproxy.map_or("127.0.0.1:0", |haproxy| &haproxy.listen))
        .replace("@GRANT@", &format!("{}s", options.settings.ttl.as_secs()))
        .replace("@LATENCY@", latency)
        .replace("@HAPROXY@", &table)
}

impl<'a> Lane<'a> {
    /// Deploys for the first time, and looks how an undisturbed rollout goes.
    fn begin(
        options: &'a Options,
        number: u32,
        shop: &Arc<Shop>,
        haproxy: Option<Haproxy>,
    ) -> Result<Self, String> {
        let build =
            |number: u64| shop.commit(&Build { name: format!("build{number}"), errors: 0.0, seed: number });
        build(1)?;
        if shop.ship()? != Some(0) {
            let talk = std::fs::read_to_string(options.folder.join(format!("lane{number}/ship.err")));
            return Err(format!("the first deployment failed: {}", talk.unwrap_or_default()));
        }
        let address = shop.edge().ok_or("the edge does not answer after the first deployment")?.listen;
        let address = address.parse().map_err(|_| format!("{address:?} is no address"))?;
        let mut lane = Self {
            options,
            probe: Probe::of(address),
            load: None,
            dice: Dice::new(options.settings.seed, u64::from(number)),
            tally: Tally::default(),
            builds: 2,
            course: Course::default(),
            haproxy,
            shop: Arc::clone(shop),
        };
        lane.load = Some(shop.load(RATE)?);
        build(2)?;
        lane.course = Course::of(shop)?;
        Ok(lane)
    }

    fn is_haproxy(&self, id: u32) -> bool {
        self.haproxy.as_ref().is_some_and(|haproxy| haproxy.id() == id)
    }

    fn work(&mut self, kills: u32) -> Result<(), String> {
        let (mains, others) = menu(&self.options.settings);
        let (mut round, mut other, most) = (0_usize, 0_usize, kills as usize * 4 + 20);
        let began = process::now();
        while self.tally.kills < kills && began.elapsed() < self.options.settings.within {
            if round >= most {
                return Err(format!("only {} of {round} strikes hit a rollout", self.tally.kills));
            }
            let turn = self.options.settings.others && round % 5 == 4 && !others.is_empty();
            let fault = if turn {
                other += 1;
                others[(other - 1) % others.len()]
            } else {
                mains[round % mains.len()]
            };
            self.round(fault).map_err(|error| format!("{}: {error}", fault.name()))?;
            round += 1;
            if round % 10 == 0 {
                let (kills, stuck) = (self.tally.kills, self.tally.stuck.len());
                eprintln!("{round} rounds, {kills} kills, {stuck} stuck");
            }
        }
        let mut tries = 0;
        while self.options.settings.guard && !self.person()? {
            tries += 1;
            if tries == PERSON_TRIES {
                self.tally.stuck.push("no rollout came to canary traffic for `guard rollback`".into());
                break;
            }
        }
        Ok(())
    }

    fn build(&mut self) -> Result<(), String> {
        self.builds += 1;
        let number = self.builds;
        self.shop.commit(&Build { name: format!("build{number}"), errors: 0.0, seed: number })
    }

    fn last_record(&self) -> Result<u64, String> {
        Ok(self.shop.records(0)?.last().map_or(0, |record| record.sequence))
    }

    fn round(&mut self, fault: Fault) -> Result<(), String> {
        self.build()?;
        let base = self.last_record()?;
        let aim = Aim::draw(&mut self.dice, self.course);
        let mut controller = self.shop.start(&["ship"], "ship")?;
        // Without a guard it is only of interest what a canary keeps that has something.
        let reached = if self.options.settings.guard {
            strike::reach(&self.shop, &mut controller, aim)?
        } else {
            self.exposed(&mut controller)?
        };
        let raised = self.has_traffic(None) == Some(true);
        let struck = process::now();
        let mut harm = if reached { self.strike(fault, &mut controller)? } else { Harm::default() };
        let records = self.shop.records(base)?;
        let hit = reached && self.count(fault, raised, &records);
        let mut taken_back = false;
        if hit {
            let seen = self.settle(fault, struck, &harm)?;
            taken_back = raised || seen.0.is_some();
            self.judge(fault, raised, struck, seen);
        }
        if harm.stopped.is_some() {
            self.wake(&mut harm, taken_back);
        }
        drop(harm);
        self.recover(fault, controller, base)
    }

    /// Waits until the canary has traffic; false when the rollout ended before.
    fn exposed(&self, controller: &mut Running) -> Result<bool, String> {
        while self.has_traffic(None) != Some(true) {
            if controller.ended()?.is_some() || controller.started.elapsed() > PATIENCE {
                return Ok(false);
            }
            std::thread::sleep(LOOK);
        }
        Ok(true)
    }

    fn has_traffic(&self, harm: Option<&Harm>) -> Option<bool> {
        let kind = self.options.settings.kind;
        let away = harm.and_then(|harm| harm.hole.as_ref()).map(|hole| hole.away.as_path());
        // A black hole before the guard leaves the edge where it is.
        let away = away.filter(|_| kind == Kind::Embedded);
        canary_has_traffic(kind, self.haproxy.as_ref(), &self.shop, away)
    }

    fn edge_id(&self) -> Result<u32, String> {
        self.shop.edge().map(|edge| edge.id).ok_or_else(|| "the edge does not answer".into())
    }

    fn guard_socket(&self) -> Result<camino::Utf8PathBuf, String> {
        let path = self.shop.repository().join(".trimtab/guards/shop@production/guard.json");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let said: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        said["socket"].as_str().map(Into::into).ok_or_else(|| format!("{path} names no socket"))
    }

    fn guard_id(&self) -> Option<u32> {
        Some(Shop::status_at(&self.guard_socket().ok()?)?["pid"].as_u64()? as u32)
    }

    fn strike(&mut self, fault: Fault, controller: &mut Running) -> Result<Harm, String> {
        let mut harm = Harm::default();
        match fault {
            Fault::Kill => drop(controller.kill()?),
            Fault::KillBoth => {
                controller.kill()?;
                signal(self.edge_id()?, "KILL")?;
            }
            Fault::Stop => harm.stopped = Some(Stopped::of(vec![controller.id()])?),
            Fault::StopBoth => harm.stopped = Some(Stopped::of(vec![controller.id(), self.edge_id()?])?),
            Fault::Partition => {
                let socket = self.shop.edge_socket().ok_or("the edge has no socket")?;
                harm.hole = Some(BlackHole::at(&socket)?);
            }
            Fault::PartitionGuard => harm.hole = Some(BlackHole::at(&self.guard_socket()?)?),
            Fault::KillGuard => {
                let guard = self.guard_id();
                controller.kill()?;
                signal(self.edge_id()?, "KILL")?;
                if let Some(guard) = guard {
                    signal(guard, "KILL")?;
                }
                self.start_guard()?;
            }
            Fault::Mute => {
                self.silence()?;
                std::thread::sleep(Duration::from_millis(300));
                controller.kill()?;
            }
            Fault::Silence => self.silence()?,
        }
        Ok(harm)
    }

    /// As a service manager would.
    fn start_guard(&self) -> Result<(), String> {
        let line =
            "setsid \"$0\" guard run --environment production </dev/null >>.trimtab/guard-run.log 2>&1 &";
        let program = self.options.program.as_str();
        process::ask(Utf8Path::new("sh"), &["-c", line, program], self.shop.repository()).map(drop)
    }

    fn silence(&mut self) -> Result<(), String> {
        self.probe.pause(true);
        match self.load.take() {
            Some(mut load) => load.interrupt(),
            None => Ok(()),
        }
    }

    /// Counts a strike by what was going on; says whether a rollout was.
    fn count(&mut self, fault: Fault, raised: bool, records: &[Record]) -> bool {
        let planned = records.iter().any(|record| matches!(record.event, Event::RolloutPlanned { .. }));
        let finished = records.iter().any(|record| matches!(record.event, Event::RolloutFinished { .. }));
        if !planned || finished {
            self.tally.misses += 1;
            return false;
        }
        *if fault.kills() { &mut self.tally.kills } else { &mut self.tally.others } += 1;
        self.tally.raised += u32::from(raised);
        *self.tally.faults.entry(fault.name()).or_default() += 1;
        *self.tally.places.entry(strike::place(records).to_owned()).or_default() += 1;
        true
    }

    /// Watches the splitter until the canary has nothing, and for a while after; gives when it was last seen to have
    /// something, and whether it has it still.
    fn settle(&self, fault: Fault, struck: Instant, harm: &Harm) -> Result<(Option<Instant>, bool), String> {
        let settings = &self.options.settings;
        let bound = if fault == Fault::Silence { DEADLINE * 2 } else { settings.ttl };
        let deadline = struck + bound + GRACE + Duration::from_secs(1);
        let (mut last, mut silent) = (None, struck);
        let killed_edge = matches!(fault, Fault::KillBoth | Fault::KillGuard);
        loop {
            let now = process::now();
            match self.has_traffic(Some(harm)) {
                Some(true) => {
                    last = Some(now);
                    silent = now;
                }
                Some(false) => {}
                None if killed_edge && settings.kind == Kind::Embedded => {}
                // A splitter that can't be asked has not been seen without canary.
                None => silent = now,
            }
            // A raise may have been on its way when the controller died.
            let quiet = if fault == Fault::Silence { DEADLINE } else { QUIET };
            if now.duration_since(silent) > quiet {
                return Ok((last, false));
            }
            if now > deadline {
                return Ok((last, true));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn judge(&mut self, fault: Fault, raised: bool, struck: Instant, (last, stuck): (Option<Instant>, bool)) {
        let until = last.unwrap_or(struck);
        let time = until.duration_since(struck).as_secs_f64();
        if !fault.silences() {
            let (requests, failures) = self.probe.between(struck, until);
            self.tally.requests += requests;
            self.tally.failures += failures;
        }
        if stuck {
            self.tally.stuck.push(format!("{}: canary traffic for {time:.1} s and on", fault.name()));
        } else if fault == Fault::Silence {
            self.tally.silences.push(time);
        } else if raised || last.is_some() {
            self.tally.times.push(time);
        }
    }

    /// Wakes what was stopped: whatever it was about to do must not give a canary traffic for long whose traffic was taken back.
    /// One that had none yet has lost nothing, and its controller may go on.
    fn wake(&mut self, harm: &mut Harm, taken_back: bool) {
        let (mut first, mut last) = (None, None);
        harm.stopped = None;
        let woken = process::now();
        while woken.elapsed() < WAKE {
            if self.has_traffic(Some(harm)) == Some(true) {
                let now = process::now();
                first.get_or_insert(now);
                last = Some(now);
            }
            std::thread::sleep(LOOK);
        }
        if let (true, Some(first), Some(last)) = (taken_back, first, last) {
            self.tally.woken.push(last.duration_since(first).as_secs_f64());
        }
    }

    /// A controller comes back, and brings the record to where the splitter is.
    fn recover(&mut self, fault: Fault, mut controller: Running, base: u64) -> Result<(), String> {
        if self.load.is_none() {
            // Only a rollout that was under way without traffic must end before there is some again.
            if fault == Fault::Silence && controller.wait(PATIENCE)?.is_none() {
                self.tally.unreconciled.push("a controller without traffic does not end".into());
            }
            self.probe.pause(false);
        } else if controller.wait(if controller_lives(fault) { PATIENCE } else { Duration::ZERO })?.is_none()
        {
            self.tally.unreconciled.push(format!("{}: the controller does not end", fault.name()));
        }
        controller.kill()?;
        let mut next = self.shop.start(&["ship", "--again"], "recover")?;
        if self.load.is_none() {
            // The edge may have been killed: load needs it.
            std::thread::sleep(Duration::from_millis(500));
            self.load = Some(self.load_again()?);
        }
        let code = next.wait(PATIENCE)?.map(|status| status.code());
        if code != Some(Some(0)) {
            let talk = std::fs::read_to_string(&next.talk).unwrap_or_default();
            self.tally.unreconciled.push(format!("ship --again ended with {code:?}: {talk}"));
        }
        let records = self.shop.records(base)?;
        count_causes(&records, &mut self.tally.causes);
        if self.shop.rollouts_active()? > 0 {
            self.tally.unreconciled.push("a rollout is under way after the round".into());
        }
        if self.has_traffic(None) != Some(false) {
            self.tally.unreconciled.push("the splitter is left with a canary".into());
        }
        Ok(())
    }

    fn load_again(&self) -> Result<Running, String> {
        for _ in 0..100 {
            if let Ok(load) = self.shop.load(RATE) {
                return Ok(load);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err("the edge does not answer, so no load can be sent".into())
    }

    /// With everything else dead, a person takes the release back, and the record says so later. False when the rollout
    /// ended before it was seen with traffic, as it may on a machine that is busy.
    fn person(&mut self) -> Result<bool, String> {
        self.build()?;
        let base = self.last_record()?;
        let mut controller = self.shop.start(&["ship"], "ship")?;
        if !self.exposed(&mut controller)? {
            self.recover(Fault::Kill, controller, base)?;
            return Ok(false);
        }
        controller.kill()?;
        if self.options.settings.kind == Kind::Haproxy {
            signal(self.edge_id()?, "KILL")?;
        }
        let struck = process::now();
        let answer = self.shop.ask(&["guard", "rollback", "--reason", "drill"])?;
        let took = struck.elapsed().as_secs_f64();
        let off = self.has_traffic(None) == Some(false);
        if answer.code != Some(0) || !off {
            self.tally.stuck.push(format!("guard rollback ended with {:?}: {}", answer.code, answer.text));
        }
        self.tally.rollbacks.push(took);
        self.recover(Fault::Kill, controller, base)?;
        let asked = self.shop.records(base)?.into_iter().any(|record| {
            matches!(record.event, Event::RollbackRequested { cause: RollbackCause::Requested { reason, .. }, .. } if reason == "drill")
        });
        if !asked {
            self.tally.unreconciled.push("the record does not say who asked for the rollback".into());
        }
        Ok(true)
    }
}

/// Whether the controller is there after the fault and must end by itself.
fn controller_lives(fault: Fault) -> bool {
    matches!(fault, Fault::Stop | Fault::StopBoth | Fault::Partition | Fault::PartitionGuard)
}

fn count_causes(records: &[Record], causes: &mut BTreeMap<String, u32>) {
    let mut first = BTreeMap::new();
    for record in records {
        match &record.event {
            Event::RollbackRequested { rollout, cause } => {
                let words = match cause {
                    RollbackCause::Harm { .. } => "taken back for harm",
                    RollbackCause::GrantExpired => "taken back after its grant ran out",
                    RollbackCause::Inconclusive { .. } => "taken back without evidence",
                    RollbackCause::PlatformRefused { .. } => "taken back after a refusal",
                    RollbackCause::StartFailed { .. } => "taken back after it did not start",
                    RollbackCause::Requested { .. } => "taken back by a person",
                };
                first.entry(rollout.clone()).or_insert(words);
            }
            Event::RolloutFinished { rollout, outcome } => {
                let words = match outcome {
                    RolloutOutcome::Completed => "completed",
                    RolloutOutcome::RolledBack => first.get(rollout).copied().unwrap_or("taken back"),
                };
                *causes.entry(words.to_owned()).or_default() += 1;
            }
            _ => {}
        }
    }
}
