//! Finds and makes the edge processes of a project, and the worlds that drivers act on.

use delivery::effect::{Effect, RevisionSpec};
use delivery::environment::Environment;
use delivery::layout::Layout;
use delivery::{EnvironmentName, ServiceName};
use platform::edge::EdgeConfig;
use rollout::world::Host;
use store::Blobs;
use store::artifact::{self, ArtifactError};

use crate::environment;
use crate::project::Project;

/// The configuration of one service's edge in one environment. The first service listens on the environment's address, the
/// second one port above it, and so on; port 0 takes a free one for each.
pub(crate) fn config(project: &Project, service: &ServiceName, environment: &Environment) -> EdgeConfig {
    let place = project.manifest.services.iter().position(|other| other.name == *service).unwrap_or(0) as u16;
    let listen = match environment.listen.rsplit_once(':') {
        Some((host, port)) => match port.parse::<u16>() {
            Ok(port) if port > 0 => format!("{host}:{}", port.saturating_add(place)),
            _ => environment.listen.clone(),
        },
        None => environment.listen.clone(),
    };
    named(project, service, &environment.name, listen)
}

fn named(
    project: &Project,
    service: &ServiceName,
    environment: &EnvironmentName,
    listen: String,
) -> EdgeConfig {
    let state_directory = project.layout.edge(service, environment);
    let runtime = environment::runtime_directory();
    EdgeConfig {
        control_socket: platform::edge::socket_path(&runtime, &state_directory, service, environment),
        log_directory: project.layout.edge_logs(service, environment),
        service: service.clone(),
        environment: environment.clone(),
        listen,
        state_directory,
    }
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

/// The world of one service in one environment. Before anything is started there, the artifact is hashed again and its
/// provenance verified.
pub(crate) fn host(project: &Project, service: &ServiceName, environment: &Environment) -> Host {
    let program = vec![environment::program(), "edge".into()];
    let verifier = Verifier { layout: project.layout.clone() };
    let passed =
        project.manifest.services.iter().filter(|other| other.name == *service).flat_map(|other| &other.pass);
    let variables = passed.filter_map(|name| Some((name.clone(), environment::variable(name)?))).collect();
    Host::new(
        config(project, service, environment),
        program,
        variables,
        Box::new(move |effect| verifier.check(effect)),
    )
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
