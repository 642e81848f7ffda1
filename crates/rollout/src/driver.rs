//! Carries a planner's decisions out in a world and records what came of them.
//!
//! The only asynchronous part of this crate. Every round is the same, whether the rollout is new, under way or taken over
//! from a controller that died: catch up with the ledger, renew the grant, ask the planner, do that one thing.
//!
//! Invariants: an effect's intention is durable before the effect is asked for; a round that finds another controller in
//! charge ends without doing anything; when the ledger can't be written the canary loses its traffic before the error is
//! passed on (I12).

use std::time::Duration;

use delivery::clock::{Clock, millis_between};
use delivery::effect::{Command, Effect, Outcome};
use delivery::evidence::Finding;
use delivery::rollout::{RollbackCause, RolloutOutcome};
use delivery::seeded::{self, Bug};
use delivery::strategy::Step;
use delivery::traffic::Weight;
use delivery::{Actor, Event, Recorded, RolloutId, Timestamp};
use tokio::sync::watch;

use crate::follower::Follower;
use crate::planner::{self, Next};
use crate::progress::{Position, Rollout};
use crate::state::State;
use crate::watch::Watch;
use crate::world::{Renewal, Unreachable, World};

/// The wait before a platform that did not answer is asked again.
const RETRY: Duration = Duration::from_millis(250);
/// The longest sleep, so that a clock that was wrong once can't put a driver to sleep for good.
const SLEEP_MAX: Duration = Duration::from_secs(5);

/// The longest answer of a platform that is recorded.
const DETAIL_BYTES_MAX: usize = 2_000;

/// Why a driver stopped before the rollout ended.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The ledger failed. The canary was sent to weight 0 if it could be reached.
    #[error("the ledger can't be used")]
    Ledger(#[from] store::Error),
    /// Another controller took over.
    #[error("another controller (generation {epoch}) has taken over")]
    Fenced {
        /// Its generation.
        epoch: u64,
    },
    /// No such rollout is recorded.
    #[error("there is no rollout {0}")]
    Unknown(RolloutId),
}

/// What a driver tells while it works.
pub enum Notice<'a> {
    /// A record was added, by this driver or by somebody else.
    Recorded(&'a Recorded, &'a State),
    /// The platform did not answer; it is tried again.
    Trouble(&'a Unreachable),
}

/// A person's wish to stop, from outside the ledger (Ctrl-C).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Go on.
    Continue,
    /// Take the release back and end.
    TakeBack {
        /// Who wishes it.
        by: String,
    },
}

/// One controller's work on one rollout.
pub struct Driver<'a, W: World> {
    /// The ledger and its state.
    pub follower: &'a mut Follower,
    /// Where it happens.
    pub world: &'a mut W,
    /// The present.
    pub clock: &'a dyn Clock,
    /// This controller, for people: `trimtab ship (pid 4711)`.
    pub holder: String,
    /// Whether a person wants it stopped.
    pub wish: watch::Receiver<Wish>,
    /// Is told of everything.
    pub observe: &'a mut (dyn FnMut(Notice<'_>) + Send),
}

/// What this controller was given with its generation.
struct Charge {
    rollout: RolloutId,
    epoch: u64,
    watch: Watch,
    renewed: Option<Timestamp>,
    /// When the step that it is in began by the record, and when this controller first saw it there by its own clock.
    attended: Option<(Timestamp, Timestamp)>,
}

impl Charge {
    /// The present as far as this controller can vouch for it. A record from a clock that is ahead, or a controller that starts
    /// with such a clock, must not cut the stay at a step short that nobody measures by looking at it.
    fn vouched(&mut self, rollout: &Rollout, now: Timestamp, clock: Timestamp) -> Timestamp {
        let unmeasured = |step: &Step, position: Position| !step.analyse || position.resumed;
        if seeded::is(Bug::StayByLedgerTime) {
            return now;
        }
        let stay =
            rollout.step().zip(rollout.position).filter(|(step, position)| unmeasured(step, *position));
        let Some((_, position)) = stay else { return now };
        let seen = match self.attended {
            Some((since, seen)) if since == position.since => seen,
            _ => clock,
        };
        self.attended = Some((position.since, seen));
        let stayed = Duration::from_millis(millis_between(seen, clock));
        now.min(position.since.saturating_add(stayed).unwrap_or(Timestamp::MAX))
    }
}

