//! The fold of the ledger, with the small indexes that pages and streams need beside it.
//!
//! Leaves out the ledger's records themselves: a page that wants a rollout's events reads them by their sequences, so
//! memory grows with what is delivered and not with what was said about it. Invariant: everything here is the fold of the
//! ledger's first `state.size` records.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use delivery::report::Fact;
use delivery::{Event, Recorded, RolloutId, Timestamp};
use rollout::state::State;
use serde::Serialize;
use store::{Entry, Ledger};

/// Records that are read at once.
const READ_RECORDS: usize = 1_024;
/// Events that the Now page tells.
const NOTABLE_MAX: usize = 16;
/// Events that a stream which fell behind gets without reading the ledger.
const NOTICES_MAX: usize = 512;

/// What a stream says of an event.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    pub(crate) sequence: u64,
    pub(crate) data: Arc<str>,
}

#[derive(Serialize)]
struct NoticeData<'a> {
    sequence: u64,
    kind: &'a str,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<&'a str>,
}

impl Notice {
    /// The notice of a record.
    pub(crate) fn of(recorded: &Recorded) -> Self {
        let rollout = recorded.event.rollout();
        let data = NoticeData {
            sequence: recorded.sequence,
            kind: recorded.event.kind(),
            at: recorded.at,
            rollout: rollout.as_ref().map(RolloutId::as_str),
        };
        // Numbers and strings only: this can't fail.
        let data = serde_json::to_string(&data).unwrap_or_default();
        Self { sequence: recorded.sequence, data: data.into() }
    }
}

/// Where a rollout's events are, as ascending ranges of sequences.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// What happened: few, and all of it is told.
    pub(crate) told: Vec<RangeInclusive<u64>>,
    /// Looks at the traffic: as many as it takes.
    pub(crate) looks: Vec<RangeInclusive<u64>>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Chronicle {
    state: State,
    /// Where each rollout's events are.
    places: BTreeMap<RolloutId, Places>,
    /// The last events that people want to know of, newest last.
    notable: VecDeque<Recorded>,
    /// The last notices, ascending; all records after `notices_after` that could be read.
    notices: VecDeque<Notice>,
    notices_after: u64,
    /// Why the ledger can't be read now.
    pub(crate) trouble: Option<String>,
}

impl Chronicle {
    /// The fold of the whole ledger. Blocks.
    pub(crate) fn of(ledger: &Ledger) -> Result<Self, store::Error> {
        let mut chronicle = Self::default();
        while let Some(entries) = read(ledger, chronicle.state.size)? {
            chronicle.take(entries);
        }
        Ok(chronicle)
    }

    /// What the ledger says is true.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The last events that people want to know of, newest first.
    pub(crate) fn notable(&self) -> impl Iterator<Item = &Recorded> {
        self.notable.iter().rev()
    }

    /// Where the rollout's events are.
    pub(crate) fn places(&self, rollout: &RolloutId) -> Places {
        self.places.get(rollout).cloned().unwrap_or_default()
    }

    /// The notices after the sequence, at most so many; `None` when that is so far back that the ledger must be read.
    pub(crate) fn notices(&self, after: u64, most: usize) -> Option<Vec<Notice>> {
        if after < self.notices_after {
            return None;
        }
        let from = self.notices.partition_point(|notice| notice.sequence <= after);
        Some(self.notices.range(from..).take(most).cloned().collect())
    }

    /// Folds the entries in.
    pub(crate) fn take(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            match entry {
                Entry::Record(recorded) => self.record(recorded),
                Entry::Quarantined { sequence, reason } => self.state.quarantine(sequence, reason),
            }
        }
    }

    fn record(&mut self, recorded: Recorded) {
        self.state.apply(&recorded);
        if let Some(rollout) = recorded.event.rollout() {
            let places = self.places.entry(rollout).or_default();
            let look = matches!(recorded.event, Event::RolloutJudged { .. });
            let ranges = if look { &mut places.looks } else { &mut places.told };
            match ranges.last_mut() {
                Some(last) if *last.end() + 1 == recorded.sequence => {
                    *last = *last.start()..=recorded.sequence;
                }
                _ => ranges.push(recorded.sequence..=recorded.sequence),
            }
        }
        self.notices.push_back(Notice::of(&recorded));
        if self.notices.len() > NOTICES_MAX
            && let Some(dropped) = self.notices.pop_front()
        {
            self.notices_after = dropped.sequence;
        }
        if is_notable(&recorded.event) {
            self.notable.push_back(recorded);
            if self.notable.len() > NOTABLE_MAX {
                self.notable.pop_front();
            }
        }
    }
}

/// Whether one of them says that a person was erased.
pub(crate) fn erases(entries: &[Entry]) -> bool {
    let erases =
        |entry: &Entry| matches!(entry, Entry::Record(Recorded { event: Event::PersonErased { .. }, .. }));
    entries.iter().any(erases)
}

/// The entries after the sequence, at most some; `None` when there are none. Blocks.
pub(crate) fn read(ledger: &Ledger, after: u64) -> Result<Option<Vec<Entry>>, store::Error> {
    let entries = ledger.read(after, READ_RECORDS)?;
    Ok((!entries.is_empty()).then_some(entries))
}

/// Whether the Now page tells it: what began, what was decided, what ended.
fn is_notable(event: &Event) -> bool {
    match event {
        Event::RunFinished { .. }
        | Event::ReleaseCreated { .. }
        | Event::ApprovalGranted { .. }
        | Event::RolloutPlanned { .. }
        | Event::RolloutResumed { .. }
        | Event::RollbackRequested { .. }
        | Event::RolloutFinished { .. }
        | Event::IncidentDetected { rollout: None, .. }
        | Event::LedgerRestored { .. }
        | Event::Reported { fact: Fact::IncidentDetected { .. } | Fact::ServiceChanged { .. }, .. } => true,
        Event::GateJudged { verdict, .. } => !verdict.passed,
        _ => false,
    }
}
