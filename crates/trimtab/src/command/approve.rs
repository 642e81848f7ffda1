//! `trimtab approve`: a person lets a release into an environment, or a held rollout go on.

use delivery::change::Person;
use delivery::clock::Clock as _;
use delivery::code::Code;
use delivery::environment::Environment;
use delivery::exit::Exit;
use delivery::people::identity;
use delivery::release::Release;
use delivery::{Actor, Event, Problem, Timestamp};
use rollout::promotion;
use rollout::state::State;
use serde::Serialize;

use crate::cli::Global;
use crate::output::Output;
use crate::project::{self, Project};

/// Approves a release for an environment, or lets a held rollout go on.
///
/// An approval is bound to the artifact, the environment, its address and its rules; a change in any of them voids it. Nobody
/// may approve whose change enters the environment with the release.
///
///   trimtab approve                                  the one thing that waits for approval
///   trimtab approve rel-7k3m9x2p --environment production
///   trimtab approve ro-7k3m9x2p --comment "the spike was the load test"
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// A release, a version, or a held rollout. Without one: what waits, if it is only one thing.
    thing: Option<String>,
    /// The environment. Without one: the first that asks for approval.
    #[arg(long, short)]
    environment: Option<String>,
    /// The service, when several have a release of this version.
    #[arg(long, short)]
    service: Option<String>,
    /// Only say what would be approved.
    #[arg(long)]
    dry_run: bool,
    /// Why.
    #[arg(long, short, default_value = "")]
    comment: String,
    /// Who approves, by e-mail address, instead of git's user.email. This local store trusts who can write to it.
    #[arg(long = "as", value_name = "EMAIL")]
    identity: Option<String>,
}

#[derive(Debug, Serialize)]
struct Approved {
    version: u32,
    what: String,
    environment: String,
    by: String,
    recorded: bool,
}

pub(crate) async fn run(args: &Args, global: &Global, output: Output) -> super::Result {
    let project = Project::open(global)?;
    let follower = project.follower()?;
    let actor = project.actor(args.identity.as_deref())?;
    let state = follower.state();
    let now = project::clock(&follower).now();
    let (event, approved, environment) = match held(args, state, &actor, now)? {
        Some(event) => event,
        None => approval(args, &project, state, &actor)?,
    };
    if args.dry_run {
        output.line(format!("{actor} would approve {approved} for {environment}"));
    } else {
        follower.ledger().append(&actor, now, vec![event]).await.map_err(project::problems)?;
        output.line(format!("{actor} approved {approved} for {environment}"));
    }
    let recorded = !args.dry_run;
    output.json(&Approved { version: 1, what: approved, environment, by: actor.to_string(), recorded });
    Ok(Exit::Success)
}

type Approval = (Event, String, String);

/// A rollout that was named: it is resumed, if it waits for a person and this one may.
fn held(args: &Args, state: &State, actor: &Actor, now: Timestamp) -> Result<Option<Approval>, Vec<Problem>> {
    let Some(thing) = args.thing.as_deref().filter(|thing| thing.starts_with("ro-")) else { return Ok(None) };
    let rollout = state.rollouts.values().find(|rollout| rollout.plan.id.as_str() == thing);
    let Some(rollout) = rollout else {
        return Err(vec![Problem::new(Code::RolloutUnknown, format!("there is no rollout {thing}"))]);
    };
    let Some(position) = rollout.position.filter(|_| rollout.held(now)) else {
        return Err(vec![Problem::new(
            Code::NothingToApprove,
            format!("rollout {thing} does not wait for a person"),
        )]);
    };
    promotion::may_resume(state, &rollout.plan.id, actor).map_err(|code| {
        let environment = &rollout.plan.environment.name;
        vec![Problem::new(code, format!("{actor} may not let {thing} go on in {environment}"))]
    })?;
    let reason = if args.comment.is_empty() { "approved".to_owned() } else { args.comment.clone() };
    let event =
        Event::RolloutResumed { rollout: rollout.plan.id.clone(), step: position.step as u32, reason };
    Ok(Some((event, rollout.plan.id.to_string(), rollout.plan.environment.name.to_string())))
}

fn approval(args: &Args, project: &Project, state: &State, actor: &Actor) -> Result<Approval, Vec<Problem>> {
    let release = release(args, project, state)?;
    let environment = environment(args, project, state, release)?;
    if let Err(code) = may_approve(project, state, release, environment, actor) {
        return Err(vec![refusal(code, state, release, environment, actor)]);
    }
    let event = Event::ApprovalGranted {
        release: release.id.clone(),
        digest: release.artifact.digest.clone(),
        environment: environment.name.clone(),
        policy: manifest::policy_digest(environment),
        comment: args.comment.clone(),
    };
    Ok((event, format!("{} {}", release.artifact.service, release.version), environment.name.to_string()))
}

