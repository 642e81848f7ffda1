//! `trimtab server`: the dashboard and the API, and a controller for whatever was left behind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use delivery::clock::{Clock as _, Seed as _};
use delivery::code::Code;
use delivery::exit::Exit;
use delivery::rollout::RollbackCause;
use delivery::{Actor, EnvironmentName, Event, Problem, ReleaseId, RolloutId, ServiceName};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rollout::driver::Wish;
use rollout::follower::Follower;
use serde::Serialize;
use server::{Config, Operations, Running};
use store::{Access, Ledger};
use tokio::sync::watch;

use crate::cli::Global;
use crate::interrupt;
use crate::output::Output;
use crate::project::{self, Project};
use crate::promote::{Controller, SystemSeed};
use crate::{edges, environment};

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
    let project = Project::open(global)?;
    let running = start(&project, &args.listen).await?;
    output.talk(format!("The dashboard: {}", running.url()));
    output.talk("Ctrl-C ends it; what is deployed goes on");
    output.json(&Served { version: 1, address: running.address().to_string(), url: running.url() });
    let (_sender, wish) = watch::channel(Wish::Continue);
    tokio::select! {
        result = reconcile(&project, &wish, output) => result?,
        () = interrupt::stopped() => {}
    }
    running.stop().await;
    Ok(Exit::Success)
}

/// Goes on with every rollout that no controller is at work on. Takes no input but the record: the same code after a
/// start, a crash, or a controller that was stopped elsewhere.
async fn reconcile(
    project: &Project,
    wish: &watch::Receiver<Wish>,
    output: Output,
) -> Result<(), Vec<Problem>> {
    let mut care = edges::Care::default();
    loop {
        let follower = project.follower()?;
        care.look(project, follower.state(), output).await;
        let plans: Vec<_> =
            follower.state().rollouts_active().into_iter().map(|rollout| rollout.plan.clone()).collect();
        let work =
            plans.into_iter().filter(|plan| !project.driven(&plan.revision.service, &plan.environment.name));
        let work: Vec<_> = work.map(|plan| go_on(project, plan, wish.clone(), output)).collect();
        futures_util::future::join_all(work).await;
        tokio::time::sleep(PERIOD).await;
    }
}

async fn go_on(
    project: &Project,
    plan: delivery::rollout::RolloutPlan,
    wish: watch::Receiver<Wish>,
    output: Output,
) {
    let Ok(follower) = project.follower() else { return };
    let clock = project::clock(&follower);
    let mut controller = Controller {
        project,
        clock: &clock,
        holder: environment::holder("server"),
        actor: Actor::Machine("trimtab".into()),
        output,
        follower,
        wish,
    };
    // Somebody else may have been quicker; then it is theirs.
    let Ok(_lease) = controller.lease(&plan.revision.service, &plan.environment) else { return };
    if let Err(problems) = controller.drive(&plan.id).await {
        output.problems(&problems);
    }
}

/// Starts the dashboard of a project.
pub(crate) async fn start(project: &Project, listen: &str) -> Result<Running, Vec<Problem>> {
    let address: SocketAddr = listen.parse().map_err(|_| {
        let problem = Problem::new(Code::RequestInvalid, format!("{listen:?} is not an address"));
        vec![problem.hint("such as 127.0.0.1:8770")]
    })?;
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
        environments: project.environments(),
        token: token(project)?,
        identity,
        operations: Arc::new(LocalOperations { root: project.root.clone() }),
        clock,
    };
    server::start(config).await.map_err(|error| vec![error.problem()])
}

/// The token of this project, made on first use and readable only by its owner.
fn token(project: &Project) -> Result<String, Vec<Problem>> {
    let path = project.layout.api_token();
    crate::secret::file(&path, || {
        let mut bytes = [0_u8; 32];
        SystemSeed.fill(&mut bytes);
        format!("ttb_{}", hex::encode(bytes))
    })
    .map_err(|error| vec![Problem::new(Code::KeyUnusable, format!("{path} can't be used")).because(&error)])
}

/// What pages may ask for, done by the same code as the commands.
struct LocalOperations {
    root: camino::Utf8PathBuf,
}

impl LocalOperations {
    fn project(&self) -> Result<Project, Problem> {
        Project::at(self.root.clone()).map_err(first)
    }

    fn follower(&self) -> Result<(Project, Follower), Problem> {
        let project = self.project()?;
        let ledger =
            Ledger::open(&project.layout.ledger(), Access::ReadWrite).map_err(|error| error.problem())?;
        let follower = Follower::open(ledger).map_err(|error| error.problem())?;
        Ok((project, follower))
    }

    async fn request_rollback(&self, actor: Actor, id: RolloutId, reason: String) -> Result<(), Problem> {
        let (_, follower) = self.follower()?;
        let Some(rollout) = follower.state().rollouts.get(&id) else {
            return Err(Problem::new(Code::RolloutUnknown, format!("there is no rollout {id}")));
        };
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
        let events = rollout::driver::withdrawal(rollout, cause);
        record(&follower, &actor, events).await
    }

    async fn grant_approval(
        &self,
        actor: Actor,
        release: ReleaseId,
        environment: EnvironmentName,
        comment: String,
    ) -> Result<(), Problem> {
        let (project, follower) = self.follower()?;
        let environment = project.environment(environment.as_str()).map_err(first)?;
        let Some(release) = follower.state().release(&release) else {
            return Err(Problem::new(Code::ThingUnknown, format!("there is no release {release}")));
        };
        super::approve::may_approve(&project, follower.state(), release, environment, &actor).map_err(
            |code| Problem::new(code, format!("{actor} may not approve {} here", release.version)),
        )?;
        let event = Event::ApprovalGranted {
            release: release.id.clone(),
            digest: release.artifact.digest.clone(),
            environment: environment.name.clone(),
            policy: manifest::policy_digest(environment),
            comment,
        };
        record(&follower, &actor, vec![event]).await
    }
}

async fn record(follower: &Follower, actor: &Actor, events: Vec<Event>) -> Result<(), Problem> {
    let now = project::clock(follower).now();
    follower.ledger().append(actor, now, events).await.map(|_| ()).map_err(|error| error.problem())
}

fn first(problems: Vec<Problem>) -> Problem {
    problems
        .into_iter()
        .next()
        .unwrap_or_else(|| Problem::new(Code::ManifestUnreadable, "the project can't be opened"))
}

impl Operations for LocalOperations {
    fn rollback(
        &self,
        actor: Actor,
        rollout: RolloutId,
        reason: String,
    ) -> BoxFuture<'_, Result<(), Problem>> {
        self.request_rollback(actor, rollout, reason).boxed()
    }

    fn approve(
        &self,
        actor: Actor,
        release: ReleaseId,
        environment: EnvironmentName,
        comment: String,
    ) -> BoxFuture<'_, Result<(), Problem>> {
        self.grant_approval(actor, release, environment, comment).boxed()
    }

    fn edge(
        &self,
        service: ServiceName,
        environment: EnvironmentName,
    ) -> BoxFuture<'_, Option<platform::edge::Status>> {
        async move {
            let project = self.project().ok()?;
            let environment = project.environment(environment.as_str()).ok()?;
            let edge =
                platform::edge::Edge::connect(&edges::config(&project, &service, environment)).await.ok()?;
            edge.status().await.ok()
        }
        .boxed()
    }

    fn driven(&self, service: &ServiceName, environment: &EnvironmentName) -> bool {
        self.project().is_ok_and(|project| project.driven(service, environment))
    }
}
