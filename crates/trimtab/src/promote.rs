//! Brings a release into an environment: checks what keeps it out, plans, records the plan, drives it to its end.
//!
//! Used by `ship`, `rollback`, `server` and the demo alike, so there is one way into an environment.

use delivery::clock::{Clock, Seed};
use delivery::code::Code;
use delivery::effect::{Readiness, RevisionSpec};
use delivery::environment::Environment;
use delivery::release::Release;
use delivery::rollout::{RolloutOutcome, RolloutPlan};
use delivery::{Actor, Event, Problem, Recorded, ReleaseId, RevisionId, RolloutId, ServiceName};
use platform::edge::Role;
use rollout::driver::{DriveError, Driver, Notice, Wish};
use rollout::follower::Follower;
use rollout::{planning, promotion};
use store::{Lease, LeaseError};
use tokio::sync::watch;

use crate::edges;
use crate::output::Output;
use crate::project::{self, Project};
use crate::timeline;

/// Random ids.
pub(crate) struct SystemSeed;

impl Seed for SystemSeed {
    fn fill(&mut self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the system gives random bytes");
    }
}

/// What a controller works with.
pub(crate) struct Controller<'a> {
    /// The project.
    pub(crate) project: &'a Project,
    /// Its ledger and state.
    pub(crate) follower: Follower,
    /// The present.
    pub(crate) clock: &'a dyn Clock,
    /// Who asked for the work.
    pub(crate) actor: Actor,
    /// This process, for people.
    pub(crate) holder: String,
    /// Whether a person wants it stopped.
    pub(crate) wish: watch::Receiver<Wish>,
    /// Where the story is told.
    pub(crate) output: Output,
}

/// How a release came through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It serves there already.
    Already,
    /// A rollout ended.
    Ended(RolloutId, RolloutOutcome),
}

