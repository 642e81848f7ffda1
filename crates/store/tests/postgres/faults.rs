//! Connections that are killed, answers that are lost, servers that crash: no acknowledged record is lost, none is there twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use delivery::Event;
use store::{Access, Basis, Entry, Error, Ledger};
use testbed::{PostgresServer, Stop};

use crate::ground::{open_at, server};
use crate::proxy::Proxy;
use crate::{actor, at, event};

/// The name of each record, by its sequence.
fn names(ledger: &Ledger) -> Vec<String> {
    let verification = ledger.verify().unwrap();
    assert!(verification.is_sound(), "{:?}", verification.damages);
    let name = |entry| match entry {
        Entry::Record(record) => match record.event {
            Event::IncidentResolved { incident } => incident,
            other => panic!("{other:?}"),
        },
        Entry::Quarantined { sequence, reason } => panic!("record {sequence}: {reason}"),
    };
    ledger.read(0, usize::MAX).unwrap().into_iter().map(name).collect()
}

/// What one appender was told.
#[derive(Default)]
struct Told {
    acknowledged: HashMap<String, u64>,
    refused: Vec<String>,
    undecided: Vec<String>,
}

/// Appends names of its own until it is told to stop.
fn append_until(address: &str, who: usize, stop: &AtomicBool) -> Told {
    let ledger = open_at(address, Access::ReadWrite).unwrap();
    let mut told = Told::default();
    let mut number = 0_u64;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let name = format!("{who} {number}");
        match ledger.append_blocking(&actor(), at(0), vec![event(&name)]) {
            Ok(records) => {
                told.acknowledged.insert(name, records[0].sequence);
            }
            Err(Error::Undecided { .. }) => told.undecided.push(name),
            Err(Error::Interrupted { .. } | Error::Unavailable { .. } | Error::Locked { .. }) => {
                told.refused.push(name);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    told
}

/// Whether what was told is what is there.
fn check(ledger: &Ledger, all: &[Told]) -> (usize, usize, usize) {
    let names = names(ledger);
    let mut places: HashMap<&str, u64> = HashMap::new();
    for (name, sequence) in names.iter().zip(1..) {
        assert!(places.insert(name, sequence).is_none(), "{name} is there twice");
    }
    for told in all {
        for (name, sequence) in &told.acknowledged {
            assert_eq!(places.get(name.as_str()), Some(sequence), "{name} was acknowledged");
        }
        for name in &told.refused {
            assert!(!places.contains_key(name.as_str()), "{name} was refused, but is there");
        }
    }
    let count = |of: fn(&Told) -> usize| all.iter().map(of).sum();
    (
        count(|told| told.acknowledged.len()),
        count(|told| told.refused.len()),
        count(|told| told.undecided.len()),
    )
}

fn under_load(server: &mut PostgresServer, disturb: impl FnOnce(&mut PostgresServer)) -> Vec<Told> {
    let address = server.address("");
    open_at(&address, Access::ReadWrite).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (address, stop) = (&address, &stop);
        let appenders: Vec<_> =
            (0..4).map(|who| scope.spawn(move || append_until(address, who, stop))).collect();
        disturb(server);
        stop.store(true, Ordering::SeqCst);
        appenders.into_iter().map(|appender| appender.join().unwrap()).collect()
    })
}

#[test]
fn killed_connections_lose_and_double_nothing() {
    let mut server = server();
    let told = under_load(&mut server, |server| {
        for _ in 0..60 {
            std::thread::sleep(Duration::from_millis(50));
            let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'trimtab'";
            server.sql(kill).unwrap();
        }
    });
    let (acknowledged, refused, undecided) =
        check(&open_at(&server.address(""), Access::ReadOnly).unwrap(), &told);
    println!("acknowledged {acknowledged}, refused {refused}, undecided {undecided}, lost 0, doubled 0");
    assert!(acknowledged > 100, "{acknowledged}");
}

#[test]
fn a_server_that_crashes_under_load_loses_and_doubles_nothing() {
    let mut server = server();
    let told = under_load(&mut server, |server| {
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(300));
            server.stop(Stop::Immediate).unwrap();
            server.resume().unwrap();
        }
    });
    let (acknowledged, refused, undecided) =
        check(&open_at(&server.address(""), Access::ReadOnly).unwrap(), &told);
    println!("acknowledged {acknowledged}, refused {refused}, undecided {undecided}, lost 0, doubled 0");
    assert!(acknowledged > 100, "{acknowledged}");
}

#[test]
fn a_commit_whose_answer_is_lost_is_recognised() {
    let server = server();
    let proxy = Proxy::before(server.socket());
    let ledger = open_at(&PostgresServer::address_at(proxy.folder(), ""), Access::ReadWrite).unwrap();
    for number in 1..=20 {
        proxy.lose(1);
        let name = format!("{number}");
        let recorded = ledger.append_blocking(&actor(), at(0), vec![event(&name)]).unwrap();
        assert_eq!(proxy.left(), 0, "the answer was lost");
        assert_eq!(recorded[0].sequence, number, "and the record is told to be where it is");
    }
    let expected: Vec<_> = (1..=20).map(|number| number.to_string()).collect();
    assert_eq!(names(&ledger), expected);
}

