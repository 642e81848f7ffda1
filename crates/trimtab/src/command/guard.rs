//! `trimtab guard`: the dead man's switch beside an HAProxy, and the kill switch that needs neither controller, edge nor ledger.

use std::time::Duration;

use camino::Utf8PathBuf;
use delivery::code::Code;
use delivery::exit::Exit;
use delivery::strategy::OnExpiry;
use delivery::traffic::Weight;
use delivery::{Problem, text};
use platform::edge::{Edge, EdgeConfig};
use platform::guard::{self, Guard, GuardConfig, Requested};
use serde::Serialize;

use crate::cli::Global;
use crate::edges;
use crate::output::{self, Output, ProblemWire};
use crate::project::{self, Project};

/// The dead man's switch: takes a canary's traffic back when nobody renews its grant, and when a person says so.
///
///   trimtab guard status
///   trimtab guard rollback --environment production
///   trimtab guard run --environment production     beside HAProxy, under your own supervision
///
/// Trimtab's own proxy has it built in; beside HAProxy it is a process of its own, which a rollout starts where none runs. It
/// can only lower the canary's share. `status` and `rollback` need neither the controller, nor the edge, nor the ledger.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Watches over one service in one environment until it is told to end.
    Run(Run),
    /// Shows what is granted, what ran out, and what is owed.
    Status(Where),
    /// Takes the canary's traffic back now, whatever else is dead.
    Rollback(Rollback),
}

