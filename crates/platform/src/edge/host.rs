//! The edge's state in memory, and everything that may change it without a command: renewals, expiries, the kill switch,
//! instances that come and go.
//!
//! All of it is behind one short lock (the books); routes are always computed from the books while they are held, so the
//! front never follows an older decision. Saving takes the books' newest state in the order of the saves. Invariant: the
//! weight in force is never above that of a grant that is held, except under a grant that says `hold`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use delivery::effect::Command;
use delivery::strategy::{OnExpiry, Sticky};
use delivery::traffic::{Sample, Weight};
use delivery::{RevisionId, RolloutId};
use http::HeaderName;

use super::EdgeConfig;
use super::front::Front;
use super::state::{Entry, Exposure, State, Storage};
use super::wire::{ExpiredStatus, Lowered, Renewal, RevisionStatus, Role, Status};
use crate::grant::{Grant, GrantError, Grants};
use crate::guard::{self, Requested};
use crate::proxy::{Arm, RetryPolicy, Routes, boottime};
use crate::supervisor::{Revision, Surroundings};

/// One edge at work.
pub(super) struct Host {
    pub(super) config: EdgeConfig,
    pub(super) boot: String,
    /// The address really bound.
    pub(super) listen: String,
    pub(super) around: Arc<Surroundings>,
    pub(super) front: Front,
    override_header: Option<HeaderName>,
    books: Mutex<Books>,
    storage: Arc<tokio::sync::Mutex<Storage>>,
}

/// What is decided and what runs.
pub(super) struct Books {
    /// What is, or is about to be, on disk.
    pub(super) state: State,
    pub(super) grants: Grants,
    /// The canary's share in force.
    pub(super) weight: Weight,
    pub(super) running: BTreeMap<RevisionId, Revision>,
    pub(super) restoring: bool,
    pub(super) stopping: bool,
    storage_problem: Option<String>,
    /// The stable and the canary that are routed while other roles are on their way to the disk.
    frozen: Option<[Option<RevisionId>; 2]>,
}

