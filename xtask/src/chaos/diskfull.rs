//! `cargo xtask diskfull`: the disk of the ledger, or of the edge, is full while events pour in and a canary is under way.
//!
//! The disk is a tmpfs of few megabytes in a mount namespace of its own, so nothing is left mounted and root is not needed.
//! Asked is: is nothing acknowledged that is not in the ledger, are refusals clear, does `trimtab rollback` take the canary's
//! traffic away at once, and does everything go on by itself when there is space again. Leaves out quotas and inodes.
//! Invariant: a case in which the disk was not seen to be full is an error.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::pour::{Pour, Report as Told};
use super::reference::Reference;
use crate::figures::process;
use crate::figures::report::{Figure, Report};
use crate::figures::shop::{Build, PATIENCE, Shop};
use crate::place::Place;
use crate::shell::Call;

const MANIFEST: &str = include_str!("stage/diskfull.toml");
/// Users' requests a second.
const RATE: u32 = 60;
/// The canary's share, in hundredths of a percent.
const RAISED: u16 = 1_000;
/// How long the kill switch may take, with the start of its process.
const SWITCH_MOST: Duration = Duration::from_secs(10);
/// How long anything may take to go on once there is space.
const GO_ON_MOST: Duration = Duration::from_mins(1);
/// Senders of events at once.
const SENDERS: u32 = 3;

/// Which disk is full, and when it becomes so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// The one of the ledger and all else, while a canary has its share.
    Ledger,
    /// The one of the edge's state, while a canary has its share.
    Edge,
    /// The one of the edge's state, before the canary is started.
    EdgeBefore,
}

const CASES: [(&str, Case); 3] =
    [("ledger", Case::Ledger), ("edge", Case::Edge), ("edge-before", Case::EdgeBefore)];

/// Runs the cases, each beneath its own mounts.
pub(crate) fn run(place: &Place, program: &Utf8Path, folder: &Utf8Path, rounds: u32) -> Result<bool, String> {
    let unshare = place.program(&["unshare"]).ok_or("unshare (of util-linux) is missing: install it")?;
    let root = Call::bare(&place.root, "id", &["-u"]).output()?.trim() == "0";
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let own = own.to_str().ok_or("our own path is not UTF-8")?.to_owned();
    let user: &[&str] = if root { &[] } else { &["--user", "--map-root-user"] };
    let rounds = rounds.to_string();
    let inner = [own.as_str(), "chaos-full", program.as_str(), folder.as_str(), rounds.as_str()];
    Call::bare(&place.root, unshare.as_str(), &[&["--mount"], user, &inner].concat()).run().map(|()| true)
}

/// `chaos-full PROGRAM FOLDER ROUNDS`, in the namespace: runs the cases and prints the figures.
pub(crate) fn inside(arguments: &[&str]) -> Result<bool, String> {
    let [program, folder, rounds] = arguments else { return Err("chaos-full needs three arguments".into()) };
    let rounds: u32 = rounds.parse().map_err(|_| format!("{rounds:?} is not a number"))?;
    let started = process::now();
    let mut outcome = Outcome::default();
    for round in 0..rounds {
        for (name, case) in CASES {
            let folder = Utf8Path::new(folder).join(format!("{name}{round}"));
            let mut bed = Bed::make(Utf8Path::new(program), &folder, case)?;
            let result =
                bed.run(&mut outcome).map_err(|why| format!("{name}, round {round}: {why}; see {folder}"));
            let ended = bed.end();
            result.and(ended)?;
        }
    }
    let report = outcome.report(started.elapsed());
    report.print();
    Ok(report.holds())
}

/// What came of all cases.
#[derive(Debug, Default)]
struct Outcome {
    cases: u32,
    acknowledged: u64,
    refused: u64,
    unclear: Vec<String>,
    lost: Vec<String>,
    stuck: Vec<String>,
    /// Weights that rose on a full disk, or did not fall.
    unsafe_weights: Vec<String>,
    switch: Duration,
    events_again: Duration,
    rollout_over: Duration,
}

