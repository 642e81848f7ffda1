//! `cargo xtask eio`: the k-th fsync of each thread of `trimtab server` fails with EIO while events pour in, for each k.
//!
//! strace makes it fail, without syncing; in the model what it should have covered is dropped for good. Each point asks: was
//! every refusal a 503 with `Retry-After`, were events taken again without anybody's help, is everything that was acknowledged in
//! the ledger and in every image of a power cut before or after. Leaves out reads that fail. Invariant: a point in which no
//! fsync failed counts as none.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::documents::Documents;
use super::edge_state::Chronicle;
use super::examine::{Bench, Promises, Tally, promised_at};
use super::pour::{Pour, Report as Told};
use super::recording::{self, Recording};
use super::steps::{Replay, Step};
use super::strace;
use crate::figures::dice::Dice;
use crate::figures::process::{self, Running};
use crate::figures::report::{Figure, Report};
use crate::lanes;
use crate::place::Place;

const MANIFEST: &str = "version = 1\nproject = \"chaos\"\n\n[task.one]\ncommand = [\"true\"]\n";
/// Points at once.
const LANES: u32 = 2;
/// Senders of events at once.
const SENDERS: u32 = 4;
/// Events in every second request, so that the log fills and is carried over within the sweep.
const MANY: usize = 100;
/// Requests that must be taken after the first that was refused.
const AFTER: u32 = 8;
/// How long a server may refuse after one failed fsync.
const RECOVER_MOST: Duration = Duration::from_secs(10);
/// Points of a lane between two lines on how far it is.
const TOLD_EACH: u32 = 10;
/// No point takes longer.
const POINT_MOST: Duration = Duration::from_mins(2);

/// What is run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The binary under test.
    pub(crate) program: Utf8PathBuf,
    /// A folder for projects; in memory is well, because fsyncs are not timed.
    pub(crate) folder: Utf8PathBuf,
    /// The first and the last fsync that fails, and the step between.
    pub(crate) points: (u32, u32, u32),
    /// Power cuts of each recording.
    pub(crate) images: u32,
    /// Chooses where the power fails.
    pub(crate) seed: u64,
}

/// What came of the points.
#[derive(Debug, Default)]
struct Outcome {
    points: u32,
    failed_syncs: u64,
    refused: u64,
    acknowledged: u64,
    /// Starts that failed with a clear error, and worked the next time.
    not_started: u32,
    slowest: Duration,
    unclear: Vec<String>,
    stuck: Vec<String>,
    lost: Vec<String>,
    tally: Tally,
}

/// Runs the sweep.
pub(crate) fn run(place: &Place, options: &Options) -> Result<Report, String> {
    let started = process::now();
    let (first, last, step) = options.points;
    let points: Vec<u32> = (first..=last).step_by(step.max(1) as usize).collect();
    let next = AtomicU32::new(0);
    // Points differ in length, so a lane takes the next one when it is free.
    let outcomes = lanes::run(points.len() as u32, LANES, |number, _| {
        let mut outcome = Outcome::default();
        while let Some(k) = points.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            // What keeps a point from being judged is told at once, and fails the sweep at its end.
            if let Err(why) = point(place, options, (number, *k), &mut outcome) {
                eprintln!("k = {k}: {why}");
                outcome.stuck.push(format!("k = {k}: {why}"));
            }
            if outcome.points % TOLD_EACH == 0 {
                eprintln!("k = {k}: {}", outcome.progress());
            }
        }
        Ok(outcome)
    })?;
    let mut sum = Outcome::default();
    outcomes.into_iter().for_each(|outcome| sum.add(outcome));
    Ok(sum.report(started.elapsed()))
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.points += other.points;
        self.failed_syncs += other.failed_syncs;
        self.refused += other.refused;
        self.acknowledged += other.acknowledged;
        self.not_started += other.not_started;
        self.slowest = self.slowest.max(other.slowest);
        self.unclear.extend(other.unclear);
        self.stuck.extend(other.stuck);
        self.lost.extend(other.lost);
        self.tally.add(other.tally);
    }

    /// How far one lane is.
    fn progress(&self) -> String {
        let (tally, stuck, unclear) = (&self.tally, self.stuck.len(), self.unclear.len());
        format!(
            "{} points, {} images, {} lost, {} corrupt, {stuck} stuck, {unclear} unclear",
            self.points,
            tally.images,
            tally.lost + self.lost.len() as u64,
            tally.corrupt
        )
    }

    fn report(&self, took: Duration) -> Report {
        let tally = &self.tally;
        let count = |list: &[String]| list.len() as f64;
        let mut report = Report::new(vec![
            Figure::new("eio.points", f64::from(self.points), "points with a failed fsync"),
            Figure::new("eio.failed-fsyncs", self.failed_syncs as f64, "fsyncs"),
            Figure::new("eio.acknowledged", self.acknowledged as f64, "requests"),
            Figure::new("eio.refused", self.refused as f64, "requests"),
            Figure::new("eio.not-started", f64::from(self.not_started), "starts refused, well the next time"),
            Figure::new("eio.unclear", count(&self.unclear), "refusals without code or Retry-After")
                .at_most(0.0),
            Figure::new("eio.stuck", count(&self.stuck), "servers").at_most(0.0),
            Figure::new("eio.lost", count(&self.lost) + tally.lost as f64, "acknowledged events")
                .at_most(0.0),
            Figure::new("eio.corrupt", tally.corrupt as f64, "images").at_most(0.0),
            Figure::new("eio.images", tally.images as f64, "images of power cuts"),
            Figure::new("eio.slowest", self.slowest.as_secs_f64(), "s from a refusal to the next success"),
            Figure::new("eio.time", took.as_secs_f64(), "s"),
        ]);
        for fault in self.unclear.iter().chain(&self.stuck).chain(&self.lost).chain(&tally.faults).take(20) {
            report.remark(fault.clone());
        }
        report
    }
}

