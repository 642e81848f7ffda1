//! What an edge must still know after it was killed, and the journal of what it did.
//!
//! `state.json` is replaced as a whole (temporary file, fsync, rename, fsync of the folder) before a command is acknowledged.
//! `effects.jsonl` gets one line for each effect that really took place; its last lines are part of the state too, so that a
//! death between the two files loses none. Once the state was renamed, what it says is so: a journal that can't be written
//! is reported and completed later. Invariant: the file on disk is always a whole state, the old one or the new one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Bound::{Excluded, Unbounded};

use camino::{Utf8Path, Utf8PathBuf};
use delivery::Digest;
use delivery::effect::{Command, Effect, Outcome, RevisionSpec};
use delivery::strategy::{OnExpiry, Sticky};
use delivery::traffic::Weight;
use delivery::{RevisionId, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};

use super::wire::{ExpiredStatus, Role};
use super::{EdgeConfig, Error};
use crate::process::Identity;

const VERSION: u32 = 1;
/// Rollouts whose outcomes are remembered; older ones can't have a controller any more.
const ROLLOUTS_MAX: usize = 64;
/// A state is a few kilobytes; beyond this it is not ours.
const STATE_BYTES_MAX: u64 = 16 << 20;
/// Journal lines that the state repeats.
const REPEATED_MAX: usize = 64;
/// Journal lines that wait for a journal that can't be written; the oldest go first.
const UNWRITTEN_MAX: usize = 10_000;
/// The journal becomes its own older half (`.1`) beyond this.
const JOURNAL_BYTES_MAX: u64 = 4 << 20;

/// The durable state, version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    /// Random, made once: marks this edge's processes.
    pub(super) key: String,
    /// How often an edge was started on it.
    pub(super) boots: u64,
    /// The port that was taken for port 0.
    pub(super) port: Option<u16>,
    /// The highest epoch seen.
    pub(super) epoch: u64,
    /// What should run.
    pub(super) revisions: BTreeMap<RevisionId, Record>,
    /// The raised weight.
    pub(super) exposure: Option<Exposure>,
    /// The raised weight that was taken back without a command.
    pub(super) expired: Option<ExpiredStatus>,
    /// Outcomes by rollout, oldest rollout first.
    applied: Vec<(RolloutId, BTreeMap<u32, Answer>)>,
    /// Number of the last journal entry.
    pub(super) entries: u64,
    /// The last journal entries, in case the journal lacks them.
    pub(super) recent: Vec<Entry>,
    /// Number of the last entry that is known to be in the journal.
    #[serde(skip)]
    pub(super) journalled: u64,
}

/// What a command was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Of the effect that was asked for.
    effect: Digest,
    pub(super) outcome: Outcome,
}

impl Answer {
    /// Whether it answers this effect.
    pub(super) fn is_to(&self, effect: &Effect) -> bool {
        self.effect == digest_of(effect)
    }
}

/// An effect as it came: its JSON has one form.
fn digest_of(effect: &Effect) -> Digest {
    // Plain data always has a JSON form.
    Digest::of(&serde_json::to_vec(effect).unwrap_or_default())
}

/// One revision that should run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) spec: RevisionSpec,
    pub(super) role: Role,
    /// Whether all its instances were ready once.
    pub(super) proven: bool,
    /// Leaders of its process groups, as far as known.
    pub(super) processes: Vec<Identity>,
}

/// A raised weight and the terms it was given on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Exposure {
    pub(super) rollout: RolloutId,
    pub(super) revision: RevisionId,
    pub(super) epoch: u64,
    pub(super) weight: Weight,
    pub(super) ttl_ms: u64,
    pub(super) on_expiry: OnExpiry,
    pub(super) sticky: Sticky,
}

/// One line of `effects.jsonl`: something that really happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// From 1, without gaps.
    pub(super) number: u64,
    /// When it had taken place.
    pub(super) at: Timestamp,
    /// How long it took from when the command was taken up, in milliseconds, where it takes long: a start, a retirement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) took_ms: Option<u64>,
    pub(super) boot: String,
    /// `start`, `set-weight`, `promote`, `retire`, `expire`, `lower`.
    pub(super) effect: String,
    pub(super) rollout: Option<RolloutId>,
    pub(super) sequence: Option<u32>,
    pub(super) epoch: Option<u64>,
    pub(super) revision: Option<RevisionId>,
    /// The canary's share after it, in hundredths of a percent.
    pub(super) weight: Weight,
    /// `applied` or `refused` for a start or a promotion; `applied` otherwise.
    pub(super) outcome: String,
}

