//! `cargo xtask powercut`: cuts the power of recordings of the real binary at random points, and opens what is left.
//!
//! Half of the cuts come anywhere, half right after a promise, where a loss would show. Some images are of a disk that lies
//! about every fsync, and the control is the same with a binary that is built to commit with `synchronous=NORMAL`: both must
//! lose, or the harness does not bite. Leaves out PostgreSQL, whose disk is its own. Invariant: images come from recordings whose model
//! was compared with the files that the processes left.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::documents::Documents;
use super::edge_state::Chronicle;
use super::examine::{Bench, Promises, Tally, promised_at};
use super::recording::{self, Order, Recording};
use super::steps::{Replay, Step};
use crate::figures::dice::Dice;
use crate::figures::process;
use crate::figures::report::{Figure, Report};
use crate::place::Place;

/// Judges at once.
const LANES: u32 = 2;
/// One in so many images is opened with the binary, too.
const OPENED: u64 = 50;
/// Images of a disk that lies: one for so many others, and at least some.
const LYING_SHARE: u32 = 10;
const LYING_MIN: u32 = 50;
/// Images taken from one recording, at most.
const IMAGES_EACH: u32 = 2_500;

/// What is run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The binary under test.
    pub(crate) program: Utf8PathBuf,
    /// A folder for recordings, on the disk that is meant.
    pub(crate) folder: Utf8PathBuf,
    /// How many images.
    pub(crate) images: u32,
    /// Events that pour in during each recording.
    pub(crate) events: u32,
    /// Chooses where the power fails.
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Of the images.
    pub(crate) tally: Tally,
    /// Of the images of a disk that lies about every fsync of a file.
    pub(crate) lying: Tally,
    steps: u64,
    records: u64,
    states: u64,
    promises: u64,
    syncs: u64,
    recording: Duration,
    took: Duration,
}

/// Records and cuts.
pub(crate) fn run(place: &Place, options: &Options) -> Result<Outcome, String> {
    let started = process::now();
    let mut outcome = Outcome::default();
    let recordings = options.images.div_ceil(IMAGES_EACH).max(1);
    for number in 0..recordings {
        let share = options.images / recordings + u32::from(number < options.images % recordings);
        let began = process::now();
        let seed = options.seed + u64::from(number);
        let folder = options.folder.join(format!("recording{number}"));
        std::fs::create_dir_all(&folder).map_err(|error| format!("{folder}: {error}"))?;
        let order = Order {
            stage: "powercut",
            program: &options.program,
            folder: &folder,
            seed,
            events: options.events,
        };
        let recording = recording::record(place, &order)?;
        outcome.recording += began.elapsed();
        outcome.note(&recording);
        outcome.cut(&recording, share, seed, options)?;
        if !outcome.tally.is_clean() {
            eprintln!("what was recorded is in {folder}");
        }
        eprintln!(
            "{} of {} images, {} faults",
            outcome.tally.images,
            options.images,
            outcome.tally.faults.len()
        );
    }
    outcome.took = started.elapsed();
    Ok(outcome)
}

impl Outcome {
    fn note(&mut self, recording: &Recording) {
        self.steps += recording.steps.len() as u64;
        self.records += recording.reference.size();
        self.promises += recording.promised.len() as u64;
        self.syncs += recording.steps.iter().filter(|step| matches!(step, Step::Sync { .. })).count() as u64;
    }

