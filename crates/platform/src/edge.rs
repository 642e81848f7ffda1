//! The edge: one long-lived process for each service and environment, which runs the service's revisions and splits traffic
//! between them.
//!
//! It holds the proxy that listens on the environment's address (or the reins of an HAProxy that does), the supervisor of the
//! revisions' instances, and a control API over a unix socket (HTTP/1.1 and JSON, below `/v1/`). It is separate from the rest of Trimtab so that it goes on
//! serving its last safe weights when the rest dies; a raised weight falls to 0 when nobody renews its grant.
//! It deliberately decides nothing about a rollout: it does what commands say, in order, at most once each.
//!
//! Invariants: what was acknowledged is on disk, save for lowering the weight, which comes first and works on a full disk
//! too; a command with an epoch below the highest seen changes nothing; after a restart of the edge only stable has traffic,
//! whatever the canary's grant said: nothing proves then that nobody used the kill switch; and nothing is started whose files
//! are not what was signed.

use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::network::Network;
use delivery::{EnvironmentName, ServiceName};
use serde::{Deserialize, Serialize};

pub(crate) mod client;
pub(crate) mod control;
mod daemon;
mod desk;
mod error;
mod follower;
mod front;
mod host;
pub(crate) mod launch;
mod state;
mod traffic;
mod wire;

pub use client::Edge;
pub use daemon::{run, run_verified};
pub use error::Error;
pub use state::epoch_seen;
pub(crate) use state::write_atomically;

use crate::haproxy::Haproxy;
pub use crate::supervisor::DigestOf;
pub use wire::{
    ExpiredStatus, InstanceState, InstanceStatus, Lowered, Renewal, RevisionStatus, Role, Status,
};

/// Where one edge listens and keeps its things. Written as `edge.json` into the state directory for the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeConfig {
    /// The service that it runs.
    pub service: ServiceName,
    /// The environment that it serves.
    pub environment: EnvironmentName,
    /// Where users' requests arrive, `host:port`; port 0 takes a free one and keeps it over restarts.
    pub listen: String,
    /// Proxies in front whose word about the client is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<Network>,
    /// The request header that names an arm while the canary is exposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub override_header: Option<String>,
    /// HAProxy in front, instead of the proxy in this process; `listen` is then where HAProxy does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub haproxy: Option<HaproxyFront>,
    /// The control API's unix socket; see [`socket_path`].
    pub control_socket: Utf8PathBuf,
    /// Holds `state.json`, `effects.jsonl` and `edge.json`. One edge at a time.
    pub state_directory: Utf8PathBuf,
    /// Holds `edge.log` and one log for each revision.
    pub log_directory: Utf8PathBuf,
}

/// HAProxy in front of an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaproxyFront {
    /// How it is reached.
    pub haproxy: Haproxy,
    /// The guard's socket; without one nobody takes a canary back when this edge dies.
    pub guard: Option<Utf8PathBuf>,
}

/// Makes a folder that only this user may enter: states and logs tell what a service does. Its name and that of the folder
/// that it lies in are durable afterwards, or a power cut could take a state along that was written well.
pub(crate) fn private_folder(folder: &Utf8Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
        .map_err(Error::file("protect", folder))?;
    let above = folder.ancestors().skip(1).take(2).filter(|above| !above.as_str().is_empty());
    above.into_iter().try_for_each(|above| {
        let synced = std::fs::File::open(above).and_then(|opened| opened.sync_all());
        // A folder that may be entered but not read belongs to somebody else, who made it long ago.
        synced.or_else(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => Ok(()),
            _ => Err(Error::file("sync", above)(error)),
        })
    })
}

/// The longest path that fits into a unix socket's address, in bytes.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A short path for an edge's control socket, in a folder that only this user may enter: unix socket paths are limited to
/// [`SOCKET_PATH_BYTES_MAX`] bytes, which state directories easily exceed. `runtime_root` is a temporary
/// directory; when it is itself too long, `/tmp` takes its place. The folder is made by the daemon.
pub fn socket_path(
    runtime_root: &Utf8Path,
    state_directory: &Utf8Path,
    service: &ServiceName,
    environment: &EnvironmentName,
) -> Utf8PathBuf {
    let named = format!("{state_directory}\0{service}\0{environment}");
    let digest = delivery::Digest::of(named.as_bytes());
    let user = rustix::process::getuid().as_raw();
    let tail = format!("trimtab-{user}/{}.sock", &digest.as_str()[..20]);
    let path = runtime_root.join(&tail);
    if path.as_str().len() <= SOCKET_PATH_BYTES_MAX { path } else { Utf8Path::new("/tmp").join(tail) }
}
