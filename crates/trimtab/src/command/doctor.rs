//! `trimtab doctor`: what on this machine or in this project would get in the way.

use camino::Utf8Path;
use delivery::clock::{Clock as _, SteadyClock};
use delivery::code::Code;
use delivery::exit::Exit;
use delivery::{Problem, text};
use platform::edge::EdgeConfig;
use repo::Repository;
use rollout::state::State;
use serde::Serialize;

use crate::cli::Global;
use crate::output::Output;
use crate::project::{self, Project};
use crate::{edges, environment, signing};

/// Checks the machine and the project: each finding says what, why it matters, and what to do.
///
///   trimtab doctor
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {}

/// Less free space than this is worth a word.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// A ledger that is ahead of the clock by more than this is worth a word.
const AHEAD_MS_MAX: u64 = 5_000;

#[derive(Debug, Serialize)]
struct Diagnosis {
    version: u32,
    healthy: bool,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    fix: Option<String>,
}

fn good(name: &'static str, detail: impl Into<String>) -> Check {
    Check { name, ok: true, detail: detail.into(), fix: None }
}

fn bad(name: &'static str, problem: &Problem) -> Check {
    Check { name, ok: false, detail: problem.to_string(), fix: problem.hint.clone() }
}

pub(crate) async fn run(_args: &Args, global: &Global, output: Output) -> super::Result {
    let folder = project::directory(global)?;
    let mut checks = repository(&folder);
    match Project::at(folder.clone()) {
        Ok(project) => checks.extend(project_checks(&project).await),
        Err(problems) => checks.extend(problems.iter().map(|problem| bad("manifest", problem))),
    }
    checks.push(space(&folder));
    checks.push(sockets());
    let healthy = checks.iter().all(|check| check.ok);
    for check in &checks {
        let mark = if check.ok { "ok  " } else { "MEND" };
        output.line(format!("{mark} {:<11} {}", check.name, check.detail));
        check.fix.iter().for_each(|fix| output.line(format!("     {:<11} {fix}", "")));
    }
    output.json(&Diagnosis { version: 1, healthy, checks });
    Ok(if healthy { Exit::Success } else { Exit::CheckFailed })
}

fn repository(folder: &Utf8Path) -> Vec<Check> {
    let repository = match Repository::discover(folder) {
        Ok(repository) => repository,
        Err(error) => return vec![bad("repository", &error.problem())],
    };
    let head = repository.require_whole().and_then(|()| repository.head());
    let first = match head {
        Ok(commit) => good("repository", format!("{} at {}", repository.root(), commit.id.short())),
        Err(error) => bad("repository", &error.problem()),
    };
    let second = match repository.identity() {
        Ok(person) => good("identity", person.email),
        Err(error) => bad("identity", &error.problem()),
    };
    vec![first, second]
}

async fn project_checks(project: &Project) -> Vec<Check> {
    let manifest = &project.manifest;
    let mut checks = vec![good(
        "manifest",
        format!(
            "{}, {}, {}",
            text::count(manifest.tasks.len() as u64, "task"),
            text::count(manifest.services.len() as u64, "service"),
            text::count(manifest.environments.len() as u64, "environment")
        ),
    )];
    checks.extend(programs(project));
    let (records, state) = ledger(project);
    checks.extend(records);
    for config in edges::all(project) {
        checks.push(edge(&config, &state).await);
        if let Some(front) = &config.haproxy {
            let instances = manifest.service(&config.service).map_or(1, |service| service.instances);
            checks.push(match edges::unfit(&config, instances).await {
                Some(problem) => bad("haproxy", &problem),
                None => good("haproxy", format!("backend {:?} is fit for canaries", front.haproxy.backend)),
            });
        }
    }
    checks
}

/// Programs that tasks and services need and that are not on the search path.
fn programs(project: &Project) -> Vec<Check> {
    let manifest = &project.manifest;
    let tasks = manifest.tasks.iter().map(|task| (format!("task {}", task.name), &task.command));
    let services =
        manifest.services.iter().map(|service| (format!("service {}", service.name), &service.start));
    let missing = tasks.chain(services).filter_map(|(who, command)| {
        let program = command.first()?;
        // A path may be built by a task first, so only bare names are looked up.
        (!program.contains('/') && !on_path(program)).then(|| {
            let problem = Problem::new(
                Code::ProgramMissing,
                format!("{who} needs {program}, which is not on the PATH"),
            );
            bad(
                "programs",
                &problem.hint(format!("install {program}, or change the command in trimtab.toml")),
            )
        })
    });
    let missing: Vec<Check> = missing.collect();
    if missing.is_empty() {
        vec![good("programs", "everything that tasks and services start is there")]
    } else {
        missing
    }
}

