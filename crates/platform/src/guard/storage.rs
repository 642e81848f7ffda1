//! What a guard keeps on disk: its memory, and the append-only record of what it did.
//!
//! `state.json` is replaced as a whole before a grant is acknowledged. `actions.jsonl` gets a line for everything that it did
//! by itself or for a person. Invariant: where the memory can't be written, the old one is removed, so that a guard that is
//! started later knows nothing rather than something that is over.

use std::fs::File;
use std::io::{self, Write as _};

use camino::Utf8PathBuf;
use delivery::traffic::Weight;
use delivery::{RolloutId, Timestamp};
use serde::{Deserialize, Serialize};

use super::watchman::Memory;
use crate::edge::write_atomically;

const VERSION: u32 = 1;

/// What the guard did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It gave a grant.
    Granted,
    /// A grant ran out, and its weight is to fall.
    Expired,
    /// A grant ran out, and its weight stays, because the environment says `hold`.
    Kept,
    /// A person asked for a rollback.
    Requested,
    /// It was started, and a grant from before could not be proven.
    Distrusted,
    /// HAProxy confirmed a lower share.
    Lowered,
    /// HAProxy does not answer while a drain is owed.
    Owed,
}

/// One line of `actions.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, by the wall clock.
    pub at: Timestamp,
    /// What.
    pub action: Action,
    /// Whose grant it is about.
    pub rollout: Option<RolloutId>,
    /// The canary's share at HAProxy before, where it was looked at.
    pub from: Option<Weight>,
    /// The canary's share at HAProxy after, or what is allowed from now on.
    pub to: Weight,
    /// One clause for people; empty where the action says it.
    pub detail: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    memory: Memory,
}

/// Both files.
#[derive(Debug)]
pub(super) struct Storage {
    state: Utf8PathBuf,
    actions: Utf8PathBuf,
}

impl Storage {
    /// In the folder; with what is known from before, which is nothing when it can't be read.
    pub(super) fn open(folder: &camino::Utf8Path) -> (Self, Memory) {
        let storage = Self { state: folder.join("state.json"), actions: folder.join("actions.jsonl") };
        let kept = std::fs::read(&storage.state).ok();
        let kept = kept.and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
        let memory = kept.filter(|kept| kept.version == VERSION).map(|kept| kept.memory).unwrap_or_default();
        (storage, memory)
    }

    /// Makes the memory durable. Blocks.
    pub(super) fn save(&self, memory: &Memory) -> io::Result<()> {
        let kept = Kept { version: VERSION, memory: memory.clone() };
        let saved = serde_json::to_vec(&kept)
            .map_err(io::Error::other)
            .and_then(|text| write_atomically(&self.state, &text));
        if saved.is_err() {
            // Works on a full disk too.
            let _ = std::fs::remove_file(&self.state);
        }
        saved
    }

    /// Appends to the record. Blocks.
    pub(super) fn append(&self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut file = File::options().create(true).append(true).open(&self.actions)?;
        file.write_all(&line)?;
        file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_written_is_forgotten_and_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let root = camino::Utf8Path::from_path(folder.path()).unwrap();
        let (storage, memory) = Storage::open(root);
        assert_eq!(memory, Memory::default());
        let known = Memory { boot_id: "one".into(), epoch: 3, ..Memory::default() };
        storage.save(&known).unwrap();
        assert_eq!(Storage::open(root).1, known);
        // A folder in the place of the temporary file: the write fails.
        std::fs::create_dir(storage.state.with_extension("new")).unwrap();
        storage.save(&Memory { epoch: 4, ..known }).unwrap_err();
        assert_eq!(Storage::open(root).1, Memory::default());
    }

    #[test]
    fn a_damaged_memory_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let root = camino::Utf8Path::from_path(folder.path()).unwrap();
        for text in ["{", "{\"version\":2,\"memory\":{}}", "{\"version\":1}"] {
            std::fs::write(root.join("state.json"), text).unwrap();
            assert_eq!(Storage::open(root).1, Memory::default(), "{text}");
        }
    }
}