impl State {
    fn new() -> Result<Self, io::Error> {
        let mut key = [0_u8; 12];
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self {
            version: VERSION,
            key: hex::encode(key),
            boots: 0,
            port: None,
            epoch: 0,
            revisions: BTreeMap::new(),
            exposure: None,
            expired: None,
            applied: Vec::new(),
            entries: 0,
            recent: Vec::new(),
            journalled: 0,
        })
    }

    /// What was answered to the command with these numbers.
    pub(super) fn answer(&self, rollout: &RolloutId, sequence: u32) -> Option<&Answer> {
        self.applied.iter().find(|(id, _)| id == rollout)?.1.get(&sequence)
    }

    /// Whether a younger command of the rollout was answered: this one comes too late, on a way that took longer.
    pub(super) fn overtaken(&self, rollout: &RolloutId, sequence: u32) -> bool {
        let younger = |outcomes: &BTreeMap<u32, Answer>| {
            outcomes.range((Excluded(sequence), Unbounded)).next().is_some()
        };
        self.applied.iter().any(|(id, outcomes)| id == rollout && younger(outcomes))
    }

    /// Records a command's outcome.
    pub(super) fn record(&mut self, command: &Command, outcome: Outcome) {
        let rollout = &command.rollout;
        if !self.applied.iter().any(|(id, _)| id == rollout) {
            if self.applied.len() == ROLLOUTS_MAX {
                self.applied.remove(0);
            }
            self.applied.push((rollout.clone(), BTreeMap::new()));
        }
        if let Some((_, outcomes)) = self.applied.iter_mut().find(|(id, _)| id == rollout) {
            let answer = Answer { effect: digest_of(&command.effect), outcome };
            outcomes.insert(command.sequence, answer);
        }
    }

    /// Takes an outcome back that could not be made durable.
    pub(super) fn unrecord(&mut self, command: &Command) {
        if let Some((_, outcomes)) = self.applied.iter_mut().find(|(id, _)| *id == command.rollout) {
            outcomes.remove(&command.sequence);
        }
    }

    /// Notes something that happened, to be journalled at the next save.
    pub(super) fn note(&mut self, mut entry: Entry) {
        self.entries += 1;
        entry.number = self.entries;
        self.recent.push(entry);
        let written = self.recent.first().is_some_and(|first| first.number <= self.journalled);
        if self.recent.len() > if written { REPEATED_MAX } else { UNWRITTEN_MAX } {
            self.recent.remove(0);
        }
    }

    /// Takes back the entry of a command that could not be made durable, if nothing was noted after it.
    pub(super) fn unnote(&mut self, command: &Command) {
        let own = |entry: &Entry| {
            entry.number > self.journalled
                && entry.rollout.as_ref() == Some(&command.rollout)
                && entry.sequence == Some(command.sequence)
        };
        if self.recent.last().is_some_and(own) {
            self.recent.pop();
            self.entries -= 1;
        }
    }

    /// The revision with this role.
    pub(super) fn with_role(&self, role: Role) -> Option<&RevisionId> {
        self.revisions.iter().find(|(_, record)| record.role == role).map(|(id, _)| id)
    }
}

/// The two files.
#[derive(Debug)]
pub(super) struct Storage {
    path: Utf8PathBuf,
    journal_path: Utf8PathBuf,
    /// Number of the last entry in the journal.
    journalled: u64,
}