impl<'a, W: World> Driver<'a, W> {
    /// Drives the rollout to its end and says how it ended.
    pub async fn drive(self, rollout: &RolloutId) -> Result<RolloutOutcome, DriveError> {
        let mut hand: Hand<'a, W> = Hand { driver: self, ahead: Duration::ZERO };
        match hand.rounds(rollout).await {
            Err(DriveError::Ledger(error)) => {
                // Nobody can record what we do from here on, so the only safe thing is less traffic.
                if seeded::is(Bug::NoLowerOnFailure) {
                    return Err(DriveError::Ledger(error));
                }
                if let Err(unreachable) = hand.driver.world.lower().await {
                    (hand.driver.observe)(Notice::Trouble(&unreachable));
                }
                Err(DriveError::Ledger(error))
            }
            end => end,
        }
    }
}

/// A driver at work.
struct Hand<'a, W: World> {
    driver: Driver<'a, W>,
    /// How far the ledger's time is ahead of our clock. Time goes on from there: if it stood still until our clock has
    /// caught up, nobody would look at the canary meanwhile.
    ahead: Duration,
}

impl<W: World> Hand<'_, W> {
    async fn rounds(&mut self, id: &RolloutId) -> Result<RolloutOutcome, DriveError> {
        if let Some(outcome) = self.rollout(id)?.outcome {
            return Ok(outcome);
        }
        let mut charge = self.acquire(id).await?;
        loop {
            if !seeded::is(Bug::NoCatchUp) {
                self.catch_up()?;
            }
            let rollout = self.rollout(id)?;
            if rollout.epoch > charge.epoch {
                return Err(DriveError::Fenced { epoch: rollout.epoch });
            }
            charge.watch.catch_up(rollout);
            if let Some(cause) = self.lapse(&mut charge).await? {
                self.withdraw(id, cause).await?;
                continue;
            }
            let rollout = self.rollout(id)?;
            let now = charge.vouched(rollout, self.now(), self.driver.clock.now());
            match planner::next(rollout, now) {
                Next::Done(outcome) => return Ok(outcome),
                Next::Apply { sequence, effect } => self.apply(&charge, sequence, effect).await?,
                Next::Look => self.look(&charge).await?,
                Next::Withdraw(cause) => self.withdraw(id, cause).await?,
                Next::Finish(outcome) => self.finish(id, outcome).await?,
                Next::Wait(until) => {
                    self.wait(&charge, until.duration_since(now).try_into().unwrap_or_default()).await?;
                }
            }
        }
    }

    fn rollout(&self, id: &RolloutId) -> Result<&Rollout, DriveError> {
        self.driver.follower.state().rollouts.get(id).ok_or_else(|| DriveError::Unknown(id.clone()))
    }

    fn catch_up(&mut self) -> Result<(), DriveError> {
        for recorded in self.driver.follower.catch_up()? {
            (self.driver.observe)(Notice::Recorded(&recorded, self.driver.follower.state()));
        }
        if let Some(last) = self.driver.follower.state().last_at {
            let ahead = last.duration_since(self.driver.clock.now());
            self.ahead = self.ahead.max(ahead.try_into().unwrap_or_default());
        }
        Ok(())
    }

    /// The present, never before the last record, so that a record gets the very time that was decided with.
    fn now(&self) -> Timestamp {
        let now = self.driver.clock.now().saturating_add(self.ahead).unwrap_or(Timestamp::MAX);
        self.driver.follower.state().last_at.map_or(now, |last| last.max(now))
    }

    /// Records what was decided about the rollout; false when somebody else recorded something about it first, so that
    /// the decision must be made again.
    async fn record(&mut self, id: &RolloutId, events: Vec<Event>) -> Result<bool, DriveError> {
        let id = id.clone();
        self.record_unless(events, move |event| event.rollout().as_ref() == Some(&id)).await
    }

    async fn record_unless(
        &mut self,
        events: Vec<Event>,
        unsettles: impl Fn(&Event) -> bool + Send + 'static,
    ) -> Result<bool, DriveError> {
        let (actor, at) = (Actor::Machine("trimtab".into()), self.now());
        match self.driver.follower.record(&actor, at, events, unsettles).await {
            Ok(recorded) => {
                for record in &recorded {
                    (self.driver.observe)(Notice::Recorded(record, self.driver.follower.state()));
                }
                Ok(true)
            }
            Err(store::Error::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn acquire(&mut self, id: &RolloutId) -> Result<Charge, DriveError> {
        loop {
            self.catch_up()?;
            let watch = Watch::over(self.rollout(id)?);
            let known = self.driver.follower.state().epoch_max;
            let epoch = match () {
                () if seeded::is(Bug::TakeoverWithoutEpoch) => known.max(1),
                () if seeded::is(Bug::EpochOfRollout) => self.rollout(id)?.epoch + 1,
                () => known + 1,
            };
            let holder = self.driver.holder.clone();
            let acquired = vec![Event::RolloutAcquired { rollout: id.clone(), epoch, holder }];
            // Generations are the ledger's: a controller of another rollout must not take the same one.
            let others = |event: &Event| matches!(event, Event::RolloutAcquired { .. });
            if self.record_unless(acquired, others).await? {
                return Ok(Charge { rollout: id.clone(), epoch, watch, renewed: None, attended: None });
            }
        }
    }

    /// Renews the grant when it is time, and says why the release must be taken back if the grant is gone or a person
    /// wants it.
    async fn lapse(&mut self, charge: &mut Charge) -> Result<Option<RollbackCause>, DriveError> {
        let rollout = self.rollout(&charge.rollout)?;
        let withdrawable = rollout.withdrawable();
        if (rollout.cause.is_some() && !seeded::is(Bug::RenewWhileWithdrawing)) || rollout.promoted {
            return Ok(None);
        }
        if let (true, Wish::TakeBack { by }) = (withdrawable, &*self.driver.wish.borrow()) {
            return Ok(Some(RollbackCause::Requested { by: by.clone(), reason: "interrupted".into() }));
        }
        let now = self.driver.clock.now();
        let interval = planner::renewal_interval(rollout);
        let due = charge.renewed.is_none_or(|at| now.duration_since(at).unsigned_abs() >= interval);
        let answered = rollout.pending.is_none();
        let held = planner::holds_grant(rollout)
            || (seeded::is(Bug::RenewWhileWithdrawing) && rollout.weight > Weight::ZERO);
        if !held || !due {
            return Ok(None);
        }
        match self.driver.world.renew(&charge.rollout, charge.epoch).await {
            Ok(Renewal::Held) => charge.renewed = Some(now),
            Ok(Renewal::Fenced { epoch }) => return Err(DriveError::Fenced { epoch }),
            // With an answer outstanding the splitter may hold another weight than the record says; that comes first.
            Ok(Renewal::Lapsed) if answered => return Ok(Some(RollbackCause::GrantExpired)),
            Ok(Renewal::Withdrawn { by, reason }) if answered => {
                return Ok(Some(RollbackCause::Requested { by, reason }));
            }
            Ok(Renewal::Lapsed | Renewal::Withdrawn { .. }) => {}
            Err(unreachable) => (self.driver.observe)(Notice::Trouble(&unreachable)),
        }
        Ok(None)
    }

    async fn apply(&mut self, charge: &Charge, sequence: u32, effect: Effect) -> Result<(), DriveError> {
        let epoch = if seeded::is(Bug::OldEpoch) { 1 } else { charge.epoch };
        let command = Command { rollout: charge.rollout.clone(), sequence, epoch, effect };
        if !self.intend(&command).await? {
            return Ok(());
        }
        let mut answer = self.driver.world.apply(&command).await;
        if seeded::is(Bug::TimeoutIsSuccess) {
            answer = answer.or_else(|_| Ok(Outcome::Applied { detail: String::new() }));
        } else if seeded::is(Bug::TimeoutIsRefusal) {
            answer = answer.or_else(|_| Ok(Outcome::Refused { detail: String::new() }));
        }
        let outcome = match answer {
            Ok(Outcome::Fenced { epoch }) => return Err(DriveError::Fenced { epoch }),
            Ok(outcome) => clipped(outcome),
            Err(unreachable) => {
                (self.driver.observe)(Notice::Trouble(&unreachable));
                tokio::time::sleep(RETRY).await;
                return Ok(());
            }
        };
        let rollout = self.rollout(&charge.rollout)?;
        // A refused raise is itself the decision to take the release back; what is left to say is that users met it.
        let incident = match &outcome {
            Outcome::Refused { detail }
                if raises(&command.effect)
                    && rollout.cause.is_none()
                    && rollout.milestones.exposed.is_some() =>
            {
                incident(rollout, &RollbackCause::PlatformRefused { detail: detail.clone() })
            }
            _ => None,
        };
        let mut events = vec![Event::EffectFinished { rollout: charge.rollout.clone(), sequence, outcome }];
        events.extend(incident);
        self.record_in_charge(&charge.rollout, events).await
    }

    /// Records that the command is about to be asked for, unless it is recorded; false when it must be decided anew.
    async fn intend(&mut self, command: &Command) -> Result<bool, DriveError> {
        let rollout = self.rollout(&command.rollout)?;
        if rollout.sequence == command.sequence || seeded::is(Bug::ActBeforeRecord) {
            return Ok(true);
        }
        let requested = vec![Event::EffectRequested { command: command.clone() }];
        if rollout.cause.is_none() && !seeded::is(Bug::RaiseWithoutBasis) {
            return self.record(&command.rollout, requested).await;
        }
        // Nothing that others record takes a decision to take it back away, so a busy ledger must not delay it.
        self.record_in_charge(&command.rollout, requested).await?;
        Ok(self.rollout(&command.rollout)?.pending.as_ref() == Some(command))
    }

    /// Records what holds whatever else was recorded meanwhile, unless another controller has taken over: one that stood still
    /// for long would otherwise record what the other has recorded, or decide for it. The next round finds out.
    async fn record_in_charge(&mut self, id: &RolloutId, events: Vec<Event>) -> Result<(), DriveError> {
        let id = id.clone();
        let taken_over = move |event: &Event| match event {
            Event::RolloutAcquired { rollout, .. } => *rollout == id,
            _ => false,
        };
        self.record_unless(events, taken_over).await.map(|_| ())
    }

    async fn look(&mut self, charge: &Charge) -> Result<(), DriveError> {
        let asked = self.now();
        let sample = match self.driver.world.sample(asked).await {
            Ok(sample) => Some(sample),
            Err(unreachable) => {
                (self.driver.observe)(Notice::Trouble(&unreachable));
                None
            }
        };
        let looked_at = self.now();
        let rollout = self.rollout(&charge.rollout)?;
        let Some(position) = rollout.position else { return Ok(()) };
        let evidence = charge.watch.judge(sample.as_ref(), looked_at);
        let (id, step) = (charge.rollout.clone(), position.step as u32);
        let (finding, signal) = (evidence.finding, evidence.signal.clone());
        let mut events = vec![Event::RolloutJudged { rollout: id, step, looked_at, sample, evidence }];
        if finding == Finding::Harm && !seeded::is(Bug::HarmIgnored) {
            events.extend(withdrawal(rollout, RollbackCause::Harm { signal }));
        }
        self.record(&charge.rollout, events).await.map(|_| ())
    }

    async fn withdraw(&mut self, id: &RolloutId, cause: RollbackCause) -> Result<(), DriveError> {
        let events = withdrawal(self.rollout(id)?, cause);
        self.record_in_charge(id, events).await
    }

    async fn finish(&mut self, id: &RolloutId, outcome: RolloutOutcome) -> Result<(), DriveError> {
        let rollout = self.rollout(id)?;
        let change = State::service_change(rollout);
        let mut events = vec![match outcome {
            RolloutOutcome::RolledBack => Event::ServiceRolledBack(change),
            RolloutOutcome::Completed if rollout.plan.stable.is_none() => Event::ServiceDeployed(change),
            RolloutOutcome::Completed => Event::ServiceUpgraded(change),
        }];
        if rollout.incident && !seeded::is(Bug::IncidentLeftOpen) {
            events.push(Event::IncidentResolved { incident: id.to_string() });
        }
        events.push(Event::RolloutFinished { rollout: id.clone(), outcome });
        self.record(id, events).await.map(|_| ())
    }

    async fn wait(&mut self, charge: &Charge, wait: Duration) -> Result<(), DriveError> {
        let rollout = self.rollout(&charge.rollout)?;
        let mut pause = wait.min(SLEEP_MAX);
        if planner::holds_grant(rollout) {
            pause = pause.min(planner::renewal_interval(rollout));
        }
        let size = self.driver.follower.state().size;
        tokio::select! {
            // In this order, so that a simulation of it can be repeated.
            biased;
            () = tokio::time::sleep(pause) => {}
            changed = self.driver.follower.ledger().changed(size) => { changed?; }
            () = heard(&mut self.driver.wish) => {}
        }
        Ok(())
    }
}

/// Ends when the wish changes; never, when nobody is left to change it.
async fn heard(wish: &mut watch::Receiver<Wish>) {
    if wish.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A platform's words, cut to what a record can hold with whatever else is said.
fn clipped(outcome: Outcome) -> Outcome {
    let clip = |mut detail: String| {
        if detail.len() > DETAIL_BYTES_MAX {
            detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
            detail.push('…');
        }
        detail
    };
    match outcome {
        Outcome::Applied { detail } => Outcome::Applied { detail: clip(detail) },
        Outcome::Refused { detail } => Outcome::Refused { detail: clip(detail) },
        fenced @ Outcome::Fenced { .. } => fenced,
    }
}

/// Whether the effect gives the release more traffic.
fn raises(effect: &Effect) -> bool {
    match effect {
        Effect::SetWeight { weight, .. } => *weight > Weight::ZERO,
        Effect::Promote { .. } => true,
        Effect::Start { .. } | Effect::Retire { .. } => false,
    }
}

/// Whether users met the release before it was taken back, or may have: the answer to its first raise may be lost.
fn harmed(rollout: &Rollout) -> bool {
    let raising = rollout.pending.as_ref().is_some_and(|command| raises(&command.effect));
    rollout.milestones.exposed.is_some() || raising
}

/// The events of deciding to take a release back; none when it is being taken back already, or when it is too late: see
/// [`Rollout::withdrawable`].
pub fn withdrawal(rollout: &Rollout, cause: RollbackCause) -> Vec<Event> {
    if !rollout.withdrawable() {
        return Vec::new();
    }
    let incident = incident(rollout, &cause);
    let mut events = vec![Event::RollbackRequested { rollout: rollout.plan.id.clone(), cause }];
    events.extend(incident);
    events
}

/// Opens an incident if users met the release and none is open.
fn incident(rollout: &Rollout, cause: &RollbackCause) -> Option<Event> {
    (harmed(rollout) && !rollout.incident).then(|| Event::IncidentDetected {
        incident: rollout.plan.id.to_string(),
        service: rollout.plan.revision.service.clone(),
        environment: rollout.plan.environment.name.clone(),
        rollout: Some(rollout.plan.id.clone()),
        summary: format!("{} {}: {cause}", rollout.plan.revision.service, rollout.plan.version),
    })
}