fn on_path(program: &str) -> bool {
    let path = environment::variable("PATH").unwrap_or_default();
    path.split(':').any(|folder| Utf8Path::new(folder).join(program).is_file())
}

/// What is amiss with the records, and what they add up to.
fn ledger(project: &Project) -> (Vec<Check>, State) {
    let opened = project.ledger.open_to_read();
    let follower = match opened.and_then(|ledger| ledger.map(rollout::follower::Follower::open).transpose()) {
        Ok(Some(follower)) => follower,
        Ok(None) => {
            return (vec![good("records", "none yet"), key(project, &State::default())], State::default());
        }
        Err(error) => return (vec![bad("records", &error.problem())], State::default()),
    };
    let state = follower.state();
    let mut checks = Vec::new();
    if state.quarantined.is_empty() {
        checks.push(good("records", text::count(state.size, "record")));
    } else {
        let records = text::count(state.quarantined.len() as u64, "record");
        let problem = Problem::new(Code::StoreDamaged, format!("{records} of {} can't be read", state.size));
        checks.push(bad("records", &problem.hint("look closer with: trimtab ledger verify")));
    }
    if let Ok(Some(detail)) = follower.ledger().older() {
        checks.push(bad("records", &store::Error::Older { detail }.problem()));
    }
    checks.push(key(project, state));
    let wall = SteadyClock::anchored(None).now();
    let ahead = state.last_at.map_or(0, |last| delivery::clock::millis_between(wall, last));
    if ahead > AHEAD_MS_MAX {
        let problem = Problem::new(
            Code::StoreUnavailable,
            format!("the ledger is {} ahead of this machine's clock", text::duration(ahead)),
        );
        checks
            .push(bad("clock", &problem.hint("set the clock; until then time goes on from the last record")));
    } else {
        checks.push(good("clock", "not behind the ledger"));
    }
    (checks, state.clone())
}

/// The key that signs provenance.
fn key(project: &Project, state: &State) -> Check {
    match signing::known_key(project, state) {
        Ok(Some(key)) => good("key", format!("{} signs", key.id().short())),
        Ok(None) if state.keys.is_empty() => good("key", "none yet; the first ship makes one"),
        Ok(None) => {
            good("key", "gone; the next ship makes a new one, and what was signed before stays valid")
        }
        Err(error) => bad("key", &error.problem()),
    }
}

async fn edge(config: &EdgeConfig, state: &State) -> Check {
    let slot = state.slot(&config.service, &config.environment);
    let serves = slot.is_some_and(|slot| slot.current.is_some());
    let place = format!("{} in {} on {}", config.service, config.environment, config.listen);
    let health = edges::health(config, edges::expected(state, config)).await;
    match (health.address, health.trouble) {
        (_, Some((trouble, action))) if serves => {
            let problem = Problem::new(Code::PlatformUnavailable, format!("{place}: {trouble}"));
            bad("edge", &problem.hint(action))
        }
        (Some(_), _) => {
            let ready = text::count(health.ready as u64, "instance");
            good("edge", format!("{place}: {ready} ready"))
        }
        (None, _) if config.haproxy.is_some() => good("edge", format!("{place}: it does not run")),
        (None, _) => match std::net::TcpListener::bind(&config.listen) {
            Ok(_) => good("edge", format!("{place}: the address is free")),
            Err(error) => {
                let problem = Problem::new(Code::PortTaken, format!("{place}: {error}"));
                let hint = "stop what listens there, or choose another `listen` in trimtab.toml";
                bad("edge", &problem.hint(hint))
            }
        },
    }
}

fn space(folder: &Utf8Path) -> Check {
    match rustix::fs::statvfs(folder.as_std_path()) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let detail = format!("{} MiB free", free >> 20);
            if free >= FREE_BYTES_MIN {
                return good("space", detail);
            }
            bad("space", &Problem::new(Code::StoreFull, detail).hint("free at least 1 GiB"))
        }
        Err(error) => bad("space", &Problem::new(Code::StoreUnavailable, format!("{folder}: {error}"))),
    }
}

/// Sockets lie in a folder of our own, which the first edge makes.
fn sockets() -> Check {
    match rustix::fs::access(edges::SOCKETS, rustix::fs::Access::WRITE_OK) {
        Ok(()) => good("sockets", format!("{} can be written", edges::SOCKETS)),
        Err(error) => {
            let message = format!("{} can't be written: {error}", edges::SOCKETS);
            let problem = Problem::new(Code::PlatformUnavailable, message);
            bad("sockets", &problem.hint("edges listen there for commands; make it writable"))
        }
    }
}
