//! People and the pipeline: releases come, are approved, planned, asked back, waved through; and others write to the same ledger.
//!
//! Invariant: a rollout is planned only when the real rules of promotion let it, on a ledger that has not moved meanwhile.

use std::sync::Arc;

use delivery::artifact::Artifact;
use delivery::change::{Commit, Person};
use delivery::effect::{Readiness, RevisionSpec};
use delivery::environment::{ApprovalRule, Environment};
use delivery::release::Release;
use delivery::rollout::RollbackCause;
use delivery::strategy::{AnalysisPolicy, OnExpiry, OnInconclusive, Step, Sticky, Strategy, StrategyKind};
use delivery::traffic::Weight;
use delivery::{
    Actor, CommitId, Digest, EnvironmentName, Event, ReleaseId, RevisionId, RolloutId, RunId, ServiceName,
    Timestamp,
};
use rollout::driver::withdrawal;
use rollout::follower::Follower;
use rollout::{planning, promotion};
use store::{Basis, Ledger};
use tokio::time::sleep;

use crate::controller;
use crate::dice::Dice;
use crate::oracle::UNDERWAY_MAX;
use crate::site::Behaviour;
use crate::universe::Universe;

/// Who writes everything that is released, and may approve none of it.
pub(crate) const AUTHOR: &str = "ada@example.com";
const APPROVER: &str = "ben@example.com";
const ENTRIES_MAX: usize = 1_000_000;

/// Works until the storm is over and every release that was due has come.
pub(crate) async fn run(universe: Arc<Universe>) {
    let mut office = Office {
        dice: Dice::of(universe.seed, "office"),
        universe,
        follower: None,
        generation: 0,
        begun: 0,
        releases: 0,
    };
    loop {
        office.reopen();
        let wait = office.dice.span(150.0, 1_500.0);
        sleep(wait).await;
        if let Some(mut follower) = office.follower.take() {
            if let Ok(()) = office.round(&mut follower) {
                office.follower = Some(follower);
            } else {
                let name = office.name();
                office.universe.disk.disk().kill(&name);
            }
        }
        office.universe.check();
    }
}

struct Office {
    dice: Dice,
    universe: Arc<Universe>,
    follower: Option<Follower>,
    generation: u32,
    begun: usize,
    releases: u32,
}

impl Office {
    fn name(&self) -> String {
        format!("office{}", self.generation)
    }

    /// Opens the ledger if it is not open, and sees whether all is there.
    fn reopen(&mut self) {
        if self.follower.is_some() {
            return;
        }
        self.generation += 1;
        let Ok(ledger) = controller::open(&self.universe, &self.name()) else { return };
        if !self.inspect(&ledger) {
            return;
        }
        self.follower = Follower::open(ledger).ok();
    }

    /// Holds the whole ledger against what was seen before. False when it can't be read.
    fn inspect(&self, ledger: &Ledger) -> bool {
        let (Ok(entries), Ok(verification)) = (ledger.read(0, ENTRIES_MAX), ledger.verify()) else {
            return false;
        };
        self.universe.check();
        let mut inner = self.universe.inner();
        let oracle = &mut inner.oracle;
        oracle.reopened(&entries);
        if !verification.is_sound() && !oracle.flipped && !oracle.lied {
            oracle.blame("I2", format!("verification found {:?}", verification.damages));
        }
        drop(inner);
        self.universe.read_entries(entries);
        true
    }

    fn round(&mut self, follower: &mut Follower) -> Result<(), store::Error> {
        let news = follower.catch_up()?;
        self.universe.read(&news);
        for site in 0..self.universe.profile.sites {
            let service = service(site);
            let active = follower.state().rollout_active(&service, &environment_name());
            if let Some(id) = active.map(|rollout| rollout.plan.id.clone()) {
                self.meddle(follower, site, &id)?;
            } else if self.begun < self.universe.profile.rollouts || self.owes_proof(site) {
                self.promote(follower, site)?;
            }
        }
        if self.dice.chance(0.3) {
            let event = Event::IncidentResolved { incident: format!("other-{}", self.dice.below(9)) };
            self.append(follower, &Actor::Machine("monitor".into()), vec![event])?;
        }
        Ok(())
    }

    /// When nothing fails any more, a good build must get through.
    fn owes_proof(&self, site: usize) -> bool {
        let calm = self.universe.now() > self.universe.profile.storm + UNDERWAY_MAX;
        calm && self.universe.demanding(site) && !self.universe.inner().oracle.served_well(site)
    }

