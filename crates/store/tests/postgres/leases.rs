//! Leases as rows: one holder at a time, a higher generation at each take-over, and an end that the holder notices.

use std::time::Duration;

use camino::Utf8Path;
use store::{Access, LeaseError, Leases, Place};
use testbed::{PostgresServer, Stop};

use crate::ground::{address, open_at, server};

const TTL: Duration = Duration::from_millis(1_500);

fn leases(server: &PostgresServer) -> Leases {
    open_at(&server.address(""), Access::ReadWrite).unwrap();
    let place = Place::Postgres(Box::new(address(&server.address(""))));
    Leases::of(&place, Utf8Path::new("/nowhere"), TTL).unwrap()
}

#[tokio::test]
async fn a_lease_is_held_once_renewed_and_given_back() {
    let server = server();
    let (one, other) = (leases(&server), leases(&server));
    assert_eq!(one.holder("shop@production").unwrap(), None);
    let lease = one.acquire("shop@production", "process 1").unwrap();
    assert_eq!(lease.generation(), Some(1));
    match other.acquire("shop@production", "process 2") {
        Err(LeaseError::Held { holder }) => assert_eq!(holder, "process 1"),
        taken => panic!("{taken:?}"),
    }
    assert!(other.acquire("shop@staging", "process 2").is_ok(), "another name is another lease");
    // Longer than it lives without being renewed, and through a crash of the server.
    let renewed = tokio::time::timeout(TTL * 2, lease.lost()).await;
    assert!(renewed.is_err() && lease.is_held());
    assert_eq!(other.holder("shop@production").unwrap().as_deref(), Some("process 1"));
    drop(lease);
    let lease = other.acquire("shop@production", "process 2").unwrap();
    assert_eq!(lease.generation(), Some(2));
}

#[tokio::test]
async fn killed_connections_cost_no_lease() {
    let server = server();
    let leases = leases(&server);
    let lease = leases.acquire("a", "process 1").unwrap();
    for _ in 0..10 {
        server
            .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'trimtab'")
            .unwrap();
        tokio::time::sleep(TTL / 5).await;
        assert!(lease.is_held());
    }
}

#[tokio::test]
async fn whoever_lost_it_hears_of_it() {
    let server = server();
    let leases = leases(&server);
    let lease = leases.acquire("a", "process 1").unwrap();
    server.sql("UPDATE trimtab_lease SET generation = generation + 1, holder = 'process 2'").unwrap();
    tokio::time::timeout(TTL, lease.lost()).await.expect("the next renewal finds out");
    assert!(!lease.is_held());
    assert_eq!(leases.holder("a").unwrap().as_deref(), Some("process 2"));
    drop(lease);
    assert_eq!(leases.holder("a").unwrap().as_deref(), Some("process 2"), "only one's own is given back");
}

#[tokio::test]
async fn a_server_that_is_gone_ends_the_lease_in_time() {
    let mut server = server();
    let leases = leases(&server);
    let lease = leases.acquire("a", "process 1").unwrap();
    server.stop(Stop::Immediate).unwrap();
    tokio::time::timeout(TTL + Duration::from_millis(500), lease.lost()).await.expect("by its own clock");
    server.resume().unwrap();
    // What was durable is: the generation goes on.
    tokio::time::sleep(TTL).await;
    assert_eq!(leases.acquire("a", "process 2").unwrap().generation(), Some(2));
}

#[test]
fn racers_get_one_lease_each_generation() {
    let server = server();
    let leases = leases(&server);
    for round in 1..=5 {
        let held: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..6).map(|_| scope.spawn(|| leases.acquire("a", "somebody"))).collect();
            racers.into_iter().filter_map(|racer| racer.join().unwrap().ok()).collect()
        });
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].generation(), Some(round));
    }
}
