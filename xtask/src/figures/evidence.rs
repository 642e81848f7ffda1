//! What a ledger and an edge's journal say about rollouts, and what in it breaks a promise.
//!
//! Pure. Knows the promises, not the planner: it judges what was recorded and done, by whomever. Invariant: every fault is
//! named with the rollout and the record it was found at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use delivery::effect::{Command, Effect};
use delivery::evidence::Finding;
use delivery::rollout::{RolloutOutcome, RolloutPlan};
use delivery::traffic::Weight;
use delivery::{Event, Timestamp};
use serde_json::Value;

/// Two processes' clocks, each anchored to the wall clock when it started, may differ by this much.
const CLOCKS_APART: Duration = Duration::from_millis(50);

/// One record of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    pub(crate) event: Event,
}

impl Record {
    /// From a line of `trimtab ledger show --format json`.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("a record can't be read: {error}: {line}");
        let value: Value = serde_json::from_str(line).map_err(|error| wrong(&error))?;
        let at = value["at"].as_str().unwrap_or_default().parse().map_err(|error| wrong(&error))?;
        let event = serde_json::from_value(value["event"].clone()).map_err(|error| wrong(&error))?;
        Ok(Self { sequence: value["sequence"].as_u64().unwrap_or(0), at, event })
    }
}

/// One line of an edge's `effects.jsonl`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    /// When it had taken place.
    pub(crate) at: Timestamp,
    /// How long before that the edge had taken the command up.
    pub(crate) took: Duration,
    pub(crate) effect: String,
    pub(crate) rollout: Option<String>,
    pub(crate) sequence: Option<u32>,
    pub(crate) epoch: Option<u64>,
    pub(crate) weight: u16,
}

impl Entry {
    /// From its line.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("an entry can't be read: {error}: {line}");
        let value: Value = serde_json::from_str(line).map_err(|error| wrong(&error))?;
        Ok(Self {
            number: value["number"].as_u64().unwrap_or(0),
            at: value["at"].as_str().unwrap_or_default().parse().map_err(|error| wrong(&error))?,
            took: Duration::from_millis(value["took_ms"].as_u64().unwrap_or(0)),
            effect: value["effect"].as_str().unwrap_or_default().to_owned(),
            rollout: value["rollout"].as_str().map(str::to_owned),
            sequence: value["sequence"].as_u64().map(|sequence| sequence as u32),
            epoch: value["epoch"].as_u64(),
            weight: value["weight"].as_u64().unwrap_or(0) as u16,
        })
    }
}

/// Broken promises, each as a sentence.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Something was acknowledged or done, and no record of it is there.
    pub(crate) lost: Vec<String>,
    /// Something was done or recorded twice.
    pub(crate) duplicate: Vec<String>,
    /// Something did not come to its end.
    pub(crate) stuck: Vec<String>,
    /// More traffic than the plan allows, or earlier.
    pub(crate) above: Vec<String>,
}

impl Faults {
    /// Takes in another's.
    pub(crate) fn add(&mut self, other: Self) {
        self.lost.extend(other.lost);
        self.duplicate.extend(other.duplicate);
        self.stuck.extend(other.stuck);
        self.above.extend(other.above);
    }

    /// All sentences.
    pub(crate) fn all(&self) -> impl Iterator<Item = &String> {
        self.lost.iter().chain(&self.duplicate).chain(&self.stuck).chain(&self.above)
    }
}

/// What is known of one rollout.
struct Story<'a> {
    plan: &'a RolloutPlan,
    requests: BTreeMap<u32, (Timestamp, &'a Command)>,
    finished: BTreeSet<u32>,
    /// Raises asked for so far.
    raised: usize,
    /// A passing verdict was recorded since the last raise was asked for.
    safe: bool,
    withdrawn: bool,
    outcome: Option<RolloutOutcome>,
    changes: u32,
}

impl<'a> Story<'a> {
    fn new(plan: &'a RolloutPlan) -> Self {
        Self {
            plan,
            requests: BTreeMap::new(),
            finished: BTreeSet::new(),
            raised: 0,
            safe: false,
            withdrawn: false,
            outcome: None,
            changes: 0,
        }
    }

    fn id(&self) -> &str {
        self.plan.id.as_str()
    }