impl Storage {
    /// Reads the state, or makes a new one; completes the journal.
    pub(super) fn open(config: &EdgeConfig) -> Result<(Self, State), Error> {
        let path = config.state_directory.join("state.json");
        let journal_path = config.state_directory.join("effects.jsonl");
        let mut state = match std::fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                State::new().map_err(Error::file("create", &path))?
            }
            Err(error) => return Err(Error::file("read", &path)(error)),
            Ok(metadata) if metadata.len() > STATE_BYTES_MAX => {
                return Err(Error::State { path, reason: format!("it has {} bytes", metadata.len()) });
            }
            Ok(_) => read(&path)?,
        };
        let journalled = last_number(&journal_path).map_err(Error::file("read", &journal_path))?;
        state.journalled = journalled;
        Ok((Self { path, journal_path, journalled }, state))
    }

    /// Makes the state durable. Blocks.
    pub(super) fn save(&mut self, state: &State) -> io::Result<()> {
        let text = serde_json::to_vec(state).map_err(io::Error::other)?;
        write_atomically(&self.path, &text)
    }

    /// Writes the entries of a durable state that the journal lacks; gives the number of the last one that it has. Blocks.
    pub(super) fn journal(&mut self, state: &State) -> io::Result<u64> {
        let news: Vec<&Entry> = state.recent.iter().filter(|e| e.number > self.journalled).collect();
        let Some(last) = news.last() else { return Ok(self.journalled) };
        let mut lines = Vec::new();
        for entry in &news {
            serde_json::to_writer(&mut lines, entry).map_err(io::Error::other)?;
            lines.push(b'\n');
        }
        let mut journal = File::options().create(true).append(true).open(&self.journal_path)?;
        let mut before = journal.metadata()?.len();
        if before > JOURNAL_BYTES_MAX {
            std::fs::rename(&self.journal_path, older(&self.journal_path))?;
            journal = File::options().create(true).append(true).open(&self.journal_path)?;
            before = 0;
        }
        if let Err(error) = journal.write_all(&lines).and_then(|()| journal.sync_data()) {
            // A half line would be repeated whole by the next save.
            let _ = journal.set_len(before);
            return Err(error);
        }
        self.journalled = last.number;
        Ok(self.journalled)
    }
}

/// The highest epoch that the edge with this state directory has seen, whether it runs or not; `None` where there was none.
pub fn epoch_seen(state_directory: &Utf8Path) -> Result<Option<u64>, Error> {
    let path = state_directory.join("state.json");
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", &path)(error)),
        Ok(_) => read(&path).map(|state| Some(state.epoch)),
    }
}

fn read(path: &Utf8Path) -> Result<State, Error> {
    let refuse = |reason: String| Error::State { path: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(Error::file("read", path))?;
    let version = serde_json::from_slice::<serde_json::Value>(&text)
        .map_err(|error| refuse(error.to_string()))?
        .get("version")
        .and_then(serde_json::Value::as_u64);
    match version {
        Some(version) if version == u64::from(VERSION) => {
            serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))
        }
        Some(version) => Err(refuse(format!("it is of version {version}, this Trimtab knows {VERSION}"))),
        None => Err(refuse("it has no version".into())),
    }
}

fn older(journal: &Utf8Path) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{journal}.1"))
}

/// The number of the journal's last entry; its older half has it when the younger was only just begun.
fn last_number(path: &Utf8Path) -> io::Result<u64> {
    match last_of(path)? {
        Some(number) => Ok(number),
        None => Ok(last_of(&older(path))?.unwrap_or(0)),
    }
}

/// The number in the file's last line that can be read; a torn line after it (power loss) is cut off.
fn last_of(path: &Utf8Path) -> io::Result<Option<u64>> {
    const TAIL_BYTES: u64 = 64 << 10;
    let mut file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    if whole < tail.len() {
        file.set_len(from + whole as u64)?;
    }
    let mut lines = tail[..whole].rsplit(|b| *b == b'\n');
    Ok(lines.find_map(|line| serde_json::from_slice::<Entry>(line).ok()).map(|entry| entry.number))
}

