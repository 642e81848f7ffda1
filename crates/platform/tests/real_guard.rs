//! The guard and a real HAProxy: what is granted stays, what is not falls, whatever happens to either.
//!
//! Needs the program `haproxy` (`apt-get install haproxy`; `cargo xtask test` does it). Leaves out edges and controllers, which
//! `cargo xtask deadman` drills.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up should panic")]

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use camino::Utf8PathBuf;
use delivery::strategy::OnExpiry;
use delivery::traffic::Weight;
use delivery::{EnvironmentName, RolloutId, ServiceName};
use platform::guard::{self, Action, Answer, Cause, Entry, Guard, GuardConfig, Held, Requested, Status};
use platform::haproxy::{Error, Haproxy, Wanted};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

const CONFIGURATION: &str = "
global
  stats socket @SOCKET@ mode 600 level @LEVEL@
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s
  retries 0
frontend users
  bind @LISTEN@
  default_backend shop
backend shop
  balance @BALANCE@
  server-template stable 2 127.0.0.1:1 disabled
  server-template canary 2 127.0.0.1:1 disabled
";

/// An HAProxy of this test, and a place for a guard.
struct Bed {
    folder: tempfile::TempDir,
    listen: SocketAddr,
    haproxy: Haproxy,
    child: Child,
}

impl Bed {
    async fn new() -> Self {
        Self::with("roundrobin", "admin").await
    }

    async fn with(balance: &str, level: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = Utf8PathBuf::from_path_buf(folder.path().join("h.sock")).unwrap();
        let text = CONFIGURATION
            .replace("@SOCKET@", socket.as_str())
            .replace("@LEVEL@", level)
            .replace("@LISTEN@", &listen.to_string())
            .replace("@BALANCE@", balance);
        std::fs::write(folder.path().join("haproxy.cfg"), text).unwrap();
        let haproxy =
            Haproxy { socket, backend: "shop".into(), stable: "stable".into(), canary: "canary".into() };
        let child = start(&folder);
        let bed = Self { folder, listen, haproxy, child };
        bed.until("HAProxy answers", async || {
            !matches!(bed.haproxy.read().await, Err(Error::Unreachable { .. }))
        })
        .await;
        bed
    }

    fn config(&self) -> GuardConfig {
        let root = Utf8PathBuf::from_path_buf(self.folder.path().to_owned()).unwrap();
        GuardConfig {
            service: ServiceName::new("shop").unwrap(),
            environment: EnvironmentName::new("production").unwrap(),
            haproxy: self.haproxy.clone(),
            socket: root.join("run/g.sock"),
            state_directory: root.join("guard"),
            log: root.join("guard.log"),
        }
    }

    /// A guard at work in this process; ended by aborting its task, as by a kill.
    async fn guard(&self) -> (Guard, JoinHandle<Result<(), guard::Error>>) {
        let task = tokio::spawn(guard::run(self.config()));
        let guard = Guard::at(&self.config().socket);
        self.until("the guard answers", async || guard.status().await.is_ok()).await;
        (guard, task)
    }

    async fn set(&self, percent: f64) {
        let wanted = Wanted {
            stable: vec![SocketAddr::from(([127, 0, 0, 1], 2))],
            canary: vec![SocketAddr::from(([127, 0, 0, 1], 3))],
            weight: Weight::from_percent(percent).unwrap(),
        };
        let now = self.haproxy.read().await.unwrap();
        self.haproxy.apply(&now, &wanted).await.unwrap();
    }

    async fn share(&self) -> Weight {
        self.haproxy.read().await.unwrap().share()
    }