    /// Takes in a request, and checks it against plan and verdicts.
    fn request(&mut self, at: Timestamp, command: &'a Command, faults: &mut Faults) {
        let place = format!("{} effect {}", self.id(), command.sequence);
        if self.requests.insert(command.sequence, (at, command)).is_some() {
            faults.duplicate.push(format!("{place} was requested twice"));
        }
        let steps = &self.plan.environment.strategy.steps;
        let before = self.raised.checked_sub(1).and_then(|index| steps.get(index));
        let unproven = before.is_some_and(|step| step.analyse) && !self.safe;
        let mut demand = |holds: bool, words: &str| {
            if !holds {
                faults.above.push(format!("{place} {words}"));
            }
        };
        match &command.effect {
            Effect::SetWeight { weight, .. } if *weight > Weight::ZERO => {
                demand(!self.withdrawn, "raises the weight after it was to be taken back");
                demand(!unproven, "raises the weight without a passing verdict");
                let planned = steps.get(self.raised).map(|step| step.weight);
                demand(planned == Some(*weight), "is not the plan's next weight");
                self.raised += 1;
                self.safe = false;
            }
            Effect::Promote { .. } if self.plan.stable.is_some() => {
                demand(!self.withdrawn, "promotes after it was to be taken back");
                demand(!unproven, "promotes without a passing verdict");
                demand(self.raised == steps.len(), "promotes before the last step");
            }
            _ => {}
        }
    }

    /// The highest weight that was asked for, in hundredths of a percent.
    fn weight_max(&self) -> u16 {
        let weight = |(_, command): &(Timestamp, &Command)| match &command.effect {
            Effect::SetWeight { weight, .. } => weight.basis_points(),
            Effect::Promote { .. } => Weight::FULL.basis_points(),
            Effect::Start { .. } | Effect::Retire { .. } => 0,
        };
        self.requests.values().map(weight).max().unwrap_or(0)
    }
}

/// Judges whole rollouts: the records after sequence `base` and the journal after entry `journal_base`. `seen` is the
/// highest weight that was observed in force for each rollout.
pub(crate) fn examine(
    (base, records): (u64, &[Record]),
    (journal_base, journal): (u64, &[Entry]),
    seen: &BTreeMap<String, u16>,
) -> Faults {
    let mut faults = Faults::default();
    let stories = read(base, records, &mut faults);
    compare(journal_base, journal, &stories, &mut faults);
    for (id, weight) in seen {
        match stories.get(id.as_str()) {
            Some(story) if *weight <= story.weight_max() => {}
            Some(story) => faults.above.push(format!(
                "{id} had {weight} in force, asked for were {} hundredths of a percent",
                story.weight_max()
            )),
            None => faults.lost.push(format!("{id} had traffic, and is not in the ledger")),
        }
    }
    for story in stories.values() {
        conclude(story, journal, &mut faults);
    }
    faults
}

/// Folds the ledger, and checks what the ledger alone must hold.
fn read<'a>(base: u64, records: &'a [Record], faults: &mut Faults) -> BTreeMap<&'a str, Story<'a>> {
    let mut stories: BTreeMap<&str, Story<'_>> = BTreeMap::new();
    let mut epoch_max = 0;
    for (expected, record) in (base + 1..).zip(records) {
        if record.sequence != expected {
            faults.lost.push(format!("record {expected} is missing; {} follows", record.sequence));
            return stories;
        }
        let mut twice = |what: String| faults.duplicate.push(format!("record {expected}: {what}"));
        match &record.event {
            Event::RolloutPlanned { plan } => {
                let before = stories.insert(plan.id.as_str(), Story::new(plan));
                if before.is_some() {
                    twice(format!("{} was planned twice", plan.id));
                }
            }
            Event::RolloutAcquired { epoch, .. } => {
                if *epoch <= epoch_max {
                    twice(format!("epoch {epoch} was given twice"));
                }
                epoch_max = *epoch;
            }
            Event::EffectRequested { command } => match stories.get_mut(command.rollout.as_str()) {
                Some(story) => story.request(record.at, command, faults),
                None => faults.lost.push(format!("record {expected}: {} has no plan", command.rollout)),
            },
            Event::EffectFinished { rollout, sequence, .. } => {
                let Some(story) = stories.get_mut(rollout.as_str()) else { continue };
                if !story.finished.insert(*sequence) {
                    twice(format!("{rollout} effect {sequence} was finished twice"));
                }
                if !story.requests.contains_key(sequence) {
                    faults.lost.push(format!("{rollout} effect {sequence} has no request"));
                }
            }
            Event::RolloutJudged { rollout, step, evidence, .. } => {
                let Some(story) = stories.get_mut(rollout.as_str()) else { continue };
                let own = evidence.digest == story.plan.revision.digest && *step as usize + 1 == story.raised;
                story.safe = own && evidence.finding == Finding::Safe;
            }
            Event::RollbackRequested { rollout, .. } => {
                stories.entry(rollout.as_str()).and_modify(|story| story.withdrawn = true);
            }
            Event::RolloutFinished { rollout, outcome } => {
                let Some(story) = stories.get_mut(rollout.as_str()) else { continue };
                if story.outcome.replace(*outcome).is_some() {
                    twice(format!("{rollout} ended twice"));
                }
            }
            Event::ServiceDeployed(change)
            | Event::ServiceUpgraded(change)
            | Event::ServiceRolledBack(change) => {
                let Some(story) = stories.get_mut(change.rollout.as_str()) else { continue };
                story.changes += 1;
                if story.changes > 1 {
                    twice(format!("{} changed the service twice", change.rollout));
                }
            }
            _ => {}
        }
    }
    stories
}

