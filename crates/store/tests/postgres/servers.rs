//! Which servers and tables are accepted, and what is said about the others.

use store::{Access, Error};
use testbed::PostgresServer;

use crate::ground::{Ground, Numbers, open_at, server};
use crate::{actor, at, event};

#[test]
fn a_server_that_may_lose_acknowledged_records_is_refused() {
    for (setting, word) in [("fsync=off", "fsync"), ("synchronous_commit=off", "synchronous_commit")] {
        let server = PostgresServer::start_with(&[setting]).unwrap();
        match open_at(&server.address(""), Access::ReadWrite) {
            Err(Error::Unavailable { detail, .. }) => assert!(detail.contains(word), "{detail}"),
            other => panic!("{setting}: {other:?}"),
        }
    }
}

#[test]
fn a_server_that_becomes_careless_is_not_written_to() {
    let server = server();
    let ledger = open_at(&server.address(""), Access::ReadWrite).unwrap();
    ledger.append_blocking(&actor(), at(0), vec![event("a")]).unwrap();
    let set = |statement: &str| {
        server.sql(statement).unwrap();
        server.sql("SELECT pg_reload_conf()").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(500));
    };
    set("ALTER SYSTEM SET fsync = off");
    let refused = ledger.append_blocking(&actor(), at(0), vec![event("b")]);
    assert!(
        matches!(&refused, Err(Error::Unavailable { detail, .. }) if detail.contains("fsync")),
        "{refused:?}"
    );
    set("ALTER SYSTEM SET fsync = on");
    // Of the session, so that it stays what it was when it was checked.
    set("ALTER SYSTEM SET synchronous_commit = off");
    let recorded = ledger.append_blocking(&actor(), at(0), vec![event("c")]);
    assert!(
        matches!(&recorded, Err(Error::Unavailable { detail, .. }) if detail.contains("synchronous_commit")),
        "a new connection after the refusal: {recorded:?}"
    );
    set("ALTER SYSTEM SET synchronous_commit = on");
    assert_eq!(ledger.append_blocking(&actor(), at(0), vec![event("d")]).unwrap()[0].sequence, 2);
}

#[test]
fn tables_of_a_newer_trimtab_are_left_alone() {
    let (server, numbers) = (server(), Numbers::default());
    let ground = Ground::postgres(&server, &numbers);
    ground.open().append_blocking(&actor(), at(0), vec![event("a")]).unwrap();
    ground.sql("UPDATE trimtab_schema SET version = 3");
    let before = ground.dump();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        assert_eq!(
            ground.try_open(access).unwrap_err(),
            Error::Newer { found: 3, known: 2, needs: None, kept: None }
        );
    }
    assert_eq!(ground.dump(), before);
}

#[test]
fn ledgers_of_one_database_keep_apart_and_are_made_once() {
    let (server, numbers) = (server(), Numbers::default());
    let [one, other] = [Ground::postgres(&server, &numbers), Ground::postgres(&server, &numbers)];
    let together = std::sync::Barrier::new(6);
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (together, place) = (&together, if number % 2 == 0 { one.place() } else { other.place() });
            scope.spawn(move || {
                together.wait();
                let ledger =
                    store::Ledger::open_at(&place, Access::ReadWrite, store::Committer::Thread).unwrap();
                ledger.append_blocking(&actor(), at(0), vec![event("x")]).unwrap();
            });
        }
    });
    for ground in [one, other] {
        assert_eq!(ground.open().verify().unwrap().size, 3);
    }
}

#[test]
fn a_server_that_is_not_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = camino::Utf8Path::from_path(folder.path()).unwrap();
    match open_at(&PostgresServer::address_at(folder, ""), Access::ReadOnly) {
        Err(Error::Unavailable { path, .. }) => assert!(path.as_str().starts_with("postgresql://trimtab@")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_user_without_rights_is_told() {
    let server = server();
    server.sql("CREATE ROLE eve LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC").unwrap();
    let address = server.address("").replace("trimtab@", "eve@");
    match open_at(&address, Access::ReadWrite) {
        Err(Error::Unavailable { detail, .. }) => assert!(detail.contains("permission denied"), "{detail}"),
        other => panic!("{other:?}"),
    }
}
