//! The drill of `cargo xtask eio`: every fsync of the edge, of the controllers and of the kill switch itself fails, while a canary has
//! its share.
//!
//! strace is attached to what runs, so the disk errs from one moment on and is well again when strace lets go. Invariant: the
//! drill counts only if an fsync of the edge did fail.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::recording;
use crate::figures::process::{self, Running};
use crate::figures::report::{Figure, Report};
use crate::figures::shop::{Build, PATIENCE, Shop};
use crate::place::Place;

const MANIFEST: &str = include_str!("stage/diskfull.toml");
const RATE: u32 = 60;
/// The canary's share, in hundredths of a percent.
const RAISED: u16 = 1_000;
/// How long the kill switch may take, with the start of its process beneath strace.
const SWITCH_MOST: Duration = Duration::from_secs(10);
const INJECT: [&str; 7] =
    ["-f", "-qq", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO", "-y"];

/// Runs the drill in that folder.
pub(crate) fn run(place: &Place, program: &Utf8Path, folder: &Utf8Path) -> Result<Report, String> {
    let shop = Shop::create(program, folder, MANIFEST)?;
    let drill = Drill { place, program, folder, shop };
    let result = drill.run();
    let left = drill.shop.down()?;
    let report = result?;
    if left.is_empty() { Ok(report) } else { Err(format!("processes {left:?} are left over")) }
}

struct Drill<'a> {
    place: &'a Place,
    program: &'a Utf8Path,
    folder: &'a Utf8Path,
    shop: Shop,
}

impl Drill<'_> {
    fn run(&self) -> Result<Report, String> {
        let build = |name: &str, seed| self.shop.commit(&Build { name: name.into(), errors: 0.0, seed });
        build("first", 1)?;
        if self.shop.ship()? != Some(0) {
            return Err("the first deployment failed".into());
        }
        let mut server =
            self.shop.start(&["server", "--listen", "127.0.0.1:0", "--format", "json"], "server")?;
        let mut load = self.shop.load(RATE)?;
        build("second", 2)?;
        let mut ship = self.shop.start(&["ship"], "ship")?;
        self.until(PATIENCE, "the canary gets its share", || self.weight() == Some(RAISED))?;
        let edge = self.shop.edge().ok_or("the edge does not answer")?.id;
        let mut erring = self.attach(&[edge, ship.id(), server.id()])?;
        if self.weight() != Some(RAISED) {
            return Err("the canary lost its share before the kill switch was used".into());
        }
        let began = process::now();
        let mut rollback = self.rollback()?;
        let fell = self.until(SWITCH_MOST, "the weight falls", || self.weight() == Some(0));
        let switch = began.elapsed();
        let failed = self.until(PATIENCE, "an fsync of the edge fails", || self.edge_failed());
        erring.interrupt()?;
        let began = process::now();
        let over = || self.shop.rollouts_active().is_ok_and(|active| active == 0);
        let ended = self.until(PATIENCE, "the rollout ends", over);
        let alone = || self.shop.edge().is_some_and(|edge| edge.weight == 0 && edge.roles == ["stable"]);
        let settled = self.until(PATIENCE, "stable is alone", alone);
        let recovered = began.elapsed();
        for running in [&mut ship, &mut rollback] {
            running.wait(PATIENCE)?.ok_or("a command does not end though the disk is well")?;
        }
        load.interrupt()?;
        server.interrupt()?;
        failed?;
        let sound = self.shop.sound()?;
        let stuck = u8::from(ended.is_err()) + u8::from(settled.is_err());
        Ok(Report::new(vec![
            Figure::new("eio.switch", switch.as_secs_f64(), "s to weight 0, all fsyncs failing")
                .at_most(SWITCH_MOST.as_secs_f64()),
            Figure::new("eio.switch-dead", f64::from(u8::from(fell.is_err())), "kill switches").at_most(0.0),
            Figure::new("eio.switch-stuck", f64::from(stuck), "rollouts or edges").at_most(0.0),
            Figure::new("eio.switch-unsound", f64::from(u8::from(!sound)), "ledgers").at_most(0.0),
            Figure::new("eio.switch-recovered", recovered.as_secs_f64(), "s after the disk was well"),
        ]))
    }

    fn weight(&self) -> Option<u16> {
        self.shop.edge().map(|edge| edge.weight)
    }

    fn log(&self) -> Utf8PathBuf {
        self.folder.join("erring.log")
    }

    /// From now on their fsyncs fail, until the handle is interrupted.
    fn attach(&self, processes: &[u32]) -> Result<Running, String> {
        let numbers: Vec<String> = processes.iter().map(ToString::to_string).collect();
        let log = self.log();
        let mut words = [&INJECT[..], &["-o", log.as_str()]].concat();
        numbers.iter().for_each(|number| words.extend(["-p", number.as_str()]));
        let strace = recording::tracer(self.place)?;
        let erring = Running::start(&strace, &words, &self.place.root, self.folder, "erring")?;
        self.until(PATIENCE, "strace holds them", || processes.iter().all(|id| is_traced(*id)))?;
        Ok(erring)
    }

    /// The kill switch, whose own fsyncs fail too.
    fn rollback(&self) -> Result<Running, String> {
        let words =
            [&INJECT[..], &["-o", "/dev/null", self.program.as_str(), "rollback", "--reason", "drill"]]
                .concat();
        let strace = recording::tracer(self.place)?;
        Running::start(&strace, &words, self.shop.repository(), self.folder, "rollback")
    }

    /// Whether an fsync of a state of the edge failed; strace writes each with its path.
    fn edge_failed(&self) -> bool {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().any(|line| line.contains("/edges/") && line.contains("EIO"))
    }

    fn until(&self, most: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
        let deadline = process::now() + most;
        while !holds() {
            if process::now() > deadline {
                return Err(format!("{what}: not within {most:?}; see {}", self.folder));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Whether a tracer holds the process.
fn is_traced(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
}