#[derive(Debug, clap::Args)]
struct Where {
    /// Only this environment.
    #[arg(long, short)]
    environment: Option<String>,
    /// Only this service.
    #[arg(long, short)]
    service: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Run {
    /// The environment.
    #[arg(long, short, required_unless_present = "config")]
    environment: Option<String>,
    /// The service, when there are several.
    #[arg(long, short)]
    service: Option<String>,
    /// Its configuration, written by who starts it (instead of the environment).
    #[arg(long, hide = true, conflicts_with_all = ["environment", "service"])]
    config: Option<Utf8PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Rollback {
    #[command(flatten)]
    place: Where,
    /// Why.
    #[arg(long, short, default_value = "asked for on the command line")]
    reason: String,
    /// Who asks, by e-mail address, instead of git's user.email.
    #[arg(long = "as", value_name = "EMAIL")]
    identity: Option<String>,
}

/// How long an edge that may hang is waited for, once the traffic is off the canary.
const EDGE_WAIT: Duration = Duration::from_secs(3);

pub(crate) async fn run(args: &Args, global: &Global, output: Output) -> super::Result {
    match &args.verb {
        Verb::Run(run) => watch(run, global).await,
        Verb::Status(place) => status(place, global, output).await,
        Verb::Rollback(rollback) => take_back(rollback, global, output).await,
    }
}

/// The edges that are meant: by the manifest, or where that can't be read, by what was started here.
fn meant(place: &Where, global: &Global) -> Result<(Utf8PathBuf, Vec<EdgeConfig>), Vec<Problem>> {
    let root = project::directory(global)?;
    let all = match Project::at(root.clone()) {
        Ok(project) => edges::all(&project),
        Err(wrong) => {
            let started = edges::all_started(&delivery::layout::Layout::of_project(&root));
            if started.is_empty() {
                return Err(wrong);
            }
            started
        }
    };
    let is_meant = |config: &EdgeConfig| {
        place.environment.as_ref().is_none_or(|name| config.environment.as_str() == name)
            && place.service.as_ref().is_none_or(|name| config.service.as_str() == name)
    };
    let known: Vec<String> = all.iter().map(|config| config.environment.to_string()).collect();
    let found: Vec<EdgeConfig> = all.into_iter().filter(is_meant).collect();
    if found.is_empty() {
        let name = place.environment.as_deref().unwrap_or_default();
        let message = format!("there is no environment {name:?} with such a service");
        let known = known.iter().map(String::as_str);
        return Err(vec![project::unknown(Code::EnvironmentUnknown, message, name, known)]);
    }
    Ok((root, found))
}

async fn watch(args: &Run, global: &Global) -> super::Result {
    let config = if let Some(path) = &args.config { read(path)? } else { of_place(args, global)? };
    guard::run(config).await.map_err(|error| vec![error.problem()])?;
    Ok(Exit::Success)
}

/// The configuration of the guard of the one service that is meant.
fn of_place(args: &Run, global: &Global) -> Result<GuardConfig, Vec<Problem>> {
    let place = Where { environment: args.environment.clone(), service: args.service.clone() };
    let (root, edges) = meant(&place, global)?;
    let [edge] = edges.as_slice() else {
        let message = "a guard watches over one service, and there are several";
        let names: Vec<&str> = edges.iter().map(|edge| edge.service.as_str()).collect();
        let problem = Problem::new(Code::ServiceUnknown, message);
        return Err(vec![problem.hint(format!("add --service with one of: {}", names.join(", ")))]);
    };
    let layout = delivery::layout::Layout::of_project(&root);
    edges::guard(&layout, edge).ok_or_else(|| {
        let message = format!("{} has no use for a guard beside it", edge.environment);
        let hint = "Trimtab's own proxy has it built in; one beside HAProxy needs a `haproxy` table without \
                    `guard = false`";
        vec![Problem::new(Code::RequestInvalid, message).hint(hint)]
    })
}

fn read(path: &Utf8PathBuf) -> Result<GuardConfig, Vec<Problem>> {
    std::fs::read(path)
        .map_err(std::io::Error::other)
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(std::io::Error::other))
        .map_err(|error| {
            vec![Problem::new(Code::GuardUnavailable, format!("{path} can't be read")).because(&error)]
        })
}

#[derive(Debug, Serialize)]
struct Watched {
    version: u32,
    guards: Vec<Row>,
    /// What can't be seen.
    problems: Vec<ProblemWire>,
}

/// One service in one environment.
#[derive(Debug, Default, Serialize)]
struct Row {
    service: String,
    environment: String,
    /// `proxy` where Trimtab's own proxy holds the grant, `haproxy` where a guard does.
    kind: &'static str,
    /// The canary's share in force; none where it could not be seen.
    share_percent: Option<f64>,
    rollout: Option<String>,
    /// The most that is granted.
    ceiling_percent: Option<f64>,
    /// Milliseconds until the grant runs out.
    remaining_ms: Option<u64>,
    /// Of the grant; without one, what the manifest says.
    on_expiry: Option<OnExpiry>,
    /// The last grant that ended by itself or by a person, and why.
    ended: Option<String>,
    /// A drain that HAProxy has not confirmed, and what stands in the way.
    owed: Option<String>,
    storage_problem: Option<String>,
}

impl Row {
    fn of(config: &EdgeConfig) -> Self {
        let kind = if config.haproxy.is_some() { "haproxy" } else { "proxy" };
        let (service, environment) = (config.service.to_string(), config.environment.to_string());
        Self { service, environment, kind, ..Self::default() }
    }

    fn guarded(config: &EdgeConfig, status: &guard::Status) -> Self {
        let held = status.held.as_ref();
        Self {
            share_percent: status.share.map(percent),
            rollout: held.map(|held| held.rollout.to_string()),
            ceiling_percent: held.map(|held| percent(held.ceiling)),
            remaining_ms: status.remaining_ms,
            on_expiry: held.map(|held| held.on_expiry),
            ended: status
                .ended
                .as_ref()
                .map(|ended| format!("{} at {}: {}", ended.rollout, ended.at, ended.cause)),
            owed: status.owed.as_ref().map(|owed| format!("since {}: {}", owed.since, owed.trouble)),
            storage_problem: status.storage_problem.clone(),
            ..Self::of(config)
        }
    }

    fn embedded(config: &EdgeConfig, status: &platform::edge::Status) -> Self {
        Self {
            share_percent: Some(percent(status.weight)),
            rollout: status.rollout.as_ref().map(ToString::to_string),
            ceiling_percent: status.rollout.as_ref().map(|_| percent(status.weight)),
            remaining_ms: status.grant_remaining_ms,
            on_expiry: status.on_expiry,
            ended: status.expired.as_ref().map(|it| format!("{} at {}: {}", it.rollout, it.at, it.cause)),
            storage_problem: status.storage_problem.clone(),
            ..Self::of(config)
        }
    }