impl Outcome {
    fn report(&self, took: Duration) -> Report {
        let count = |list: &[String]| list.len() as f64;
        let mut report = Report::new(vec![
            Figure::new("diskfull.cases", f64::from(self.cases), "cases"),
            Figure::new("diskfull.acknowledged", self.acknowledged as f64, "events"),
            Figure::new("diskfull.refused", self.refused as f64, "events, until taken"),
            Figure::new("diskfull.lost", count(&self.lost), "acknowledged events").at_most(0.0),
            Figure::new("diskfull.unclear", count(&self.unclear), "refusals without code or Retry-After")
                .at_most(0.0),
            Figure::new("diskfull.stuck", count(&self.stuck), "things that did not go on").at_most(0.0),
            Figure::new("diskfull.unsafe", count(&self.unsafe_weights), "weights").at_most(0.0),
            Figure::new("diskfull.switch", self.switch.as_secs_f64(), "s to weight 0, slowest")
                .at_most(SWITCH_MOST.as_secs_f64()),
            Figure::new("diskfull.events-again", self.events_again.as_secs_f64(), "s after space, slowest"),
            Figure::new("diskfull.rollout-over", self.rollout_over.as_secs_f64(), "s after space, slowest"),
            Figure::new("diskfull.time", took.as_secs_f64(), "s"),
        ]);
        let lists = [&self.lost, &self.unclear, &self.stuck, &self.unsafe_weights];
        lists.into_iter().flatten().take(20).for_each(|fault| report.remark(fault.clone()));
        report
    }
}

/// A project with a small disk below it.
struct Bed {
    case: Case,
    shop: Shop,
    disk: Utf8PathBuf,
    seed: u64,
}

