//! `trimtab demo`: a good release carried to production, a bad one taken back, on this machine, in two minutes.

use std::sync::atomic::{AtomicBool, Ordering};

use camino::Utf8PathBuf;
use delivery::code::Code;
use delivery::event::Actor;
use delivery::exit::Exit;
use delivery::rollout::RolloutOutcome;
use delivery::{Event, Problem, TaskName};
use rollout::driver::Wish;
use serde::Serialize;
use tokio::sync::watch;
use warehouse::Window;

use crate::carry::{self, RunOptions};
use crate::command::{report, server, why};
use crate::demo::{APPROVER, AUTHOR, GOOD, Scenario, Shop};
use crate::interrupt;
use crate::ledger;
use crate::load::{Load, LoadReport};
use crate::output::Output;
use crate::project::{self, Project};
use crate::promote::{Arrival, Controller};
use crate::{edges, environment};

/// Shows the whole loop on a small real service: ships one release, then a good one, then a bad one.
///
/// Everything is real: a git repository in a temporary folder, its tests, signed provenance, an approval, two
/// environments, a canary under HTTP load, the verdict, the way back. Needs git and node; no network, no root.
///
///   trimtab demo
///   trimtab demo --scenario latency
///   trimtab demo --keep              leaves everything running, with the dashboard
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// What is wrong with the third release.
    #[arg(long, value_enum, default_value_t = Scenario::Errors)]
    scenario: Scenario,
    /// Leave it running until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Requests a second.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// The folder for the demo's repository, which must not exist; without it a temporary one, removed at the end.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<Utf8PathBuf>,
}

/// What the demo found, for programs.
#[derive(Debug, Serialize)]
struct DemoReport {
    version: u32,
    scenario: String,
    good: RolloutOutcome,
    bad: RolloutOutcome,
    cause: String,
    exposure_ms: Option<u64>,
    actuation_ms: Option<u64>,
    load: LoadReport,
    failures_by_bad_release: u64,
    ledger_sound: bool,
    records: u64,
}

pub(crate) async fn run(args: &Args, output: Output) -> super::Result {
    ledger::refuse_elsewhere("the demo").map_err(|problem| vec![problem])?;
    let (folder, temporary) = folder(args)?;
    let shop = Shop::create(folder.clone()).map_err(|problem| vec![problem])?;
    let project = Project::at(shop.root().to_owned())?;
    let root = shop.root().to_owned();
    let told = AtomicBool::new(false);
    let result = tokio::select! {
        result = story(args, &shop, &project, output, &told) => result,
        // What the dashboard is asked for is done, also after the story.
        never = server::reconcile(root, project.follower()?, output) => match never {},
        // Ctrl-C is how a story that goes on ends well.
        () = interrupt::stopped() => if told.load(Ordering::Relaxed) {
            Ok(Exit::Success)
        } else {
            Err(vec![Problem::new(Code::RunCancelled, "the demo was interrupted")])
        },
    };
    for config in edges::all(&project) {
        if let Ok(edge) = platform::edge::Edge::connect(&config).await {
            let _ = edge.shutdown().await;
        }
    }
    if temporary {
        let _ = std::fs::remove_dir_all(&folder);
    }
    result
}

