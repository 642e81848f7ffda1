//! Opens what a power cut left, with the real store, and says what of it breaks a promise.
//!
//! Invariant: an image is judged by what had been promised when the power failed, and by the bytes that were recorded; it is
//! never repaired first.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::{Actor, Event, Timestamp};
use store::{Access, Ledger};

use super::disk::Image;
use super::documents::Documents;
use super::edge_state::Chronicle;
use super::reference::Reference;
use crate::figures::dice::Dice;
use crate::figures::process;

/// The ledger's path in an image.
pub(crate) const LEDGER: &str = ".trimtab/ledger.db";
/// What lies in SQLite's shared memory after a cut is not told by the recording; this much of it is made up.
const SHARED_BYTES: usize = 32_768;
/// Made up anew for each image; the rest repeats it.
const SHARED_BLOCK: usize = 1_024;
/// Faults that are told; the others are counted.
const TOLD_MAX: usize = 20;

/// What came of images.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Images judged.
    pub(crate) images: u64,
    /// Those in which anything promised is missing.
    pub(crate) images_lost: u64,
    /// Promised records that are missing, over all images.
    pub(crate) lost: u64,
    /// The most in one image.
    pub(crate) lost_most: u64,
    /// Images that don't open, don't verify, hold other bytes, or can't be appended to.
    pub(crate) corrupt: u64,
    /// Images whose edge's state is torn, or lacks an acknowledged effect.
    pub(crate) edge: u64,
    /// Images that lack a document or a key that a record names.
    pub(crate) documents: u64,
    /// Documents and keys that were looked for, over all images.
    pub(crate) named: u64,
    /// Images in which something was promised.
    pub(crate) promised: u64,
    /// Images in which an effect at an edge was promised.
    pub(crate) effects: u64,
    /// Images that the binary opened, too.
    pub(crate) opened: u64,
    /// Records found, over all images.
    pub(crate) records: u64,
    /// Faults in words.
    pub(crate) faults: Vec<String>,
}

impl Tally {
    /// Adds another one.
    pub(crate) fn add(&mut self, other: Self) {
        self.images += other.images;
        self.images_lost += other.images_lost;
        self.lost += other.lost;
        self.lost_most = self.lost_most.max(other.lost_most);
        self.corrupt += other.corrupt;
        self.edge += other.edge;
        self.documents += other.documents;
        self.named += other.named;
        self.promised += other.promised;
        self.effects += other.effects;
        self.opened += other.opened;
        self.records += other.records;
        self.faults.extend(other.faults);
        self.faults.truncate(TOLD_MAX);
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost + self.corrupt + self.edge + self.documents == 0
    }

    fn tell(&mut self, fault: String) {
        if self.faults.len() < TOLD_MAX {
            self.faults.push(fault);
        }
    }
}

/// What an image is judged by.
#[derive(Debug)]
pub(crate) struct Promises<'a> {
    /// Where in the recording the power failed, for messages.
    pub(crate) cut: usize,
    /// How many records must be there.
    pub(crate) size: u64,
    /// What the ledger held in the end.
    pub(crate) reference: &'a Reference,
    /// Whether a record that nobody was promised must be the reference's, too. After a failed commit it need not be.
    pub(crate) exact: bool,
    /// What the edges' states were.
    pub(crate) edges: &'a Chronicle,
    /// What records name.
    pub(crate) documents: &'a Documents,
}

/// Where images are opened.
#[derive(Debug)]
pub(crate) struct Bench {
    folder: Utf8PathBuf,
    dice: Dice,
}

