//! What pages of the dashboard may ask for, done as the commands do it.
//!
//! Invariant (I12): taking a release back, and saying whether somebody drives it, ask for the layout and the ledger only. What
//! became of the manifest is no obstacle to it.

use std::sync::{Arc, Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use delivery::Clock;
use delivery::code::Code;
use delivery::layout::Layout;
use delivery::rollout::RollbackCause;
use delivery::{Actor, EnvironmentName, Event, Problem, RolloutId, ServiceName, Timestamp};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rollout::follower::Follower;
use rollout::progress::Rollout;
use rollout::promotion::{self, Blocker};
use rollout::state::State;
use server::{Approval, Operations, Rules};
use store::{Leases, Ledger};

use crate::command::approve::may_approve;
use crate::edges;
use crate::ledger;
use crate::project::Project;

/// See the module.
pub(crate) struct LocalOperations {
    root: Utf8PathBuf,
    layout: Layout,
    ledger: Ledger,
    leases: Result<Leases, store::Error>,
    clock: Arc<dyn Clock>,
    /// What decisions rest on. Kept, because folding a long ledger takes long.
    follower: tokio::sync::Mutex<Follower>,
    rules: Mutex<KeptRules>,
}

/// The last rules that could be read, and of which file they were.
struct KeptRules {
    stamp: Stamp,
    rules: Arc<Rules>,
}

/// Changes with the file: when it was written, and how long it is. `None` when it is not there.
type Stamp = Option<(std::time::SystemTime, u64)>;

fn stamp(root: &Utf8Path) -> Stamp {
    let metadata = root.join("trimtab.toml").metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn unreadable(problems: Vec<Problem>) -> String {
    let problem = first(problems);
    format!("trimtab.toml can't be read, so the last rules that could be are shown: {}", problem.message)
}

impl LocalOperations {
    pub(crate) fn new(project: &Project, follower: Follower, clock: Arc<dyn Clock>) -> Self {
        let root = project.root.clone();
        // Without a stamp it is read when it is first asked for.
        let rules = Arc::new(Rules { environments: project.environments(), trouble: None });
        let kept = KeptRules { stamp: None, rules };
        let ledger = follower.ledger().clone();
        let follower = tokio::sync::Mutex::new(follower);
        let (layout, leases, rules) = (project.layout.clone(), project.ledger.leases(), Mutex::new(kept));
        Self { root, layout, ledger, leases, clock, follower, rules }
    }

    async fn request_rollback(&self, actor: Actor, rollout: Rollout, reason: String) -> Result<(), Problem> {
        let id = &rollout.plan.id;
        if rollout.active() && rollout.cause.is_some() {
            return Err(Problem::new(
                Code::NothingToRollBack,
                format!("rollout {id} is being taken back already"),
            ));
        }
        if !rollout.withdrawable() {
            let environment = &rollout.plan.environment.name;
            return Err(Problem::new(
                Code::NothingToRollBack,
                format!("rollout {id} has ended, or is being promoted"),
            )
            .hint(format!("to take back what serves, run: trimtab rollback --environment {environment}")));
        }
        let cause = RollbackCause::Requested { by: actor.to_string(), reason };
        let events = rollout::driver::withdrawal(&rollout, cause);
        let appended = self.ledger.append(&actor, self.clock.now(), events).await;
        appended.map(|_| ()).map_err(|error| error.problem())
    }

    /// Decides on what is on record, and records that unless something that matters to it came between.
    async fn record(
        &self,
        actor: Actor,
        decide: impl Fn(&State, Timestamp) -> Result<Event, Problem> + Send,
        unsettles: fn(&Event) -> bool,
    ) -> Result<(), Problem> {
        // One at a time: whoever waits decides on what the one before has recorded.
        let mut kept = self.follower.lock().await;
        let follower = &mut *kept;
        follower.catch_up().map_err(|error| error.problem())?;
        loop {
            let now = self.clock.now().max(follower.state().last_at.unwrap_or(Timestamp::MIN));
            let event = decide(follower.state(), now)?;
            match follower.record(&actor, now, vec![event], unsettles).await {
                Ok(_) => return Ok(()),
                Err(store::Error::Conflict { .. }) => {
                    follower.catch_up().map_err(|error| error.problem())?;
                }
                Err(error) => return Err(error.problem()),
            }
        }
    }
}

/// Lets a rollout go on that waits for a person, if this one may.
fn resumed(
    state: &State,
    id: &RolloutId,
    actor: &Actor,
    reason: &str,
    now: Timestamp,
) -> Result<Event, Problem> {
    let Some(rollout) = state.rollouts.get(id) else {
        return Err(Problem::new(Code::RolloutUnknown, format!("there is no rollout {id}")));
    };
    let Some(position) = rollout.position.filter(|_| rollout.held(now)) else {
        let message = format!("rollout {id} does not wait for a person");
        return Err(Problem::new(Code::NothingToApprove, message));
    };
    let environment = &rollout.plan.environment.name;
    promotion::may_resume(state, id, actor)
        .map_err(|code| Problem::new(code, format!("{actor} may not let {id} go on in {environment}")))?;
    Ok(Event::RolloutResumed { rollout: id.clone(), step: position.step as u32, reason: reason.to_owned() })
}

/// Approves the release, if this person may, it waits for that, and it is still what was seen.
fn approved(
    state: &State,
    project: &Project,
    approval: &Approval,
    actor: &Actor,
    now: Timestamp,
) -> Result<Event, Problem> {
    let nothing = |sentence: String| Problem::new(Code::NothingToApprove, sentence);
    let environment = project.environment(approval.environment.as_str()).map_err(first)?;
    let policy = manifest::policy_digest(environment);
    let Some(release) = state.release(&approval.release) else {
        return Err(Problem::new(Code::ThingUnknown, format!("there is no release {}", approval.release)));
    };
    let (name, digest) = (&environment.name, &release.artifact.digest);
    if approval.seen.as_ref().is_some_and(|seen| *seen != (policy.clone(), digest.clone())) {
        let message = format!("the rules of {name} have changed since that was shown; look again");
        return Err(nothing(message));
    }
    may_approve(project, state, release, environment, actor)
        .map_err(|code| Problem::new(code, format!("{actor} may not approve {} here", release.version)))?;
    if state.taken_back(release, name).is_some() {
        return Err(nothing(format!("{} was taken back from {name}", release.version)));
    }
    let environments = &project.manifest.environments;
    let missing = |blocker: &Blocker| matches!(blocker, Blocker::ApprovalMissing { .. });
    if !promotion::blockers(state, release, environment, environments, &policy, now).iter().any(missing)
        || state.has_served(&release.id, name)
    {
        return Err(nothing(format!("{} needs no approval for {name}", release.version)));
    }
    Ok(Event::ApprovalGranted {
        release: release.id.clone(),
        digest: digest.clone(),
        environment: name.clone(),
        policy,
        comment: approval.comment.clone(),
    })
}

fn first(problems: Vec<Problem>) -> Problem {
    problems
        .into_iter()
        .next()
        .unwrap_or_else(|| Problem::new(Code::ManifestUnreadable, "the project can't be opened"))
}

impl Operations for LocalOperations {
    fn rollback(&self, actor: Actor, rollout: Rollout, reason: String) -> BoxFuture<'_, Result<(), Problem>> {
        self.request_rollback(actor, rollout, reason).boxed()
    }

    fn resume(&self, actor: Actor, rollout: RolloutId, reason: String) -> BoxFuture<'_, Result<(), Problem>> {
        let by = actor.clone();
        let decide = move |state: &State, now| resumed(state, &rollout, &by, &reason, now);
        // Whatever is recorded of a rollout may end its waiting, or that of others; it is decided again then.
        self.record(actor, decide, |event| event.rollout().is_some()).boxed()
    }

    fn approve(&self, actor: Actor, approval: Approval) -> BoxFuture<'_, Result<(), Problem>> {
        async move {
            // The rules as they are at this moment: an approval is bound to them.
            let project = Project::at(self.root.clone()).map_err(first)?;
            let by = actor.clone();
            let decide = |state: &State, now| approved(state, &project, &approval, &by, now);
            self.record(actor, decide, promotion::concerned_by).await
        }
        .boxed()
    }

    fn edge(
        &self,
        service: ServiceName,
        environment: EnvironmentName,
    ) -> BoxFuture<'_, Option<platform::edge::Status>> {
        async move {
            let config = edges::running(&self.layout, &service, &environment);
            platform::edge::Edge::connect(&config).await.ok()?.status().await.ok()
        }
        .boxed()
    }

    fn driven(&self, service: &ServiceName, environment: &EnvironmentName) -> bool {
        ledger::driven(&self.leases, service, environment)
    }

    fn rules(&self) -> Arc<Rules> {
        let mut kept = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.root);
        if stamp != kept.stamp || stamp.is_none() {
            let (environments, trouble) = match Project::at(self.root.clone()) {
                Ok(project) => (project.environments(), None),
                Err(problems) => (kept.rules.environments.clone(), Some(unreadable(problems))),
            };
            *kept = KeptRules { stamp, rules: Arc::new(Rules { environments, trouble }) };
        }
        kept.rules.clone()
    }
}