impl Bed {
    fn make(program: &Utf8Path, folder: &Utf8Path, case: Case) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|error| format!("{folder}: {error}"))?;
        let shop = Shop::create(program, folder, MANIFEST)?;
        let (below, size) = match case {
            Case::Ledger => (".trimtab", "12m"),
            Case::Edge | Case::EdgeBefore => (".trimtab/edges", "1m"),
        };
        let disk = shop.repository().join(below);
        std::fs::create_dir_all(&disk).map_err(|error| format!("{disk}: {error}"))?;
        let options = format!("size={size},mode=0700");
        let words = ["-t", "tmpfs", "-o", options.as_str(), "trimtab-chaos", disk.as_str()];
        let mounted = process::ask(Utf8Path::new("mount"), &words, folder)?;
        if mounted.code != Some(0) {
            return Err("a tmpfs can't be mounted here: this needs root, or namespaces for users".into());
        }
        Ok(Self { case, shop, disk, seed: 1 })
    }

    fn build(&mut self) -> Result<(), String> {
        self.seed += 1;
        self.shop.commit(&Build { name: format!("good{}", self.seed), errors: 0.0, seed: self.seed })
    }

    fn run(&mut self, outcome: &mut Outcome) -> Result<(), String> {
        self.build()?;
        if self.shop.ship()? != Some(0) {
            return Err("the first deployment failed".into());
        }
        let mut server =
            self.shop.start(&["server", "--listen", "127.0.0.1:0", "--format", "json"], "server")?;
        let pour = Pour::at(&mut server, self.shop.repository())?;
        let mut load = self.shop.load(RATE)?;
        self.build()?;
        let events = Events::default();
        let drilled = std::thread::scope(|scope| {
            for sender in 0..SENDERS {
                let (events, pour) = (&events, &pour);
                scope.spawn(move || events.send(pour, sender));
            }
            let drilled = match self.case {
                Case::Ledger | Case::Edge => self.canary_under_way(&events, outcome),
                Case::EdgeBefore => self.canary_to_come(&events, outcome),
            };
            events.over.store(true, Ordering::Relaxed);
            drilled
        });
        load.interrupt()?;
        server.interrupt()?;
        drilled?;
        self.judge(events, outcome)
    }

    /// The disk fills up while the canary has its share, and somebody takes the release back.
    fn canary_under_way(&self, events: &Events, outcome: &mut Outcome) -> Result<(), String> {
        let mut ship = self.shop.start(&["ship"], "ship")?;
        self.until(PATIENCE, "the canary gets its share", || self.weight() == Some(RAISED))?;
        let ballast = Ballast::fill(&self.disk)?;
        if self.case == Case::Ledger {
            self.until(PATIENCE, "events are refused", || events.refused() > 0)?;
        }
        if self.weight() != Some(RAISED) {
            return Err("the canary lost its share before the kill switch was used".into());
        }
        let began = process::now();
        let mut rollback = self.shop.start(&["rollback", "--reason", "drill"], "rollback")?;
        if self.until(SWITCH_MOST, "the weight falls", || self.weight() == Some(0)).is_err() {
            outcome
                .unsafe_weights
                .push(format!("{:?}: the kill switch did nothing in {SWITCH_MOST:?}", self.case));
        }
        outcome.switch = outcome.switch.max(began.elapsed());
        // It stays so, full as the disk is.
        std::thread::sleep(Duration::from_secs(1));
        if self.weight() != Some(0) {
            outcome.unsafe_weights.push(format!("{:?}: the weight is {:?} again", self.case, self.weight()));
        }
        self.go_on(ballast, events, outcome)?;
        for (name, running) in [("ship", &mut ship), ("rollback", &mut rollback)] {
            if running.wait(GO_ON_MOST)?.is_none() {
                outcome.stuck.push(format!("{:?}: {name} does not end", self.case));
            }
        }
        self.settled(outcome)
    }

    /// The disk is full before the canary starts: it gets no share until there is space, and then goes on.
    fn canary_to_come(&self, events: &Events, outcome: &mut Outcome) -> Result<(), String> {
        let ballast = Ballast::fill(&self.disk)?;
        let mut ship = self.shop.start(&["ship"], "ship")?;
        let deadline = process::now() + Duration::from_secs(6);
        while process::now() < deadline && ship.ended()?.is_none() {
            if self.weight().is_some_and(|weight| weight > 0) {
                outcome.unsafe_weights.push("a weight rose that could not be written down".into());
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        ballast.free()?;
        let began = process::now();
        if self.until(GO_ON_MOST, "the canary gets its share", || self.weight() == Some(RAISED)).is_err() {
            let talk = std::fs::read_to_string(&ship.talk).unwrap_or_default();
            outcome.stuck.push(format!("the canary gets no share after there is space: {talk}"));
        }
        outcome.rollout_over = outcome.rollout_over.max(began.elapsed());
        if self.until(GO_ON_MOST, "events are taken", || events.taken() > 0).is_err() {
            outcome.stuck.push("no event was taken, though the ledger's disk was never full".into());
        }
        let rollback = self.shop.ask(&["rollback", "--reason", "drill"])?;
        if rollback.code != Some(0) {
            outcome.stuck.push(format!("rollback ended with {:?}: {}", rollback.code, rollback.text));
        }
        if ship.wait(GO_ON_MOST)?.is_none() {
            outcome.stuck.push("ship does not end".into());
        }
        self.settled(outcome)
    }

    /// There is space again: events are taken, and the rollout is brought to its end by whoever is there.
    fn go_on(&self, ballast: Ballast, events: &Events, outcome: &mut Outcome) -> Result<(), String> {
        ballast.free()?;
        let (began, before) = (process::now(), events.taken());
        if self.until(GO_ON_MOST, "events are taken", || events.taken() > before + 5).is_err() {
            outcome.stuck.push(format!("{:?}: events are refused though there is space", self.case));
        }
        outcome.events_again = outcome.events_again.max(began.elapsed());
        let over = || self.shop.rollouts_active().is_ok_and(|active| active == 0);
        if self.until(GO_ON_MOST, "the rollout ends", over).is_err() {
            outcome.stuck.push(format!("{:?}: the rollout does not end though there is space", self.case));
        }
        outcome.rollout_over = outcome.rollout_over.max(began.elapsed());
        Ok(())
    }

    /// What is left: stable alone, and a sound ledger.
    fn settled(&self, outcome: &mut Outcome) -> Result<(), String> {
        let alone = || self.shop.edge().is_some_and(|edge| edge.weight == 0 && edge.roles == ["stable"]);
        if self.until(GO_ON_MOST, "stable is alone", alone).is_err() {
            outcome.stuck.push(format!("{:?}: the edge is left as {:?}", self.case, self.shop.edge()));
        }
        if !self.shop.sound()? {
            outcome.lost.push(format!("{:?}: the ledger does not verify", self.case));
        }
        outcome.cases += 1;
        Ok(())
    }

    fn weight(&self) -> Option<u16> {
        self.shop.edge().map(|edge| edge.weight)
    }

    fn until(&self, most: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
        let deadline = process::now() + most;
        while !holds() {
            if process::now() > deadline {
                return Err(format!("{what}: not within {most:?} ({:?})", self.case));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Looks for everything acknowledged in the ledger, and for what every refusal said.
    fn judge(&self, events: Events, outcome: &mut Outcome) -> Result<(), String> {
        let reference = Reference::read(&self.shop.repository().join(".trimtab/ledger.db"))?;
        for report in events.all.into_inner().map_err(|_| "a sender panicked")? {
            match report.acknowledged() {
                Some(sequence) if reference.holds(sequence, &report.id) => outcome.acknowledged += 1,
                Some(sequence) => {
                    outcome.lost.push(format!("{} was said to be record {sequence}", report.id));
                }
                None => {
                    outcome.refused += 1;
                    if !report.is_clear() {
                        outcome.unclear.push(format!("{:?}: {report:?}", self.case));
                    }
                }
            }
        }
        Ok(())
    }

    /// Stops everything and takes the disk away.
    fn end(&self) -> Result<(), String> {
        let left = self.shop.down()?;
        process::ask(Utf8Path::new("umount"), &[self.disk.as_str()], Utf8Path::new("/"))?;
        if left.is_empty() { Ok(()) } else { Err(format!("processes {left:?} are left over")) }
    }
}

/// What fills the disk.
struct Ballast {
    path: Utf8PathBuf,
}

impl Ballast {
    /// To the last byte.
    fn fill(disk: &Utf8Path) -> Result<Self, String> {
        use std::io::Write as _;
        let path = disk.join("ballast");
        let mut file = std::fs::File::create(&path).map_err(|error| format!("{path}: {error}"))?;
        for size in [1 << 16, 1 << 12, 1] {
            let chunk = vec![7_u8; size];
            while file.write_all(&chunk).is_ok() {}
        }
        match std::fs::write(disk.join("one more"), b"x") {
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => Ok(Self { path }),
            other => Err(format!("{disk} is not full: {other:?}")),
        }
    }

    fn free(self) -> Result<(), String> {
        std::fs::remove_file(&self.path).map_err(|error| format!("{}: {error}", self.path))
    }
}

/// Events that are sent until the case is over, each again and again until it is taken.
#[derive(Default)]
struct Events {
    over: AtomicBool,
    all: Mutex<Vec<Told>>,
}

impl Events {
    fn send(&self, pour: &Pour, sender: u32) {
        for number in 0_u32.. {
            loop {
                if self.over.load(Ordering::Relaxed) {
                    return;
                }
                let report = pour.send(&format!("full-{sender}-{number}-"));
                let taken = report.acknowledged().is_some();
                if let Ok(mut all) = self.all.lock() {
                    all.push(report);
                }
                std::thread::sleep(Duration::from_millis(10));
                if taken {
                    break;
                }
            }
        }
    }

    fn count(&self, taken: bool) -> usize {
        let all = self.all.lock();
        all.map_or(0, |all| all.iter().filter(|report| report.acknowledged().is_some() == taken).count())
    }

    fn taken(&self) -> usize {
        self.count(true)
    }

    fn refused(&self) -> usize {
        self.count(false)
    }
}