    fn cut(
        &mut self,
        recording: &Recording,
        images: u32,
        seed: u64,
        options: &Options,
    ) -> Result<(), String> {
        let chronicle = Chronicle::of(&recording.steps, &recording.reference)?;
        let documents = Documents::of(&recording.steps, &recording.reference)?;
        self.states += chronicle.len() as u64;
        let lying = (images / LYING_SHARE).max(LYING_MIN);
        for (honest, images, tally) in [(true, images, &mut self.tally), (false, lying, &mut self.lying)] {
            let cuts = cuts(recording, images, &mut Dice::new(seed, 0));
            let judged: Vec<Result<Tally, String>> = std::thread::scope(|scope| {
                let lane = |number: u32| {
                    let lane = Lane { number, seed, honest, program: &options.program };
                    let (cuts, kept) = (&cuts, (&chronicle, &documents));
                    scope.spawn(move || lane.judge(recording, kept, cuts))
                };
                let handles: Vec<_> = (0..LANES).map(lane).collect();
                let join = |handle: std::thread::ScopedJoinHandle<'_, _>| {
                    handle.join().unwrap_or_else(|_| Err("a judge panicked".into()))
                };
                handles.into_iter().map(join).collect()
            });
            for one in judged {
                tally.add(one?);
            }
        }
        Ok(())
    }

    /// The figures: nothing is lost, except from a disk that lies.
    pub(crate) fn report(&self) -> Report {
        let (tally, lying) = (&self.tally, &self.lying);
        let count = |name, number: u64, unit| Figure::new(name, number as f64, unit);
        let mut report = Report::new(vec![
            count("powercut.images", tally.images, "images"),
            count("powercut.lost", tally.lost, "acknowledged events").at_most(0.0),
            count("powercut.corrupt", tally.corrupt, "images").at_most(0.0),
            count("powercut.edge", tally.edge, "images with a wrong state of the edge").at_most(0.0),
            count("powercut.documents", tally.documents, "images without a named document").at_most(0.0),
            count("powercut.promised", tally.promised, "images after a promise"),
            count("powercut.effects", tally.effects, "images after an acknowledged effect"),
            count("powercut.named", tally.named, "documents looked for"),
            count("powercut.opened", tally.opened, "images opened by the binary, too"),
            count("powercut.promises", self.promises, "promises recorded"),
            count("powercut.records", self.records, "records recorded"),
            count("lying.images", lying.images, "images of a disk that lies"),
            count("lying.lost", lying.lost, "acknowledged events"),
            count("lying.corrupt", lying.corrupt, "images"),
            count("lying.edge", lying.edge, "images"),
            blind("lying.blind", lying.lost),
            blind("lying.edge-blind", lying.edge),
            Figure::new("powercut.time", self.took.as_secs_f64(), "s"),
        ]);
        tally.faults.iter().for_each(|fault| report.remark(fault.clone()));
        report.remark(format!(
            "recorded in {:.1} s: {} steps, {} fsyncs, {} states of the edge",
            self.recording.as_secs_f64(),
            self.steps,
            self.syncs,
            self.states
        ));
        report
    }

    /// The control's figures: it must lose.
    pub(crate) fn control(&self) -> Report {
        let tally = &self.tally;
        let mut report = Report::new(vec![
            Figure::new("control.images", tally.images as f64, "images"),
            Figure::new("control.lost", tally.lost as f64, "acknowledged events"),
            Figure::new("control.lost-images", tally.images_lost as f64, "images"),
            Figure::new("control.lost-most", tally.lost_most as f64, "events in one image"),
            Figure::new("control.corrupt", tally.corrupt as f64, "images"),
            blind("control.blind", tally.lost),
            Figure::new("control.time", self.took.as_secs_f64(), "s"),
        ]);
        report.remark("with synchronous=NORMAL, as nobody gets it".into());
        report
    }
}

/// Whether a control found nothing, which means that the harness does not bite.
fn blind(name: &'static str, losses: u64) -> Figure {
    Figure::new(name, f64::from(u8::from(losses == 0)), "1: nothing was found").at_most(0.0)
}

/// Where the power fails: before the step of this number. In order.
fn cuts(recording: &Recording, images: u32, dice: &mut Dice) -> Vec<usize> {
    let promises: Vec<usize> = recording.promised.keys().copied().collect();
    let length = recording.steps.len();
    let pick = |dice: &mut Dice, end: usize| ((dice.unit() * end as f64) as usize).min(end.saturating_sub(1));
    let mut cuts: Vec<usize> = (0..images)
        .map(|number| {
            if number % 2 == 0 || promises.is_empty() {
                pick(dice, length + 1)
            } else {
                promises[pick(dice, promises.len())] + 1 + pick(dice, 3)
            }
        })
        .collect();
    cuts.sort_unstable();
    cuts
}

/// One of the judges.
#[derive(Debug, Clone, Copy)]
struct Lane<'a> {
    number: u32,
    seed: u64,
    honest: bool,
    program: &'a Utf8Path,
}

impl Lane<'_> {
    /// Goes through the recording and judges every second cut.
    fn judge(
        self,
        recording: &Recording,
        (edges, documents): (&Chronicle, &Documents),
        cuts: &[usize],
    ) -> Result<Tally, String> {
        let mut dice = Dice::new(self.seed, u64::from(self.number) + 1);
        let mut bench = Bench::new(self.number, self.seed)?;
        bench.copy_manifest(&recording.project)?;
        let (mut replay, mut tally, mut done) = (Replay::new(self.honest), Tally::default(), 0);
        for cut in cuts.iter().skip(self.number as usize).step_by(LANES as usize) {
            while done < (*cut).min(recording.steps.len()) {
                replay.step(&recording.steps[done])?;
                done += 1;
            }
            let size = promised_at(&recording.promised, *cut);
            let reference = &recording.reference;
            let promises = Promises { cut: *cut, size, reference, exact: true, edges, documents };
            let opened = self.honest && tally.images % OPENED == OPENED - 1;
            let program = opened.then_some(self.program);
            bench.judge(&replay.disk.image(&mut dice), &promises, program, &mut tally)?;
        }
        Ok(tally)
    }
}