/// Checks what really happened against what was asked for.
fn compare<'a>(base: u64, journal: &'a [Entry], stories: &BTreeMap<&'a str, Story<'a>>, faults: &mut Faults) {
    let mut done = BTreeSet::new();
    let mut lowered = BTreeSet::new();
    for (expected, entry) in (base + 1..).zip(journal) {
        if entry.number != expected {
            faults.lost.push(format!("journal entry {expected} is missing; {} follows", entry.number));
            return;
        }
        let Some(id) = entry.rollout.as_deref() else { continue };
        let raises = entry.weight > 0 && entry.effect == "set-weight" || entry.effect == "promote";
        if raises && lowered.contains(id) {
            faults.above.push(format!("journal entry {expected}: {id} got traffic after it was lowered"));
        }
        if entry.weight == 0 && matches!(entry.effect.as_str(), "set-weight" | "lower" | "expire") {
            lowered.insert(id);
        }
        let Some(sequence) = entry.sequence else { continue };
        if !done.insert((id, sequence)) {
            faults.duplicate.push(format!("{id} effect {sequence} was applied twice"));
        }
        let request = stories.get(id).and_then(|story| story.requests.get(&sequence));
        let Some((at, command)) = request else {
            faults.lost.push(format!("{id} effect {sequence} was applied, and no request is recorded"));
            continue;
        };
        if entry.at + CLOCKS_APART < *at {
            faults.lost.push(format!("{id} effect {sequence} was applied before it was recorded"));
        }
        let (name, weight) = match &command.effect {
            Effect::Start { .. } => ("start", None),
            Effect::SetWeight { weight, .. } => ("set-weight", Some(weight.basis_points())),
            Effect::Promote { .. } => ("promote", None),
            Effect::Retire { .. } => ("retire", None),
        };
        if entry.effect != name || weight.is_some_and(|weight| weight != entry.weight) {
            faults.above.push(format!(
                "{id} effect {sequence}: {name} {weight:?} was asked for, {} {} was done",
                entry.effect, entry.weight
            ));
        }
    }
}

/// Checks how a rollout ended.
fn conclude(story: &Story<'_>, journal: &[Entry], faults: &mut Faults) {
    let id = story.id();
    let own: Vec<&Entry> = journal.iter().filter(|entry| entry.rollout.as_deref() == Some(id)).collect();
    let promoted = own.iter().any(|entry| entry.effect == "promote");
    let weight = own.iter().rfind(|entry| entry.effect != "start").map_or(0, |entry| entry.weight);
    match story.outcome {
        None => faults.stuck.push(format!("{id} never ended")),
        Some(RolloutOutcome::Completed) if !promoted => {
            faults.stuck.push(format!("{id} completed without being promoted"));
        }
        Some(RolloutOutcome::RolledBack) if promoted || weight > 0 => {
            faults.above.push(format!("{id} was taken back and still has traffic"));
        }
        Some(_) => {}
    }
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