/// One point of the sweep.
fn point(
    place: &Place,
    options: &Options,
    (lane, k): (u32, u32),
    outcome: &mut Outcome,
) -> Result<(), String> {
    let folder = options.folder.join(format!("k{k}"));
    let project = folder.join("project");
    std::fs::create_dir_all(&project).map_err(|error| format!("{project}: {error}"))?;
    let project = project.canonicalize_utf8().map_err(|error| error.to_string())?;
    let manifest = project.join("trimtab.toml");
    std::fs::write(&manifest, MANIFEST).map_err(|error| format!("{manifest}: {error}"))?;
    let log = folder.join("strace.log");
    let mut server = serve(place, options, &project, &folder, Some(k))?;
    let pour = match Pour::at(&mut server, &project) {
        Ok(pour) => pour,
        Err(why) => {
            // The fsync was one of the start. It says so, and the next start is well.
            if !why.contains("TRM-") {
                outcome.unclear.push(format!("k = {k}: {why}"));
            }
            let mut again = serve(place, options, &project, &folder, None)?;
            Pour::at(&mut again, &project)?;
            stop(&mut again, &folder)?;
            outcome.not_started += 1;
            outcome.points += 1;
            outcome.failed_syncs += 1;
            let _ = std::fs::remove_dir_all(&folder);
            return Ok(());
        }
    };
    let told = send(&pour, k, outcome);
    stop(&mut server, &folder)?;
    let recording = recording::open(&log, &project)?;
    let failed = failed_syncs(&recording.steps);
    outcome.failed_syncs += failed as u64;
    if failed == 0 {
        return Err("no fsync failed: fewer were made than expected".into());
    }
    outcome.points += 1;
    for report in &told {
        outcome.acknowledged += u64::from(report.acknowledged().is_some());
        if report.acknowledged().is_some_and(|sequence| !recording.reference.holds(sequence, &report.id)) {
            outcome.lost.push(format!("k = {k}: {report:?} is not in the ledger"));
        }
    }
    cut(options, (lane, k), &recording, outcome)?;
    std::fs::remove_dir_all(&folder).map_err(|error| format!("{folder}: {error}"))
}

