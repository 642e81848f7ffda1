//! Finds and makes the edge processes of a project, and the worlds that drivers act on.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::code::Code;
use delivery::effect::{Effect, RevisionSpec};
use delivery::environment::Environment;
use delivery::layout::Layout;
use delivery::{EnvironmentName, Problem, RevisionId, ServiceName, text};
use futures_util::future::join_all;
use platform::edge::{Edge, EdgeConfig, HaproxyFront, InstanceState, InstanceStatus, RevisionStatus, Role};
use platform::guard::GuardConfig;
use platform::haproxy::Haproxy;
use rollout::state::State;
use rollout::world::Host;
use store::Blobs;
use store::artifact::{self, ArtifactError};

use crate::environment;
use crate::output::Output;
use crate::project::Project;

/// Sockets lie in a private folder below this one, because a socket's path is short. It does not depend on the caller's
/// environment: who takes a release back may have another one (ssh, cron) than who shipped it.
pub(crate) const SOCKETS: &str = "/tmp";
/// The pause between two looks at a service that is coming up.
const POLL: Duration = Duration::from_millis(50);

/// The configuration of one service's edge in one environment.
pub(crate) fn config(project: &Project, service: &ServiceName, environment: &Environment) -> EdgeConfig {
    // Only a rollout that was planned before its service left the manifest has no address: it gets a free one.
    let listen = environment.listen.of(service).unwrap_or("127.0.0.1:0").to_owned();
    let front = project.manifest.fronts.get(&environment.name).cloned().unwrap_or_default();
    EdgeConfig {
        listen,
        trusted_proxies: front.trusted_proxies,
        override_header: front.override_header,
        haproxy: front
            .haproxy
            .map(|front| haproxy_front(&front, &project.layout, service, &environment.name)),
        ..running(&project.layout, service, &environment.name)
    }
}

fn haproxy_front(
    front: &manifest::Haproxy,
    layout: &Layout,
    service: &ServiceName,
    environment: &EnvironmentName,
) -> HaproxyFront {
    let state_directory = layout.guard(service, environment);
    let socket =
        || platform::edge::socket_path(Utf8Path::new(SOCKETS), &state_directory, service, environment);
    let haproxy = Haproxy {
        socket: front.socket.clone(),
        backend: front.backend.replace("{service}", service.as_str()),
        stable: front.stable.clone(),
        canary: front.canary.clone(),
    };
    HaproxyFront { haproxy, guard: front.guard.then(socket) }
}

/// The configuration of the guard beside an edge; `None` where none is needed.
pub(crate) fn guard(layout: &Layout, edge: &EdgeConfig) -> Option<GuardConfig> {
    let front = edge.haproxy.clone()?;
    Some(GuardConfig {
        socket: front.guard?,
        haproxy: front.haproxy,
        state_directory: layout.guard(&edge.service, &edge.environment),
        log: layout.edge_logs(&edge.service, &edge.environment).join("guard.log"),
        service: edge.service.clone(),
        environment: edge.environment.clone(),
    })
}

/// What an HAProxy in front of the service lacks for a release of so many instances; nothing where our own proxy is.
pub(crate) async fn unfit(edge: &EdgeConfig, instances: u32) -> Option<Problem> {
    let haproxy = &edge.haproxy.as_ref()?.haproxy;
    match haproxy.read().await {
        Ok(backend) if backend.slots() >= instances as usize => None,
        Ok(backend) => {
            let (slots, name) = (backend.slots(), &haproxy.backend);
            let message = format!(
                "HAProxy's backend {name:?} has {slots} servers of a kind for {instances} instances of {}",
                edge.service
            );
            let hint = format!("write `server-template {} {instances} ...` there", haproxy.canary);
            Some(Problem::new(Code::HaproxyUnfit, message).hint(hint))
        }
        Err(error) => Some(error.problem()),
    }
}

/// How to reach an edge that runs. Asks for nothing but the layout; where it listens is not needed for that, and left empty.
pub(crate) fn running(layout: &Layout, service: &ServiceName, environment: &EnvironmentName) -> EdgeConfig {
    let state_directory = layout.edge(service, environment);
    let socket = recorded_socket(&state_directory).unwrap_or_else(|| {
        platform::edge::socket_path(Utf8Path::new(SOCKETS), &state_directory, service, environment)
    });
    EdgeConfig {
        control_socket: socket,
        log_directory: layout.edge_logs(service, environment),
        service: service.clone(),
        environment: environment.clone(),
        listen: String::new(),
        trusted_proxies: Vec::new(),
        override_header: None,
        haproxy: started_with(&state_directory).and_then(|config| config.haproxy),
        state_directory,
    }
}

/// The socket that the edge was started with, as it is written beside its state: another user (su) would compute another. A
/// copy of a project must not reach the original's edges, so it counts only for the folder that it names.
fn recorded_socket(state_directory: &Utf8Path) -> Option<Utf8PathBuf> {
    started_with(state_directory).map(|config| config.control_socket)
}

