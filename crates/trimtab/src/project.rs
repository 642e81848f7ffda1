//! A project on this machine: its manifest, its repository, its state folder.
//!
//! Invariant: opening a project changes nothing; the state folder is made by the first command that records something.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::change::Person;
use delivery::clock::SteadyClock;
use delivery::code::Code;
use delivery::environment::Environment;
use delivery::layout::{Layout, STATE_DIRECTORY};
use delivery::rollout::RolloutPlan;
use delivery::{Actor, Digest, EnvironmentName, Problem, ServiceName, text};
use manifest::{Front, Manifest};
use repo::Repository;
use rollout::follower::Follower;
use rollout::state::State;

use crate::cli::Global;
pub(crate) use crate::ledger::problems;
use crate::ledger::{self, Whereabouts};
use crate::{edges, environment};

/// What a command works on.
pub(crate) struct Project {
    /// The folder that holds the manifest.
    pub(crate) root: Utf8PathBuf,
    /// The manifest.
    pub(crate) manifest: Manifest,
    /// Where state is kept.
    pub(crate) layout: Layout,
    /// Where its ledger is.
    pub(crate) ledger: Whereabouts,
}

/// The folder that the command line means: the one that was named, or the nearest at or above this one with a manifest,
/// or this one.
pub(crate) fn directory(global: &Global) -> Result<Utf8PathBuf, Vec<Problem>> {
    if let Some(named) = &global.project {
        return named.canonicalize_utf8().map_err(|error| {
            vec![
                Problem::new(Code::ManifestUnreadable, format!("there is no folder {named}")).because(&error),
            ]
        });
    }
    let here = environment::current_directory().map_err(|error| {
        vec![Problem::new(Code::ManifestUnreadable, "this folder can't be used").because(&error)]
    })?;
    let holds_manifest = |folder: &&Utf8Path| folder.join("trimtab.toml").exists();
    let nearest = here.ancestors().find(holds_manifest).map(Utf8Path::to_owned);
    Ok(nearest.unwrap_or(here))
}

impl Project {
    /// Opens the project that the command line means.
    pub(crate) fn open(global: &Global) -> Result<Self, Vec<Problem>> {
        Self::at(directory(global)?)
    }

    /// Opens the project in the folder.
    pub(crate) fn at(root: Utf8PathBuf) -> Result<Self, Vec<Problem>> {
        let manifest = manifest::load(&root)?;
        let layout = Layout::of_project(&root);
        let ledger = Whereabouts::find(&layout, Some(&manifest));
        Ok(Self { root, manifest, layout, ledger })
    }