    fn append(
        &mut self,
        follower: &mut Follower,
        actor: &Actor,
        events: Vec<Event>,
    ) -> Result<(), store::Error> {
        let recorded = follower.ledger().append_blocking(actor, self.universe.wall(), events)?;
        // Acknowledged from here on.
        self.universe.check();
        let news = follower.catch_up()?;
        self.universe.read(&news);
        let last = recorded.last().map_or(0, |record| record.sequence);
        if news.last().is_none_or(|record| record.sequence < last) {
            self.universe
                .inner()
                .oracle
                .blame("I1", format!("record {last} was acknowledged and can't be read"));
        }
        Ok(())
    }

    /// A release, its approval, its plan: one of these in a round.
    fn promote(&mut self, follower: &mut Follower, site: usize) -> Result<(), store::Error> {
        let service = service(site);
        let state = follower.state();
        let release = state
            .release_latest(&service)
            .filter(|release| !state.rollouts.values().any(|rollout| rollout.plan.release == release.id));
        let Some(release) = release.cloned() else {
            self.releases += 1;
            let release = new_release(&mut self.dice, &service, self.releases);
            let created = vec![Event::ReleaseCreated { release: Box::new(release) }];
            return self.append(follower, &Actor::Machine("pipeline".into()), created);
        };
        let environment = environment(self.universe.seed, site);
        let policy = policy(&environment);
        let (environments, now) = (vec![environment.clone()], self.universe.wall());
        let blockers = promotion::blockers(state, &release, &environment, &environments, &policy, now);
        if blockers.iter().any(|blocker| matches!(blocker, promotion::Blocker::ApprovalMissing { .. })) {
            return self.approve(follower, &release, policy);
        }
        if !blockers.is_empty() {
            return Ok(());
        }
        self.plan(follower, &release, &environment, policy, site)
    }

    /// Now and then the author tries it first, in vain.
    fn approve(
        &mut self,
        follower: &mut Follower,
        release: &Release,
        policy: Digest,
    ) -> Result<(), store::Error> {
        let who = if self.dice.chance(0.3) { AUTHOR } else { APPROVER };
        let approval = Event::ApprovalGranted {
            release: release.id.clone(),
            digest: release.artifact.digest.clone(),
            environment: environment_name(),
            policy,
            comment: String::new(),
        };
        self.append(follower, &Actor::Human(who.into()), vec![approval])
    }

