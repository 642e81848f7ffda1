//! One rollout's state: the fold of the events that name it.
//!
//! Leaves out what to do next (`planner`) and how (`driver`). Invariant: the fold never fails; an event that does not fit
//! (a repetition, one that came too late) changes nothing.

use delivery::clock::millis_between;
use delivery::effect::{Command, Effect, Outcome};
use delivery::evidence::{self, Evidence};
use delivery::rollout::{RollbackCause, RolloutOutcome, RolloutPlan};
use delivery::seeded::{self, Bug};
use delivery::strategy::{OnInconclusive, Step};
use delivery::traffic::{Sample, Weight};
use delivery::{Event, Timestamp};

/// Of an ended rollout's looks, so many of the last are kept.
pub const LOOKS_KEPT_LAST: usize = 32;
/// And at most so many of those before them.
pub const LOOKS_KEPT_BEFORE: usize = 64;

/// One reading of the traffic and what it showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// When.
    pub at: Timestamp,
    /// During which step.
    pub step: usize,
    /// What was read.
    pub sample: Option<Sample>,
    /// What it showed.
    pub evidence: Evidence,
}

/// The step that a rollout is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Index into the strategy's steps.
    pub step: usize,
    /// When its weight was applied. A verdict's data begins here.
    pub since: Timestamp,
    /// A person let it go on without a verdict.
    pub resumed: bool,
}

/// Times that people and objectives ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Milestones {
    /// The new revision was ready.
    pub ready: Option<Timestamp>,
    /// It first got traffic.
    pub exposed: Option<Timestamp>,
    /// Taking it back was decided.
    pub decided: Option<Timestamp>,
    /// Its weight 0 was acknowledged.
    pub withdrawn: Option<Timestamp>,
    /// The rollout ended.
    pub finished: Option<Timestamp>,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// The plan, as recorded.
    pub plan: RolloutPlan,
    /// When it was recorded.
    pub planned_at: Timestamp,
    /// The controller in charge, for people.
    pub holder: Option<String>,
    /// That controller's fencing generation; 0 before there was one.
    pub epoch: u64,
    /// Number of the last command.
    pub sequence: u32,
    /// The last command, while the platform has not answered.
    pub pending: Option<Command>,
    /// The record of a command can't be read, so what the platform was asked is not known.
    pub blind: bool,
    /// Records since its last command that can't be read: each may have been one.
    pub unread: u32,
    /// The new revision's processes run.
    pub started: bool,
    /// Where it stands, once it has traffic.
    pub position: Option<Position>,
    /// The weight that the platform acknowledged last.
    pub weight: Weight,
    /// The highest weight that was asked for and not refused.
    pub weight_max: Weight,
    /// Traffic was asked for, whatever the answer. A platform that lost its memory refuses the second time what it did the first
    /// time, so a refusal does not show that there is none.
    pub raised: bool,
    /// The new revision is stable. The point of no return: a later rollback is a rollout of its own.
    pub promoted: bool,
    /// The revision that lost (the old one after a promotion, the new one after a rollback) is gone.
    pub retired: bool,
    /// When each step that was reached began.
    pub begun: Vec<Timestamp>,
    /// Every look at the traffic, oldest first. Of a rollout that has ended, some of them: see [`Self::looks_taken`].
    pub looks: Vec<Look>,
    /// How many looks there were. Once it has ended, only the last ones and some of those before are kept, so that memory grows
    /// with what was delivered and not with how long it was watched. The ledger has them all.
    pub looks_taken: usize,
    /// Why it is being taken back.
    pub cause: Option<RollbackCause>,
    /// Whether an incident was opened for it that is not closed.
    pub incident: bool,
    /// How it ended.
    pub outcome: Option<RolloutOutcome>,
    /// When things happened.
    pub milestones: Milestones,
}

