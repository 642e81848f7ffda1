//! Makes a rollout's plan, and lints it before it is recorded.
//!
//! Pure. Invariant: a plan that [`lint`] passes can be carried out by the planner to either end.

use delivery::clock::Seed;
use delivery::effect::RevisionSpec;
use delivery::environment::Environment;
use delivery::release::Release;
use delivery::rollout::{RolloutOutcome, RolloutPlan};
use delivery::traffic::Weight;
use delivery::{Digest, EnvironmentName, ReleaseId, RevisionId, RolloutId};

use crate::progress::Rollout;
use crate::state::State;

/// Makes the plan for carrying the release into the environment. `revision.id` is replaced by the rollout's own,
/// and its directory becomes a folder of that name below the given one.
pub fn plan(
    state: &State,
    release: &Release,
    environment: &Environment,
    policy: Digest,
    mut revision: RevisionSpec,
    reverts: Option<ReleaseId>,
    seed: &mut dyn Seed,
) -> RolloutPlan {
    // Ids are short, for people; one that is taken is drawn again.
    let mut id = RolloutId::mint(seed);
    while state.rollouts.contains_key(&id) {
        id = RolloutId::mint(seed);
    }
    let slot = state.slot(&release.artifact.service, &environment.name);
    revision.id = RevisionId::of_rollout(&id);
    revision.directory.push(revision.id.as_str());
    RolloutPlan {
        parent: slot.and_then(|slot| slot.rollouts.last().cloned()),
        release: release.id.clone(),
        version: release.version.clone(),
        stable: slot.and_then(|slot| slot.stable.clone()),
        reverts,
        environment: environment.clone(),
        policy,
        revision,
        id,
    }
}

/// How the release was started when it last came to serve in the environment; `None` if it never did. What brings it back starts
/// the same, whatever the manifest says of newer ones.
pub fn served_as<'a>(
    state: &'a State,
    release: &Release,
    environment: &EnvironmentName,
) -> Option<&'a RevisionSpec> {
    let slot = state.slot(&release.artifact.service, environment)?;
    let mut rollouts = slot.rollouts.iter().rev().filter_map(|id| state.rollouts.get(id));
    let served = |rollout: &&Rollout| {
        rollout.plan.release == release.id && rollout.outcome == Some(RolloutOutcome::Completed)
    };
    rollouts.find(served).map(|rollout| &rollout.plan.revision)
}

/// What is wrong with a plan; empty when it may be recorded.
pub fn lint(plan: &RolloutPlan) -> Vec<&'static str> {
    let strategy = &plan.environment.strategy;
    let mut wrong = Vec::new();
    let mut demand = |holds: bool, sentence: &'static str| {
        if !holds {
            wrong.push(sentence);
        }
    };
    demand(!strategy.steps.is_empty(), "there is no step");
    demand(strategy.steps.iter().all(|step| step.weight > Weight::ZERO), "a step has no weight");
    demand(strategy.steps.is_sorted_by_key(|step| step.weight), "a step's weight is below the one before it");
    demand(
        strategy.steps.iter().all(|step| step.hold_ms <= step.deadline_ms || !step.analyse),
        "a deadline is before its hold",
    );
    demand(strategy.grant_ttl_ms > 0, "the grant has no length");
    demand(!plan.revision.command.is_empty(), "there is nothing to start");
    demand(plan.stable.as_ref() != Some(&plan.revision.id), "the new revision is the old one");
    demand(plan.revision.id == RevisionId::of_rollout(&plan.id), "the revision is not the rollout's own");
    let analysis = &strategy.analysis;
    let probability = |p: f64| p > 0.0 && p < 1.0;
    demand(
        probability(analysis.alpha) && probability(analysis.beta),
        "an error probability is not between 0 and 1",
    );
    demand(analysis.interval_ms > 0, "the time between looks is zero");
    wrong
}