    fn actions(&self) -> Vec<Entry> {
        let text = std::fs::read_to_string(self.config().state_directory.join("actions.jsonl"));
        text.unwrap_or_default().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        for _ in 0..600 {
            if holds().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("not within 15 s: {what}");
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "the test owns its HAProxy")]
fn start(folder: &tempfile::TempDir) -> Child {
    Command::new("haproxy")
        .arg("-db")
        .arg("-f")
        .arg(folder.path().join("haproxy.cfg"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("haproxy can't be started: install it (apt-get install haproxy)")
}

#[expect(clippy::disallowed_methods, reason = "the test stops and wakes its own HAProxy")]
fn signal(id: u32, name: &str) {
    assert!(Command::new("kill").args([format!("-{name}"), id.to_string()]).status().unwrap().success());
}

fn rollout(n: u32) -> RolloutId {
    RolloutId::new(format!("ro-{n:08}")).unwrap()
}

fn wanted(n: u32, percent: f64, ttl_ms: u64) -> Held {
    Held {
        rollout: rollout(n),
        epoch: u64::from(n),
        ceiling: Weight::from_percent(percent).unwrap(),
        ttl_ms,
        deadline_ms: 0,
        on_expiry: OnExpiry::Rollback,
    }
}

fn percent(percent: f64) -> Weight {
    Weight::from_percent(percent).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_granted_falls_and_what_is_granted_stays_until_nobody_renews() {
    let bed = Bed::new().await;
    let (guard, _task) = bed.guard().await;
    bed.set(100.0).await;
    bed.until("a share without grant falls", async || bed.share().await == Weight::ZERO).await;
    let stable = bed.haproxy.read().await.unwrap().stable;
    assert!(stable[0].force() > 0, "stable has its weight back: {stable:?}");

    assert!(matches!(guard.grant(&wanted(1, 25.0, 1_500)).await.unwrap(), Answer::Held { .. }));
    bed.set(25.0).await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(matches!(guard.renew(&rollout(1), 1).await.unwrap(), Answer::Held { .. }));
        assert_eq!(bed.share().await, percent(25.0), "longer than the grant, because it is renewed");
    }
    bed.set(50.0).await;
    bed.until("more than is granted falls", async || bed.share().await <= percent(25.0)).await;
    let before = tokio::time::Instant::now();
    bed.until("without renewal it falls", async || bed.share().await == Weight::ZERO).await;
    assert!(before.elapsed() < Duration::from_millis(2_500), "{:?}", before.elapsed());
    let late = guard.renew(&rollout(1), 1).await.unwrap();
    assert!(matches!(late, Answer::Ended { cause: Cause::Expired, .. }), "{late:?}");
    bed.until("it is recorded", async || {
        bed.actions().iter().any(|entry| entry.action == Action::Expired && entry.rollout == Some(rollout(1)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_stays_owed_while_haproxy_hangs_and_is_paid_when_it_is_back() {
    let bed = Bed::new().await;
    let (guard, _task) = bed.guard().await;
    guard.grant(&wanted(1, 50.0, 1_000)).await.unwrap();
    bed.set(50.0).await;
    bed.until("it is seen", async || guard.status().await.unwrap().share == Some(percent(50.0))).await;
    bed.signal("STOP");
    bed.until("the drain is owed", async || {
        let Status { held, owed, .. } = guard.status().await.unwrap();
        held.is_none() && owed.is_some()
    })
    .await;
    let refusal = guard.shutdown().await.unwrap_err().to_string();
    assert!(refusal.contains("owes a drain"), "{refusal}");
    bed.signal("CONT");
    bed.until("it is paid", async || guard.status().await.unwrap().owed.is_none()).await;
    assert_eq!(bed.share().await, Weight::ZERO);
    assert!(bed.actions().iter().any(|entry| entry.action == Action::Owed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_obeyed_at_once_and_for_good() {
    let bed = Bed::new().await;
    let (guard, _task) = bed.guard().await;
    guard.grant(&wanted(1, 50.0, 60_000)).await.unwrap();
    bed.set(50.0).await;
    let requested = Requested { by: "ana@example.com".into(), reason: "smoke".into() };
    let status = guard.rollback(&requested).await.unwrap();
    assert_eq!((bed.share().await, status.owed), (Weight::ZERO, None));
    for answer in [guard.renew(&rollout(1), 1).await, guard.grant(&wanted(1, 5.0, 1_000)).await] {
        let answer = answer.unwrap();
        assert!(matches!(&answer, Answer::Ended { cause: Cause::Requested(by), .. } if *by == requested));
    }
    // A controller that does not know yet raises it once more.
    bed.set(50.0).await;
    bed.until("a late raise falls", async || bed.share().await == Weight::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_was_killed_goes_on_with_the_time_that_was_left() {
    let bed = Bed::new().await;
    let (guard, task) = bed.guard().await;
    guard.grant(&wanted(1, 50.0, 4_000)).await.unwrap();
    bed.set(50.0).await;
    let granted = tokio::time::Instant::now();
    task.abort();
    let _ = task.await;
    let (guard, task) = bed.guard().await;
    let status = guard.status().await.unwrap();
    assert!(status.held.is_some() && status.remaining_ms.is_some_and(|left| left < 4_000), "{status:?}");
    assert_eq!(bed.share().await, percent(50.0), "what is proven is kept");
    bed.until("it runs out", async || bed.share().await == Weight::ZERO).await;
    assert!(
        granted.elapsed() < Duration::from_secs(6),
        "the restart gave it no time: {:?}",
        granted.elapsed()
    );
    // One whose memory is gone trusts nothing.
    guard.grant(&wanted(2, 50.0, 60_000)).await.unwrap();
    bed.set(50.0).await;
    task.abort();
    let _ = task.await;
    std::fs::remove_file(bed.config().state_directory.join("state.json")).unwrap();
    let (_guard, _task) = bed.guard().await;
    bed.until("what can't be proven falls", async || bed.share().await == Weight::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_fit_is_named() {
    let words = async |bed: &Bed| bed.haproxy.read().await.unwrap_err().to_string();
    let bed = Bed::with("source", "admin").await;
    assert!(words(&bed).await.contains("balances by source"));
    let bed = Bed::with("roundrobin", "user").await;
    assert!(words(&bed).await.contains("level admin"), "{}", words(&bed).await);
    let mut bed = Bed::new().await;
    bed.haproxy.backend = "shopp".into();
    assert!(matches!(bed.haproxy.read().await, Err(Error::BackendUnknown { .. })));
    bed.haproxy.socket = "/nonexistent/haproxy.sock".into();
    assert!(matches!(bed.haproxy.read().await, Err(Error::Unreachable { .. })));
}

/// Answers `/500` with 500, `/cut` by closing, and everything else with 200.
async fn serve(listener: tokio::net::TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = [0_u8; 1024];
        let read = stream.read(&mut request).await.unwrap_or(0);
        let head = String::from_utf8_lossy(&request[..read]).into_owned();
        let status = match head.split(' ').nth(1) {
            Some("/cut") => continue,
            Some("/500") => "500 Broken",
            _ => "200 OK",
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

async fn get(address: SocketAddr, path: &str) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_requests_are_counted_once_whatever_broke() {
    let bed = Bed::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener));
    let apply = async |stable: SocketAddr| {
        let wanted = Wanted { stable: vec![stable], ..Wanted::default() };
        bed.haproxy.apply(&bed.haproxy.read().await.unwrap(), &wanted).await.unwrap();
    };
    apply(address).await;
    for path in ["/", "/", "/500", "/cut"] {
        get(bed.listen, path).await;
    }
    server.abort();
    let _ = server.await;
    get(bed.listen, "/refused").await;
    let totals = platform::haproxy::totals(&bed.haproxy.read().await.unwrap().stable);
    assert_eq!((totals.requests, totals.errors, totals.in_flight), (5, 3, 0));
    // Another instance in the slot: the counts go on, requests go there.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _server = tokio::spawn(serve(listener));
    apply(address).await;
    get(bed.listen, "/").await;
    let totals = platform::haproxy::totals(&bed.haproxy.read().await.unwrap().stable);
    assert_eq!((totals.requests, totals.errors), (6, 3));
}