impl Controller<'_> {
    /// Records events for the actor, whatever else was recorded meanwhile.
    pub(crate) async fn record(&mut self, events: Vec<Event>) -> Result<(), Vec<Problem>> {
        self.follower
            .ledger()
            .append(&self.actor, self.clock.now(), events)
            .await
            .map_err(project::problems)?;
        self.tell()
    }

    /// Catches up and tells what is new.
    pub(crate) fn tell(&mut self) -> Result<(), Vec<Problem>> {
        let news = self.follower.catch_up().map_err(project::problems)?;
        self.tell_of(&news);
        Ok(())
    }

    /// Tells what was read.
    pub(crate) fn tell_of(&self, news: &[Recorded]) {
        let mut told = None;
        for recorded in news {
            if let Some(line) = timeline::line(recorded, self.follower.state(), &mut told) {
                self.output.talk(line);
            }
        }
    }

    /// The only controller for the service in the environment, for as long as the lease lives.
    pub(crate) fn lease(
        &self,
        service: &ServiceName,
        environment: &Environment,
    ) -> Result<Lease, Vec<Problem>> {
        let name = delivery::layout::lease_name(service, &environment.name);
        let leases = self.project.ledger.leases().map_err(project::problems)?;
        leases.acquire(&name, &self.holder).map_err(|error| match error {
            LeaseError::Held { holder } => vec![
                Problem::new(
                    Code::RolloutRunning,
                    format!("{holder} is already carrying {service} into {}", environment.name),
                )
                .hint("watch it with: trimtab status; take it back with: trimtab rollback"),
            ],
            LeaseError::Store(error) => vec![error.problem()],
            error @ LeaseError::Io(_) => {
                vec![Problem::new(Code::StoreUnavailable, "the lease can't be taken").because(&error)]
            }
        })
    }

    /// Carries the release into the environment. `again` lets in a release that was taken back there before.
    pub(crate) async fn promote(
        &mut self,
        release: &Release,
        environment: &Environment,
        again: bool,
    ) -> Result<Arrival, Vec<Problem>> {
        let service = release.artifact.service.clone();
        let lease = self.lease(&service, environment)?;
        self.finish_active(&service, environment, &lease).await?;
        let state = self.follower.state();
        let slot = state.slot(&service, &environment.name);
        let there = slot.filter(|slot| slot.current.as_ref() == Some(&release.id));
        if let Some(stable) = there.and_then(|slot| slot.stable.clone())
            && edges::bring_back(self.project, &service, environment, &stable).await?
        {
            let version = &release.version;
            self.output
                .talk(format!("              {service} {version} serves {} already", environment.name));
            return Ok(Arrival::Already);
        }
        if !again {
            self.refuse_taken_back(release, environment)?;
        }
        self.verify(release)?;
        self.check_blockers(release, environment)?;
        // A platform that can't be had is said before a rollout begins, not after.
        self.check_front(&service, environment).await?;
        let mut world = edges::host(self.project, &service, environment);
        let serves = self.serves(world.edge().await, &service, environment).await?;
        let plan = loop {
            let revision = self.revision(release)?;
            if let Some(plan) = self.plan(release, environment, revision, serves.as_ref(), None).await? {
                break plan;
            }
        };
        let outcome = self.drive(&plan.id, &lease).await?;
        Ok(Arrival::Ended(plan.id, outcome))
    }

    /// Takes back a release that serves: the one before it gets its own rollout.
    pub(crate) async fn revert(
        &mut self,
        bad: &Release,
        environment: &Environment,
    ) -> Result<Arrival, Vec<Problem>> {
        let service = bad.artifact.service.clone();
        let lease = self.lease(&service, environment)?;
        self.finish_active(&service, environment, &lease).await?;
        let state = self.follower.state();
        let previous = state.slot(&service, &environment.name).and_then(|slot| slot.previous.clone());
        let Some(good) = previous.and_then(|id| state.release(&id).cloned()) else {
            let message = format!("nothing served {} before {service} {}", environment.name, bad.version);
            return Err(vec![Problem::new(Code::NothingToRollBack, message)]);
        };
        self.verify(&good)?;
        // As in `promote`: what can't be carried out is not recorded.
        self.check_front(&service, environment).await?;
        let mut world = edges::host(self.project, &service, environment);
        let serves = self.serves(world.edge().await, &service, environment).await?;
        let mut direct = environment.clone();
        direct.strategy.kind = delivery::strategy::StrategyKind::Direct;
        direct.strategy.steps = vec![delivery::strategy::Step {
            weight: delivery::traffic::Weight::FULL,
            hold_ms: 0,
            deadline_ms: 0,
            analyse: false,
        }];
        // As it served, and not as today's manifest would start it: that may be what broke.
        let served = planning::served_as(self.follower.state(), &good, &environment.name).cloned();
        let revision = match served {
            Some(served) => RevisionSpec { directory: self.project.layout.revisions(), ..served },
            None => self.revision(&good)?,
        };
        let plan = loop {
            let reverts = Some(bad.id.clone());
            if let Some(plan) = self.plan(&good, &direct, revision.clone(), serves.as_ref(), reverts).await? {
                break plan;
            }
        };
        let outcome = self.drive(&plan.id, &lease).await?;
        Ok(Arrival::Ended(plan.id, outcome))
    }

    /// Ends the rollout that a controller before us left behind, if there is one.
    pub(crate) async fn finish_active(
        &mut self,
        service: &ServiceName,
        environment: &Environment,
        lease: &Lease,
    ) -> Result<(), Vec<Problem>> {
        self.tell()?;
        let active = self.follower.state().rollout_active(service, &environment.name);
        let Some(id) = active.map(|rollout| rollout.plan.id.clone()) else { return Ok(()) };
        self.output.talk(format!("going on with rollout {id}, which its controller left behind"));
        self.drive(&id, lease).await.map(|_| ())
    }

    fn refuse_taken_back(&self, release: &Release, environment: &Environment) -> Result<(), Vec<Problem>> {
        let Some(rollout) = self.follower.state().taken_back(release, &environment.name) else {
            return Ok(());
        };
        let cause = match &rollout.cause {
            Some(cause) => cause.to_string(),
            None => "a person put the release before it back".into(),
        };
        let message = format!(
            "{} {} was already taken back in {} ({}): {cause}",
            release.artifact.service, release.version, environment.name, rollout.plan.id
        );
        Err(vec![
            Problem::new(Code::RolledBack, message)
                .hint("mend it and commit, or try the same release again: trimtab ship --again"),
        ])
    }

    /// What keeps the release out, as problems.
    fn check_blockers(&self, release: &Release, environment: &Environment) -> Result<(), Vec<Problem>> {
        let (environments, policy) =
            (&self.project.manifest.environments, manifest::policy_digest(environment));
        let (state, now) = (self.follower.state(), self.clock.now());
        let blockers = promotion::blockers(state, release, environment, environments, &policy, now);
        if blockers.is_empty() {
            return Ok(());
        }
        Err(blockers.iter().map(|blocker| blocker.problem(release, &environment.name)).collect())
    }

    /// An HAProxy in front must be there and fit.
    async fn check_front(
        &self,
        service: &ServiceName,
        environment: &Environment,
    ) -> Result<(), Vec<Problem>> {
        let instances = self.project.manifest.service(service).map_or(1, |service| service.instances);
        let config = edges::config(self.project, service, environment);
        match edges::unfit(&config, instances).await {
            Some(problem) => Err(vec![problem]),
            None => Ok(()),
        }
    }

    /// Provenance and contents, checked again before every promotion.
    fn verify(&self, release: &Release) -> Result<(), Vec<Problem>> {
        crate::release::verify(self.project, self.follower.state(), release)
    }

    /// The revision that serves there. The edge knows: after a restore the record may name another one, or one that is gone.
    async fn serves(
        &self,
        edge: Result<&platform::edge::Edge, platform::edge::Error>,
        service: &ServiceName,
        environment: &Environment,
    ) -> Result<Option<RevisionId>, Vec<Problem>> {
        let refuse = |error: platform::edge::Error| vec![error.problem()];
        let status = edge.map_err(refuse)?.status().await.map_err(refuse)?;
        if status.restoring {
            let slot = self.follower.state().slot(service, &environment.name);
            return Ok(slot.and_then(|slot| slot.stable.clone()));
        }
        Ok(status.revision(Role::Stable).map(|stable| stable.id.clone()))
    }

    /// Plans and records; `None` when somebody else recorded first, so that the state must be looked at again.
    async fn plan(
        &mut self,
        release: &Release,
        environment: &Environment,
        revision: RevisionSpec,
        serves: Option<&RevisionId>,
        reverts: Option<ReleaseId>,
    ) -> Result<Option<RolloutPlan>, Vec<Problem>> {
        self.tell()?;
        let policy = manifest::policy_digest(environment);
        let state = self.follower.state();
        if reverts.is_none() {
            let environments = &self.project.manifest.environments;
            let now = self.clock.now();
            let blockers = promotion::blockers(state, release, environment, environments, &policy, now);
            if !blockers.is_empty() {
                return Err(blockers
                    .iter()
                    .map(|blocker| blocker.problem(release, &environment.name))
                    .collect());
            }
        }
        let mut plan =
            planning::plan(state, release, environment, policy, revision, reverts, &mut SystemSeed);
        plan.stable = serves.cloned();
        let wrong = planning::lint(&plan);
        if !wrong.is_empty() {
            let message =
                format!("the plan for {} can't be carried out: {}", environment.name, wrong.join("; "));
            return Err(vec![Problem::new(Code::ManifestValue, message)]);
        }
        let planned = Event::RolloutPlanned { plan: Box::new(plan.clone()) };
        let now = self.clock.now();
        match self.follower.record(&self.actor, now, vec![planned], promotion::concerned_by).await {
            Ok(recorded) => {
                let lines = recorded
                    .iter()
                    .filter_map(|record| timeline::line(record, self.follower.state(), &mut None));
                lines.for_each(|line| self.output.talk(line));
                Ok(Some(plan))
            }
            Err(store::Error::Conflict { .. }) => Ok(None),
            Err(error) => Err(project::problems(error)),
        }
    }

    fn revision(&self, release: &Release) -> Result<RevisionSpec, Vec<Problem>> {
        let service = self.project.services(Some(release.artifact.service.as_str()))?[0];
        Ok(RevisionSpec {
            // Replaced by the rollout's own when it is planned.
            id: RevisionId::mint(&mut SystemSeed),
            service: service.name.clone(),
            digest: release.artifact.digest.clone(),
            directory: self.project.layout.revisions(),
            command: service.start.clone(),
            environment: service.environment.clone(),
            pass: service.pass.clone(),
            ready: Readiness { path: service.ready.path.clone(), within_ms: service.ready.within_ms },
            instances: service.instances,
            stop_ms: service.stop_ms,
        })
    }

    /// Drives a recorded rollout to its end, or until the lease is lost: whoever has it then goes on, and we do nothing more.
    pub(crate) async fn drive(
        &mut self,
        id: &RolloutId,
        lease: &Lease,
    ) -> Result<RolloutOutcome, Vec<Problem>> {
        self.tell()?;
        let Some(rollout) = self.follower.state().rollouts.get(id) else {
            return Err(vec![Problem::new(Code::RolloutUnknown, format!("there is no rollout {id}"))]);
        };
        let mut world = edges::host(self.project, &rollout.plan.revision.service, &rollout.plan.environment);
        let output = self.output;
        let mut told = None;
        let mut trouble = String::new();
        let mut observe = |notice: Notice<'_>| match notice {
            Notice::Recorded(recorded, state) => {
                if let Some(line) = timeline::line(recorded, state, &mut told) {
                    output.talk(line);
                }
            }
            Notice::Trouble(unreachable) => {
                let words = format!("the platform does not answer: {}", unreachable.source);
                if trouble != words {
                    output.talk(format!("              {words}; trying again"));
                    trouble = words;
                }
            }
        };
        let driver = Driver {
            follower: &mut self.follower,
            world: &mut world,
            clock: self.clock,
            holder: self.holder.clone(),
            wish: self.wish.clone(),
            observe: &mut observe,
        };
        let outcome = tokio::select! {
            biased;
            () = lease.lost() => return Err(vec![lease_lost(id)]),
            outcome = driver.drive(id) => outcome.map_err(|error| vec![drive_problem(error)])?,
        };
        self.clean_up(id, outcome);
        Ok(outcome)
    }

    /// Removes the unpacked files of the revision that lost. What can't be removed now costs space, nothing else.
    fn clean_up(&self, id: &RolloutId, outcome: RolloutOutcome) {
        let Some(rollout) = self.follower.state().rollouts.get(id) else { return };
        let gone = match outcome {
            RolloutOutcome::Completed => rollout.plan.stable.as_ref(),
            RolloutOutcome::RolledBack => Some(&rollout.plan.revision.id),
        };
        if let Some(gone) = gone {
            let _ = std::fs::remove_dir_all(self.project.layout.revisions().join(gone.as_str()));
        }
    }
}

fn lease_lost(id: &RolloutId) -> Problem {
    Problem::new(Code::Fenced, format!("the lease for rollout {id} was lost; whoever takes it goes on"))
        .hint("watch it with: trimtab status; a controller that stood still, or could not reach the database, loses it")
}

fn drive_problem(error: DriveError) -> Problem {
    match error {
        DriveError::Ledger(error) => error.problem(),
        DriveError::Fenced { .. } => Problem::new(Code::Fenced, error.to_string())
            .hint("the newer controller goes on with it; watch it with: trimtab status"),
        DriveError::Unknown(_) => Problem::new(Code::RolloutUnknown, error.to_string()),
    }
}