/// Replaces a file as a whole and durably.
pub(crate) fn write_atomically(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&temporary, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &tempfile::TempDir) -> EdgeConfig {
        let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        EdgeConfig {
            service: delivery::ServiceName::new("web").unwrap(),
            environment: delivery::EnvironmentName::new("test").unwrap(),
            listen: "127.0.0.1:0".into(),
            trusted_proxies: Vec::new(),
            override_header: None,
            haproxy: None,
            control_socket: root.join("s.sock"),
            state_directory: root.clone(),
            log_directory: root,
        }
    }

    fn entry() -> Entry {
        Entry {
            number: 0,
            at: Timestamp::UNIX_EPOCH,
            took_ms: None,
            boot: "b".into(),
            effect: "lower".into(),
            rollout: None,
            sequence: None,
            epoch: None,
            revision: None,
            weight: Weight::ZERO,
            outcome: "applied".into(),
        }
    }

    #[test]
    fn a_state_comes_back_and_the_journal_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        let (mut storage, mut state) = Storage::open(&config).unwrap();
        state.note(entry());
        storage.save(&state).unwrap();
        state.journalled = storage.journal(&state).unwrap();
        // Dies after the state, before the journal; a torn line is there as well.
        state.note(entry());
        write_atomically(&storage.path, &serde_json::to_vec(&state).unwrap()).unwrap();
        let mut journal = File::options().append(true).open(&storage.journal_path).unwrap();
        journal.write_all(b"{\"number\":").unwrap();
        let (mut storage, again) = Storage::open(&config).unwrap();
        assert_eq!(again, state);
        storage.journal(&again).unwrap();
        storage.journal(&again).unwrap();
        let lines = std::fs::read_to_string(&storage.journal_path).unwrap();
        let numbers: Vec<u64> =
            lines.lines().map(|line| serde_json::from_str::<Entry>(line).unwrap().number).collect();
        assert_eq!(numbers, [1, 2]);
    }

    #[test]
    fn a_journal_that_can_not_be_written_is_completed_later() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        let (mut storage, mut state) = Storage::open(&config).unwrap();
        std::fs::create_dir(&storage.journal_path).unwrap();
        for _ in 0..2 * REPEATED_MAX {
            state.note(entry());
            storage.save(&state).unwrap();
            storage.journal(&state).unwrap_err();
        }
        std::fs::remove_dir(&storage.journal_path).unwrap();
        assert_eq!(storage.journal(&state).unwrap(), 2 * REPEATED_MAX as u64);
        let lines = std::fs::read_to_string(&storage.journal_path).unwrap();
        assert_eq!(lines.lines().count(), 2 * REPEATED_MAX);
        // A line that can't be read does not make the last number 0, which would repeat everything.
        std::fs::write(&storage.journal_path, format!("{lines}{{}}\n")).unwrap();
        assert_eq!(Storage::open(&config).unwrap().1.journalled, 2 * REPEATED_MAX as u64);
    }

    #[test]
    fn a_full_journal_becomes_the_older_half() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        let (mut storage, mut state) = Storage::open(&config).unwrap();
        state.note(entry());
        storage.journal(&state).unwrap();
        let line = std::fs::read(&storage.journal_path).unwrap();
        let copies = JOURNAL_BYTES_MAX as usize / line.len() + 1;
        std::fs::write(&storage.journal_path, line.repeat(copies)).unwrap();
        state.note(entry());
        storage.journal(&state).unwrap();
        let lines = std::fs::read_to_string(&storage.journal_path).unwrap();
        assert_eq!(lines.lines().count(), 1);
        std::fs::remove_file(&storage.journal_path).unwrap();
        assert_eq!(last_number(&storage.journal_path).unwrap(), 1);
    }

    #[test]
    fn a_damaged_or_newer_state_is_refused_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        for text in ["{", "{\"version\":2}", "{}"] {
            std::fs::write(config.state_directory.join("state.json"), text).unwrap();
            let error = Storage::open(&config).unwrap_err();
            assert!(matches!(&error, Error::State { path, .. } if path.ends_with("state.json")), "{error}");
        }
    }

    #[test]
    fn outcomes_are_remembered_for_the_last_rollouts() {
        let mut state = State::new().unwrap();
        let rollouts: Vec<RolloutId> =
            (0..=ROLLOUTS_MAX).map(|n| RolloutId::new(format!("ro-{n:08}")).unwrap()).collect();
        let effect = |n: u32| Effect::Promote { revision: RevisionId::new(format!("rev-{n:08}")).unwrap() };
        for rollout in &rollouts {
            let command = Command { rollout: rollout.clone(), sequence: 1, epoch: 1, effect: effect(1) };
            state.record(&command, Outcome::Applied { detail: "x".into() });
        }
        assert_eq!(state.applied.len(), ROLLOUTS_MAX);
        assert_eq!(state.answer(&rollouts[0], 1), None);
        let answer = state.answer(&rollouts[ROLLOUTS_MAX], 1).unwrap();
        assert!(answer.is_to(&effect(1)) && !answer.is_to(&effect(2)));
        assert_eq!(state.answer(&rollouts[ROLLOUTS_MAX], 2), None);
    }
}
