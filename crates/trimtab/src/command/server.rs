//! `trimtab server`: the dashboard and the API, and a controller for whatever was left behind.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::clock::Seed as _;
use delivery::code::Code;
use delivery::exit::Exit;
use delivery::limits::FILES_WANTED;
use delivery::{Actor, EnvironmentName, Problem, RolloutId, ServiceName};
use rollout::driver::Wish;
use rollout::follower::Follower;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use server::{Config, Limits, Running};
use tokio::sync::watch;
use tokio::task::{self, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::cli::Global;
use crate::operations::LocalOperations;
use crate::output::Output;
use crate::project::{self, Project};
use crate::promote::{Controller, SystemSeed};
use crate::{edges, environment, interrupt, ledger};

/// Serves the dashboard and the API on this machine, and goes on with rollouts whose controller died.
///
///   trimtab server
///   trimtab server --listen 127.0.0.1:9000
///
/// Reading needs nothing; whatever changes something needs the token, which the printed address carries.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The address; only one of this machine.
    #[arg(long, default_value = "127.0.0.1:8770")]
    listen: String,
}

#[derive(Debug, Serialize)]
struct Served {
    version: u32,
    address: String,
    url: String,
}

/// The wait between two looks for rollouts without a controller.
const PERIOD: Duration = Duration::from_secs(2);

pub(crate) async fn run(args: &Args, global: &Global, output: Output) -> super::Result {
    let (project, wrong) = Project::recorded(project::directory(global)?)?;
    let follower = project.follower()?;
    let running = start(&project, &args.listen).await?;
    output.problems(&wrong);
    output.talk(format!("The dashboard: {}", running.url()));
    output.talk("Ctrl-C ends it; what is deployed goes on");
    let (address, url) = (running.address().to_string(), running.url().to_owned());
    output.json(&Served { version: 1, address, url });
    tokio::select! {
        never = reconcile(project.root.clone(), follower, output) => match never {},
        () = interrupt::stopped() => {}
    }
    running.stop().await;
    Ok(Exit::Success)
}

/// Goes on with every rollout that no controller is at work on, each by itself, for ever. Takes no input but the record:
/// the same code after a start, a crash, or a controller that was stopped elsewhere.
pub(crate) async fn reconcile(root: Utf8PathBuf, mut follower: Follower, output: Output) -> Infallible {
    let leases = Project::recorded(root.clone()).map(|(project, _)| project.ledger.leases());
    let leases = leases.unwrap_or(Err(store::Error::Stopped));
    let mut work = JoinSet::new();
    let mut places: HashMap<task::Id, (ServiceName, EnvironmentName)> = HashMap::new();
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    let mut care = edges::Care::default();
    loop {
        tokio::select! {
            Some(ended) = work.join_next_with_id(), if !work.is_empty() => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                places.remove(&id);
                continue;
            }
            _ = tick.tick() => {}
        }
        // A ledger that can't be read now may be readable again: this goes on as long as the process does.
        let trouble = follower.catch_up().err().map(|error| error.problem());
        if trouble.is_some() && trouble != told {
            output.problems(trouble.as_slice());
        }
        told = trouble;
        if let Ok((project, _)) = Project::recorded(root.clone()) {
            care.look(&project, follower.state(), output).await;
        }
        for rollout in follower.state().rollouts_active() {
            let place = (rollout.plan.revision.service.clone(), rollout.plan.environment.name.clone());
            if !places.values().any(|known| *known == place) && !ledger::driven(&leases, &place.0, &place.1) {
                let (id, follower) = (rollout.plan.id.clone(), follower.clone());
                places.insert(work.spawn(go_on(root.clone(), id, follower, output)).id(), place);
            }
        }
    }
}

async fn go_on(root: Utf8PathBuf, id: RolloutId, follower: Follower, output: Output) {
    let Ok((project, _)) = Project::recorded(root) else { return };
    let clock = project::clock(&follower);
    let plan = follower.state().rollouts[&id].plan.clone();
    let (_sender, wish) = watch::channel(Wish::Continue);
    let mut controller = Controller {
        project: &project,
        clock: &clock,
        holder: environment::holder("server"),
        actor: Actor::Machine("trimtab".into()),
        output,
        follower,
        wish,
    };
    // Somebody else may have been quicker; then it is theirs.
    let Ok(lease) = controller.lease(&plan.revision.service, &plan.environment) else { return };
    if let Err(problems) = controller.drive(&id, &lease).await {
        output.problems(&problems);
    }
}

/// Starts the dashboard of a project.
pub(crate) async fn start(project: &Project, listen: &str) -> Result<Running, Vec<Problem>> {
    let address: SocketAddr = listen.parse().map_err(|_| {
        let problem = Problem::new(Code::RequestInvalid, format!("{listen:?} is not an address"));
        vec![problem.hint("such as 127.0.0.1:8770")]
    })?;
    allow_files();
    let follower = project.follower()?;
    let clock = Arc::new(project::clock(&follower));
    let identity = match project.actor(None) {
        Ok(actor) => actor.to_string(),
        Err(_) => "nobody".into(),
    };
    let config = Config {
        project: project.manifest.project.clone(),
        listen: address,
        ledger: follower.ledger().clone(),
        token: token(&project.layout.api_token(), "ttb")?,
        report_token: token(&project.layout.report_token(), "ttr")?,
        recall: project.layout.recall(),
        identity,
        operations: Arc::new(LocalOperations::new(project, follower, clock.clone())),
        limits: Limits::default(),
        clock,
    };
    server::start(config).await.map_err(|error| vec![error.problem()])
}

/// Raises the soft limit of open files, as far as the hard one allows. Where that fails there are fewer; nothing depends on it.
fn allow_files() {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES_WANTED, |maximum| maximum.min(FILES_WANTED));
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// A token of this project, made on first use and readable only by its owner.
fn token(path: &Utf8Path, prefix: &str) -> Result<String, Vec<Problem>> {
    crate::secret::file(path, || {
        let mut bytes = [0_u8; 32];
        SystemSeed.fill(&mut bytes);
        format!("{prefix}_{}", hex::encode(bytes))
    })
    .map_err(|error| vec![Problem::new(Code::KeyUnusable, format!("{path} can't be used")).because(&error)])
}