    /// Opens the project in the folder for what must work whatever became of its manifest: taking releases back, and going
    /// on with rollouts. Where the file can't be read, the plans on record take its place, and what is wrong is said beside.
    /// Fails only where nothing was ever recorded.
    pub(crate) fn recorded(root: Utf8PathBuf) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let wrong = match Self::at(root.clone()) {
            Ok(project) => return Ok((project, Vec::new())),
            Err(wrong) => wrong,
        };
        let layout = Layout::of_project(&root);
        let manifest = Manifest {
            project: root.file_name().unwrap_or("project").to_owned(),
            services: Vec::new(),
            tasks: Vec::new(),
            gates: Vec::new(),
            environments: Vec::new(),
            fronts: BTreeMap::new(),
            trunk: "main".into(),
            ledger: None,
        };
        let ledger = Whereabouts::find(&layout, None);
        let mut project = Self { root, manifest, layout, ledger };
        let Some(follower) = project.reader()? else { return Err(wrong) };
        project.manifest.services = services_planned(follower.state());
        project.manifest.environments = environments_planned(follower.state());
        project.manifest.fronts = fronts_started(&project.layout, follower.state());
        Ok((project, wrong))
    }

    /// Its repository.
    pub(crate) fn repository(&self) -> Result<Repository, Vec<Problem>> {
        Repository::discover(&self.root).map_err(|error| vec![error.problem()])
    }

    /// Its ledger, ready to be appended to, with its state.
    pub(crate) fn follower(&self) -> Result<Follower, Vec<Problem>> {
        prepare(&self.layout)?;
        self.ledger.remember().map_err(|error| vec![unmade(&self.layout, &error)])?;
        let ledger = self.ledger.open().map_err(problems)?;
        Follower::open(ledger).map_err(problems)
    }

    /// Its ledger for reading only; `None` when nothing was ever recorded.
    pub(crate) fn reader(&self) -> Result<Option<Follower>, Vec<Problem>> {
        let Some(ledger) = self.ledger.open_to_read().map_err(problems)? else { return Ok(None) };
        Follower::open(ledger).map(Some).map_err(problems)
    }

    /// Who acts: the identity given on the command line, or git's.
    pub(crate) fn actor(&self, named: Option<&str>) -> Result<Actor, Vec<Problem>> {
        if let Some(email) = named {
            let looks_right =
                email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
            if looks_right && !email.contains(char::is_whitespace) {
                return Ok(Actor::Human(self.known(email)));
            }
            let problem = Problem::new(Code::IdentityMissing, format!("{email:?} is not an e-mail address"));
            return Err(vec![problem.hint("people are known by the address that git has of them")]);
        }
        let person = self.repository()?.identity().map_err(|error| vec![error.problem()])?;
        Ok(Actor::Human(person.email))
    }

    /// The address under which the repository knows the person.
    fn known(&self, email: &str) -> String {
        let person = Person { name: String::new(), email: email.to_lowercase() };
        let known = self
            .repository()
            .and_then(|repository| repository.known(vec![person]).map_err(|error| vec![error.problem()]));
        known.ok().and_then(|mut known| known.pop()).map_or_else(|| email.to_owned(), |person| person.email)
    }

    /// The environment of this name.
    pub(crate) fn environment(&self, name: &str) -> Result<&Environment, Vec<Problem>> {
        let known = || self.manifest.environments.iter().map(|environment| environment.name.as_str());
        self.manifest.environments.iter().find(|environment| environment.name.as_str() == name).ok_or_else(
            || {
                vec![unknown(
                    Code::EnvironmentUnknown,
                    format!("there is no environment {name:?}"),
                    name,
                    known(),
                )]
            },
        )
    }

    /// The services meant: the one named, or all.
    pub(crate) fn services(&self, name: Option<&str>) -> Result<Vec<&manifest::Service>, Vec<Problem>> {
        let Some(name) = name else { return Ok(self.manifest.services.iter().collect()) };
        let known = || self.manifest.services.iter().map(|service| service.name.as_str());
        let service = self.manifest.services.iter().find(|service| service.name.as_str() == name);
        service.map(|service| vec![service]).ok_or_else(|| {
            vec![unknown(Code::ServiceUnknown, format!("there is no service {name:?}"), name, known())]
        })
    }

    /// The environments with the digests of their rules.
    pub(crate) fn environments(&self) -> Vec<(Environment, Digest)> {
        let digest = |environment: &Environment| (environment.clone(), manifest::policy_digest(environment));
        self.manifest.environments.iter().map(digest).collect()
    }

    /// Whether a controller holds the lease of the service in the environment now.
    pub(crate) fn driven(&self, service: &ServiceName, environment: &EnvironmentName) -> bool {
        ledger::driven(&self.ledger.leases(), service, environment)
    }
}

/// Makes the state folder, private and ignored by git.
pub(crate) fn prepare(layout: &Layout) -> Result<(), Vec<Problem>> {
    let root = layout.root();
    // Nobody else's: whoever can write here can replace the key that signs.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root).and_then(|()| {
        let ignore = root.join(".gitignore");
        if ignore.exists() { Ok(()) } else { std::fs::write(ignore, "*\n") }
    });
    made.map_err(|error| vec![unmade(layout, &error)])
}