    fn print(&self, output: Output) {
        let share = self.share_percent.map_or("an unknown share".into(), |share| format!("{share}%"));
        let granted = match (&self.rollout, self.ceiling_percent) {
            (Some(rollout), Some(ceiling)) => {
                let left = match self.remaining_ms {
                    Some(left) => format!("runs out in {}", text::duration(left)),
                    None => "ran out and is kept".into(),
                };
                format!("{rollout} may have {ceiling}%, {left}")
            }
            _ => "nothing is granted".into(),
        };
        let place = format!("{} in {} ({})", self.service, self.environment, self.kind);
        let then = match self.on_expiry {
            Some(OnExpiry::Hold) => "; on-expiry = hold",
            Some(OnExpiry::Rollback) => "; on-expiry = rollback",
            None => "",
        };
        output.line(format!("{place}: the canary has {share}; {granted}{then}"));
        self.ended.iter().for_each(|ended| output.line(format!("  ended    {ended}")));
        self.owed.iter().for_each(|owed| output.line(format!("  OWED     a drain, {owed}")));
        self.storage_problem.iter().for_each(|problem| output.line(format!("  STORAGE  {problem}")));
    }
}

fn percent(weight: Weight) -> f64 {
    weight.share() * 100.0
}

async fn status(place: &Where, global: &Global, output: Output) -> super::Result {
    let (root, edges) = meant(place, global)?;
    let chosen = Project::at(root).map(|project| project.manifest.environments).unwrap_or_default();
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for config in &edges {
        let row = match config.haproxy.as_ref().map(|front| front.guard.as_ref()) {
            Some(Some(socket)) => {
                let status = Guard::at(socket).status().await;
                status.map(|status| Row::guarded(config, &status)).map_err(|error| error.problem())
            }
            // Nobody watches over it; what HAProxy says can be seen all the same.
            Some(None) => unguarded(config).await,
            None => {
                let edge = Edge::connect(config).await;
                match edge {
                    Ok(edge) => {
                        let status = edge.status().await.map_err(|error| error.problem());
                        status.map(|status| Row::embedded(config, &status))
                    }
                    Err(platform::edge::Error::NotRunning { .. }) => Ok(Row::of(config)),
                    Err(error) => Err(error.problem()),
                }
            }
        };
        match row {
            Ok(mut row) => {
                let environment = chosen.iter().find(|environment| environment.name == config.environment);
                row.on_expiry =
                    row.on_expiry.or(environment.map(|environment| environment.strategy.on_expiry));
                row.print(output);
                rows.push(row);
            }
            Err(problem) => problems.push(problem),
        }
    }
    let wires = output::wires(&problems);
    output.conclude(&Watched { version: 1, guards: rows, problems: wires }, problems)
}

async fn unguarded(config: &EdgeConfig) -> Result<Row, Problem> {
    let Some(front) = &config.haproxy else { return Ok(Row::of(config)) };
    let backend = front.haproxy.read().await.map_err(|error| error.problem())?;
    Ok(Row { share_percent: Some(percent(backend.share())), ..Row::of(config) })
}

#[derive(Debug, Serialize)]
struct TakenBack {
    version: u32,
    changes: Vec<Change>,
    /// Where it could not be done, or is not confirmed.
    problems: Vec<ProblemWire>,
}

#[derive(Debug, Serialize)]
struct Change {
    service: String,
    environment: String,
    /// Who did it: `guard`, `edge`, or `haproxy` when this command spoke to HAProxy itself.
    by: &'static str,
    rollout: Option<String>,
    from_percent: Option<f64>,
    to_percent: f64,
}

async fn take_back(args: &Rollback, global: &Global, output: Output) -> super::Result {
    let (root, edges) = meant(&args.place, global)?;
    // Nobody's name is worth a canary that goes on.
    let by = Project::at(root).and_then(|project| project.actor(args.identity.as_deref()));
    let by =
        by.map_or_else(|_| args.identity.clone().unwrap_or_else(|| "somebody".into()), |by| by.to_string());
    let requested = Requested { by, reason: args.reason.clone() };
    let (mut changes, mut problems) = (Vec::new(), Vec::new());
    for config in &edges {
        let done = match &config.haproxy {
            Some(_) => lower_at_haproxy(config, &requested).await,
            None => lower_at_edge(config, &requested).await,
        };
        match done {
            Ok(Some(change)) => {
                let from = change.from_percent.map_or("an unknown share".into(), |from| format!("{from}%"));
                let (service, environment, to) = (&change.service, &change.environment, change.to_percent);
                output.line(format!("{service} in {environment}: {from} → {to}%, by the {}", change.by));
                changes.push(change);
            }
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
    }
    if changes.is_empty() && problems.is_empty() {
        let problem = Problem::new(Code::NothingToRollBack, "no canary has traffic");
        problems.push(problem.hint("to take back what serves, run: trimtab rollback --environment NAME"));
    } else if !changes.is_empty() {
        output.line("the rollout is recorded as taken back as soon as a controller runs: trimtab server");
    }
    let wires = output::wires(&problems);
    output.conclude(&TakenBack { version: 1, changes, problems: wires }, problems)
}

async fn lower_at_edge(config: &EdgeConfig, requested: &Requested) -> Result<Option<Change>, Problem> {
    let edge = match Edge::connect(config).await {
        Ok(edge) => edge,
        // Its proxy is gone with it: nobody is served, by a canary least of all.
        Err(platform::edge::Error::NotRunning { .. }) => return Ok(None),
        Err(error) => return Err(error.problem()),
    };
    let rollout = edge.status().await.ok().and_then(|status| status.rollout);
    let lowered = edge.lower(Weight::ZERO, Some(requested.clone())).await.map_err(|error| error.problem())?;
    Ok((lowered.from > lowered.to).then(|| Change {
        service: config.service.to_string(),
        environment: config.environment.to_string(),
        by: "edge",
        rollout: rollout.map(|rollout| rollout.to_string()),
        from_percent: Some(percent(lowered.from)),
        to_percent: percent(lowered.to),
    }))
}

/// The guard first, HAProxy itself where there is none; then the edge, so that it does not wonder.
async fn lower_at_haproxy(config: &EdgeConfig, requested: &Requested) -> Result<Option<Change>, Problem> {
    let Some(front) = &config.haproxy else { return Ok(None) };
    let before = front.haproxy.read().await.ok().map(|backend| backend.share());
    let change = |by, rollout: Option<String>| Change {
        service: config.service.to_string(),
        environment: config.environment.to_string(),
        by,
        rollout,
        from_percent: before.map(percent),
        to_percent: 0.0,
    };
    let asked = match &front.guard {
        Some(socket) => Guard::at(socket).rollback(requested).await.ok(),
        None => None,
    };
    let done = match asked {
        Some(guard::Status { owed: Some(owed), .. }) => {
            let message = format!("the guard owes the drain of {} until HAProxy answers", config.environment);
            Err(Problem::new(Code::HaproxyUnreachable, message)
                .hint(format!("{}; it tries again by itself, see: trimtab guard status", owed.trouble)))
        }
        Some(guard::Status { ended, .. }) => {
            Ok(change("guard", ended.map(|ended| ended.rollout.to_string())))
        }
        None => drain(front).await.map(|()| change("haproxy", None)),
    };
    let tell = async {
        if let Ok(edge) = Edge::connect(config).await {
            let _ = edge.lower(Weight::ZERO, Some(requested.clone())).await;
        }
    };
    // It may be dead or hang; the traffic is off the canary without it.
    let _ = tokio::time::timeout(EDGE_WAIT, tell).await;
    done.map(|change| (before != Some(Weight::ZERO)).then_some(change))
}

async fn drain(front: &platform::edge::HaproxyFront) -> Result<(), Problem> {
    let problem = |error: platform::haproxy::Error| error.problem();
    let backend = front.haproxy.read().await.map_err(problem)?;
    front.haproxy.lower(&backend, Weight::ZERO).await.map(drop).map_err(problem)
}