/// Starts the server beneath strace, which lets the k-th fsync of each thread fail.
fn serve(
    place: &Place,
    options: &Options,
    project: &Utf8Path,
    folder: &Utf8Path,
    k: Option<u32>,
) -> Result<Running, String> {
    let mut arguments = match k {
        Some(k) => {
            let mut arguments = strace::options(folder.join("strace.log").as_str());
            arguments.extend(["-e".into(), format!("inject=fsync,fdatasync:error=EIO:when={k}")]);
            arguments
        }
        None => strace::options("/dev/null"),
    };
    // Its number, because strace itself is what we start.
    let script = format!("echo $$ > {folder}/pid; exec \"$@\"");
    let server = ["server", "--listen", "127.0.0.1:0", "--format", "json", "--project", project.as_str()];
    arguments.extend(["sh".into(), "-c".into(), script, "sh".into(), options.program.to_string()]);
    arguments.extend(server.map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let name = if k.is_some() { "server" } else { "again" };
    Running::start(&recording::tracer(place)?, &arguments, project, folder, name)
}

/// Ends the server, as Ctrl-C does.
fn stop(server: &mut Running, folder: &Utf8Path) -> Result<(), String> {
    let path = folder.join("pid");
    let id = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    process::ask(Utf8Path::new("kill"), &["-INT", id.trim()], folder)?;
    server.wait(POINT_MOST)?.map(drop).ok_or_else(|| "the server does not end on SIGINT".into())
}

/// Sends until a request was refused and enough others were taken after it, or until the fsync must have come.
fn send(pour: &Pour, k: u32, outcome: &mut Outcome) -> Vec<Told> {
    let (next, after, over) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
    let (told, faults) =
        (Mutex::new(Vec::new()), Mutex::new((Duration::ZERO, 0_u64, Vec::new(), Vec::new())));
    // Group commit takes a request of each sender into one fsync at most.
    let most = (k + 3) * SENDERS;
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let id = format!("eio-{number}-");
                    let many = number % 2 == 1;
                    let (report, trouble) = insist(pour, &id, many);
                    if let (Ok(mut faults), Some((report, took))) = (faults.lock(), &trouble) {
                        faults.0 = faults.0.max(*took);
                        faults.1 += 1;
                        if !report.is_clear() {
                            faults.2.push(format!("k = {k}: {report:?}"));
                        }
                        after.fetch_max(1, Ordering::Relaxed);
                    }
                    let taken = report.acknowledged().is_some();
                    if let (false, Ok(mut faults)) = (taken, faults.lock()) {
                        faults.3.push(format!("k = {k}: {report:?} was refused for {RECOVER_MOST:?}"));
                        over.store(true, Ordering::Relaxed);
                    }
                    if after.load(Ordering::Relaxed) > 0 && after.fetch_add(1, Ordering::Relaxed) > AFTER {
                        over.store(true, Ordering::Relaxed);
                    }
                    if number >= most {
                        over.store(true, Ordering::Relaxed);
                    }
                    if let Ok(mut told) = told.lock() {
                        told.push(report);
                    }
                }
            });
        }
    });
    if let Ok((slowest, refused, unclear, stuck)) = faults.into_inner() {
        outcome.slowest = outcome.slowest.max(slowest);
        outcome.refused += refused;
        outcome.unclear.extend(unclear);
        outcome.stuck.extend(stuck);
    }
    told.into_inner().unwrap_or_default()
}

/// Sends the same report until it is taken, as senders do. Gives the last answer, and the first refusal with how long it took
/// to get over it.
fn insist(pour: &Pour, id: &str, many: bool) -> (Told, Option<(Told, Duration)>) {
    let send = || if many { pour.send_many(id, MANY) } else { pour.send(id) };
    let first = send();
    if first.acknowledged().is_some() {
        return (first, None);
    }
    let began = process::now();
    loop {
        std::thread::sleep(Duration::from_millis(20));
        let report = send();
        if report.acknowledged().is_some() || began.elapsed() > RECOVER_MOST {
            return (report, Some((first, began.elapsed())));
        }
    }
}

/// Fsyncs of files that failed. Other threads' ends come between.
fn failed_syncs(steps: &[Step]) -> usize {
    let mut within = std::collections::HashSet::new();
    let mut failed = 0;
    for step in steps {
        match step {
            Step::Sync { thread, .. } => drop(within.insert(*thread)),
            Step::Ended { thread, value } if within.remove(thread) => failed += usize::from(value.is_none()),
            _ => {}
        }
    }
    failed
}

/// Cuts the power of the recording, mostly around the failure.
fn cut(
    options: &Options,
    (lane, k): (u32, u32),
    recording: &Recording,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let mut dice = Dice::new(options.seed, u64::from(k));
    let length = recording.steps.len();
    let mut cuts: Vec<usize> =
        (0..options.images).map(|_| (dice.unit() * (length + 1) as f64) as usize).collect();
    cuts.sort_unstable();
    let (edges, documents) = (Chronicle::default(), Documents::default());
    let mut bench = Bench::new(100 + lane, options.seed)?;
    let (mut replay, mut done) = (Replay::new(true), 0);
    for cut in cuts {
        while done < cut.min(length) {
            replay.step(&recording.steps[done])?;
            done += 1;
        }
        let promises = Promises {
            cut,
            size: promised_at(&recording.promised, cut),
            reference: &recording.reference,
            exact: false,
            edges: &edges,
            documents: &documents,
        };
        bench.judge(&replay.disk.image(&mut dice), &promises, None, &mut outcome.tally)?;
    }
    Ok(())
}
