//! Applies commands, one after the other.
//!
//! Each is checked against the highest epoch and against what was applied before, then done, recorded and acknowledged.
//! Raising goes to disk first and then to the splitter; lowering goes to the splitter first and does not need the disk.
//! Invariant: a command that was acknowledged is never done again, and one that could not be recorded was not done, or only
//! lowered something.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use delivery::effect::{Command, Effect, Outcome, RevisionSpec};
use delivery::traffic::Weight;
use delivery::{Digest, RevisionId, text};
use tokio::time::Instant;

use super::host::{Books, Host};
use super::state::{Entry, Exposure, Record};
use super::wire::{ApplyRequest, Role};
use crate::grant::GrantError;
use crate::proxy::boottime;
use crate::supervisor::{Persistence, Revision};

/// Variables that every instance gets from the daemon's own environment, where they are set.
const BASE_VARIABLES: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// Looks a variable up in the daemon's own environment.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;
/// Computes an artifact folder's digest; the error is a clause for people.
pub type DigestOf<'a> = &'a dyn Fn(&Utf8Path) -> Result<Digest, String>;

/// Where commands are applied.
pub(super) struct Desk<'a> {
    pub(super) host: &'a Arc<Host>,
    pub(super) environment: Lookup<'a>,
    pub(super) digest_of: Option<DigestOf<'a>>,
}

