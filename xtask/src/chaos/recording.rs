//! Records the real binary at work: runs a stage under strace, then reads what happened and what the ledger held in the end.
//!
//! Invariant: the model of the disk, when it loses nothing, holds the very files that the stage left behind. So no write went
//! past strace, such as through a mapping, and none was misread.

use std::collections::BTreeMap;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::acknowledged::Acknowledged;
use super::disk::Image;
use super::reference::Reference;
use super::steps::{self, Replay, Step};
use super::strace;
use crate::figures::process::Running;
use crate::place::Place;

/// A stage that takes longer hangs.
const STAGE_MOST: Duration = Duration::from_mins(5);

/// What happened, and what came of it.
#[derive(Debug)]
pub(crate) struct Recording {
    /// In their order.
    pub(crate) steps: Vec<Step>,
    /// The ledger in the end.
    pub(crate) reference: Reference,
    /// The project's folder.
    pub(crate) project: Utf8PathBuf,
    /// How many records each promise promised, by its place among the steps.
    pub(crate) promised: BTreeMap<usize, u64>,
}

/// What makes a recording.
#[derive(Debug, Clone)]
pub(crate) struct Order<'a> {
    /// The stage's name.
    pub(crate) stage: &'a str,
    /// The binary under test.
    pub(crate) program: &'a Utf8Path,
    /// A new folder for it.
    pub(crate) folder: &'a Utf8Path,
    /// Chooses what the stage does.
    pub(crate) seed: u64,
    /// How many events pour in.
    pub(crate) events: u32,
}

/// strace, or why it can't be used.
pub(crate) fn tracer(place: &Place) -> Result<Utf8PathBuf, String> {
    place.program(&["strace"]).ok_or_else(|| {
        "strace is missing: install it (apt-get install strace); without it nothing can be recorded"
            .to_owned()
    })
}

/// Runs the stage and reads its recording.
pub(crate) fn record(place: &Place, order: &Order<'_>) -> Result<Recording, String> {
    let (log, project) = (order.folder.join("strace.log"), order.folder.join("shop"));
    let mut arguments = strace::options(log.as_str());
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let own = own.to_str().ok_or("our own path is not UTF-8")?.to_owned();
    let (seed, events) = (order.seed.to_string(), order.events.to_string());
    let stage = [own.as_str(), "chaos-stage", order.stage, order.program.as_str(), order.folder.as_str()];
    arguments.extend(stage.into_iter().chain([seed.as_str(), events.as_str()]).map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut running = Running::start(&tracer(place)?, &arguments, &place.root, order.folder, "stage")?;
    let status = running.wait(STAGE_MOST)?.ok_or("the stage does not end")?;
    if !status.success() {
        let talk = std::fs::read_to_string(&running.talk).unwrap_or_default();
        return Err(format!("the stage ended with {status}; see {}: {talk}", order.folder));
    }
    let recording = open(&log, &project)?;
    std::fs::remove_file(&log).map_err(|error| format!("{log}: {error}"))?;
    Ok(recording)
}

/// Reads a log and what its processes left behind in the project's folder.
pub(crate) fn open(log: &Utf8Path, project: &Utf8Path) -> Result<Recording, String> {
    let steps = steps::read(log, project)?;
    let mut replay = Replay::new(true);
    for step in &steps {
        replay.step(step)?;
    }
    compare(&replay.disk.live(), project)?;
    let reference = Reference::read(&project.join(".trimtab/ledger.db"))?;
    let promised = promised(&steps, &reference)?;
    Ok(Recording { steps, reference, project: project.to_owned(), promised })
}

/// What each promise means. One that the ledger does not keep even without a cut is an error.
fn promised(steps: &[Step], reference: &Reference) -> Result<BTreeMap<usize, u64>, String> {
    let mut promised = BTreeMap::new();
    for (at, step) in steps.iter().enumerate() {
        let Step::Acknowledged(acknowledged) = step else { continue };
        let size = match acknowledged {
            Acknowledged::Report { id, sequence } => {
                Some(*sequence).filter(|sequence| reference.holds(*sequence, id))
            }
            Acknowledged::Run(run) => reference.last_of_run(run),
            Acknowledged::Told(stamp) => reference.first_at(stamp),
            Acknowledged::Effect => continue,
        };
        let size =
            size.ok_or_else(|| format!("{acknowledged:?} was promised, but the ledger does not hold it"))?;
        promised.insert(at, size);
    }
    Ok(promised)
}

/// Compares what the model holds with what lies there.
fn compare(model: &Image, project: &Utf8Path) -> Result<(), String> {
    let mut there = Image::new();
    gather(project, "", &mut there)?;
    let names = |image: &Image| image.keys().cloned().collect::<Vec<_>>();
    for (path, content) in model {
        match there.get(path) {
            Some(found) if found == content => {}
            Some(found) => {
                let (ours, theirs) = (content.len(), found.len());
                return Err(format!(
                    "the recording of {path} ({ours} bytes) is not what lies there ({theirs} bytes)"
                ));
            }
            None => return Err(format!("the recording holds {path}, which is not there")),
        }
    }
    if model.len() == there.len() {
        return Ok(());
    }
    Err(format!("the recording holds {:?}, but there are {:?}", names(model), names(&there)))
}

/// All files that are looked at.
fn gather(project: &Utf8Path, below: &str, image: &mut Image) -> Result<(), String> {
    let folder = if below.is_empty() { project.join(".trimtab") } else { project.join(below) };
    let fault = |error: std::io::Error| format!("{folder}: {error}");
    for entry in folder.read_dir_utf8().map_err(fault)? {
        let entry = entry.map_err(fault)?;
        let path = entry.path().strip_prefix(project).unwrap_or(entry.path()).to_string();
        let kind = entry.file_type().map_err(fault)?;
        if kind.is_dir() && steps::watched(&path) {
            gather(project, &path, image)?;
        } else if kind.is_file() && steps::watched(&path) {
            let content =
                std::fs::read(entry.path()).map_err(|error| format!("{}: {error}", entry.path()))?;
            image.insert(path, content);
        }
    }
    Ok(())
}
