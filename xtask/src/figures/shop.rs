//! A small real service in a git repository of its own, shipped by the real binary; what figures are taken of.
//!
//! Leaves out what is measured. Invariant: everything is done through the command line, the ledger as `trimtab ledger show`
//! tells it, and the edge's journal and control socket, as a user or an operator would.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::evidence::{Entry, Record};
use super::process::{self, Answer, Running};

const SERVER: &str = include_str!("shop/server.mjs");
/// No single command of ours takes longer, unless it is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// One build of the service.
#[derive(Debug, Clone)]
pub(crate) struct Build {
    /// Its name in the service's own log.
    pub(crate) name: String,
    /// The share of requests that fail.
    pub(crate) errors: f64,
    /// Where its random sequence begins.
    pub(crate) seed: u64,
}

/// A folder with a repository, and the programs that work there.
#[derive(Debug)]
pub(crate) struct Shop {
    program: Utf8PathBuf,
    folder: Utf8PathBuf,
    repository: Utf8PathBuf,
}

/// What the edge says of itself.
#[derive(Debug, Clone)]
pub(crate) struct EdgeView {
    /// Where users' requests go.
    pub(crate) listen: String,
    /// Its process.
    pub(crate) id: u32,
    /// The canary's share in force, in hundredths of a percent.
    pub(crate) weight: u16,
    /// The rollout whose raised weight that is.
    pub(crate) rollout: Option<String>,
    /// What runs, each with its role.
    pub(crate) roles: Vec<String>,
}

impl Shop {
    /// Makes the repository in a new folder. `@LOG@` in the manifest becomes the path of the service's own log.
    pub(crate) fn create(program: &Utf8Path, folder: &Utf8Path, manifest: &str) -> Result<Self, String> {
        let repository = folder.join("shop");
        let shop = Self { program: program.to_owned(), folder: folder.to_owned(), repository };
        std::fs::create_dir_all(shop.repository.join("src")).map_err(|error| format!("{folder}: {error}"))?;
        shop.write("trimtab.toml", &manifest.replace("@LOG@", shop.service_log().as_str()))?;
        shop.write("src/server.mjs", SERVER)?;
        shop.git(&["init", "--quiet", "--initial-branch=main"])?;
        shop.git(&["config", "user.name", "Dana Developer"])?;
        shop.git(&["config", "user.email", "dana@demo.example"])?;
        Ok(shop)
    }

    fn write(&self, path: &str, text: &str) -> Result<(), String> {
        std::fs::write(self.repository.join(path), text).map_err(|error| format!("{path}: {error}"))
    }

    fn git(&self, arguments: &[&str]) -> Result<(), String> {
        let answer = process::ask(Utf8Path::new("git"), arguments, &self.repository)?;
        if answer.code == Some(0) {
            Ok(())
        } else {
            Err(format!("`git {}` failed in {}", arguments.join(" "), self.repository))
        }
    }

    /// Where the service writes `NAME MICROSECONDS-SINCE-1970 STATUS` for each request, if its manifest says so.
    pub(crate) fn service_log(&self) -> Utf8PathBuf {
        self.folder.join("requests.log")
    }

    /// Commits a build.
    pub(crate) fn commit(&self, build: &Build) -> Result<(), String> {
        let settings = serde_json::json!({ "name": build.name, "errors": build.errors, "seed": build.seed });
        self.write("src/settings.json", &settings.to_string())?;
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", &format!("feat: build {}", build.name)])
    }

    /// Where it lies.
    pub(crate) fn repository(&self) -> &Utf8Path {
        &self.repository
    }

    /// Starts a command here; `name` names the files of its output.
    pub(crate) fn start(&self, arguments: &[&str], name: &str) -> Result<Running, String> {
        Running::start(&self.program, arguments, &self.repository, &self.folder, name)
    }