impl Bench {
    /// In a new folder, in memory where there is one: what is judged is what lies there, not how fast the disk is.
    pub(crate) fn new(lane: u32, seed: u64) -> Result<Self, String> {
        let memory = Utf8Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory } else { Utf8Path::new("/tmp") };
        let folder = parent.join(format!("trimtab-powercut-{}-{lane}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|error| format!("{folder}: {error}"))?;
        Ok(Self { folder, dice: Dice::new(seed, u64::from(lane) + 1_000) })
    }

    /// Lays the image down and judges it. With a binary, that has to open it too.
    pub(crate) fn judge(
        &mut self,
        image: &Image,
        promises: &Promises<'_>,
        program: Option<&Utf8Path>,
        tally: &mut Tally,
    ) -> Result<(), String> {
        tally.images += 1;
        tally.promised += u64::from(promises.size > 0);
        self.lay(image, program.is_some())?;
        let found = self.ledger(promises, tally);
        let found = match found {
            Ok(found) => found,
            Err(fault) => {
                tally.corrupt += 1;
                tally.tell(format!("cut at step {}: {fault}", promises.cut));
                Reference::default()
            }
        };
        tally.records += found.size();
        let lost = promises.size.saturating_sub(found.size());
        if lost > 0 {
            tally.images_lost += 1;
            tally.lost += lost;
            tally.lost_most = tally.lost_most.max(lost);
            let (size, there) = (promises.size, found.size());
            tally.tell(format!(
                "cut at step {}: {size} records were promised, {there} are there",
                promises.cut
            ));
        }
        match promises.edges.judge(promises.cut, image, found.size()) {
            Ok(effects) => tally.effects += u64::from(effects > 0),
            Err(fault) => {
                tally.edge += 1;
                tally.tell(format!("cut at step {}: {fault}", promises.cut));
            }
        }
        match promises.documents.judge(image, found.size()) {
            Ok(named) => tally.named += named as u64,
            Err(fault) => {
                tally.documents += 1;
                tally.tell(format!("cut at step {}: {fault}", promises.cut));
            }
        }
        if let Some(program) = program {
            tally.opened += 1;
            if let Err(fault) = self.run(program) {
                tally.corrupt += 1;
                tally.tell(format!("cut at step {}: {fault}", promises.cut));
            }
        }
        Ok(())
    }

    fn lay(&mut self, image: &Image, whole: bool) -> Result<(), String> {
        let fault = |path: &Utf8Path, error: std::io::Error| format!("{path}: {error}");
        let inner = self.folder.join(".trimtab");
        if inner.is_dir() {
            std::fs::remove_dir_all(&inner).map_err(|error| fault(&inner, error))?;
        }
        for (path, content) in image.iter().filter(|(path, _)| whole || path.starts_with(LEDGER)) {
            let path = self.folder.join(path);
            let folder = path.parent().unwrap_or(&self.folder);
            std::fs::create_dir_all(folder).map_err(|error| fault(folder, error))?;
            std::fs::write(&path, content).map_err(|error| fault(&path, error))?;
        }
        if inner.is_dir() && self.dice.chance(0.5) {
            let path = self.folder.join(format!("{LEDGER}-shm"));
            let block: Vec<u8> = (0..SHARED_BLOCK).map(|_| (self.dice.unit() * 256.0) as u8).collect();
            std::fs::write(&path, block.repeat(SHARED_BYTES / SHARED_BLOCK))
                .map_err(|error| fault(&path, error))?;
        }
        Ok(())
    }

    /// Opens, verifies, compares and appends; gives what was there before.
    fn ledger(&self, promises: &Promises<'_>, tally: &mut Tally) -> Result<Reference, String> {
        let path = self.folder.join(LEDGER);
        let ledger =
            Ledger::open(&path, Access::ReadWrite).map_err(|error| format!("it does not open: {error}"))?;
        let verification = ledger.verify().map_err(|error| format!("it can't be verified: {error}"))?;
        if !verification.is_sound() || verification.unreadable_total > 0 {
            let what = verification.damages.iter().chain(&verification.unreadable).next();
            return Err(format!("it is not sound: {}", what.map(ToString::to_string).unwrap_or_default()));
        }
        let found = Reference::read(&path)?;
        let upto = if promises.exact { usize::MAX } else { promises.size as usize };
        found.begins_with(promises.reference, upto)?;
        if promises.exact && found.size() > promises.reference.size() {
            return Err("it holds more than was recorded".into());
        }
        let event = Event::IncidentResolved { incident: "after the cut".into() };
        let actor = Actor::Machine("powercut".into());
        let at = Timestamp::from_second(1_900_000_000).map_err(|error| error.to_string())?;
        let appended = ledger
            .append_blocking(&actor, at, vec![event])
            .map_err(|error| format!("it can't be appended to: {error}"))?;
        let sequence = appended.first().map_or(0, |record| record.sequence);
        if sequence != found.size() + 1 || ledger.head().map_err(|error| error.to_string())?.size != sequence
        {
            tally.tell(format!("cut at step {}: the next record got {sequence}", promises.cut));
            return Err("the sequence does not go on".into());
        }
        Ok(found)
    }

    /// The binary opens it: `ledger verify` and `status`.
    fn run(&self, program: &Utf8Path) -> Result<(), String> {
        for words in [["ledger", "verify"].as_slice(), &["status"]] {
            let words = [words, &["--format", "json", "--project", self.folder.as_str()]].concat();
            let answer = process::ask(program, &words, &self.folder)?;
            if answer.code != Some(0) {
                return Err(format!(
                    "`trimtab {}` ended with {:?}: {}",
                    words.join(" "),
                    answer.code,
                    answer.text
                ));
            }
        }
        Ok(())
    }

    /// A manifest, so that the binary finds a project.
    pub(crate) fn copy_manifest(&self, project: &Utf8Path) -> Result<(), String> {
        let to = self.folder.join("trimtab.toml");
        std::fs::copy(project.join("trimtab.toml"), &to).map_err(|error| format!("{to}: {error}"))?;
        Ok(())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// How many records are promised at each step: what was promised up to there.
pub(crate) fn promised_at(promised: &BTreeMap<usize, u64>, cut: usize) -> u64 {
    promised.range(..cut).map(|(_, size)| *size).max().unwrap_or(0)
}
