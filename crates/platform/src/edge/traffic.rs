//! The commands that change who gets which traffic.
//!
//! Raising and promoting go to disk first and then to the splitter; lowering goes to the splitter first and does not need the
//! disk. While a change is on its way to the disk, the kill switch and the timer of the grant may come in between: they win.
//! Behind HAProxy a raise needs the guard's grant before all that.
//! Invariant: no weight is raised and no revision promoted before that is on disk.

use delivery::RevisionId;
use delivery::effect::{Command, Outcome};
use delivery::traffic::Weight;

use super::desk::{Desk, applied};
use super::front::Permit;
use super::host::{Books, Host};
use super::state::{Exposure, Record};
use super::wire::Role;
use crate::grant::GrantError;
use crate::proxy::boottime;

/// What came of looking at a weight.
enum Change {
    /// It is in force; only the record is missing.
    Lowered,
    /// It may be raised once it is on disk; with the exposure before it.
    Raising(Option<Exposure>),
    /// It can't be raised.
    Refused(String),
    /// A newer controller is in charge.
    Fenced(u64),
}

impl Desk<'_> {
    pub(super) async fn set_weight(&self, command: &Command, wanted: Exposure) -> Result<Outcome, String> {
        let done = applied(&format!("{} has {}", wanted.revision, wanted.weight));
        if wanted.weight > self.host.books().weight {
            match self.host.front.permit(&wanted).await {
                Permit::Granted => {}
                Permit::Fenced(epoch) => return Ok(Outcome::Fenced { epoch }),
                Permit::Refused(reason) => return self.refuse(command, reason).await,
            }
        }
        match self.begin_weight(command, &wanted, &done) {
            Change::Lowered => {
                // What was lowered stays lowered: on a full disk the answer is given all the same.
                let _ = self.host.save().await;
                Ok(done)
            }
            Change::Raising(before) => {
                let saved = self.host.save().await;
                if self.finish_raise(command, &wanted, before, saved)? {
                    return Ok(done);
                }
                self.refuse(command, "its traffic was taken back at the same moment".into()).await
            }
            Change::Refused(reason) => self.refuse(command, reason).await,
            Change::Fenced(epoch) => Ok(Outcome::Fenced { epoch }),
        }
    }

    /// Lowers at once, or takes the grant of a raise and notes it.
    fn begin_weight(&self, command: &Command, wanted: &Exposure, done: &Outcome) -> Change {
        let mut books = self.host.books();
        let is_canary = books.state.with_role(Role::Canary) == Some(&wanted.revision);
        let in_force = if is_canary { books.weight } else { Weight::ZERO };
        let change = if wanted.weight <= in_force {
            if is_canary {
                lower_to(self.host, &mut books, wanted);
            }
            Change::Lowered
        } else {
            match may_raise(&mut books, wanted, is_canary) {
                Ok(()) => Change::Raising(books.state.exposure.replace(wanted.clone())),
                Err(refusal) => return refusal,
            }
        };
        books.state.record(command, done.clone());
        let entry = self.host.command_entry(command, "set-weight", wanted.weight, "applied");
        books.state.note(entry);
        change
    }

    /// Puts a raise in force that is on disk; `false` when the kill switch or the timer was faster than the disk.
    fn finish_raise(
        &self,
        command: &Command,
        wanted: &Exposure,
        before: Option<Exposure>,
        saved: Result<(), String>,
    ) -> Result<bool, String> {
        let mut books = self.host.books();
        let still_wanted = books.state.exposure.as_ref() == Some(wanted);
        if let Err(problem) = saved {
            books.state.unrecord(command);
            books.state.unnote(command);
            if still_wanted {
                books.state.exposure = before;
            }
            return Err(problem);
        }
        if still_wanted {
            books.weight = wanted.weight;
            self.host.route(&books);
        }
        Ok(still_wanted)
    }

    pub(super) async fn promote(&self, command: &Command, id: &RevisionId) -> Result<Outcome, String> {
        let done = applied(&format!("{id} is stable"));
        match self.begin_promotion(command, id, &done) {
            Err(reason) => self.refuse(command, reason).await,
            Ok(before) => {
                let saved = self.host.save().await;
                if self.finish_promotion(command, before, saved)? {
                    return Ok(done);
                }
                self.refuse(command, "its traffic was taken back at the same moment".into()).await
            }
        }
    }

    /// Notes the new roles while the old ones stay in force. Gives what a failure to save must bring back.
    fn begin_promotion(&self, command: &Command, id: &RevisionId, done: &Outcome) -> Result<Before, String> {
        let mut books = self.host.books();
        let expired = books.state.expired.as_ref().filter(|expired| expired.rollout == command.rollout);
        let ready = books.running.get(id).is_some_and(|revision| !revision.addresses().is_empty());
        match (books.state.revisions.get(id).map(|record| record.role), expired) {
            (Some(Role::Canary), Some(expired)) => {
                return Err(format!("its traffic was taken back: {}", expired.cause));
            }
            (Some(Role::Canary), None) if !ready => return Err("none of its instances is ready".into()),
            (Some(Role::Stable), _) | (Some(Role::Canary), None) => {}
            (Some(Role::Retiring) | None, _) => return Err("it is not running as the canary here".into()),
        }
        let role = |(id, record): (&RevisionId, &Record)| (id.clone(), record.role);
        let before = Before {
            roles: books.state.revisions.iter().map(role).collect(),
            exposure: books.state.exposure.take(),
            weight: books.weight,
        };
        books.freeze_roles();
        for (other, record) in &mut books.state.revisions {
            match record.role {
                _ if other == id => record.role = Role::Stable,
                Role::Stable => record.role = Role::Retiring,
                Role::Canary | Role::Retiring => {}
            }
        }
        books.state.record(command, done.clone());
        let entry = self.host.command_entry(command, "promote", Weight::ZERO, "applied");
        books.state.note(entry);
        Ok(before)
    }

    /// Puts a promotion in force that is on disk, or takes it back whole; `false` when the kill switch or the timer was faster
    /// than the disk.
    fn finish_promotion(
        &self,
        command: &Command,
        before: Before,
        saved: Result<(), String>,
    ) -> Result<bool, String> {
        let mut books = self.host.books();
        books.thaw_roles();
        let lowered = books.weight < before.weight;
        if saved.is_ok() && !lowered {
            books.grants.settle(&command.rollout);
            books.weight = Weight::ZERO;
            self.host.route(&books);
            return Ok(true);
        }
        books.state.unrecord(command);
        if saved.is_ok() {
            // Its entry may be in the journal already: another one says what became of it.
            let entry = self.host.command_entry(command, "promote", books.weight, "refused");
            books.state.note(entry);
        } else {
            books.state.unnote(command);
        }
        for (id, role) in before.roles {
            if let Some(record) = books.state.revisions.get_mut(&id) {
                record.role = role;
            }
        }
        books.state.exposure = before.exposure;
        self.host.note_lost_exposure(&mut books);
        self.host.route(&books);
        saved.map(|()| false)
    }
}

