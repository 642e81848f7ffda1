//! The last kept entry and the last duration of each task, in one file.
//!
//! One read gives all that a no-op needs. Runs that end at the same time may overwrite each other's news; that only costs
//! time. Invariant: an entry given out was sealed by its hash.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use blake3::Hash;
use camino::Utf8Path;
use delivery::TaskName;

use super::entry::Entry;
use super::stat::State;
use super::write_in_place;
use crate::wire::{Reader, Writer};

/// First field of the file; another one means another format.
const FORMAT: u64 = 1;
/// Larger entries are read from their own file instead.
const ENTRY_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Clone)]
struct Record {
    duration_ms: u64,
    /// The key of the last kept entry.
    key: Option<Hash>,
    /// That entry; empty when it is too large.
    entry: Vec<u8>,
}

/// The files that tasks' last results hold: by path, each task with what it left there.
pub(crate) type Owners = HashMap<String, Vec<(String, State)>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    records: HashMap<String, Record>,
    /// Tasks with news since the file was read.
    news: BTreeSet<String>,
}

impl Latest {
    /// Reads the file; one that is absent, damaged or of another format counts as empty.
    pub(crate) fn read(path: &Utf8Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_default();
        let records =
            Reader::unseal(&bytes).and_then(|mut reader| Self::decode(&mut reader)).unwrap_or_default();
        Self { records, news: BTreeSet::new() }
    }

    fn decode(reader: &mut Reader<'_>) -> Option<HashMap<String, Record>> {
        if reader.number()? != FORMAT {
            return None;
        }
        let count = reader.count()?;
        let mut records = HashMap::with_capacity(count);
        for _ in 0..count {
            let task = reader.text()?;
            let duration_ms = reader.number()?;
            let key = match reader.number()? {
                0 => None,
                _ => Some(reader.hash()?),
            };
            records.insert(task, Record { duration_ms, key, entry: reader.bytes()?.to_vec() });
        }
        Some(records)
    }

    pub(crate) fn durations(&self) -> BTreeMap<TaskName, u64> {
        let named = |(task, record): (&String, &Record)| {
            Some((TaskName::new(task.as_str()).ok()?, record.duration_ms))
        };
        self.records.iter().filter_map(named).collect()
    }

    /// The key of the task's last kept entry.
    pub(crate) fn key(&self, task: &TaskName) -> Option<Hash> {
        self.records.get(task.as_str())?.key
    }

    /// The task's last kept entry, if it has this key.
    pub(crate) fn entry(&self, task: &TaskName, key: &Hash) -> Option<Entry> {
        let record = self.records.get(task.as_str()).filter(|record| record.key == Some(*key))?;
        Entry::decode(&record.entry)
    }

    /// What the last results hold; `read` gives the large ones.
    pub(crate) fn owners(&self, read: &dyn Fn(&Hash) -> Option<Entry>) -> Owners {
        let mut owners = Owners::new();
        for (task, record) in &self.records {
            let entry = Entry::decode(&record.entry).or_else(|| read(record.key.as_ref()?));
            for output in entry.into_iter().flat_map(|entry| entry.outputs) {
                owners.entry(output.path).or_default().push((task.clone(), output.state));
            }
        }
        owners
    }

    pub(crate) fn put(&mut self, task: &TaskName, key: Hash, duration_ms: u64, entry: Vec<u8>) {
        let entry = if entry.len() > ENTRY_BYTES_MAX { Vec::new() } else { entry };
        self.records.insert(task.as_str().to_owned(), Record { duration_ms, key: Some(key), entry });
        self.news.insert(task.as_str().to_owned());
    }

    pub(crate) fn learn_duration(&mut self, task: &TaskName, duration_ms: u64) {
        let fresh = Record { duration_ms, key: None, entry: Vec::new() };
        self.records.entry(task.as_str().to_owned()).or_insert(fresh).duration_ms = duration_ms;
        self.news.insert(task.as_str().to_owned());
    }

    /// The entry of this key is damaged.
    pub(crate) fn forget(&mut self, key: &Hash) {
        for (task, record) in &mut self.records {
            if record.key == Some(*key) {
                record.entry = Vec::new();
                self.news.insert(task.clone());
            }
        }
    }

    /// Writes the news over what is in the file by now.
    pub(crate) fn write(&mut self, path: &Utf8Path) -> io::Result<()> {
        if self.news.is_empty() {
            return Ok(());
        }
        let mut records = Self::read(path).records;
        for task in std::mem::take(&mut self.news) {
            if let Some(record) = self.records.get(&task) {
                records.insert(task, record.clone());
            }
        }
        let mut writer = Writer::default();
        writer.number(FORMAT);
        writer.number(records.len() as u64);
        for (task, record) in &records {
            writer.text(task);
            writer.number(record.duration_ms);
            writer.number(u64::from(record.key.is_some()));
            if let Some(key) = &record.key {
                writer.hash(key);
            }
            writer.bytes(&record.entry);
        }
        write_in_place(path, &writer.seal())
    }
}
