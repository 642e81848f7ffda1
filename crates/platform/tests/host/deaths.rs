//! Services and edges that crash, hang, ignore signals and leave children behind.

use std::time::Duration;

use delivery::effect::{Effect, Readiness};
use delivery::strategy::OnExpiry;
use delivery::traffic::Weight;
use platform::edge::{InstanceState, Renewal, Role};
use platform::process::{self, Identity};
use rustix::process::{Pid, Signal};
use tokio::time::Instant;

use super::bed::{
    Bed, applied, command, get, percent, refused, revision, rollout, start, until, versions, weight,
};

fn kill(pid: u32) {
    send(pid, Signal::KILL);
}

fn send(pid: u32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_ignores_a_closing_terminal_and_ends_in_order_when_asked() {
    let bed = Bed::new();
    let edge = bed.with_canary(60_000, OnExpiry::Rollback).await;
    let status = edge.status().await.unwrap();
    send(status.pid, Signal::HUP);
    let slow = tokio::spawn({
        let address = status.listen.clone();
        async move { get(&address, "/slow").await.0 }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let daemon = process::identity(status.pid).unwrap();
    send(status.pid, Signal::TERM);
    assert_eq!(slow.await.unwrap(), 200, "a request under way was cut off");
    // Started anew while the old one is still on its way out.
    let again = bed.edge().await.status().await.unwrap();
    assert!(!process::is_running(daemon));
    assert_eq!((again.boots, again.weight, again.listen), (2, Weight::ZERO, status.listen));
    assert_eq!(bed.processes().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_on_start_is_refused_with_its_last_words() {
    let bed = Bed::new();
    let edge = bed.with_stable().await;
    let before = bed.processes();
    let reason = refused(&edge, start(2, 1, bed.spec(2, "crash"))).await;
    assert_eq!(reason, "exited with status 3 before it was ready: boom: no database");
    assert_eq!(bed.processes(), before);
    let status = edge.status().await.unwrap();
    assert_eq!(status.revisions.len(), 1);
    assert_eq!(get(&status.listen, "/").await, (200, "v1".into()));
    refused(&edge, weight(2, 2, percent(5.0), 1_000, OnExpiry::Rollback)).await;
    applied(&edge, command(2, 3, Effect::Retire { revision: revision(2), drain_ms: 10 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_never_becomes_ready_is_refused_in_time() {
    let bed = Bed::new();
    let edge = bed.edge().await;
    let mut spec = bed.spec(1, "never-ready");
    spec.ready = Readiness { path: None, within_ms: 700 };
    let began = Instant::now();
    let reason = refused(&edge, start(1, 1, spec)).await;
    assert_eq!(reason, "was not ready within 700 ms: thinking");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(bed.processes(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_a_stranger_on_its_port_does_not_make_it_ready() {
    let bed = Bed::new();
    let edge = bed.edge().await;
    let mut spec = bed.spec(1, "elsewhere");
    spec.ready = Readiness { path: None, within_ms: 2_000 };
    let told = spec.directory.join("port");
    let stranger = tokio::spawn(async move {
        loop {
            let port = std::fs::read_to_string(&told).ok().and_then(|text| text.parse::<u16>().ok());
            if let Some(port) = port {
                break std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let reason = refused(&edge, start(1, 1, spec)).await;
    assert!(reason.starts_with("was not ready within 2"), "{reason}");
    assert!(stranger.is_finished(), "nobody answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_started_is_refused_with_the_reason() {
    let bed = Bed::new();
    let edge = bed.edge().await;
    let mut spec = bed.spec(1, "good");
    spec.command = vec!["no-such-program-anywhere".into()];
    let reason = refused(&edge, start(1, 1, spec)).await;
    assert_eq!(reason, "can't start: there is no program no-such-program-anywhere in PATH");
    let mut spec = bed.spec(1, "good");
    spec.command = vec!["./server".into()];
    let reason = refused(&edge, start(1, 2, spec.clone())).await;
    assert!(reason.starts_with("can't start: there is no program ./server in /"), "{reason}");
    spec.directory = "/nonexistent/folder".into();
    let reason = refused(&edge, start(1, 3, spec)).await;
    assert_eq!(reason, "can't start: the folder /nonexistent/folder does not exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_dies_is_restarted_and_its_arm_sees_the_errors() {
    let bed = Bed::new();
    let edge = bed.with_stable().await;
    let address = edge.status().await.unwrap().listen;
    assert!(get(&address, "/crash").await.0 >= 500);
    let status = until(&edge, "the restart", |status| {
        let instance = &status.revision(Role::Stable).unwrap().instances[0];
        instance.restarts == 1 && instance.state == InstanceState::Ready
    })
    .await;
    let instance = &status.revision(Role::Stable).unwrap().instances[0];
    assert_eq!(instance.last_end.as_deref(), Some("exited with status 9: fatal: asked to crash"));
    assert_eq!(get(&address, "/").await, (200, "v1".into()));
    assert!(edge.sample(delivery::Timestamp::UNIX_EPOCH).await.unwrap().stable.errors >= 1);
    // Killed from outside, it comes back as well.
    kill(instance.pid.unwrap());
    until(&edge, "the second restart", |status| {
        let instance = &status.revision(Role::Stable).unwrap().instances[0];
        instance.restarts == 2 && instance.state == InstanceState::Ready
    })
    .await;
    assert_eq!(get(&address, "/").await, (200, "v1".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ignores_sigterm_is_killed_in_time() {
    let bed = Bed::new();
    let edge = bed.edge().await;
    let mut spec = bed.spec(1, "ignore-term");
    spec.stop_ms = 600;
    applied(&edge, start(1, 1, spec)).await;
    let began = Instant::now();
    applied(&edge, command(1, 2, Effect::Retire { revision: revision(1), drain_ms: 0 })).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(600) && took < Duration::from_millis(2_500), "{took:?}");
    assert_eq!(bed.processes(), []);
}

/// The sessions that a service left behind, found by parentage, marked or not.
fn outliving(service: u32) -> Vec<Identity> {
    process::table().iter().filter(|row| row.parent == service).map(|row| row.identity).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn children_that_left_the_group_end_with_their_service() {
    let bed = Bed::new();
    let edge = bed.edge().await;
    applied(&edge, start(1, 1, bed.spec(1, "outlive"))).await;
    let service = edge.status().await.unwrap().revisions[0].instances[0].pid.unwrap();
    // Wait until both are sessions of their own.
    let mut children = Vec::new();
    for _ in 0..200 {
        children = outliving(service);
        let groups = process::table();
        let own =
            |child: &Identity| groups.iter().any(|row| row.identity == *child && row.group == child.pid);
        if children.len() == 2 && children.iter().all(own) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(children.len(), 2);
    applied(&edge, command(1, 2, Effect::Retire { revision: revision(1), drain_ms: 0 })).await;
    assert!(!children.iter().any(|child| process::is_running(*child)));
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_of_a_crashed_service_are_gone_at_the_latest_with_the_edge() {
    let bed = Bed::new();
    let edge = bed.edge().await;
    applied(&edge, start(1, 1, bed.spec(1, "outlive"))).await;
    let service = edge.status().await.unwrap().revisions[0].instances[0].pid.unwrap();
    let children = outliving(service);
    assert_eq!(children.len(), 2);
    kill(service);
    until(&edge, "the restart", |status| status.revisions[0].instances[0].restarts == 1).await;
    // The marked one went with the crash; the scrubbed one has nothing that tells whose it was.
    edge.shutdown().await.unwrap();
    assert!(!children.iter().any(|child| process::is_running(*child)));
    assert_eq!(bed.processes(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_killed_edge_stable_serves_again_and_the_canary_does_not() {
    let bed = Bed::new();
    let edge = bed.with_canary(60_000, OnExpiry::Rollback).await;
    let before = edge.status().await.unwrap();
    let old = bed.processes();
    assert_eq!(old.len(), 2);
    kill(before.pid);
    // The kernel needs a moment to release the lock and the port.
    let edge = bed.edge().await;
    let after = edge.status().await.unwrap();
    assert_ne!(after.boot, before.boot);
    assert_eq!((after.boots, &after.listen), (2, &before.listen));
    assert_eq!(after.weight, Weight::ZERO);
    assert_eq!(after.revisions.len(), 1);
    assert_eq!(versions(&after.listen, 30).await["v1"], 30);
    assert!(!old.iter().any(|process| process::is_running(*process)), "an orphan is left");
    assert_eq!(bed.processes().len(), 1);
    let Renewal::Expired { weight: had, cause, .. } = edge.renew(&rollout(2), 1).await.unwrap() else {
        panic!()
    };
    assert_eq!((had, cause.as_str()), (percent(50.0), "the edge was restarted"));
    // What was applied stays applied; what would raise is refused.
    applied(&edge, weight(2, 2, percent(50.0), 60_000, OnExpiry::Rollback)).await;
    assert_eq!(edge.status().await.unwrap().weight, Weight::ZERO);
    refused(&edge, weight(2, 3, percent(50.0), 60_000, OnExpiry::Rollback)).await;
    applied(&edge, weight(2, 4, Weight::ZERO, 0, OnExpiry::Rollback)).await;
    applied(&edge, command(2, 5, Effect::Retire { revision: revision(2), drain_ms: 10 })).await;
    let effects: Vec<String> = bed.journal().into_iter().map(|(effect, ..)| effect).collect();
    assert_eq!(effects, ["start", "promote", "start", "set-weight", "expire", "set-weight"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_killed_again_and_again_keeps_its_promises() {
    let bed = Bed::new();
    let mut edge = bed.with_stable().await;
    let listen = edge.status().await.unwrap().listen;
    for round in 2..8_u32 {
        // Killed at ever later points of a start and a raise.
        let first = start(round, 1, bed.spec(round, "good"));
        let second = weight(round, 2, percent(30.0), 60_000, OnExpiry::Rollback);
        let pid = edge.status().await.unwrap().pid;
        let work = tokio::spawn({
            let edge = edge.clone();
            async move { (edge.apply(&first).await.is_ok(), edge.apply(&second).await.is_ok()) }
        });
        tokio::time::sleep(Duration::from_millis(u64::from(round - 2) * 25)).await;
        kill(pid);
        let _ = work.await.unwrap();
        edge = bed.edge().await;
        let status = edge.status().await.unwrap();
        assert_eq!((status.weight, &status.listen), (Weight::ZERO, &listen));
        assert_eq!(versions(&listen, 5).await["v1"], 5);
        assert_eq!(bed.processes().len(), 1, "round {round}");
    }
    // Nothing twice.
    let journal = bed.journal();
    assert!(journal.iter().filter(|(effect, ..)| effect == "start").count() <= 7, "{journal:?}");
}
