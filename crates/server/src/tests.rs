//! Requests over real sockets against a real server over a real ledger.

mod guard;
mod live;
mod overload;
mod pages;
mod reports;
mod rolling;
mod story;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use delivery::clock::ManualClock;
use delivery::code::Code;
use delivery::{Actor, EnvironmentName, Event, Problem, RolloutId, ServiceName, Timestamp};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rollout::progress::Rollout;
use store::{Access, Ledger};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{Approval, Config, Limits, Operations, Rules, Running};

const TOKEN: &str = "ttb_0123456789abcdef0123456789abcdef";
const REPORT_TOKEN: &str = "ttr_fedcba9876543210fedcba9876543210";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).unwrap()
}

fn event(incident: &str) -> Event {
    Event::IncidentResolved { incident: incident.into() }
}

/// Notes what it is asked; refuses the release or rollout whose id ends in `refused0`.
struct Notebook {
    notes: Mutex<Vec<String>>,
    /// What the edge says, and whether a controller is at work.
    edge: Mutex<Option<platform::edge::Status>>,
    driven: AtomicBool,
    trouble: Mutex<Option<String>>,
}

impl Default for Notebook {
    fn default() -> Self {
        Self {
            notes: Mutex::default(),
            edge: Mutex::default(),
            driven: AtomicBool::new(true),
            trouble: Mutex::default(),
        }
    }
}

impl Notebook {
    fn note(&self, line: String) -> BoxFuture<'_, Result<(), Problem>> {
        let refused = line.contains("0000000z");
        self.notes.lock().unwrap().push(line);
        async move {
            if refused {
                return Err(Problem::new(Code::ApprovalByAuthor, "an <author> can't approve it"));
            }
            Ok(())
        }
        .boxed()
    }
}

impl Operations for Notebook {
    fn rollback(&self, actor: Actor, rollout: Rollout, reason: String) -> BoxFuture<'_, Result<(), Problem>> {
        self.note(format!("{actor:?} rolls back {}: {reason}", rollout.plan.id))
    }

    fn resume(&self, actor: Actor, rollout: RolloutId, reason: String) -> BoxFuture<'_, Result<(), Problem>> {
        self.note(format!("{actor:?} lets {rollout} go on: {reason}"))
    }

    fn approve(&self, actor: Actor, approval: Approval) -> BoxFuture<'_, Result<(), Problem>> {
        let Approval { release, environment, comment, .. } = approval;
        self.note(format!("{actor:?} approves {release} for {environment}: {comment}"))
    }

    fn edge(&self, _: ServiceName, _: EnvironmentName) -> BoxFuture<'_, Option<platform::edge::Status>> {
        let status = self.edge.lock().unwrap().clone();
        async { status }.boxed()
    }

    fn driven(&self, _: &ServiceName, _: &EnvironmentName) -> bool {
        self.driven.load(Ordering::Relaxed)
    }

    fn rules(&self) -> Arc<Rules> {
        let trouble = self.trouble.lock().unwrap().clone();
        Arc::new(Rules { environments: story::environments(), trouble })
    }
}

struct World {
    folder: tempfile::TempDir,
    ledger: Ledger,
    running: Running,
    notebook: Arc<Notebook>,
    clock: Arc<ManualClock>,
}

