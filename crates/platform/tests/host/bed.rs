//! A test bed: one edge in a temporary folder, commands to it, requests through it, and the certainty that nothing of it is
//! left running when the test ends, however it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use camino::Utf8PathBuf;
use delivery::effect::{Command, Effect, Outcome, Readiness, RevisionSpec};
use delivery::strategy::{OnExpiry, Sticky};
use delivery::traffic::Weight;
use delivery::{Digest, EnvironmentName, RevisionId, RolloutId, ServiceName};
use platform::edge::{Edge, EdgeConfig, Status, socket_path};
use platform::process::{self, Identity};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::roles;

pub(crate) struct Bed {
    pub(crate) config: EdgeConfig,
    folder: tempfile::TempDir,
}

pub(crate) fn rollout(n: u32) -> RolloutId {
    RolloutId::new(format!("ro-{n:08}")).unwrap()
}

pub(crate) fn revision(n: u32) -> RevisionId {
    RevisionId::of_rollout(&rollout(n))
}

pub(crate) fn percent(percent: f64) -> Weight {
    Weight::from_percent(percent).unwrap()
}

impl Bed {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().canonicalize().unwrap()).unwrap();
        std::fs::write(root.join("content"), "original").unwrap();
        let service = ServiceName::new("web").unwrap();
        let environment = EnvironmentName::new("production").unwrap();
        let state_directory = root.join("state");
        let config = EdgeConfig {
            control_socket: socket_path(&root.join("run"), &state_directory, &service, &environment),
            service,
            environment,
            listen: "127.0.0.1:0".into(),
            trusted_proxies: Vec::new(),
            override_header: None,
            haproxy: None,
            state_directory,
            log_directory: root.join("logs"),
        };
        Self { config, folder }
    }

    pub(crate) async fn edge(&self) -> Edge {
        Edge::ensure(&self.config, &Self::program()).await.unwrap()
    }

    /// The daemon: this program in another role. `sh` turns the `--config FILE` that it is given into a variable.
    pub(crate) fn program() -> Vec<String> {
        let own = roles::own_command();
        let script = format!(
            "{}=edge {}=\"$2\" exec \"$0\" roles::be --exact --nocapture --quiet",
            roles::ROLE,
            roles::CONFIG
        );
        vec!["sh".into(), "-c".into(), script, own[0].clone()]
    }

    pub(crate) fn spec(&self, n: u32, mode: &str) -> RevisionSpec {
        let variables = [(roles::ROLE, "service"), (roles::MODE, mode), ("VERSION", &format!("v{n}"))]
            .map(|(k, v)| (k.into(), v.into()));
        RevisionSpec {
            id: revision(n),
            service: self.config.service.clone(),
            digest: Digest::of(b"original"),
            directory: Utf8PathBuf::from_path_buf(self.folder.path().to_owned()).unwrap(),
            command: roles::own_command(),
            environment: BTreeMap::from(variables),
            pass: Vec::new(),
            ready: Readiness { path: Some("/healthy".into()), within_ms: 15_000 },
            instances: 1,
            stop_ms: 5_000,
        }
    }

    /// An edge with revision 1 stable.
    pub(crate) async fn with_stable(&self) -> Edge {
        let edge = self.edge().await;
        applied(&edge, start(1, 1, self.spec(1, "good"))).await;
        applied(&edge, command(1, 2, Effect::Promote { revision: revision(1) })).await;
        edge
    }

    /// An edge with revision 1 stable, and revision 2 as a canary with half of the traffic.
    pub(crate) async fn with_canary(&self, ttl_ms: u64, on_expiry: OnExpiry) -> Edge {
        let edge = self.with_stable().await;
        applied(&edge, start(2, 1, self.spec(2, "good"))).await;
        applied(&edge, weight(2, 2, percent(50.0), ttl_ms, on_expiry)).await;
        edge
    }

    /// The journal: effect, rollout's sequence, weight.
    pub(crate) fn journal(&self) -> Vec<(String, Option<u64>, u64)> {
        let text = std::fs::read_to_string(self.config.state_directory.join("effects.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for (index, line) in lines.iter().enumerate() {
            assert_eq!(line["number"].as_u64().unwrap(), index as u64 + 1, "{text}");
        }
        lines
            .iter()
            .map(|line| {
                (
                    line["effect"].as_str().unwrap().into(),
                    line["sequence"].as_u64(),
                    line["weight"].as_u64().unwrap(),
                )
            })
            .collect()
    }

    /// Everything that carries this edge's marker, whatever group or session it is in.
    pub(crate) fn processes(&self) -> Vec<Identity> {
        let Ok(text) = std::fs::read(self.config.state_directory.join("state.json")) else {
            return Vec::new();
        };
        let state: serde_json::Value = serde_json::from_slice(&text).unwrap();
        process::family(None, &format!("{}.", state["key"].as_str().unwrap())).into_iter().collect()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let daemons: Vec<u32> = process::table()
            .iter()
            .filter(|row| {
                let wanted = format!("{}={}", roles::CONFIG, self.config.state_directory.join("edge.json"));
                std::fs::read(format!("/proc/{}/environ", row.identity.pid))
                    .is_ok_and(|variables| variables.split(|b| *b == 0).any(|v| v == wanted.as_bytes()))
            })
            .map(|row| row.identity.pid)
            .collect();
        for pid in daemons {
            let below = process::family(Some(pid), "no marker");
            below.into_iter().for_each(|member| process::signal(member, rustix::process::Signal::KILL));
        }
        self.processes()
            .into_iter()
            .for_each(|member| process::signal(member, rustix::process::Signal::KILL));
    }
}

pub(crate) fn command(n: u32, sequence: u32, effect: Effect) -> Command {
    Command { rollout: rollout(n), sequence, epoch: 1, effect }
}

pub(crate) fn start(n: u32, sequence: u32, spec: RevisionSpec) -> Command {
    command(n, sequence, Effect::Start { revision: Box::new(spec) })
}

pub(crate) fn weight(n: u32, sequence: u32, weight: Weight, ttl_ms: u64, on_expiry: OnExpiry) -> Command {
    command(
        n,
        sequence,
        Effect::SetWeight { revision: revision(n), weight, ttl_ms, on_expiry, sticky: Sticky::None },
    )
}

pub(crate) async fn applied(edge: &Edge, command: Command) -> String {
    match edge.apply(&command).await.unwrap() {
        Outcome::Applied { detail } => detail,
        other => panic!("{command:?} was {other:?}"),
    }
}

pub(crate) async fn refused(edge: &Edge, command: Command) -> String {
    match edge.apply(&command).await.unwrap() {
        Outcome::Refused { detail } => detail,
        other => panic!("{command:?} was {other:?}"),
    }
}

/// One request through the edge: status and body; status 0 when nothing listens.
pub(crate) async fn get(address: &str, path: &str) -> (u16, String) {
    let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else { return (0, String::new()) };
    let question = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
}

/// How many of `n` requests each version answered.
pub(crate) async fn versions(address: &str, n: u32) -> BTreeMap<String, u32> {
    let mut seen = BTreeMap::new();
    for _ in 0..n {
        let (status, version) = get(address, "/").await;
        *seen.entry(if status == 200 { version } else { status.to_string() }).or_insert(0) += 1;
    }
    seen
}

/// Waits until the status is as wanted.
pub(crate) async fn until(edge: &Edge, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
    let mut status = edge.status().await.unwrap();
    for _ in 0..1_000 {
        if wanted(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        status = edge.status().await.unwrap();
    }
    panic!("{what} did not happen: {status:#?}");
}