/// What the edge of this folder was started with the last time.
pub(crate) fn started_with(state_directory: &Utf8Path) -> Option<EdgeConfig> {
    let text = std::fs::read(state_directory.join("edge.json")).ok()?;
    let config: EdgeConfig = serde_json::from_slice(&text).ok()?;
    (config.state_directory == state_directory).then_some(config)
}

/// Every (service, environment) of the manifest with its edge's configuration.
pub(crate) fn all(project: &Project) -> Vec<EdgeConfig> {
    let pairs = project.manifest.services.iter().flat_map(|service| {
        project
            .manifest
            .environments
            .iter()
            .map(move |environment| config(project, &service.name, environment))
    });
    pairs.collect()
}

/// Every edge that was ever started here, as it was the last time. Asks for neither manifest nor ledger.
pub(crate) fn all_started(layout: &Layout) -> Vec<EdgeConfig> {
    let folders = layout.root().join("edges").read_dir_utf8();
    let folders = folders.into_iter().flatten().flatten();
    let mut found: Vec<EdgeConfig> = folders.filter_map(|folder| started_with(folder.path())).collect();
    found.sort_by_key(|config| (config.service.clone(), config.environment.clone()));
    found
}

/// The world of one service in one environment. Before anything is started there, the artifact is hashed again and its
/// provenance verified.
pub(crate) fn host(project: &Project, service: &ServiceName, environment: &Environment) -> Host {
    let verifier = Verifier { layout: project.layout.clone() };
    let passed =
        project.manifest.services.iter().filter(|other| other.name == *service).flat_map(|other| &other.pass);
    let variables = passed.filter_map(|name| Some((name.clone(), environment::variable(name)?))).collect();
    let config = config(project, service, environment);
    let guard = guard(&project.layout, &config).map(|guard| (guard, guard_program()));
    Host::new(config, program(), variables, Box::new(move |effect| verifier.check(effect))).guarded(guard)
}

/// How a release that should serve does: the record knows that it should, the edge whether it does.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Where its edge listens; `None` when it does not answer.
    pub(crate) address: Option<String>,
    /// Instances that take requests.
    pub(crate) ready: usize,
    /// Instances that there should be.
    pub(crate) instances: usize,
    /// What is wrong and what to do about it; `None` when all instances are ready.
    pub(crate) trouble: Option<(String, String)>,
    /// What is wrong with the canary, if there is one, and where its output is. The record can't know: it holds traffic.
    pub(crate) canary: Option<(String, Utf8PathBuf)>,
}

/// The revision that should be the edge's stable one by the record; `None` where none should, and while a rollout may change
/// that before it is on record.
pub(crate) fn expected<'a>(state: &'a State, config: &EdgeConfig) -> Option<&'a RevisionId> {
    let (service, environment) = (&config.service, &config.environment);
    let moving = state.rollout_active(service, environment).is_some();
    state.slot(service, environment).filter(|_| !moving)?.stable.as_ref()
}

/// Asks the edge how the revision does that should be its stable one; `None` when none should.
pub(crate) async fn health(config: &EdgeConfig, expected: Option<&RevisionId>) -> Health {
    let status = match Edge::connect(config).await {
        Ok(edge) => edge.status().await,
        Err(error) => Err(error),
    };
    let status = match status {
        Ok(status) => status,
        Err(platform::edge::Error::NotRunning { .. }) => {
            let what = "nothing answers, because its edge does not run".into();
            let action = "run: trimtab server, which starts what should serve".into();
            return Health { trouble: Some((what, action)), ..Health::default() };
        }
        Err(error) => {
            let log = config.log_directory.join("edge.log");
            let action = format!("see {log}; end the edge's process, then run: trimtab server");
            return Health { trouble: Some((error.to_string(), action)), ..Health::default() };
        }
    };
    let stable = status.revision(Role::Stable);
    let (ready, instances) = stable.map_or((0, 0), |stable| (ready(stable), stable.instances.len()));
    let trouble = match stable {
        // A ledger that was restored knows less than what runs.
        Some(stable) if expected.is_some_and(|expected| *expected != stable.id) => {
            let what = format!("another release serves there, {}, which is not the one on record", stable.id);
            let action =
                "was the ledger restored? to bring a release there that is on record, run: trimtab ship";
            Some((what, action.into()))
        }
        Some(stable) => shortage(stable).map(|what| (what, format!("see {}; {}", stable.log, back(config)))),
        None => Some(("its edge runs, but without the release".into(), back(config))),
    };
    let canary = status.revision(Role::Canary);
    let canary = canary.and_then(|canary| Some((shortage(canary)?, canary.log.clone())));
    Health { address: Some(status.listen), ready, instances, trouble, canary }
}

fn back(config: &EdgeConfig) -> String {
    let (service, environment) = (&config.service, &config.environment);
    format!(
        "to put back what served before, run: trimtab rollback --environment {environment} --service {service}"
    )
}

fn ready(revision: &RevisionStatus) -> usize {
    revision.instances.iter().filter(|instance| instance.state == InstanceState::Ready).count()
}