impl Rollout {
    /// A rollout that has only been planned.
    pub fn planned(plan: RolloutPlan, at: Timestamp) -> Self {
        Self {
            plan,
            planned_at: at,
            holder: None,
            epoch: 0,
            sequence: 0,
            pending: None,
            blind: false,
            unread: 0,
            started: false,
            position: None,
            weight: Weight::ZERO,
            weight_max: Weight::ZERO,
            raised: false,
            promoted: false,
            retired: false,
            begun: Vec::new(),
            looks: Vec::new(),
            looks_taken: 0,
            cause: None,
            incident: false,
            outcome: None,
            milestones: Milestones::default(),
        }
    }

    /// The same without its looks, which are most of it: enough to decide whether it can be taken back.
    #[must_use]
    pub fn outline(&self) -> Self {
        let Self { plan, holder, pending, begun, cause, .. } = self;
        Self {
            plan: plan.clone(),
            holder: holder.clone(),
            pending: pending.clone(),
            begun: begun.clone(),
            cause: cause.clone(),
            looks: Vec::new(),
            ..*self
        }
    }

    /// Whether it has not ended.
    pub fn active(&self) -> bool {
        self.outcome.is_none()
    }

    /// The step that it is in.
    pub fn step(&self) -> Option<&Step> {
        self.position.and_then(|position| self.plan.environment.strategy.steps.get(position.step))
    }

    /// The last look of the step that it is in. An older step's look never promotes.
    pub fn verdict(&self) -> Option<&Look> {
        let position = self.position?;
        let any = seeded::is(Bug::VerdictOfOtherStep);
        self.looks.last().filter(|look| any || (look.step == position.step && look.at >= position.since))
    }

    /// Whether it serves, or the next answer could still make it serve. It is too late to take it back then: what serves is
    /// reverted by a rollout of its own.
    pub fn promoting(&self) -> bool {
        self.promoted || matches!(&self.pending, Some(Command { effect: Effect::Promote { .. }, .. }))
    }

    /// Whether asking to take it back has an effect now.
    pub fn withdrawable(&self) -> bool {
        if seeded::is(Bug::RollbackOnlyWatching) && self.position.is_none() {
            return false;
        }
        if seeded::is(Bug::RollbackWhilePromoting) && !self.promoted {
            return self.active() && self.cause.is_none();
        }
        self.active() && self.cause.is_none() && !self.promoting()
    }

    /// For how long an analysed step's traffic was looked at, in milliseconds: what a step's shortest stay and its deadline are
    /// measured by. Between two looks no more than [`Self::fresh_ms`] counts, so neither a controller that was away nor
    /// a record from a clock that is ahead makes a step longer than it was.
    pub fn watched_ms(&self, now: Timestamp) -> u64 {
        let Some(position) = self.position else { return 0 };
        let most = if seeded::is(Bug::WatchedByWallClock) { u64::MAX } else { self.fresh_ms() };
        let looks = self.looks.iter().rev().take_while(|look| look.at >= position.since);
        let (mut until, mut watched_ms) = (now, 0_u64);
        for at in looks.map(|look| look.at).chain([position.since]) {
            watched_ms = watched_ms.saturating_add(millis_between(at, until).min(most));
            until = at;
        }
        watched_ms
    }

    /// A look that is older than this, in milliseconds, says nothing about the present.
    pub fn fresh_ms(&self) -> u64 {
        let analysis = &self.plan.environment.strategy.analysis;
        analysis.silence_ms.max(analysis.interval_ms.saturating_mul(2))
    }

    /// Whether its step went without evidence for so long that it waits for a person, who may let it go on.
    pub fn held(&self, now: Timestamp) -> bool {
        let strategy = &self.plan.environment.strategy;
        let overdue = self.position.zip(self.step()).is_some_and(|(position, step)| {
            step.analyse && !position.resumed && self.watched_ms(now) >= step.deadline_ms
        });
        overdue && strategy.on_inconclusive == OnInconclusive::Hold && self.withdrawable()
    }

