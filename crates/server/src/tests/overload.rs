//! What is refused when there is too much, and what never is.

use std::time::Duration;

use delivery::Actor;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::reports::{ONE, detected};
use super::story::{self, exposed};
use super::{Answer, REPORT_TOKEN, TOKEN, World, at, parse, soon};
use crate::Limits;

/// A request whose body never comes whole.
async fn half_sent(world: &World, path: &str, token: &str) -> TcpStream {
    let mut socket = TcpStream::connect(world.running.address()).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Type: {ONE}\r\nContent-Length: 900\r\n\r\n{{",
        world.host()
    );
    tokio::io::AsyncWriteExt::write_all(&mut socket, head.as_bytes()).await.unwrap();
    socket
}

async fn answer(mut socket: TcpStream) -> Answer {
    let mut bytes = vec![0; 4_096];
    let read = soon(socket.read(&mut bytes)).await.unwrap();
    parse(std::str::from_utf8(&bytes[..read]).unwrap())
}

fn busy(answer: &Answer) {
    assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{}", answer.body);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json()["code"], "TRM-0908");
}

/// Takes place after place until the server says that there is none.
async fn filled(world: &World, path: &str, token: &str) -> Vec<TcpStream> {
    let mut sockets = Vec::new();
    loop {
        let socket = half_sent(world, path, token).await;
        // A request that has its place is silent; one that has none is read on for a while before it is told.
        let told = tokio::time::timeout(Duration::from_millis(600), socket.readable()).await;
        if told.is_ok() {
            busy(&answer(socket).await);
            return sockets;
        }
        sockets.push(socket);
        assert!(sockets.len() < 50, "there is no end of places");
    }
}

fn rollback_path() -> String {
    format!("/api/v1/rollouts/{}/rollback", story::rollout())
}

async fn world(limits: Limits) -> World {
    World::limited(limits, |ledger| {
        ledger.append_blocking(&Actor::Machine("test".into()), at(10), exposed()).unwrap();
    })
    .await
}

async fn roll_back(world: &World) -> u16 {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    soon(world.send("POST", &rollback_path(), &headers, r#"{"reason":"because"}"#)).await.status
}

#[tokio::test]
async fn a_rollback_has_its_place_when_reports_fill_theirs() {
    let world = world(Limits { reports: 5, reads: 1, reads_waiting: 0, ..Limits::default() }).await;
    let held = filled(&world, "/api/v1/events", REPORT_TOKEN).await;
    assert_eq!(held.len(), 5);
    assert_eq!(roll_back(&world).await, 202);
    // Those without a token take nobody's place.
    let strangers =
        [half_sent(&world, &rollback_path(), "x").await, half_sent(&world, "/api/v1/events", "x").await];
    for stranger in strangers {
        assert_eq!(answer(stranger).await.status, 401);
    }
    assert_eq!(world.get("/healthz").await.status, 200);
    drop(held);
}

#[tokio::test]
async fn a_body_that_does_not_come_gives_its_place_back() {
    let limits = Limits { changes: 2, body_within: Duration::from_secs(4), ..Limits::default() };
    let world = world(limits).await;
    let held = filled(&world, &rollback_path(), TOKEN).await;
    for socket in held {
        let late = answer(socket).await;
        assert_eq!((late.status, late.json()["code"].as_str()), (408, Some("TRM-0907")));
    }
    assert_eq!(roll_back(&world).await, 202);
}

#[tokio::test]
async fn the_bodies_of_reports_share_their_room() {
    let world = world(Limits { report_bytes: 1_000, ..Limits::default() }).await;
    let bearer = format!("Bearer {REPORT_TOKEN}");
    let headers = [("content-type", ONE), ("authorization", bearer.as_str())];
    let large = detected("/a", "1", "i").replace("slow", &"slow ".repeat(500));
    busy(&soon(world.send("POST", "/api/v1/events", &headers, &large)).await);
    let small = detected("/a", "1", "i");
    assert_eq!(soon(world.send("POST", "/api/v1/events", &headers, &small)).await.status, 200);
}

#[tokio::test]
async fn events_that_find_no_room_are_refused_and_not_recorded() {
    let world = world(Limits { reports_waiting: 3, ..Limits::default() }).await;
    let before = world.ledger.head().unwrap().size;
    let bearer = format!("Bearer {REPORT_TOKEN}");
    let batch: Vec<String> = (0..4).map(|id| detected("/a", &id.to_string(), "i")).collect();
    let headers = [("content-type", super::reports::BATCH), ("authorization", bearer.as_str())];
    busy(&soon(world.send("POST", "/api/v1/events", &headers, &format!("[{}]", batch.join(",")))).await);
    assert_eq!(world.ledger.head().unwrap().size, before);
    // Many at once: each is either on record or refused.
    let deliveries = batch.iter().cycle().take(60).map(|body| {
        let headers = [("content-type", ONE), ("authorization", bearer.as_str())];
        let world = &world;
        async move { world_send(world, &headers, body).await }
    });
    let answers = soon(futures_util::future::join_all(deliveries)).await;
    assert!(answers.iter().any(|answer| answer.status == 200));
    answers.iter().filter(|answer| answer.status != 200).for_each(busy);
}

async fn world_send(world: &World, headers: &[(&str, &str)], body: &str) -> Answer {
    world.send("POST", "/api/v1/events", headers, body).await
}

#[tokio::test]
async fn readers_wait_for_a_place_and_too_many_are_refused() {
    let world = world(Limits { reads: 1, reads_waiting: 2, ..Limits::default() }).await;
    let answers = soon(futures_util::future::join_all((0..60).map(|_| world.get("/api/v1/state")))).await;
    assert!(answers.iter().any(|answer| answer.status == 200));
    answers.iter().filter(|answer| answer.status != 200).for_each(busy);
    assert_eq!(world.get("/api/v1/state").await.status, 200);
}