/// Why fewer instances than there should be are ready; `None` when all are.
fn shortage(revision: &RevisionStatus) -> Option<String> {
    let waiting = |one: &&InstanceStatus| one.state != InstanceState::Ready;
    revision.instances.iter().find(waiting)?;
    let ended = revision.instances.iter().filter(waiting).find_map(|one| one.last_end.clone());
    let ended = ended.map_or(String::new(), |end| format!("; the last to end: {end}"));
    let of = text::count(revision.instances.len() as u64, "instance");
    Some(format!("{} of {of} ready{ended}", ready(revision)))
}

/// Sees to it that what serves by the record does so: starts its edge, which brings back what ran, and waits until an
/// instance is ready. False when the edge does not have it: it serves another release, which a restored ledger does not know of,
/// or none, because what it knew is lost.
pub(crate) async fn bring_back(
    project: &Project,
    service: &ServiceName,
    environment: &Environment,
    stable: &RevisionId,
) -> Result<bool, Vec<Problem>> {
    let config = config(project, service, environment);
    let refuse = |error: platform::edge::Error| vec![error.problem()];
    let edge = Edge::ensure(&config, &program()).await.map_err(refuse)?;
    loop {
        let status = edge.status().await.map_err(refuse)?;
        let own = status.revision(Role::Stable).filter(|own| own.id == *stable);
        if own.is_some_and(|own| ready(own) > 0) {
            return Ok(true);
        }
        if !status.restoring && status.revision(Role::Stable).is_none_or(|other| other.id != *stable) {
            return Ok(false);
        }
        // An edge gives what it restores the time that the manifest gives it.
        if !status.restoring {
            let health = health(&config, Some(stable)).await;
            let (what, action) =
                health.trouble.unwrap_or_else(|| ("another release does".into(), back(&config)));
            let message = format!("{service} should serve {}: {what}", environment.name);
            return Err(vec![Problem::new(Code::PlatformUnavailable, message).hint(action)]);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Looks after the edges of everything that serves, for as long as somebody calls it.
#[derive(Debug, Default)]
pub(crate) struct Care {
    begun: bool,
    /// What could not be started at the last look, so that it is told once.
    told: Vec<String>,
}

impl Care {
    /// Starts edges that are gone; each brings back what it served. The first look starts all, the later ones those that
    /// died: an edge that was told to stop (`trimtab down`) took its socket with it.
    pub(crate) async fn look(&mut self, project: &Project, state: &State, output: Output) {
        let every = !std::mem::replace(&mut self.begun, true);
        let meant = |config: &EdgeConfig| {
            let slot = state.slot(&config.service, &config.environment);
            slot.is_some_and(|slot| slot.stable.is_some()) && (every || config.control_socket.exists())
        };
        let configs: Vec<EdgeConfig> = all(project).into_iter().filter(meant).collect();
        let starts = join_all(configs.iter().map(|config| start(config, output))).await;
        let problems: Vec<Problem> = starts.into_iter().flatten().collect();
        let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
        if words != self.told {
            output.problems(&problems);
        }
        self.told = words;
    }
}

/// Starts the edge unless it runs.
async fn start(config: &EdgeConfig, output: Output) -> Option<Problem> {
    if !matches!(Edge::connect(config).await, Err(platform::edge::Error::NotRunning { .. })) {
        return None;
    }
    match Edge::ensure(config, &program()).await {
        Ok(_) => {
            output.talk(format!("started the edge of {} in {}", config.service, config.environment));
            None
        }
        Err(error) => Some(error.problem()),
    }
}

fn program() -> Vec<String> {
    vec![environment::program(), "edge".into()]
}

fn guard_program() -> Vec<String> {
    vec![environment::program(), "guard".into(), "run".into()]
}

/// Puts what was signed where it is to run, and refuses anything else.
struct Verifier {
    layout: Layout,
}

impl Verifier {
    fn check(&self, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Start { revision } => self.place(revision),
            Effect::SetWeight { .. } | Effect::Promote { .. } | Effect::Retire { .. } => Ok(()),
        }
    }

    /// Unpacks the artifact unless it is there, then hashes what is there.
    fn place(&self, revision: &RevisionSpec) -> Result<(), String> {
        let (digest, directory) = (&revision.digest, &revision.directory);
        if !directory.exists() {
            let unpacked = Blobs::open(&self.layout.blobs())
                .map_err(ArtifactError::from)
                .and_then(|blobs| artifact::unpack(&artifact::load(digest, &blobs)?, &blobs, directory));
            unpacked
                .map_err(|error| format!("the artifact {} can't be unpacked: {error}", digest.short()))?;
        }
        match artifact::check(directory) {
            Ok(found) if found == *digest => Ok(()),
            Ok(found) => Err(format!(
                "the artifact's files changed after it was signed: {} was signed, {} is there",
                digest.short(),
                found.short()
            )),
            Err(error) => Err(format!("the artifact {} can't be read: {error}", digest.short())),
        }
    }
}