/// An answer, taken apart.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With a ledger that was written before the server started.
    async fn with(write: impl FnOnce(&Ledger)) -> Self {
        Self::limited(Limits::default(), write).await
    }

    /// With room for less than usual.
    async fn limited(limits: Limits, write: impl FnOnce(&Ledger)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = camino::Utf8Path::from_path(folder.path()).unwrap().join("ledger.db");
        let ledger = Ledger::open(&path, Access::ReadWrite).unwrap();
        write(&ledger);
        let notebook = Arc::new(Notebook::default());
        let mut config = Self::config(ledger.clone(), notebook.clone());
        let clock = Arc::new(ManualClock::at(at(1_000)));
        config.clock = clock.clone();
        config.limits = limits;
        let running = crate::start(config).await.unwrap();
        Self { folder, ledger, running, notebook, clock }
    }

    fn config(ledger: Ledger, notebook: Arc<Notebook>) -> Config {
        let ledger_folder = ledger.path().parent().unwrap().to_owned();
        Config {
            project: "shop <& co>".into(),
            listen: ([127, 0, 0, 1], 0).into(),
            ledger,
            token: TOKEN.into(),
            report_token: REPORT_TOKEN.into(),
            recall: ledger_folder.join("reports.db"),
            identity: "ana@example.com".into(),
            operations: notebook,
            limits: Limits::default(),
            clock: Arc::new(ManualClock::at(at(1_000))),
        }
    }

    /// The same ledger, opened by somebody else.
    fn another(&self) -> Ledger {
        let path = camino::Utf8Path::from_path(self.folder.path()).unwrap().join("ledger.db");
        Ledger::open(&path, Access::ReadWrite).unwrap()
    }

    fn host(&self) -> String {
        self.running.address().to_string()
    }

    /// The name that sessions are under.
    fn home(&self) -> String {
        self.origin()["http://".len()..].to_owned()
    }

    fn origin(&self) -> String {
        self.running.url().split("/?").next().unwrap().to_owned()
    }

    async fn append(&self, second: i64, events: Vec<Event>) {
        self.ledger.append(&Actor::Machine("test".into()), at(second), events).await.unwrap();
    }

    /// Waits until the server has folded everything in.
    async fn follow(&self) {
        let size = self.ledger.head().unwrap().size;
        soon(async {
            while self.get("/api/v1/state").await.json()["sequence"] != size {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    fn asked(&self) -> Vec<String> {
        self.notebook.notes.lock().unwrap().clone()
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut socket = self.open(method, path, headers, body).await;
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).await.unwrap();
        parse(&String::from_utf8(bytes).unwrap())
    }

    async fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.running.address()).await.unwrap();
        let mut lines = vec![format!("{method} {path} HTTP/1.0"), "Connection: close".to_owned()];
        if !headers.iter().any(|(name, _)| *name == "host") {
            // As a browser does: a cookie goes to the host that it came from.
            let cookie = headers.iter().any(|(name, _)| *name == "cookie");
            lines.push(format!("Host: {}", if cookie { self.home() } else { self.host() }));
        }
        lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
        lines.push(format!("Content-Length: {}\r\n\r\n", body.len()));
        let head = lines.join("\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = socket.write_all(body.as_bytes()).await;
        socket
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[("accept", "text/html")], "").await
    }

    /// Signs in as a browser does, and gives the cookie.
    async fn cookie(&self) -> String {
        let home = self.home();
        let answer = self.send("GET", &format!("/?token={TOKEN}"), &[("host", &home)], "").await;
        assert_eq!((answer.status, answer.header("location")), (303, "/"));
        answer.header("set-cookie").split(';').next().unwrap().to_owned()
    }

    /// The token of a page's form.
    async fn csrf(&self, path: &str, cookie: &str) -> String {
        let page = self.send("GET", path, &[("cookie", cookie)], "").await;
        let rest = page.body.split(r#"name="csrf" value=""#).nth(1).unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(n, v)| (n.to_lowercase(), v.to_owned()))
        .collect();
    Answer { status, headers, body: body.to_owned() }
}

/// Fails the test instead of hanging it.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it took too long")
}

#[tokio::test]
async fn only_this_machine_is_listened_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = camino::Utf8Path::from_path(folder.path()).unwrap().join("ledger.db");
    let ledger = Ledger::open(&path, Access::ReadWrite).unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let mut config = World::config(ledger.clone(), Arc::default());
        config.listen = address.parse().unwrap();
        let problem = crate::start(config).await.err().unwrap().problem();
        assert_eq!(problem.code, Code::AddressNotLocal);
        assert!(problem.message.contains(address), "{problem}");
    }
}

#[tokio::test]
async fn a_taken_address_is_said() {
    let world = World::new().await;
    let mut config = World::config(world.ledger.clone(), Arc::default());
    config.listen = world.running.address();
    let problem = crate::start(config).await.err().unwrap().problem();
    assert_eq!(problem.code, Code::AddressTaken);
}

#[tokio::test]
async fn it_stops_while_streams_are_open() {
    let world = World::new().await;
    let mut stream = world.open("GET", "/events", &[], "").await;
    let mut first = [0_u8; 64];
    soon(stream.read(&mut first)).await.unwrap();
    soon(world.running.stop()).await;
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.unwrap();
}