impl Host {
    pub(super) fn new(
        config: EdgeConfig,
        boot: String,
        listen: String,
        around: Arc<Surroundings>,
        front: Front,
        (storage, state): (Storage, State),
    ) -> Self {
        let mut grants = Grants::new();
        // Nothing was seen before, so nothing is refused.
        let _ = grants.admit(state.epoch);
        let books = Books {
            state,
            grants,
            weight: Weight::ZERO,
            running: BTreeMap::new(),
            restoring: true,
            stopping: false,
            storage_problem: None,
            frozen: None,
        };
        let storage = Arc::new(tokio::sync::Mutex::new(storage));
        // The manifest's check let only names of headers pass.
        let override_header = config.override_header.as_ref().and_then(|name| name.parse().ok());
        Self { config, boot, listen, around, front, override_header, books: Mutex::new(books), storage }
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the newest state durable, then completes the journal. The error is a clause for people, and says that the old
    /// state is still the one on disk; a journal that lags behind is only shown in the status.
    pub(super) async fn save(&self) -> Result<(), String> {
        let mut storage = Arc::clone(&self.storage).lock_owned().await;
        let state = {
            let mut books = self.books();
            books.note_processes();
            books.state.clone()
        };
        let saved = tokio::task::spawn_blocking(move || {
            storage.save(&state)?;
            Ok::<_, std::io::Error>(storage.journal(&state))
        });
        let (result, problem) = match saved.await {
            Ok(Ok(Ok(journalled))) => {
                let mut books = self.books();
                books.state.journalled = journalled.max(books.state.journalled);
                (Ok(()), None)
            }
            Ok(Ok(Err(error))) => (Ok(()), Some(format!("the journal can't be written: {error}"))),
            Ok(Err(error)) => failed(&error),
            Err(error) => failed(&error),
        };
        self.books().storage_problem = problem;
        result
    }

    /// Gives the front what the books say.
    pub(super) fn route(&self, books: &Books) {
        let arm = |id: &RevisionId| Arm {
            revision: id.clone(),
            instances: books.running.get(id).map(Revision::addresses).unwrap_or_default(),
        };
        let exposure = books.state.exposure.as_ref();
        self.front.follow(Routes {
            stable: books.in_force(Role::Stable).map(arm),
            canary: books.in_force(Role::Canary).map(arm),
            weight: books.weight,
            sticky: exposure.map_or(Sticky::None, |exposure| exposure.sticky.clone()),
            retry: RetryPolicy::Off,
            override_header: self.override_header.clone(),
        });
    }

    /// Instances came or went: routes follow at once. Says whether the state on disk lacks them.
    pub(super) fn follow(&self) -> bool {
        let mut books = self.books();
        self.route(&books);
        books.note_processes()
    }

    /// Takes the canary's traffic back if its grant ran out. Says whether anything changed.
    pub(super) fn expire(&self) -> bool {
        let mut books = self.books();
        let Some(expiry) = books.grants.expire(boottime()) else { return false };
        if expiry.on_expiry == OnExpiry::Hold {
            return false;
        }
        self.take_back(&mut books, &expiry.rollout, "expire", "nobody renewed its grant", None)
    }

    /// Weight 0 without a command; the rollout will be told.
    fn take_back(
        &self,
        books: &mut Books,
        rollout: &RolloutId,
        effect: &str,
        cause: &str,
        requested: Option<Requested>,
    ) -> bool {
        books.weight = Weight::ZERO;
        self.route(books);
        books.grants.settle(rollout);
        let Some(exposure) = books.state.exposure.take_if(|exposure| exposure.rollout == *rollout) else {
            return false;
        };
        let at = self.around.clock.now();
        let entry = self.entry(effect, Some(&exposure), Weight::ZERO);
        books.state.note(entry);
        books.state.expired = Some(ExpiredStatus {
            rollout: exposure.rollout,
            weight: exposure.weight,
            at,
            cause: cause.to_owned(),
            requested,
        });
        true
    }

    /// The kill switch. It also stops a raise that is on its way to the disk.
    pub(super) fn lower(&self, to: Weight, requested: Option<Requested>) -> Lowered {
        let mut books = self.books();
        let from = books.weight;
        let raised = books.state.exposure.as_ref().map_or(from, |exposure| exposure.weight.max(from));
        if to >= raised {
            return Lowered { from, to: from };
        }
        let exposure = books.state.exposure.clone();
        match exposure {
            Some(exposure) if to == Weight::ZERO => {
                let cause = "the kill switch was used";
                self.take_back(&mut books, &exposure.rollout, "lower", cause, requested);
            }
            exposure => {
                books.weight = to.min(from);
                self.route(&books);
                let entry = self.entry("lower", exposure.as_ref(), books.weight);
                books.state.note(entry);
                if let Some(exposure) = &mut books.state.exposure {
                    exposure.weight = to;
                }
            }
        }
        Lowered { from, to: books.weight }
    }

    /// A promotion that was not made brought back an exposure, but its traffic was taken back meanwhile: its rollout is told.
    pub(super) fn note_lost_exposure(&self, books: &mut Books) {
        let weight = books.weight;
        let Some(exposure) = &mut books.state.exposure else { return };
        if weight > Weight::ZERO {
            exposure.weight = exposure.weight.min(weight);
        } else {
            let exposure = exposure.clone();
            self.take_back(
                books,
                &exposure.rollout,
                "lower",
                "its traffic was taken back during a promotion",
                None,
            );
        }
    }

    /// Takes a revision out of traffic for good, unless it is stable. Gives what it was; `None` if it does not run.
    pub(super) fn withdraw(&self, id: &RevisionId) -> Option<Role> {
        let mut books = self.books();
        let record = books.state.revisions.get_mut(id)?;
        let role = record.role;
        if role == Role::Stable {
            return Some(role);
        }
        record.role = Role::Retiring;
        if role == Role::Canary {
            books.weight = Weight::ZERO;
            if let Some(exposure) = books.state.exposure.take() {
                books.grants.settle(&exposure.rollout);
            }
        }
        self.route(&books);
        Some(role)
    }

    /// A controller's sign of life. The second value says whether the epoch rose and must be saved before the answer counts.
    pub(super) fn renew(&self, rollout: &RolloutId, epoch: u64) -> (Renewal, bool) {
        let mut books = self.books();
        if let Err(GrantError::Fenced { epoch }) = books.grants.admit(epoch) {
            return (Renewal::Fenced { epoch }, false);
        }
        let rose = books.note_epoch();
        if let Some(expired) = books.state.expired.as_ref().filter(|expired| expired.rollout == *rollout) {
            let ExpiredStatus { weight, at, cause, requested, .. } = expired.clone();
            return (Renewal::Expired { weight, at, cause, requested }, rose);
        }
        let now = boottime();
        let renewed = match books.grants.renew(now, rollout, epoch) {
            Err(GrantError::Expired { .. } | GrantError::Unknown { .. }) => {
                books.hold_again(now, rollout, epoch)
            }
            renewed => renewed,
        };
        let renewal = match renewed {
            Ok(remaining) => {
                if let Some(exposure) = &mut books.state.exposure {
                    exposure.epoch = epoch;
                }
                Renewal::Held { remaining_ms: remaining.as_millis() as u64 }
            }
            Err(GrantError::Fenced { epoch }) => Renewal::Fenced { epoch },
            Err(GrantError::Unknown { .. }) => Renewal::None,
            Err(GrantError::Expired { .. }) => {
                // It ran out between two looks of the timer.
                let weight = books.weight;
                self.take_back(&mut books, rollout, "expire", "nobody renewed its grant", None);
                let at = self.around.clock.now();
                Renewal::Expired { weight, at, cause: "nobody renewed its grant".into(), requested: None }
            }
        };
        (renewal, rose)
    }

    /// Renews at the guard, before anything is renewed here: the weight stays only as long as both hold. What the guard ended
    /// is taken back here too. The error says that it did not answer, so nothing was renewed.
    pub(super) async fn renew_at_guard(&self, rollout: &RolloutId, epoch: u64) -> Result<(), String> {
        let raised = self.books().state.exposure.as_ref().is_some_and(|raised| raised.rollout == *rollout);
        let Some(guard) = self.front.guard().filter(|_| raised) else { return Ok(()) };
        let (cause, requested) = match guard.renew(rollout, epoch).await.map_err(|error| error.to_string())? {
            // Our own books have seen that epoch too, or will refuse the renewal.
            guard::Answer::Held { .. } | guard::Answer::Fenced { .. } => return Ok(()),
            guard::Answer::None => ("the guard does not know its grant".to_owned(), None),
            guard::Answer::Ended { cause, .. } => (cause.to_string(), requested_by(&cause)),
        };
        self.take_back(&mut self.books(), rollout, "expire", &cause, requested);
        // It is in force; a full disk is shown in the status.
        let _ = self.save().await;
        Ok(())
    }

    pub(super) async fn sample(&self) -> Result<Sample, String> {
        self.front.sample(self.around.clock.now()).await
    }

    pub(super) fn status(&self) -> Status {
        let books = self.books();
        let state = &books.state;
        let raised = state.exposure.as_ref().filter(|_| books.weight > Weight::ZERO);
        let remaining = books.grants.deadline().map(|deadline| deadline.saturating_sub(boottime()));
        Status {
            listen: self.listen.clone(),
            listen_asked: self.config.listen.clone(),
            boot: self.boot.clone(),
            pid: std::process::id(),
            boots: state.boots,
            restoring: books.restoring,
            stopping: books.stopping,
            weight: books.weight,
            rollout: raised.map(|exposure| exposure.rollout.clone()),
            grant_remaining_ms: raised.and(remaining).map(|left| left.as_millis() as u64),
            on_expiry: raised.map(|exposure| exposure.on_expiry),
            expired: state.expired.clone(),
            epoch: state.epoch,
            revisions: books.revision_statuses(&self.front),
            front_problem: self.front.trouble(),
            storage_problem: books.storage_problem.clone(),
        }
    }

    /// A journal entry about a raised weight.
    fn entry(&self, effect: &str, exposure: Option<&Exposure>, weight: Weight) -> Entry {
        Entry {
            number: 0,
            at: self.around.clock.now(),
            took_ms: None,
            boot: self.boot.clone(),
            effect: effect.to_owned(),
            rollout: exposure.map(|exposure| exposure.rollout.clone()),
            sequence: None,
            epoch: exposure.map(|exposure| exposure.epoch),
            revision: exposure.map(|exposure| exposure.revision.clone()),
            weight,
            outcome: "applied".into(),
        }
    }

    /// A journal entry about a command.
    pub(super) fn command_entry(
        &self,
        command: &Command,
        effect: &str,
        weight: Weight,
        outcome: &str,
    ) -> Entry {
        Entry {
            number: 0,
            at: self.around.clock.now(),
            took_ms: None,
            boot: self.boot.clone(),
            effect: effect.to_owned(),
            rollout: Some(command.rollout.clone()),
            sequence: Some(command.sequence),
            epoch: Some(command.epoch),
            revision: Some(command.effect.revision().clone()),
            weight,
            outcome: outcome.to_owned(),
        }
    }
}

/// The person behind a guard's decision, where it was one.
pub(super) fn requested_by(cause: &guard::Cause) -> Option<Requested> {
    match cause {
        guard::Cause::Requested(requested) => Some(requested.clone()),
        guard::Cause::Expired | guard::Cause::Restarted => None,
    }
}

fn failed(error: &dyn std::fmt::Display) -> (Result<(), String>, Option<String>) {
    let problem = format!("the state can't be written: {error}");
    (Err(problem.clone()), Some(problem))
}

impl Books {
    /// The revision that is routed in this role.
    fn in_force(&self, role: Role) -> Option<&RevisionId> {
        match (&self.frozen, role) {
            (Some([stable, _]), Role::Stable) => stable.as_ref(),
            (Some([_, canary]), Role::Canary) => canary.as_ref(),
            _ => self.state.with_role(role),
        }
    }