    /// Takes in one event that names this rollout.
    pub fn apply(&mut self, event: &Event, at: Timestamp) {
        if self.outcome.is_some() {
            return;
        }
        match event {
            Event::RolloutAcquired { epoch, holder, .. } if *epoch > self.epoch => {
                self.epoch = *epoch;
                self.holder = Some(holder.clone());
            }
            Event::EffectRequested { command } if command.sequence > self.sequence => {
                self.skip_to(command.sequence - 1);
                self.request(command, at);
            }
            Event::EffectFinished { sequence, outcome, .. } if *sequence >= self.sequence => {
                self.skip_to(*sequence);
                if let Some(command) = self.pending.take() {
                    self.settle(command, outcome, at);
                }
            }
            Event::RolloutJudged { step, looked_at, sample, evidence, .. } => {
                // A look that claims to be from after its record would count as fresh for ever.
                let (at, step) = ((*looked_at).min(at), *step as usize);
                self.looks.push(Look { at, step, sample: sample.clone(), evidence: evidence.clone() });
                self.looks_taken += 1;
            }
            // A step that is not held is watched: waving it through would end that.
            Event::RolloutResumed { step, .. } if self.held(at) => {
                if let Some(position) = &mut self.position
                    && position.step == *step as usize
                {
                    position.resumed = true;
                }
            }
            Event::RollbackRequested { cause, .. } if self.withdrawable() => {
                self.withdraw(cause.clone(), at);
            }
            Event::IncidentDetected { .. } => self.incident = true,
            Event::IncidentResolved { .. } => self.incident = false,
            Event::RolloutFinished { outcome, .. } => {
                self.outcome = Some(*outcome);
                self.milestones.finished = Some(at);
                self.thin();
            }
            _ => {}
        }
    }

    /// Keeps the last looks, those where a step or the splitter's counting begins or ends, so that what was counted in each
    /// stays the same, and some of those between, evenly.
    fn thin(&mut self) {
        let early = self.looks.len().saturating_sub(LOOKS_KEPT_LAST);
        let stride = early.div_ceil(LOOKS_KEPT_BEFORE).max(1);
        let mut kept: Vec<bool> =
            (0..self.looks.len()).map(|index| index >= early || index.is_multiple_of(stride)).collect();
        let mut before: Option<(usize, &Look)> = None;
        for (index, look) in self.looks.iter().enumerate().filter(|(_, look)| look.sample.is_some()) {
            let boot = |look: &Look| look.sample.as_ref().map(|sample| sample.boot.clone());
            let changed = |(_, last): &(usize, &Look)| last.step != look.step || boot(last) != boot(look);
            if before.as_ref().is_none_or(changed) {
                kept[index] = true;
                before.iter().for_each(|(last, _)| kept[*last] = true);
            }
            before = Some((index, look));
        }
        let mut kept = kept.into_iter();
        self.looks.retain(|_| kept.next().unwrap_or(true));
        self.looks.shrink_to_fit();
    }

    /// Takes in that commands up to this number were asked for. A number is never used for two commands: the platform would
    /// answer the second with what it said to the first.
    fn skip_to(&mut self, sequence: u32) {
        if sequence > self.sequence {
            self.sequence = sequence;
            self.pending = None;
            self.blind = true;
        }
    }

    /// Takes in that so many records can't be read, which may have been about this rollout.
    pub(crate) fn miss(&mut self, records: u64) {
        if self.active() {
            self.unread = self.unread.saturating_add(u32::try_from(records).unwrap_or(u32::MAX));
        }
    }

    /// The number of the next command, which none can have been asked for under.
    pub fn sequence_next(&self) -> u32 {
        self.sequence.saturating_add(self.unread).saturating_add(1)
    }

    /// Whether what the platform was asked may differ from what is recorded.
    pub fn doubtful(&self) -> bool {
        self.blind || self.unread > 0
    }

    fn withdraw(&mut self, cause: RollbackCause, at: Timestamp) {
        self.cause = Some(cause);
        self.milestones.decided = Some(at);
    }