fn unmade(layout: &Layout, error: &std::io::Error) -> Problem {
    let root = layout.root();
    let full = error.kind() == std::io::ErrorKind::StorageFull;
    let code = if full { Code::StoreFull } else { Code::StoreReadOnly };
    let place = root.parent().unwrap_or(root);
    Problem::new(code, format!("the state folder {STATE_DIRECTORY} can't be made in {place}"))
        .because(error)
        .hint("make the folder writable, or work on a copy that is")
}

/// The last plan of each thing that plans are about, by its name.
fn last_plans<'a, K: Ord>(
    state: &'a State,
    key: impl Fn(&'a RolloutPlan) -> K,
) -> BTreeMap<K, &'a RolloutPlan> {
    let mut rollouts: Vec<_> = state.rollouts.values().collect();
    rollouts.sort_by_key(|rollout| rollout.planned_at);
    rollouts.into_iter().map(|rollout| (key(&rollout.plan), &rollout.plan)).collect()
}

/// The services as they were planned last.
fn services_planned(state: &State) -> Vec<manifest::Service> {
    let service = |plan: &RolloutPlan| {
        let spec = plan.revision.clone();
        manifest::Service {
            name: spec.service,
            directory: ".".into(),
            artifact: Vec::new(),
            start: spec.command,
            environment: spec.environment,
            pass: spec.pass,
            ready: manifest::Readiness { path: spec.ready.path, within_ms: spec.ready.within_ms },
            instances: spec.instances,
            stop_ms: spec.stop_ms,
        }
    };
    last_plans(state, |plan| &plan.revision.service).into_values().map(service).collect()
}

/// The environments with the rules that were planned with last, in the order in which they were first entered.
fn environments_planned(state: &State) -> Vec<Environment> {
    let first = |name: &EnvironmentName| {
        let there = state.rollouts.values().filter(|rollout| rollout.plan.environment.name == *name);
        there.map(|rollout| rollout.planned_at).min()
    };
    let mut found: Vec<Environment> = last_plans(state, |plan| &plan.environment.name)
        .into_values()
        .map(|plan| plan.environment.clone())
        .collect();
    found.sort_by_key(|environment| first(&environment.name));
    found
}

/// How the environments' proxies were started to read requests.
fn fronts_started(layout: &Layout, state: &State) -> BTreeMap<EnvironmentName, Front> {
    let started = state.slots.keys().filter_map(|(service, environment)| {
        let config = edges::started_with(&layout.edge(service, environment))?;
        let front = Front {
            trusted_proxies: config.trusted_proxies,
            override_header: config.override_header,
            haproxy: config.haproxy.map(|front| manifest::Haproxy {
                socket: front.haproxy.socket,
                backend: front.haproxy.backend,
                stable: front.haproxy.stable,
                canary: front.haproxy.canary,
                guard: front.guard.is_some(),
            }),
        };
        Some((environment.clone(), front))
    });
    started.collect()
}

/// The clock of a command: never before the ledger's last record.
pub(crate) fn clock(follower: &Follower) -> SteadyClock {
    SteadyClock::anchored(follower.state().last_at)
}

/// A problem about a name that is not known, with the nearest that is.
pub(crate) fn unknown<'a>(
    code: Code,
    message: String,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Problem {
    let problem = Problem::new(code, message);
    if let Some(near) = text::nearest(name, known.clone()) {
        return problem.hint(format!("did you mean {near}?"));
    }
    let all: Vec<&str> = known.collect();
    let defined = matches!(code, Code::TaskUnknown | Code::EnvironmentUnknown | Code::ServiceUnknown);
    let list = match (all.is_empty(), defined) {
        (true, true) => "none is defined in trimtab.toml".into(),
        (true, false) => "none yet".into(),
        (false, _) => all.join(", "),
    };
    problem.hint(format!("known: {list}"))
}