impl Desk<'_> {
    /// Applies a command; the error says why nothing was done, and that it may be tried again.
    pub(super) async fn apply(&self, request: ApplyRequest) -> Result<Outcome, String> {
        let ApplyRequest { command, variables } = request;
        {
            let mut books = self.host.books();
            if let Err(GrantError::Fenced { epoch }) = books.grants.admit(command.epoch) {
                return Ok(Outcome::Fenced { epoch });
            }
            books.note_epoch();
            if let Some(outcome) = books.state.outcome(&command.rollout, command.sequence) {
                return Ok(outcome.clone());
            }
        }
        match &command.effect {
            Effect::Start { revision } => self.start(&command, revision, &variables).await,
            Effect::SetWeight { revision, weight, ttl_ms, on_expiry, sticky } => {
                let exposure = Exposure {
                    rollout: command.rollout.clone(),
                    revision: revision.clone(),
                    epoch: command.epoch,
                    weight: *weight,
                    ttl_ms: *ttl_ms,
                    on_expiry: *on_expiry,
                    sticky: sticky.clone(),
                };
                self.set_weight(&command, exposure).await
            }
            Effect::Promote { revision } => self.promote(&command, revision).await,
            Effect::Retire { revision, drain_ms } => self.retire(&command, revision, *drain_ms).await,
        }
    }

    async fn start(
        &self,
        command: &Command,
        spec: &RevisionSpec,
        offered: &BTreeMap<String, String>,
    ) -> Result<Outcome, String> {
        let began = Instant::now();
        if let Some(reason) = self.unstartable(spec) {
            return self.refuse(command, reason).await;
        }
        if self.host.books().running.contains_key(&spec.id) {
            return self.conclude(command, applied("it runs already"), None).await;
        }
        let (variables, secrets, missing) = variables_of(spec, self.environment, offered);
        let proof = {
            let mut books = self.host.books();
            let record =
                Record { spec: spec.clone(), role: Role::Canary, proven: false, processes: Vec::new() };
            books.state.revisions.insert(spec.id.clone(), record);
            let mut revision = Revision::start(
                spec.clone(),
                variables,
                &secrets,
                Persistence::ProveFirst,
                &self.host.around,
            );
            let proof = revision.proof();
            books.running.insert(spec.id.clone(), revision);
            proof
        };
        // A state that can't be written now still can't be written when the outcome is recorded.
        let proven = match self.host.save().await {
            Ok(()) => proof.await,
            Err(problem) => {
                self.drop_revision(&spec.id).await;
                return Err(problem);
            }
        };
        if let Err(reason) = proven {
            self.drop_revision(&spec.id).await;
            let entry = self.host.command_entry(command, "start", self.host.books().weight, "refused");
            return self.conclude(command, Outcome::Refused { detail: reason }, Some(entry)).await;
        }
        let weight = {
            let mut books = self.host.books();
            if let Some(record) = books.state.revisions.get_mut(&spec.id) {
                record.proven = true;
            }
            self.host.route(&books);
            books.weight
        };
        let took = text::duration(began.elapsed().as_millis() as u64);
        let mut detail =
            format!("{} ready in {took}", text::count(u64::from(spec.instances.max(1)), "instance"));
        if !missing.is_empty() {
            detail.push_str(&format!("; not set: {}", missing.join(", ")));
        }
        let entry = self.host.command_entry(command, "start", weight, "applied");
        let concluded = self.conclude(command, Outcome::Applied { detail }, Some(entry)).await;
        if concluded.is_err() {
            self.drop_revision(&spec.id).await;
        }
        concluded
    }

    /// Why the revision can't even be tried.
    fn unstartable(&self, spec: &RevisionSpec) -> Option<String> {
        let mut books = self.host.books();
        let other = books.state.with_role(Role::Canary).filter(|id| **id != spec.id).cloned();
        if let Some(other) = other {
            if books.weight > Weight::ZERO {
                return Some(format!("another canary, {other}, has {} of traffic", books.weight));
            }
            // Left behind by a rollout that is over: it has no traffic, and whoever started it may still retire it.
            if let Some(record) = books.state.revisions.get_mut(&other) {
                record.role = Role::Retiring;
            }
        }
        drop(books);
        let digest_of = self.digest_of?;
        match digest_of(&spec.directory) {
            Ok(digest) if digest == spec.digest => None,
            Ok(digest) => Some(format!(
                "the artifact in {} has digest {}, not {}",
                spec.directory,
                digest.short(),
                spec.digest.short()
            )),
            Err(reason) => Some(format!("the artifact in {} can't be checked: {reason}", spec.directory)),
        }
    }

    async fn set_weight(&self, command: &Command, wanted: Exposure) -> Result<Outcome, String> {
        let before = {
            let mut books = self.host.books();
            let is_canary = books.state.with_role(Role::Canary) == Some(&wanted.revision);
            if wanted.weight <= if is_canary { books.weight } else { Weight::ZERO } {
                self.lower_to(&mut books, command, &wanted, is_canary);
                drop(books);
                // What was lowered stays lowered: on a full disk the answer is given all the same.
                let _ = self.host.save().await;
                return Ok(applied(&format!("{} has {}", wanted.revision, wanted.weight)));
            }
            match self.may_raise(&mut books, &wanted, is_canary) {
                Err(GrantRefusal::Fenced(epoch)) => return Ok(Outcome::Fenced { epoch }),
                Err(GrantRefusal::Because(reason)) => {
                    drop(books);
                    return self.refuse(command, reason).await;
                }
                Ok(()) => {}
            }
            let outcome = applied(&format!("{} has {}", wanted.revision, wanted.weight));
            books.state.record(&command.rollout, command.sequence, outcome);
            let entry = self.host.command_entry(command, "set-weight", wanted.weight, "applied");
            books.state.note(entry);
            books.state.exposure.replace(wanted.clone())
        };
        let saved = self.host.save().await;
        let mut books = self.host.books();
        let still_wanted = books.state.exposure.as_ref() == Some(&wanted);
        if let Err(problem) = saved {
            books.state.unrecord(&command.rollout, command.sequence);
            books.state.unnote(command);
            if still_wanted {
                books.state.exposure = before;
            }
            return Err(problem);
        }
        if !still_wanted {
            // The kill switch or the timer was faster than the disk.
            let outcome = Outcome::Refused { detail: "its traffic was taken back at the same moment".into() };
            books.state.record(&command.rollout, command.sequence, outcome.clone());
            drop(books);
            self.host.save().await?;
            return Ok(outcome);
        }
        books.weight = wanted.weight;
        self.host.route(&books);
        Ok(applied(&format!("{} has {}", wanted.revision, wanted.weight)))
    }

    fn lower_to(&self, books: &mut Books, command: &Command, wanted: &Exposure, is_canary: bool) {
        if is_canary {
            books.weight = wanted.weight;
            if wanted.weight == Weight::ZERO {
                books.grants.settle(&command.rollout);
                books.state.exposure = None;
            } else if books.grants.give(boottime(), Books::grant_of(wanted)).is_ok() {
                books.state.exposure = Some(wanted.clone());
            }
            self.host.route(books);
        }
        let outcome = applied(&format!("{} has {}", wanted.revision, wanted.weight));
        books.state.record(&command.rollout, command.sequence, outcome);
        let entry = self.host.command_entry(command, "set-weight", wanted.weight, "applied");
        books.state.note(entry);
    }

    /// Checks a raise and takes its grant.
    fn may_raise(&self, books: &mut Books, wanted: &Exposure, is_canary: bool) -> Result<(), GrantRefusal> {
        let refuse = |reason: &str| Err(GrantRefusal::Because(reason.to_owned()));
        let expired = books.state.expired.as_ref().filter(|expired| expired.rollout == wanted.rollout);
        if let Some(expired) = expired {
            return Err(GrantRefusal::Because(format!("its traffic was taken back: {}", expired.cause)));
        }
        if !is_canary {
            return refuse("it is not running as the canary here");
        }
        if books.running.get(&wanted.revision).is_none_or(|revision| revision.addresses().is_empty()) {
            return refuse("none of its instances is ready");
        }
        match books.grants.give(boottime(), Books::grant_of(wanted)) {
            Ok(()) => Ok(()),
            Err(GrantError::Fenced { epoch }) => Err(GrantRefusal::Fenced(epoch)),
            Err(error) => Err(GrantRefusal::Because(error.to_string())),
        }
    }

    async fn promote(&self, command: &Command, id: &RevisionId) -> Result<Outcome, String> {
        let refusal = {
            let books = self.host.books();
            let expired = books.state.expired.as_ref().filter(|expired| expired.rollout == command.rollout);
            let ready = books.running.get(id).is_some_and(|revision| !revision.addresses().is_empty());
            match (books.state.revisions.get(id).map(|record| record.role), expired) {
                (Some(Role::Stable), _) => None,
                (Some(Role::Canary), Some(expired)) => {
                    Some(format!("its traffic was taken back: {}", expired.cause))
                }
                (Some(Role::Canary), None) if !ready => Some("none of its instances is ready".into()),
                (Some(Role::Canary), None) => None,
                (Some(Role::Retiring) | None, _) => Some("it is not running as the canary here".into()),
            }
        };
        if let Some(reason) = refusal {
            return self.refuse(command, reason).await;
        }
        let outcome = applied(&format!("{id} is stable"));
        let before = {
            let mut books = self.host.books();
            let before = books.state.clone();
            for (other, record) in &mut books.state.revisions {
                match record.role {
                    _ if other == id => record.role = Role::Stable,
                    Role::Stable => record.role = Role::Retiring,
                    Role::Canary | Role::Retiring => {}
                }
            }
            books.state.exposure = None;
            books.state.expired = None;
            books.state.record(&command.rollout, command.sequence, outcome.clone());
            let entry = self.host.command_entry(command, "promote", Weight::ZERO, "applied");
            books.state.note(entry);
            before
        };
        let saved = self.host.save().await;
        let mut books = self.host.books();
        if let Err(problem) = saved {
            let after = std::mem::replace(&mut books.state, before);
            // What others noted meanwhile (an expiry, the kill switch) stays in the journal.
            books.state.entries = after.entries;
            books.state.recent = after.recent;
            books.state.unnote(command);
            self.host.route(&books);
            return Err(problem);
        }
        books.grants.settle(&command.rollout);
        books.weight = Weight::ZERO;
        self.host.route(&books);
        Ok(outcome)
    }

    async fn retire(&self, command: &Command, id: &RevisionId, drain_ms: u64) -> Result<Outcome, String> {
        let began = Instant::now();
        let known = {
            let mut books = self.host.books();
            let role = books.state.revisions.get(id).map(|record| record.role);
            if role == Some(Role::Stable) {
                drop(books);
                return self.refuse(command, format!("{id} is the stable revision")).await;
            }
            if role == Some(Role::Canary) {
                books.weight = Weight::ZERO;
                books.grants.settle(&command.rollout);
                books.state.exposure = None;
            }
            if let Some(record) = books.state.revisions.get_mut(id) {
                record.role = Role::Retiring;
            }
            self.host.route(&books);
            role.is_some()
        };
        if !known {
            return self.conclude(command, applied("it was not running"), None).await;
        }
        let drained = self.host.splitter.drained(id, Duration::from_millis(drain_ms)).await;
        let left = self.host.splitter.in_flight(id);
        self.drop_revision(id).await;
        self.host.splitter.forget(id);
        let took = text::duration(began.elapsed().as_millis() as u64);
        let outcome = if drained {
            applied(&format!("drained and stopped in {took}"))
        } else {
            applied(&format!("stopped in {took}; {} cut off", text::count(left, "request")))
        };
        let entry = self.host.command_entry(command, "retire", self.host.books().weight, "applied");
        self.conclude(command, outcome, Some(entry)).await
    }

    /// Stops a revision and forgets it.
    async fn drop_revision(&self, id: &RevisionId) {
        let revision = self.host.books().running.remove(id);
        if let Some(revision) = revision {
            revision.stop().await;
        }
        let mut books = self.host.books();
        books.state.revisions.remove(id);
        self.host.route(&books);
    }

    async fn refuse(&self, command: &Command, detail: String) -> Result<Outcome, String> {
        self.conclude(command, Outcome::Refused { detail }, None).await
    }

    /// Makes an outcome durable; without that it is not given.
    async fn conclude(
        &self,
        command: &Command,
        outcome: Outcome,
        entry: Option<Entry>,
    ) -> Result<Outcome, String> {
        {
            let mut books = self.host.books();
            books.state.record(&command.rollout, command.sequence, outcome.clone());
            if let Some(entry) = entry {
                books.state.note(entry);
            }
        }
        let saved = self.host.save().await;
        if let Err(problem) = saved {
            let mut books = self.host.books();
            books.state.unrecord(&command.rollout, command.sequence);
            books.state.unnote(command);
            return Err(problem);
        }
        Ok(outcome)
    }
}

/// Why a weight is not raised.
enum GrantRefusal {
    Fenced(u64),
    Because(String),
}

fn applied(detail: &str) -> Outcome {
    Outcome::Applied { detail: detail.to_owned() }
}

/// An instance's environment, the values in it to mask, and the names to pass that are not set anywhere.
pub(super) fn variables_of(
    spec: &RevisionSpec,
    environment: Lookup<'_>,
    offered: &BTreeMap<String, String>,
) -> (BTreeMap<String, String>, Vec<String>, Vec<String>) {
    let mut variables: BTreeMap<String, String> =
        BASE_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), environment(name)?))).collect();
    variables.extend(spec.environment.clone());
    let (mut secrets, mut missing) = (Vec::new(), Vec::new());
    for name in &spec.pass {
        match offered.get(name).cloned().or_else(|| environment(name)) {
            Some(value) => {
                secrets.push(value.clone());
                variables.insert(name.clone(), value);
            }
            None => missing.push(name.clone()),
        }
    }
    (variables, secrets, missing)
}