    /// Runs a command with `--format json` to its end.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Answer, String> {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--format", "json"]).collect();
        process::ask(&self.program, &arguments, &self.repository)
    }

    /// Ships the current commit undisturbed and gives the exit code.
    pub(crate) fn ship(&self) -> Result<Option<i32>, String> {
        let status = self.start(&["ship"], "ship")?.wait(PATIENCE)?;
        status.map(|status| status.code()).ok_or_else(|| "an undisturbed ship does not end".into())
    }

    /// The ledger's records after a sequence.
    pub(crate) fn records(&self, after: u64) -> Result<Vec<Record>, String> {
        let answer = self.ask(&["ledger", "show", "--after", &after.to_string()])?;
        // Before the first record there is an answer of another kind, or no ledger.
        answer.text.lines().filter(|line| line.contains("\"sequence\"")).map(Record::parse).collect()
    }

    /// Whether the ledger verifies.
    pub(crate) fn sound(&self) -> Result<bool, String> {
        let answer = self.ask(&["ledger", "verify"])?;
        let said: Value = serde_json::from_str(&answer.text).map_err(|error| error.to_string())?;
        Ok(answer.code == Some(0) && said["sound"] == Value::Bool(true))
    }

    /// Rollouts that have not ended, as `trimtab status` says.
    pub(crate) fn rollouts_active(&self) -> Result<usize, String> {
        let answer = self.ask(&["status"])?;
        let said: Value = serde_json::from_str(&answer.text).map_err(|error| error.to_string())?;
        said["rollouts"].as_array().map(Vec::len).ok_or_else(|| format!("no rollouts in: {}", answer.text))
    }

    fn edge_file(&self, name: &str) -> Utf8PathBuf {
        self.repository.join(".trimtab/edges/shop@production").join(name)
    }

    /// The edge's journal: what it really did, after the entry of this number.
    pub(crate) fn journal(&self, after: u64) -> Result<Vec<Entry>, String> {
        let path = self.edge_file("effects.jsonl");
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text.map_err(|error| format!("{path}: {error}"))?,
        };
        let entries: Result<Vec<Entry>, String> = text.lines().map(Entry::parse).collect();
        Ok(entries?.into_iter().filter(|entry| entry.number > after).collect())
    }

    /// Where the edge listens for commands.
    pub(crate) fn edge_socket(&self) -> Option<Utf8PathBuf> {
        let config: Value =
            serde_json::from_str(&std::fs::read_to_string(self.edge_file("edge.json")).ok()?).ok()?;
        config["control_socket"].as_str().map(Utf8PathBuf::from)
    }

    /// What the edge says now; `None` while it does not answer.
    pub(crate) fn edge(&self) -> Option<EdgeView> {
        Self::edge_at(&self.edge_socket()?)
    }

    /// The same, over this socket.
    pub(crate) fn edge_at(socket: &Utf8Path) -> Option<EdgeView> {
        let said = Self::status_at(socket)?;
        let role = |revision: &Value| revision["role"].as_str().map(str::to_owned);
        Some(EdgeView {
            listen: said["listen"].as_str()?.to_owned(),
            id: said["pid"].as_u64()? as u32,
            weight: said["weight"].as_u64()? as u16,
            rollout: said["rollout"].as_str().map(str::to_owned),
            roles: said["revisions"].as_array()?.iter().filter_map(role).collect(),
        })
    }

    /// What the edge or the guard behind the socket says of itself.
    pub(crate) fn status_at(socket: &Utf8Path) -> Option<Value> {
        let mut stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// Changes with every commit to the ledger.
    pub(crate) fn ledger_mark(&self) -> Option<(i64, i64, u64)> {
        mark(&self.repository.join(".trimtab/ledger.db-wal"))
    }

    /// Changes with every save of the edge's state, which lies between doing a command and answering it.
    pub(crate) fn edge_mark(&self) -> Option<(i64, i64, u64)> {
        mark(&self.edge_file("state.json"))
    }

    /// Starts open-loop load against the edge.
    pub(crate) fn load(&self, rate: u32) -> Result<Running, String> {
        let edge = self.edge().ok_or("the edge does not answer, so no load can be sent")?;
        let (url, rate) = (format!("http://{}/", edge.listen), rate.to_string());
        self.start(&["load", &url, "--rate", &rate, "--seconds", "3600", "--format", "json"], "load")
    }

    /// Stops everything, and gives the processes that are still there afterwards.
    pub(crate) fn down(&self) -> Result<Vec<u32>, String> {
        self.ask(&["down"])?;
        let deadline = process::now() + Duration::from_secs(10);
        loop {
            let left = process::belonging_to(&self.folder);
            if left.is_empty() || process::now() > deadline {
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A file's identity and time of change.
fn mark(path: &Utf8Path) -> Option<(i64, i64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.mtime(), metadata.mtime_nsec(), metadata.ino()))
}

/// Requests that left and those that failed, from what `trimtab load` printed.
pub(crate) fn load_counts(load: &Running) -> Result<(u64, u64), String> {
    let text = std::fs::read_to_string(&load.output).map_err(|error| format!("{}: {error}", load.output))?;
    let said: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", load.output))?;
    Ok((said["requests"].as_u64().unwrap_or(0), said["failures"].as_u64().unwrap_or(0)))
}