    /// Keeps the present stable and canary routed, whatever the state says, until [`Books::thaw_roles`].
    pub(super) fn freeze_roles(&mut self) {
        self.frozen = Some([Role::Stable, Role::Canary].map(|role| self.state.with_role(role).cloned()));
    }

    /// The state's roles are in force again.
    pub(super) fn thaw_roles(&mut self) {
        self.frozen = None;
    }

    /// Copies the running processes into the state; says whether that changed it.
    fn note_processes(&mut self) -> bool {
        let mut changed = false;
        for (id, record) in &mut self.state.revisions {
            let now = self.running.get(id).map(Revision::processes).unwrap_or_default();
            if record.processes != now {
                record.processes = now;
                changed = true;
            }
        }
        changed
    }

    /// Copies the highest epoch into the state; says whether it rose.
    pub(super) fn note_epoch(&mut self) -> bool {
        let rose = self.grants.epoch() > self.state.epoch;
        self.state.epoch = self.grants.epoch();
        rose
    }

    /// The grant that an exposure asks for.
    pub(super) fn grant_of(exposure: &Exposure) -> Grant {
        Grant {
            rollout: exposure.rollout.clone(),
            epoch: exposure.epoch,
            ceiling: exposure.weight,
            ttl: Duration::from_millis(exposure.ttl_ms),
            on_expiry: exposure.on_expiry,
        }
    }

