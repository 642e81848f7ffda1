//! Whether the ledger keeps what the server acknowledged.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::figures::shop::{PATIENCE, Shop};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Events that were acknowledged.
    pub(super) acknowledged: usize,
    /// Of these, not in the ledger under the sequence that was told.
    pub(super) lost: usize,
    /// Reported events in the ledger.
    pub(super) recorded: usize,
    /// Of these, more than one of the same origin.
    pub(super) duplicates: usize,
}

/// Reads the whole ledger and the lists of what was acknowledged.
pub(super) fn compare(shop: &Shop, folder: &Utf8Path, lists: &[&Utf8PathBuf]) -> Result<Kept, String> {
    let mut shown = shop.start(&["ledger", "show", "--format", "json"], "ledger")?;
    if shown.wait(PATIENCE)?.is_none() {
        return Err(format!("the ledger can't be read: see {folder}"));
    }
    let mut kept = Kept::default();
    let (mut places, mut origins) = (HashMap::new(), HashSet::new());
    for line in lines(&shown.output)? {
        let Ok(value) = serde_json::from_str::<Value>(&line?) else { continue };
        let origin = &value["event"]["data"]["origin"];
        if let (Some(sequence), Some(source), Some(id)) =
            (value["sequence"].as_u64(), origin["source"].as_str(), origin["id"].as_str())
        {
            kept.recorded += 1;
            kept.duplicates += usize::from(!origins.insert(format!("{source} {id}")));
            places.insert(sequence, id.to_owned());
        }
    }
    for list in lists {
        for line in lines(list)? {
            let line = line?;
            let (sequence, id) = line.split_once(' ').ok_or_else(|| format!("{list}: {line}"))?;
            let found = sequence.parse().ok().and_then(|sequence: u64| places.get(&sequence));
            kept.acknowledged += 1;
            kept.lost += usize::from(found.is_none_or(|found| found != id));
        }
    }
    Ok(kept)
}

fn lines(path: &Utf8Path) -> Result<impl Iterator<Item = Result<String, String>>, String> {
    let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(BufReader::new(file).lines().map(|line| line.map_err(|error| error.to_string())))
}
