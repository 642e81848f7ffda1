//! Applies commands, one after the other.
//!
//! Each is checked against the highest epoch and against what was applied before, then done, recorded and acknowledged.
//! What changes traffic is in [`super::traffic`].
//! Invariant: a command that was acknowledged is never done again, and one that could not be recorded was not done, or only
//! lowered something.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use delivery::effect::{Command, Effect, Outcome, RevisionSpec};
use delivery::traffic::Weight;
use delivery::{RevisionId, text};
use tokio::time::Instant;

use super::host::Host;
use super::state::{Entry, Exposure, Record};
use super::wire::{ApplyRequest, Role};
use crate::grant::GrantError;
use crate::supervisor::{Persistence, Revision, Variables};

/// Variables that every instance gets from the daemon's own environment, where they are set.
const BASE_VARIABLES: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// Looks a variable up in the daemon's own environment.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where commands are applied.
pub(super) struct Desk<'a> {
    pub(super) host: &'a Arc<Host>,
    pub(super) environment: Lookup<'a>,
}

impl Desk<'_> {
    /// Applies a command; the error says why nothing was done, and that it may be tried again.
    pub(super) async fn apply(&self, request: ApplyRequest) -> Result<Outcome, String> {
        let outcome = self.carry_out(request).await?;
        // Also for an answer from before: it counts only while the front is as it says.
        self.host.front.settled().await?;
        Ok(outcome)
    }

    async fn carry_out(&self, request: ApplyRequest) -> Result<Outcome, String> {
        let ApplyRequest { command, variables } = request;
        {
            let mut books = self.host.books();
            if let Err(GrantError::Fenced { epoch }) = books.grants.admit(command.epoch) {
                return Ok(Outcome::Fenced { epoch });
            }
            books.note_epoch();
            if let Some(answer) = books.state.answer(&command.rollout, command.sequence) {
                return Ok(if answer.is_to(&command.effect) {
                    answer.outcome.clone()
                } else {
                    // Not recorded: the numbers belong to the effect that came first.
                    let detail =
                        format!("number {} of {} was another effect", command.sequence, command.rollout);
                    Outcome::Refused { detail }
                });
            }
        }
        if self.host.books().state.overtaken(&command.rollout, command.sequence) {
            // Such as a raise that arrives after the weight 0 which its controller asked for instead.
            let reason = format!("a younger command of {} was there first", command.rollout);
            return self.refuse(&command, reason).await;
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
        if let Some(reason) = self.host.front.lack_of_room(spec.instances.max(1)).await? {
            return self.refuse(command, reason).await;
        }
        if self.host.books().running.contains_key(&spec.id) {
            return self.conclude(command, applied("it runs already"), None).await;
        }
        let variables = variables_of(spec, self.environment, offered);
        let missing = variables.missing.clone();
        let proof = {
            let mut books = self.host.books();
            let record =
                Record { spec: spec.clone(), role: Role::Canary, proven: false, processes: Vec::new() };
            books.state.revisions.insert(spec.id.clone(), record);
            let around = &self.host.around;
            let mut revision = Revision::start(spec.clone(), variables, Persistence::ProveFirst, around);
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
            let entry = self.entry_since(began, command, "start", "refused");
            return self.conclude(command, Outcome::Refused { detail: reason }, Some(entry)).await;
        }
        {
            let mut books = self.host.books();
            if let Some(record) = books.state.revisions.get_mut(&spec.id) {
                record.proven = true;
            }
            self.host.route(&books);
        }
        let took = text::duration(began.elapsed().as_millis() as u64);
        let mut detail =
            format!("{} ready in {took}", text::count(u64::from(spec.instances.max(1)), "instance"));
        if !missing.is_empty() {
            detail = format!("{detail}; not set: {}", missing.join(", "));
        }
        let entry = self.entry_since(began, command, "start", "applied");
        let concluded = self.conclude(command, Outcome::Applied { detail }, Some(entry)).await;
        if concluded.is_err() {
            self.drop_revision(&spec.id).await;
        }
        concluded
    }

    /// Why the revision can't even be tried.
    fn unstartable(&self, spec: &RevisionSpec) -> Option<String> {
        if !spec.directory.is_dir() {
            return Some(format!("can't start: the folder {} does not exist", spec.directory));
        }
        let mut books = self.host.books();
        let other = books.state.with_role(Role::Canary).filter(|id| **id != spec.id).cloned()?;
        if books.weight > Weight::ZERO {
            return Some(format!("another canary, {other}, has {} of traffic", books.weight));
        }
        // Left behind by a rollout that is over: it has no traffic, and whoever started it may still retire it.
        if let Some(record) = books.state.revisions.get_mut(&other) {
            record.role = Role::Retiring;
        }
        None
    }

    async fn retire(&self, command: &Command, id: &RevisionId, drain_ms: u64) -> Result<Outcome, String> {
        let began = Instant::now();
        let role = match self.host.withdraw(id) {
            Some(Role::Stable) => return self.refuse(command, format!("{id} is the stable revision")).await,
            None => return self.conclude(command, applied("it was not running"), None).await,
            Some(role @ (Role::Canary | Role::Retiring)) => role,
        };
        // What still sends requests there must have heard of it.
        self.host.front.settled().await?;
        let (drained, left) = self.host.front.drained(id, role, Duration::from_millis(drain_ms)).await;
        self.drop_revision(id).await;
        let took = text::duration(began.elapsed().as_millis() as u64);
        let outcome = match left {
            _ if drained => applied(&format!("drained and stopped in {took}")),
            Some(left) => applied(&format!("stopped in {took}; {} cut off", text::count(left, "request"))),
            None => applied(&format!("stopped in {took}, after the whole time to drain")),
        };
        let entry = self.entry_since(began, command, "retire", "applied");
        self.conclude(command, outcome, Some(entry)).await
    }

    /// A journal entry about a command that was taken up at `began` and has just been carried out.
    fn entry_since(&self, began: Instant, command: &Command, effect: &str, outcome: &str) -> Entry {
        let weight = self.host.books().weight;
        let entry = self.host.command_entry(command, effect, weight, outcome);
        Entry { took_ms: Some(began.elapsed().as_millis() as u64), ..entry }
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
        self.host.front.forget(id);
        let running: Vec<RevisionId> = books.running.keys().cloned().collect();
        drop(books);
        let runs = |id: &str| running.iter().any(|revision| revision.as_str() == id);
        crate::log::prune(&self.host.config.log_directory, runs);
    }

    pub(super) async fn refuse(&self, command: &Command, detail: String) -> Result<Outcome, String> {
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
            books.state.record(command, outcome.clone());
            if let Some(entry) = entry {
                books.state.note(entry);
            }
        }
        let saved = self.host.save().await;
        if let Err(problem) = saved {
            let mut books = self.host.books();
            books.state.unrecord(command);
            books.state.unnote(command);
            return Err(problem);
        }
        Ok(outcome)
    }
}

pub(super) fn applied(detail: &str) -> Outcome {
    Outcome::Applied { detail: detail.to_owned() }
}

/// An instance's environment.
pub(super) fn variables_of(
    spec: &RevisionSpec,
    environment: Lookup<'_>,
    offered: &BTreeMap<String, String>,
) -> Variables {
    let base = BASE_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), environment(name)?)));
    let mut variables = Variables { values: base.collect(), ..Variables::default() };
    variables.values.extend(spec.environment.clone());
    for name in &spec.pass {
        match offered.get(name).cloned().or_else(|| environment(name)) {
            Some(value) => {
                variables.secrets.push(value.clone());
                variables.values.insert(name.clone(), value);
            }
            None => variables.missing.push(name.clone()),
        }
    }
    variables
}