/// What a promotion replaces.
struct Before {
    roles: Vec<(RevisionId, Role)>,
    exposure: Option<Exposure>,
    weight: Weight,
}

fn lower_to(host: &Host, books: &mut Books, wanted: &Exposure) {
    books.weight = wanted.weight;
    if wanted.weight == Weight::ZERO {
        books.grants.settle(&wanted.rollout);
        books.state.exposure = None;
    } else if books.grants.give(boottime(), Books::grant_of(wanted)).is_ok() {
        books.state.exposure = Some(wanted.clone());
    }
    host.route(books);
}

/// Checks a raise and takes its grant.
fn may_raise(books: &mut Books, wanted: &Exposure, is_canary: bool) -> Result<(), Change> {
    let refuse = |reason: &str| Err(Change::Refused(reason.to_owned()));
    let expired = books.state.expired.as_ref().filter(|expired| expired.rollout == wanted.rollout);
    if let Some(expired) = expired {
        return Err(Change::Refused(format!("its traffic was taken back: {}", expired.cause)));
    }
    if !is_canary {
        return refuse("it is not running as the canary here");
    }
    if books.running.get(&wanted.revision).is_none_or(|revision| revision.addresses().is_empty()) {
        return refuse("none of its instances is ready");
    }
    match books.grants.give(boottime(), Books::grant_of(wanted)) {
        Ok(()) => Ok(()),
        Err(GrantError::Fenced { epoch }) => Err(Change::Fenced(epoch)),
        Err(error) => Err(Change::Refused(error.to_string())),
    }
}