#[test]
fn an_answer_that_stays_unknown_is_not_called_a_failure() {
    let mut server = server();
    let proxy = Proxy::before(server.socket());
    let ledger = open_at(&PostgresServer::address_at(proxy.folder(), ""), Access::ReadWrite).unwrap();
    ledger.append_blocking(&actor(), at(0), vec![event("a")]).unwrap();
    proxy.lose(1);
    let answer = std::thread::scope(|scope| {
        let appending = scope.spawn(|| ledger.append_blocking(&actor(), at(0), vec![event("b")]));
        while proxy.left() > 0 {
            std::thread::yield_now();
        }
        server.stop(Stop::Immediate).unwrap();
        appending.join().unwrap()
    });
    // The server may have been quick enough to be asked.
    let unknown = matches!(&answer, Err(Error::Undecided { .. }));
    assert!(unknown || answer.is_ok() || matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    server.resume().unwrap();
    // Before the next answer the truth is read again.
    let size = ledger.head().unwrap().size;
    let next = ledger.append_if_blocking(Basis::whole(size), &actor(), at(0), vec![event("c")]).unwrap();
    assert_eq!(next[0].sequence, size + 1);
    assert!(ledger.verify().unwrap().is_sound());
}

#[test]
fn serialization_failures_and_locks_are_got_over() {
    let server = server();
    let ledger = open_at(&server.address(""), Access::ReadWrite).unwrap();
    ledger.append_blocking(&actor(), at(0), vec![event("a")]).unwrap();
    // The first commits of each batch are given up as a serialization failure is.
    server
        .sql(
            "CREATE TABLE left_to_fail (n integer); CREATE SEQUENCE failures;
             CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF nextval('failures') % 3 <> 0 THEN
                     RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER fail BEFORE UPDATE ON trimtab_head FOR EACH ROW EXECUTE FUNCTION fail()",
        )
        .unwrap();
    for number in 2..=10 {
        let recorded = ledger.append_blocking(&actor(), at(0), vec![event("b")]).unwrap();
        assert_eq!(recorded[0].sequence, number);
    }
    server.sql("CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END $$").unwrap();
    let refused = ledger.append_blocking(&actor(), at(0), vec![event("c")]).unwrap_err();
    assert!(matches!(refused, Error::Interrupted { .. }), "{refused:?}");
    server.sql("DROP TRIGGER fail ON trimtab_head").unwrap();
    assert_eq!(ledger.append_blocking(&actor(), at(0), vec![event("c")]).unwrap()[0].sequence, 11);
    // Somebody who keeps the head for himself is waited for, and then named.
    let other = std::thread::scope(|scope| {
        let held = scope
            .spawn(|| server.sql("BEGIN; SELECT * FROM trimtab_head FOR UPDATE; SELECT pg_sleep(7); COMMIT"));
        std::thread::sleep(Duration::from_millis(500));
        let refused = ledger.append_blocking(&actor(), at(0), vec![event("d")]).unwrap_err();
        assert_eq!(refused, Error::Locked { waited_ms: 5_000, holder: None });
        held.join().unwrap()
    });
    other.unwrap();
    assert_eq!(ledger.append_blocking(&actor(), at(0), vec![event("d")]).unwrap()[0].sequence, 12);
    assert!(ledger.verify().unwrap().is_sound());
}

#[test]
fn a_full_disk_records_nothing_and_is_got_over() {
    let server = server();
    let ledger = open_at(&server.address(""), Access::ReadWrite).unwrap();
    server
        .sql(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;
             CREATE TRIGGER full_disk BEFORE INSERT ON trimtab_record FOR EACH ROW EXECUTE FUNCTION full_disk()",
        )
        .unwrap();
    let refused = ledger.append_blocking(&actor(), at(0), vec![event("a")]).unwrap_err();
    assert!(matches!(refused, Error::Full { .. }), "{refused:?}");
    assert_eq!(ledger.head().unwrap().size, 0);
    server.sql("DROP TRIGGER full_disk ON trimtab_record").unwrap();
    assert_eq!(ledger.append_blocking(&actor(), at(0), vec![event("a")]).unwrap()[0].sequence, 1);
}

#[test]
fn reading_survives_a_restart() {
    let mut server = server();
    let ledger = open_at(&server.address(""), Access::ReadWrite).unwrap();
    ledger.append_blocking(&actor(), at(0), vec![event("a")]).unwrap();
    for how in [Stop::Fast, Stop::Immediate] {
        server.stop(how).unwrap();
        server.resume().unwrap();
        assert_eq!(names(&ledger), ["a"]);
        assert_eq!(ledger.head().unwrap().size, 1);
    }
}

#[tokio::test]
async fn calls_from_within_a_runtime_work() {
    let server = server();
    let ledger = open_at(&server.address(""), Access::ReadWrite).unwrap();
    ledger.append(&actor(), at(0), vec![event("a")]).await.unwrap();
    assert_eq!(ledger.read(0, 9).unwrap().len(), 1);
    assert_eq!(ledger.changed(0).await, Ok(1));
    // The last clone is dropped here, within the runtime.
    drop(ledger);
}