    fn request(&mut self, command: &Command, at: Timestamp) {
        self.sequence = command.sequence;
        self.unread = 0;
        // The old revision is only ever retired after a promotion, whose record may be the one that can't be read.
        if matches!(&command.effect, Effect::Retire { revision, .. } if self.plan.stable.as_ref() == Some(revision))
        {
            self.promoted = true;
        }
        if let Effect::SetWeight { weight, .. } = &command.effect {
            self.weight_max = self.weight_max.max(*weight);
            self.raised |= *weight > Weight::ZERO;
            // Weight 0 is only ever asked for to take a release back. If the record of why is damaged, it still counts.
            if *weight == Weight::ZERO && self.cause.is_none() {
                let detail = "the record of why it is taken back can't be read".into();
                self.withdraw(RollbackCause::PlatformRefused { detail }, at);
            }
        }
        if matches!(&command.effect, Effect::Promote { .. }) {
            self.raised = true;
            if seeded::is(Bug::PromotedUnanswered) {
                self.applied(&command.effect, at);
                return;
            }
        }
        self.pending = Some(command.clone());
    }

    fn settle(&mut self, command: Command, outcome: &Outcome, at: Timestamp) {
        match outcome {
            Outcome::Applied { .. } => self.applied(&command.effect, at),
            Outcome::Refused { detail } => self.refused(&command.effect, detail, at),
            // The controller that was fenced stops; the newer one sends the command again under its own epoch.
            Outcome::Fenced { .. } => self.pending = Some(command),
        }
    }

    fn applied(&mut self, effect: &Effect, at: Timestamp) {
        match effect {
            Effect::Start { .. } => {
                self.started = true;
                self.milestones.ready = Some(at);
            }
            Effect::SetWeight { weight, .. } => {
                self.weight = *weight;
                if *weight == Weight::ZERO {
                    self.milestones.withdrawn = Some(at);
                } else {
                    self.position = Some(Position { step: self.begun.len(), since: at, resumed: false });
                    self.begun.push(at);
                    self.milestones.exposed.get_or_insert(at);
                }
            }
            Effect::Promote { .. } => {
                self.promoted = true;
                self.weight = Weight::FULL;
                self.weight_max = Weight::FULL;
                self.milestones.exposed.get_or_insert(at);
            }
            Effect::Retire { .. } => self.retired = true,
        }
    }

    /// A refusal is final for its effect. What takes a release back must not get stuck on one: a revision that the
    /// platform does not know is as good as gone.
    fn refused(&mut self, effect: &Effect, detail: &str, at: Timestamp) {
        match effect {
            Effect::Start { .. } if self.cause.is_none() => {
                self.withdraw(RollbackCause::StartFailed { detail: detail.to_owned() }, at);
            }
            Effect::Retire { .. } => self.retired = true,
            Effect::SetWeight { weight, .. } if *weight == Weight::ZERO => {
                self.weight = Weight::ZERO;
                self.milestones.withdrawn = Some(at);
            }
            Effect::Start { .. } | Effect::SetWeight { .. } | Effect::Promote { .. } => {
                self.weight_max = self.weight_reached();
                if self.cause.is_none() {
                    self.withdraw(RollbackCause::PlatformRefused { detail: detail.to_owned() }, at);
                }
            }
        }
    }

    /// The highest weight that the platform acknowledged.
    fn weight_reached(&self) -> Weight {
        let steps = &self.plan.environment.strategy.steps;
        let last = self.begun.len().checked_sub(1).and_then(|step| steps.get(step));
        last.map_or(Weight::ZERO, |step| step.weight)
    }

    /// Milliseconds from the first canary request's possibility to the acknowledged weight 0.
    pub fn exposure_ms(&self) -> Option<u64> {
        let until = self.milestones.withdrawn?;
        Some(millis_between(self.milestones.exposed?, until))
    }

    /// What the last look found, in one clause.
    pub fn finding(&self) -> &'static str {
        match self.verdict().map(|look| look.evidence.finding) {
            None => "no look yet",
            Some(evidence::Finding::Continue) => "not enough evidence yet",
            Some(evidence::Finding::Harm) => "worse than stable",
            Some(evidence::Finding::Safe) => "within the margins",
            Some(evidence::Finding::NoSignal) => "no signal",
            Some(evidence::Finding::RatioMismatch) => "traffic is not split as asked",
        }
    }
}