    /// A grant that says `hold` ran out and kept its weight: its controller is back and may go on.
    fn hold_again(&mut self, now: Duration, rollout: &RolloutId, epoch: u64) -> Result<Duration, GrantError> {
        let held = self.state.exposure.as_ref();
        let Some(exposure) = held.filter(|e| e.rollout == *rollout && e.on_expiry == OnExpiry::Hold) else {
            let raised = held.is_some_and(|exposure| exposure.rollout == *rollout);
            let rollout = rollout.clone();
            return Err(if raised {
                GrantError::Expired { rollout }
            } else {
                GrantError::Unknown { rollout }
            });
        };
        let grant = Self::grant_of(&Exposure { epoch, ..exposure.clone() });
        let ttl = grant.ttl;
        self.grants.give(now, grant).map(|()| ttl)
    }

    fn revision_statuses(&self, front: &Front) -> Vec<RevisionStatus> {
        let status = |(id, record): (&RevisionId, &super::state::Record)| {
            let revision = self.running.get(id)?;
            Some(RevisionStatus {
                id: id.clone(),
                role: record.role,
                log: revision.log_path(),
                missing: revision.missing().to_vec(),
                asked: front.asked(id),
                instances: revision.status(),
            })
        };
        self.state.revisions.iter().filter_map(status).collect()
    }
}
