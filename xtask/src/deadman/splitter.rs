//! The splitter's own word about the canary's share: the edge's status, or HAProxy's weights.
//!
//! Knows HAProxy by its statistics alone, with code of its own, so that a mistake in ours is not made twice. Invariant: one
//! that does not answer has no share, which is never taken for zero.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::Kind;
use crate::figures::process::Running;
use crate::figures::shop::Shop;

const CONFIGURATION: &str = include_str!("haproxy.cfg");

/// An HAProxy of ours.
#[derive(Debug)]
pub(super) struct Haproxy {
    running: Running,
    socket: Utf8PathBuf,
    /// Where users come in.
    pub(super) listen: String,
}

impl Haproxy {
    /// Starts one in the folder.
    pub(super) fn start(folder: &Utf8Path) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|error| format!("{folder}: {error}"))?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.map_err(|error| format!("no port is free: {error}"))?.port();
        let listen = format!("127.0.0.1:{port}");
        // A socket's path is short; a target folder's need not be.
        let socket = Utf8PathBuf::from(format!("/tmp/trimtab-deadman-{}-{port}.sock", std::process::id()));
        let text = CONFIGURATION.replace("@LISTEN@", &listen).replace("@SOCKET@", socket.as_str());
        let path = folder.join("haproxy.cfg");
        std::fs::write(&path, text).map_err(|error| format!("{path}: {error}"))?;
        let arguments = ["-db", "-f", path.as_str()];
        let running = Running::start(Utf8Path::new("haproxy"), &arguments, folder, folder, "haproxy")?;
        let haproxy = Self { running, socket, listen };
        for _ in 0..500 {
            if haproxy.ask("show info").is_some() {
                return Ok(haproxy);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("haproxy does not answer: see {}", haproxy.running.talk))
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.running.id()
    }

    /// Where its runtime API is.
    pub(super) fn socket(&self) -> &Utf8Path {
        &self.socket
    }

    fn ask(&self, command: &str) -> Option<String> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(format!("{command}\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// The weights in force of the canary's servers, together.
    fn canary(&self) -> Option<u64> {
        let answer = self.ask("show servers state shop")?;
        // srv_name is the fourth field, srv_admin_state the seventh, srv_uweight the eighth. Bit 2 of the state only says
        // that the configuration file had it in maintenance.
        let rows = answer.lines().map(|line| line.split(' ').collect::<Vec<&str>>());
        let rows: Vec<Vec<&str>> = rows.filter(|fields| fields.len() > 8 && fields[1] == "shop").collect();
        let canaries = rows.iter().filter(|fields| fields[3].starts_with("canary"));
        let force = |fields: &Vec<&str>| {
            let (state, weight) = (fields[6].parse::<u64>().ok()?, fields[7].parse::<u64>().ok()?);
            Some(if state & !4 == 0 { weight } else { 0 })
        };
        (!rows.is_empty()).then(|| canaries.map(force).sum::<Option<u64>>()).flatten()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Whether the canary has traffic by the splitter's own word; `None` while it does not answer.
pub(super) fn canary_has_traffic(
    kind: Kind,
    haproxy: Option<&Haproxy>,
    shop: &Shop,
    away: Option<&Utf8Path>,
) -> Option<bool> {
    match (kind, haproxy) {
        (Kind::Haproxy, Some(haproxy)) => haproxy.canary().map(|weight| weight > 0),
        (Kind::Haproxy, None) => None,
        (Kind::Embedded, _) => {
            let view = match away {
                Some(away) => Shop::edge_at(away),
                None => shop.edge(),
            };
            view.map(|view| view.weight > 0)
        }
    }
}