/// Whether this person's approval would count. Releases keep the addresses that people had when they were made; a mailmap that
/// came later says who they are today.
pub(crate) fn may_approve(
    project: &Project,
    state: &State,
    release: &Release,
    environment: &Environment,
    actor: &Actor,
) -> Result<(), Code> {
    promotion::may_approve(state, release, environment, actor)?;
    let authors = promotion::authors(state, release, &environment.name);
    let authors = authors.into_iter().map(|email| Person { name: String::new(), email }).collect();
    let known = project.repository().ok().and_then(|repository| repository.known(authors).ok());
    let is_author = known.is_some_and(|known| known.iter().any(|person| person.is(&actor.to_string())));
    if is_author { Err(Code::ApprovalByAuthor) } else { Ok(()) }
}

fn refusal(
    code: Code,
    state: &State,
    release: &Release,
    environment: &Environment,
    actor: &Actor,
) -> Problem {
    let authors = promotion::authors(state, release, &environment.name);
    let erased = authors.iter().any(|author| state.erased.contains_key(author))
        && !authors.contains(&identity(&actor.to_string()));
    let listed = &environment.approval.approvers;
    let who = if listed.is_empty() { "anyone who had no hand in it".into() } else { listed.join(", ") };
    let name = format!("{} {}", release.artifact.service, release.version);
    let message = match code {
        Code::ApprovalByAuthor if erased => format!(
            "{actor} can't approve {name}: somebody who had a hand in it was erased, and {actor} is not on record from before"
        ),
        Code::ApprovalByAuthor => format!("{actor} had a hand in {name} and can't approve it"),
        _ => format!("{actor} may not approve for {}", environment.name),
    };
    Problem::new(code, message).hint(format!("ask: {who}"))
}

/// The release that was named, or the one that waits. Each service may have one of the same version.
fn release<'a>(args: &Args, project: &Project, state: &'a State) -> Result<&'a Release, Vec<Problem>> {
    project.services(args.service.as_deref())?;
    let mut meant: Vec<&Release> = Vec::new();
    for release in state.releases.iter().rev().map(|record| &record.release) {
        let service = &release.artifact.service;
        let named = match args.thing.as_deref() {
            Some(thing) => release.id.as_str() == thing || release.version == thing,
            None => state.release_latest(service).is_some_and(|latest| latest.id == release.id),
        };
        let asked = args.service.as_ref().is_none_or(|name| service.as_str() == name);
        if named && asked && !meant.iter().any(|other| other.artifact.service == *service) {
            meant.push(release);
        }
    }
    // Of several that nobody named, those count that wait for somebody.
    if args.thing.is_none() && meant.len() > 1 {
        meant.retain(|release| environment(args, project, state, release).is_ok());
    }
    match (meant.as_slice(), &args.thing) {
        ([one], _) => Ok(one),
        ([], Some(thing)) => {
            let known = state.releases.iter().map(|record| record.release.id.as_str());
            let message = format!("there is no release {thing:?}");
            Err(vec![project::unknown(Code::ThingUnknown, message, thing, known)])
        }
        ([], None) if state.releases.is_empty() => {
            let problem = Problem::new(Code::NothingToApprove, "there is no release yet");
            Err(vec![problem.hint("make one with: trimtab ship")])
        }
        ([], None) => {
            let problem = Problem::new(Code::NothingToApprove, "no release waits for an approval");
            Err(vec![problem.hint("see: trimtab why")])
        }
        (several, _) => {
            let names = several.iter().map(|one| format!("{} {}", one.artifact.service, one.version));
            let names: Vec<String> = names.collect();
            let message = format!("several releases may be meant: {}", names.join(", "));
            Err(vec![Problem::new(Code::RequestInvalid, message).hint("say which with --service")])
        }
    }
}

/// The environment that was named, or the first that the release has not reached and that asks for approval.
fn environment<'a>(
    args: &Args,
    project: &'a Project,
    state: &State,
    release: &Release,
) -> Result<&'a Environment, Vec<Problem>> {
    if let Some(name) = &args.environment {
        return project.environment(name);
    }
    let asks = |environment: &&Environment| {
        environment.approval.required > 0 && !state.has_served(&release.id, &environment.name)
    };
    project.manifest.environments.iter().find(asks).ok_or_else(|| {
        let message = format!(
            "no environment waits for an approval of {} {}",
            release.artifact.service, release.version
        );
        vec![Problem::new(Code::NothingToApprove, message).hint("name one with --environment")]
    })
}