fn folder(args: &Args) -> Result<(Utf8PathBuf, bool), Vec<Problem>> {
    let problem = |message: String| vec![Problem::new(Code::DemoFailed, message)];
    if let Some(folder) = &args.folder {
        if folder.exists() {
            return Err(problem(format!("{folder} exists already")));
        }
        std::fs::create_dir_all(folder)
            .map_err(|error| problem(format!("{folder} can't be made: {error}")))?;
        let folder = folder.canonicalize_utf8().map_err(|error| problem(error.to_string()))?;
        return Ok((folder, false));
    }
    let base = environment::variable("TMPDIR").unwrap_or_else(|| "/tmp".into());
    let folder = Utf8PathBuf::from(base).join(format!("trimtab-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| problem(format!("{folder} can't be made: {error}")))?;
    Ok((folder, true))
}

struct Stage<'a> {
    controller: Controller<'a>,
    output: Output,
}

/// With `--keep` it never ends by itself; `told` says that all was told.
async fn story(
    args: &Args,
    shop: &Shop,
    project: &Project,
    output: Output,
    told: &AtomicBool,
) -> super::Result {
    let follower = project.follower()?;
    let clock = project::clock(&follower);
    // The demo ends with its process; nobody asks it to take back in between.
    let (_sender, wish) = watch::channel(Wish::Continue);
    let controller = Controller {
        project,
        clock: &clock,
        holder: environment::holder("demo"),
        actor: Actor::Human(AUTHOR.into()),
        output,
        follower,
        wish,
    };
    let mut stage = Stage { controller, output };
    let dashboard = server::start(project, "127.0.0.1:0").await?;
    stage.output.talk(format!("The shop lives in {}", shop.root()));
    stage.output.talk(format!("The dashboard: {}", dashboard.url()));

    stage.heading("1. The first release");
    stage.ship().await?;
    let production = project.environment("production")?.clone();
    let config = edges::config(project, &project.manifest.services[0].name, &production);
    let edge = platform::edge::Edge::connect(&config).await.map_err(|error| vec![error.problem()])?;
    let status = edge.status().await.map_err(|error| vec![error.problem()])?;
    let url: http::Uri = format!("http://{}/", status.listen)
        .parse()
        .map_err(|error: http::uri::InvalidUri| vec![Problem::new(Code::DemoFailed, error.to_string())])?;
    stage.output.talk(format!("{} requests a second go to {url} from here on", args.rate));
    let load = Load::start(url, args.rate);

    stage.heading("2. A good release");
    shop.change(&GOOD).map_err(|problem| vec![problem])?;
    let good = stage.ship().await?;
    let before_bad = load.report();

    stage.heading("3. A bad release");
    let change = args.scenario.change();
    shop.change(&change).map_err(|problem| vec![problem])?;
    if args.scenario == Scenario::NoTraffic {
        load.set_rate(0.0);
    }
    let bad = stage.ship().await?;
    let report = load.report();
    stage.epilogue(args, &good, &bad, &before_bad, report)?;
    if args.keep {
        stage.output.talk(format!("\nIt goes on until Ctrl-C. The dashboard: {}", dashboard.url()));
        told.store(true, Ordering::Relaxed);
        std::future::pending::<()>().await;
    }
    load.stop();
    Ok(Exit::Success)
}

impl Stage<'_> {
    fn heading(&self, words: &str) {
        self.output.talk(format!("\n── {words} {}", "─".repeat(70_usize.saturating_sub(words.len()))));
    }

    /// Ships as the author, shows why production does not let it in, approves as somebody else, ships on.
    async fn ship(&mut self) -> Result<delivery::RolloutId, Vec<Problem>> {
        let project = self.controller.project;
        let tree = self.controller.work_tree()?;
        let (repository, commit) = carry::commit(project)?;
        self.output.talk(format!(
            "{AUTHOR} runs: trimtab ship    ({} {:?})",
            commit.id.short(),
            commit.subject
        ));
        let everything: [TaskName; 0] = [];
        let options = RunOptions::default();
        let cancel = pipeline::Cancel::never();
        let ran =
            self.controller.run_tasks(&tree, &everything, Some(&commit.id), false, options, cancel).await?;
        let failed = carry::failed(&ran);
        if !failed.is_empty() {
            return Err(failed);
        }
        let service = project.manifest.services[0].clone();
        let release = self.controller.release(&repository, &service, &commit, &ran).await?;
        drop(tree);
        let mut last = None;
        for environment in project.manifest.environments.clone() {
            if environment.approval.required > 0 {
                self.tell_why(environment.name.as_str());
                self.approve(&release, &environment).await?;
            }
            match self.controller.promote(&release, &environment, false).await? {
                Arrival::Ended(id, RolloutOutcome::Completed) => last = Some(id),
                Arrival::Ended(id, RolloutOutcome::RolledBack) => return Ok(id),
                Arrival::Already => {}
            }
        }
        last.ok_or_else(|| vec![Problem::new(Code::DemoFailed, "the release went nowhere")])
    }

    fn tell_why(&self, thing: &str) {
        self.output.talk(format!("trimtab why {thing}"));
        let answers = why::everything(self.controller.project, self.controller.follower.state());
        for why in answers.iter().filter(|why| why.names.iter().any(|name| name == thing)) {
            for (blocker, action) in why.blockers.iter().zip(&why.actions) {
                self.output.talk(format!("  because  {blocker}"));
                self.output.talk(format!("  so       {action}"));
            }
        }
    }

    async fn approve(
        &mut self,
        release: &delivery::release::Release,
        environment: &delivery::environment::Environment,
    ) -> Result<(), Vec<Problem>> {
        let event = Event::ApprovalGranted {
            release: release.id.clone(),
            digest: release.artifact.digest.clone(),
            environment: environment.name.clone(),
            policy: manifest::policy_digest(environment),
            comment: "looks good".into(),
        };
        let author = std::mem::replace(&mut self.controller.actor, Actor::Human(APPROVER.into()));
        let recorded = self.controller.record(vec![event]).await;
        self.controller.actor = author;
        recorded
    }

    fn epilogue(
        &mut self,
        args: &Args,
        good: &delivery::RolloutId,
        bad: &delivery::RolloutId,
        before_bad: &LoadReport,
        load: LoadReport,
    ) -> Result<(), Vec<Problem>> {
        self.controller.tell()?;
        self.heading("What happened");
        self.tell_why(bad.as_str());
        let state = self.controller.follower.state();
        let (good, bad) = (&state.rollouts[good], &state.rollouts[bad]);
        let verification = self.controller.follower.ledger().verify().map_err(project::problems)?;
        let cause = bad.cause.as_ref().map(ToString::to_string).unwrap_or_default();
        let failures = load.failures - before_bad.failures;
        self.output.talk(format!(
            "requests {}, failed {} (all but {} of them by the bad release), p99 {:.1} ms",
            load.requests, load.failures, before_bad.failures, load.p99_ms
        ));
        let facts = report::facts(self.controller.follower.ledger())?;
        let window = Window::last_days(1, self.controller.clock.now());
        let reports = facts.reports(window, None);
        let production = reports.iter().filter(|report| report.scope.environment == "production");
        production.for_each(|production| report::print(production, self.output));
        self.output.talk(format!(
            "trimtab ledger verify: {} records, Merkle root {}, {}",
            verification.size,
            hex::encode(verification.root),
            if verification.is_sound() { "sound" } else { "DAMAGED" }
        ));
        let milestones = bad.milestones;
        let actuation_ms = milestones.decided.zip(milestones.withdrawn);
        let demo = DemoReport {
            version: 1,
            scenario: format!("{:?}", args.scenario).to_lowercase(),
            good: good.outcome.unwrap_or(RolloutOutcome::RolledBack),
            bad: bad.outcome.unwrap_or(RolloutOutcome::Completed),
            cause,
            exposure_ms: bad.exposure_ms(),
            actuation_ms: actuation_ms.map(|(decided, done)| delivery::clock::millis_between(decided, done)),
            load,
            failures_by_bad_release: failures,
            ledger_sound: verification.is_sound(),
            records: verification.size,
        };
        self.output.json(&demo);
        let as_promised = demo.good == RolloutOutcome::Completed && demo.bad == RolloutOutcome::RolledBack;
        if as_promised && demo.ledger_sound {
            return Ok(());
        }
        Err(vec![Problem::new(
            Code::DemoFailed,
            "the good release should serve, and the bad one should be gone",
        )])
    }
}