    fn plan(
        &mut self,
        follower: &mut Follower,
        release: &Release,
        environment: &Environment,
        policy: Digest,
        site: usize,
    ) -> Result<(), store::Error> {
        let spec = spec(&service(site), &release.artifact.digest);
        let plan = planning::plan(follower.state(), release, environment, policy, spec, None, &mut self.dice);
        let calm = !self.universe.stormy();
        let behaviour =
            if calm { Behaviour::GOOD } else { behaviour(&mut self.dice, self.universe.profile.bad) };
        self.universe.inner().sites[site].behaviours.insert(plan.revision.id.clone(), behaviour);
        self.universe.tell(|| format!("{} at site {site} is {behaviour:?}", plan.id));
        let basis = Basis::until(follower.state().size, promotion::concerned_by);
        let events = vec![Event::RolloutPlanned { plan: Box::new(plan) }];
        let actor = Actor::Machine("pipeline".into());
        match follower.ledger().append_if_blocking(basis, &actor, self.universe.wall(), events) {
            Ok(_) => self.begun += 1,
            Err(store::Error::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
        let news = follower.catch_up()?;
        self.universe.read(&news);
        Ok(())
    }

    /// What people do about a rollout under way.
    fn meddle(&mut self, follower: &mut Follower, site: usize, id: &RolloutId) -> Result<(), store::Error> {
        let (meddling, now) = (self.universe.profile.meddling, self.universe.now());
        if self.universe.stormy() && self.dice.chance(meddling) {
            let mut inner = self.universe.inner();
            let lowered = if self.dice.chance(0.5) {
                inner.sites[site].lower(now)
            } else {
                inner.sites[site].lower_by_guard(now)
            };
            drop(inner);
            self.universe.tell(|| format!("the kill switch of site {site} is used: {lowered:?}"));
        }
        let Some(rollout) = follower.state().rollouts.get(id) else { return Ok(()) };
        let wall = self.universe.wall();
        if rollout.held(follower.state().last_at.unwrap_or(wall).max(wall)) && self.dice.chance(0.3) {
            let step = rollout.position.map_or(0, |position| position.step as u32);
            let who = if self.dice.chance(0.5) { AUTHOR } else { APPROVER };
            let resumed = Event::RolloutResumed { rollout: id.clone(), step, reason: "go on".into() };
            return self.append(follower, &Actor::Human(who.into()), vec![resumed]);
        }
        if self.universe.stormy() && self.dice.chance(meddling) {
            let cause = RollbackCause::Requested { by: APPROVER.into(), reason: "it looks wrong".into() };
            let events = withdrawal(rollout, cause);
            if events.is_empty() {
                self.universe.inner().oracle.denied(id);
            } else {
                return self.append(follower, &Actor::Human(APPROVER.into()), events);
            }
        }
        Ok(())
    }
}

fn behaviour(dice: &mut Dice, bad: f64) -> Behaviour {
    if !dice.chance(bad) {
        return Behaviour::GOOD;
    }
    match dice.below(4) {
        0 => Behaviour { starts: false, ..Behaviour::GOOD },
        1 => Behaviour { latency: 14, ..Behaviour::GOOD },
        _ => Behaviour { errors: dice.between(0.35, 0.9), ..Behaviour::GOOD },
    }
}

/// The service of a site.
pub(crate) fn service(site: usize) -> ServiceName {
    named(ServiceName::new(format!("web-{site}")))
}

fn environment_name() -> EnvironmentName {
    named(EnvironmentName::new("production"))
}

/// Names in this file are well formed.
fn named<T, E: std::fmt::Debug>(name: Result<T, E>) -> T {
    name.unwrap_or_else(|error| unreachable!("{error:?}"))
}

fn policy(environment: &Environment) -> Digest {
    Digest::of(serde_json::to_string(environment).unwrap_or_default().as_bytes())
}

/// A site's rules: the same whenever they are asked for.
pub(crate) fn environment(seed: u64, site: usize) -> Environment {
    let mut dice = Dice::of(seed, &format!("environment {site}"));
    let analysed = dice.chance(0.65);
    let weights = match dice.below(4) {
        0 => vec![100.0],
        1 => vec![20.0, 100.0],
        2 => vec![10.0, 50.0],
        _ => vec![25.0, 50.0, 75.0],
    };
    // Some steps take so long that a stay cut short shows, beside what a look counts for.
    let long_ms = if dice.chance(0.2) { 6_000 } else { 0 };
    let deadline_ms = 5_000 + long_ms + dice.below(6_000) as u64;
    let step = |percent: f64, dice: &mut Dice| Step {
        weight: Weight::from_percent(percent).unwrap_or(Weight::FULL),
        hold_ms: 300 + long_ms + dice.below(4_400) as u64,
        deadline_ms,
        analyse: analysed || dice.chance(0.2),
    };
    let steps = weights.into_iter().map(|percent| step(percent, &mut dice)).collect();
    Environment {
        name: environment_name(),
        listen: "127.0.0.1:0".into(),
        strategy: Strategy {
            kind: StrategyKind::Canary,
            steps,
            analysis: AnalysisPolicy {
                interval_ms: 300 + dice.below(500) as u64,
                warm_up_ms: 0,
                silence_ms: 1_000,
                ..AnalysisPolicy::default()
            },
            on_inconclusive: if dice.chance(0.4) { OnInconclusive::Hold } else { OnInconclusive::Rollback },
            on_expiry: if dice.chance(0.25) { OnExpiry::Hold } else { OnExpiry::Rollback },
            grant_ttl_ms: 1_500 + dice.below(6_000) as u64,
            sticky: Sticky::None,
            drain_ms: 100,
        },
        gates: Vec::new(),
        approval: ApprovalRule { required: u32::from(dice.chance(0.4)), approvers: Vec::new() },
        freezes: Vec::new(),
        kpis: Vec::new(),
        rollback_objective_ms: 60_000,
    }
}

fn spec(service: &ServiceName, digest: &Digest) -> RevisionSpec {
    RevisionSpec {
        id: named(RevisionId::new("rev-00000000")),
        service: service.clone(),
        digest: digest.clone(),
        directory: "/artifacts".into(),
        command: vec!["serve".into()],
        environment: std::collections::BTreeMap::new(),
        pass: Vec::new(),
        ready: Readiness { path: None, within_ms: 1_000 },
        instances: 1,
        stop_ms: 1_000,
    }
}

fn new_release(dice: &mut Dice, service: &ServiceName, number: u32) -> Release {
    let author = Person { name: "Ada".into(), email: AUTHOR.into() };
    let id = ReleaseId::mint(dice);
    let at = Timestamp::from_second(crate::universe::BEGAN_SECOND).unwrap_or(Timestamp::UNIX_EPOCH);
    let commit = format!("{:040x}", u128::from(number) + 1);
    Release {
        version: format!("1.{number}.0"),
        commit: Commit {
            id: named(CommitId::new(commit)),
            author: author.clone(),
            committer: author.clone(),
            co_authors: Vec::new(),
            authored_at: at,
            committed_at: at,
            subject: format!("change {number}"),
        },
        artifact: Artifact {
            service: service.clone(),
            digest: Digest::of(id.as_str().as_bytes()),
            files: 1,
            bytes: 1,
        },
        authors: vec![author],
        changelog: Vec::new(),
        run: RunId::mint(dice),
        provenance: Digest::of(b"provenance"),
        id,
    }
}
