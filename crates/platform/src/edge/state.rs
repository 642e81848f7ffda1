//! What an edge must still know after it was killed, and the journal of what it did.
//!
//! `state.json` is replaced as a whole (temporary file, fsync, rename, fsync of the folder) before a command is acknowledged.
//! `effects.jsonl` gets one line for each effect that really took place; its last lines are part of the state too, so that a
//! death between the two files loses none. Invariant: the file on disk is always a whole state, the old one or the new one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use camino::{Utf8Path, Utf8PathBuf};
use delivery::effect::{Command, Outcome, RevisionSpec};
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
const UNWRITTEN_MAX: usize = 64;

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
    applied: Vec<(RolloutId, BTreeMap<u32, Outcome>)>,
    /// Number of the last journal entry.
    pub(super) entries: u64,
    /// The last journal entries, in case the journal lacks them.
    pub(super) recent: Vec<Entry>,
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
    pub(super) at: Timestamp,
    pub(super) boot: String,
    /// `start`, `set-weight`, `promote`, `retire`, `expire`, `lower`.
    pub(super) effect: String,
    pub(super) rollout: Option<RolloutId>,
    pub(super) sequence: Option<u32>,
    pub(super) epoch: Option<u64>,
    pub(super) revision: Option<RevisionId>,
    /// The canary's share after it, in hundredths of a percent.
    pub(super) weight: Weight,
    /// `applied` or `refused` for a start; `applied` otherwise.
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
        })
    }

    /// The outcome that was recorded for the command.
    pub(super) fn outcome(&self, rollout: &RolloutId, sequence: u32) -> Option<&Outcome> {
        self.applied.iter().find(|(id, _)| id == rollout)?.1.get(&sequence)
    }

    /// Records a command's outcome.
    pub(super) fn record(&mut self, rollout: &RolloutId, sequence: u32, outcome: Outcome) {
        if !self.applied.iter().any(|(id, _)| id == rollout) {
            if self.applied.len() == ROLLOUTS_MAX {
                self.applied.remove(0);
            }
            self.applied.push((rollout.clone(), BTreeMap::new()));
        }
        if let Some((_, outcomes)) = self.applied.iter_mut().find(|(id, _)| id == rollout) {
            outcomes.insert(sequence, outcome);
        }
    }

    /// Takes an outcome back that could not be made durable.
    pub(super) fn unrecord(&mut self, rollout: &RolloutId, sequence: u32) {
        if let Some((_, outcomes)) = self.applied.iter_mut().find(|(id, _)| id == rollout) {
            outcomes.remove(&sequence);
        }
    }

    /// Notes something that happened, to be journalled at the next save.
    pub(super) fn note(&mut self, mut entry: Entry) -> u64 {
        self.entries += 1;
        entry.number = self.entries;
        self.recent.push(entry);
        if self.recent.len() > UNWRITTEN_MAX {
            self.recent.remove(0);
        }
        self.entries
    }

    /// Takes back the entry of a command that could not be made durable, if nothing was noted after it.
    pub(super) fn unnote(&mut self, command: &Command) {
        let own = |entry: &Entry| {
            entry.rollout.as_ref() == Some(&command.rollout) && entry.sequence == Some(command.sequence)
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
        let state = match std::fs::metadata(&path) {
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
        Ok((Self { path, journal_path, journalled }, state))
    }

    /// Makes the state durable, then the journal entries that it notes. Blocks.
    pub(super) fn save(&mut self, state: &State) -> io::Result<()> {
        let text = serde_json::to_vec(state).map_err(io::Error::other)?;
        write_atomically(&self.path, &text)?;
        let news: Vec<&Entry> = state.recent.iter().filter(|e| e.number > self.journalled).collect();
        let Some(last) = news.last() else { return Ok(()) };
        let mut lines = Vec::new();
        for entry in &news {
            serde_json::to_writer(&mut lines, entry).map_err(io::Error::other)?;
            lines.push(b'\n');
        }
        let mut journal = File::options().create(true).append(true).open(&self.journal_path)?;
        let before = journal.metadata()?.len();
        if let Err(error) = journal.write_all(&lines).and_then(|()| journal.sync_data()) {
            // A half line would be repeated whole by the next save.
            let _ = journal.set_len(before);
            return Err(error);
        }
        self.journalled = last.number;
        Ok(())
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

/// The number of the journal's last whole line; a torn line after it (power loss) is cut off.
fn last_number(path: &Utf8Path) -> io::Result<u64> {
    const TAIL_BYTES: u64 = 64 << 10;
    let mut file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
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
    let last = tail[..whole].split(|b| *b == b'\n').rev().find(|line| !line.is_empty());
    Ok(last.and_then(|line| serde_json::from_slice::<Entry>(line).ok()).map_or(0, |entry| entry.number))
}

/// Replaces a file as a whole and durably.
pub(super) fn write_atomically(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
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
            control_socket: root.join("s.sock"),
            state_directory: root.clone(),
            log_directory: root,
        }
    }

    fn entry() -> Entry {
        Entry {
            number: 0,
            at: Timestamp::UNIX_EPOCH,
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
        // Dies after the state, before the journal; a torn line is there as well.
        state.note(entry());
        write_atomically(&storage.path, &serde_json::to_vec(&state).unwrap()).unwrap();
        let mut journal = File::options().append(true).open(&storage.journal_path).unwrap();
        journal.write_all(b"{\"number\":").unwrap();
        let (mut storage, again) = Storage::open(&config).unwrap();
        assert_eq!(again, state);
        storage.save(&again).unwrap();
        storage.save(&again).unwrap();
        let lines = std::fs::read_to_string(&storage.journal_path).unwrap();
        let numbers: Vec<u64> =
            lines.lines().map(|line| serde_json::from_str::<Entry>(line).unwrap().number).collect();
        assert_eq!(numbers, [1, 2]);
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
        for rollout in &rollouts {
            state.record(rollout, 1, Outcome::Applied { detail: "x".into() });
        }
        assert_eq!(state.applied.len(), ROLLOUTS_MAX);
        assert_eq!(state.outcome(&rollouts[0], 1), None);
        assert!(state.outcome(&rollouts[ROLLOUTS_MAX], 1).is_some());
        assert_eq!(state.outcome(&rollouts[ROLLOUTS_MAX], 2), None);
    }
}
