//! What an edge's state was in the course of a recording, and whether an image holds one of those states, whole.
//!
//! Knows the two files by their documented form: `state.json` is replaced as a whole, `effects.jsonl` gets a line for each effect.
//! Invariant: the state after a cut is one that was there before it, not older than the last effect that was acknowledged, and
//! every effect that the ledger calls finished is in it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::acknowledged::Acknowledged;
use super::disk::Image;
use super::reference::Reference;
use super::steps::{Replay, Step};

const STATE: &str = "/state.json";

/// The states of all edges of a recording.
#[derive(Debug, Default)]
pub(crate) struct Chronicle {
    /// By path: when it was put in place, and its content.
    states: BTreeMap<String, Vec<(usize, Vec<u8>)>>,
    /// When an edge acknowledged an effect.
    acknowledged: Vec<usize>,
    /// Records that call an effect finished: their sequence, the rollout and the effect's number.
    finished: Vec<(u64, String, u64)>,
}

impl Chronicle {
    /// Goes through a recording and its ledger. It must have one edge at most, because an acknowledgement does not say whose it is.
    pub(crate) fn of(steps: &[Step], reference: &Reference) -> Result<Self, String> {
        let mut replay = Replay::new(true);
        let mut chronicle = Self { finished: finished(reference), ..Self::default() };
        for (at, step) in steps.iter().enumerate() {
            replay.step(step)?;
            match step {
                Step::Rename(_, to) if to.ends_with(STATE) => {
                    let content = replay.disk.content(to).unwrap_or_default();
                    chronicle.states.entry(to.clone()).or_default().push((at, content));
                }
                Step::Acknowledged(Acknowledged::Effect) => chronicle.acknowledged.push(at),
                _ => {}
            }
        }
        if chronicle.states.len() > 1 {
            return Err(format!("the recording has {} edges, not one", chronicle.states.len()));
        }
        if chronicle.states.is_empty() && !chronicle.acknowledged.is_empty() {
            return Err("an edge acknowledged an effect, but never wrote a state".into());
        }
        Ok(chronicle)
    }

    /// Whether every effect that so many records call finished was answered by this edge.
    fn remembered(&self, state: &Value, size: u64) -> Result<(), String> {
        let known = answered(state);
        let mut finished = self.finished.iter().filter(|(record, _, _)| *record <= size);
        match finished.find(|(_, rollout, number)| !known.contains(&(rollout.clone(), *number))) {
            Some((record, rollout, number)) => Err(format!(
                "has forgotten effect {number} of {rollout}, which record {record} calls finished"
            )),
            None => Ok(()),
        }
    }

    /// How many states there were.
    pub(crate) fn len(&self) -> usize {
        self.states.values().map(Vec::len).sum()
    }

    /// Judges an image of this moment, whose ledger holds so many records. Gives how many effects had been acknowledged.
    pub(crate) fn judge(&self, cut: usize, image: &Image, size: u64) -> Result<usize, String> {
        let Some((path, states)) = self.states.first_key_value() else { return Ok(0) };
        let acknowledged = self.acknowledged.iter().take_while(|at| **at < cut).count();
        let last = acknowledged.checked_sub(1).map(|index| self.acknowledged[index]);
        let Some(content) = image.get(path) else {
            return match last {
                Some(_) => Err(format!("{path} is gone, but {acknowledged} effects were acknowledged")),
                None => Ok(0),
            };
        };
        let before = states.iter().take_while(|(at, _)| *at < cut);
        let found = before.filter(|(_, state)| state == content).map(|(at, _)| *at).last();
        let found =
            found.ok_or_else(|| format!("{path} is no state that it ever had: {}", shortened(content)))?;
        let needed =
            last.and_then(|last| states.iter().map(|(at, _)| *at).take_while(|at| *at < last).last());
        if needed.is_some_and(|needed| found < needed) {
            return Err(format!("{path} is older than the last effect that was acknowledged"));
        }
        let state: Value = serde_json::from_slice(content).map_err(|error| format!("{path}: {error}"))?;
        self.remembered(&state, size).map_err(|fault| format!("{path} {fault}"))?;
        continues(&state, image, path)?;
        Ok(acknowledged)
    }
}

fn shortened(content: &[u8]) -> String {
    String::from_utf8_lossy(content).chars().take(120).collect()
}

/// Records that call an effect finished. A fenced command was answered, but not noted by the edge: whoever is in charge has
/// another epoch.
fn finished(reference: &Reference) -> Vec<(u64, String, u64)> {
    let records = reference.bodies().zip(1_u64..);
    let finished = records.filter_map(|(body, sequence)| {
        let record: Value = serde_json::from_slice(body).ok()?;
        let (kind, data) = (&record["event"]["kind"], &record["event"]["data"]);
        let noted = kind == "effect.finished" && data["outcome"]["outcome"] != "fenced";
        noted.then_some((sequence, data["rollout"].as_str()?.to_owned(), data["sequence"].as_u64()?))
    });
    finished.collect()
}

/// The effects that this state has an answer to.
fn answered(state: &Value) -> BTreeSet<(String, u64)> {
    let mut known: BTreeSet<(String, u64)> = BTreeSet::new();
    for pair in state["applied"].as_array().into_iter().flatten() {
        let rollout = pair[0].as_str().unwrap_or_default();
        for sequence in pair[1].as_object().into_iter().flat_map(|answers| answers.keys()) {
            known.insert((rollout.to_owned(), sequence.parse().unwrap_or(0)));
        }
    }
    known
}

/// Whether each effect is in the journal or in the state, so that the next start completes the journal.
fn continues(state: &Value, image: &Image, path: &str) -> Result<(), String> {
    let journal = path.replace(STATE, "/effects.jsonl");
    let mut numbers: BTreeSet<u64> = BTreeSet::new();
    for part in [format!("{journal}.1"), journal.clone()] {
        let text =
            image.get(&part).map(|content| String::from_utf8_lossy(content).into_owned()).unwrap_or_default();
        let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        numbers.extend(entries.filter_map(|entry| entry["number"].as_u64()));
    }
    let recent = state["recent"].as_array().into_iter().flatten();
    numbers.extend(recent.filter_map(|entry| entry["number"].as_u64()));
    let entries = state["entries"].as_u64().unwrap_or(0);
    match (1..=entries).find(|number| !numbers.contains(number)) {
        Some(number) => Err(format!("effect {number} of {entries} is neither in {journal} nor in the state")),
        None => Ok(()),
    }
}
