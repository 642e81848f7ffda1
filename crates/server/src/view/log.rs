//! Events as lines: the decision log of a rollout, and the last events of the project.

use delivery::{Actor, Event, Recorded, Timestamp};
use rollout::state::State;
use serde::Serialize;

use super::when::When;
use crate::words::{self, Tone};

/// So many looks in a row with the same finding, and they are told as one.
const GROUP_MIN: usize = 3;

/// One event in words.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LineView {
    pub(crate) sequence: u64,
    pub(crate) at: When,
    pub(crate) actor: String,
    #[serde(skip)]
    person: bool,
    pub(crate) kind: &'static str,
    pub(crate) words: String,
    pub(crate) rollout: Option<String>,
    #[serde(skip)]
    pub(crate) tone: Tone,
}

impl LineView {
    pub(crate) fn of(recorded: &Recorded, state: &State, now: Timestamp) -> Self {
        let (tone, words) = words::event(&recorded.event, state);
        Self {
            sequence: recorded.sequence,
            at: When { at: recorded.at, now },
            actor: recorded.actor.to_string(),
            // Machines name themselves as they like, an address with an @ included.
            person: matches!(recorded.actor, Actor::Human(_)),
            kind: recorded.event.kind(),
            words,
            rollout: recorded.event.rollout().map(|rollout| rollout.to_string()),
            tone,
        }
    }

    pub(crate) fn icon(&self) -> &'static str {
        crate::icon::icon(self.tone.name())
    }

    pub(crate) fn tone_name(&self) -> &'static str {
        self.tone.name()
    }

    /// Who, when that was a person.
    pub(crate) fn person(&self) -> Option<&str> {
        self.person.then_some(self.actor.as_str())
    }
}

/// Lines that say the same, newest first; usually one.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) lines: Vec<LineView>,
    /// What they all found.
    pub(crate) finding: &'static str,
}

impl Group {
    /// Names it as long as it grows.
    pub(crate) fn first(&self) -> u64 {
        self.lines.last().map_or(0, |line| line.sequence)
    }

    pub(crate) fn newest(&self) -> Option<&LineView> {
        self.lines.first()
    }

    pub(crate) fn is_many(&self) -> bool {
        self.lines.len() > 1
    }
}

/// The events in lines, newest first, with looks that found the same drawn together.
pub(crate) fn groups(events: &[Recorded], state: &State, now: Timestamp) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let alike = |recorded: &Recorded| match &recorded.event {
        Event::RolloutJudged { evidence, step, sample, .. } => {
            Some((evidence.finding, *step, sample.is_some()))
        }
        _ => None,
    };
    for run in events.chunk_by(|a, b| alike(a).is_some() && alike(a) == alike(b)) {
        let finding = run.first().and_then(alike).map_or("", |(finding, ..)| words::finding(finding));
        let lines = run.iter().rev().map(|recorded| LineView::of(recorded, state, now));
        if run.len() >= GROUP_MIN {
            groups.push(Group { lines: lines.collect(), finding });
        } else {
            // Oldest first here, because the groups are turned round below.
            groups.extend(lines.rev().map(|line| Group { lines: vec![line], finding }));
        }
    }
    groups.reverse();
    groups
}
