//! A ledger that moves from a file to a server: all of it, once, and into nobody else's place.

use store::{Access, Damage, Error, MigrateError, migrate};

use crate::ground::{Ground, Numbers, server};
use crate::{actor, at, event};

fn filled(ground: &Ground<'_>, count: i64) {
    let ledger = ground.open();
    for number in 0..count {
        let events = (0..40).map(|part| event(&format!("{number} {part} \u{1F6F0}"))).collect();
        ledger.append_blocking(&actor(), at(number), events).unwrap();
    }
}

#[test]
fn a_ledger_moves_as_a_whole_and_goes_on_there() {
    let (server, numbers) = (server(), Numbers::default());
    let (file, target) = (Ground::sqlite(), Ground::postgres(&server, &numbers));
    filled(&file, 40);
    let mut told = Vec::new();
    let moved = migrate(&file.place(), &target.place(), &mut |done, size| told.push((done, size))).unwrap();
    let head = file.open().head().unwrap();
    assert_eq!((moved.size, moved.root, moved.copied), (1_600, head.root, 1_600));
    assert_eq!(told, [(512, 1_600), (1_024, 1_600), (1_536, 1_600), (1_600, 1_600)]);
    assert_eq!(file.dump(), target.dump());
    // Again: everything is there, and compared once more.
    assert_eq!(migrate(&file.place(), &target.place(), &mut |_, _| {}).unwrap().copied, 0);
    let recorded = target.open().append_blocking(&actor(), at(99), vec![event("goes on")]).unwrap();
    assert_eq!(recorded[0].sequence, 1_601);
    let gone_on = migrate(&file.place(), &target.place(), &mut |_, _| {});
    assert_eq!(gone_on, Err(MigrateError::Different { size: 1_601 }));
}

#[test]
fn people_move_too_and_who_is_erased_between_two_attempts_stays_behind() {
    let (server, numbers) = (server(), Numbers::default());
    let (file, target) = (Ground::sqlite(), Ground::postgres(&server, &numbers));
    let ledger = file.open();
    for name in ["anna", "bert"] {
        let human = delivery::Actor::Human(format!("{name}@example.com"));
        ledger.append_blocking(&human, at(0), vec![event("x")]).unwrap();
    }
    migrate(&file.place(), &target.place(), &mut |_, _| {}).unwrap();
    assert_eq!(file.dump(), target.dump());
    assert!(target.dump().contains("anna@example.com"));
    let person = ledger.person("anna@example.com").unwrap().unwrap().pseudonym;
    let erasure = delivery::Event::PersonErased { person };
    ledger.append_blocking(&actor(), at(1), vec![erasure]).unwrap();
    assert_eq!(migrate(&file.place(), &target.place(), &mut |_, _| {}).unwrap().copied, 1);
    assert_eq!(file.dump(), target.dump());
    assert!(!target.dump().contains("anna@example.com"));
    assert!(target.open().verify().unwrap().is_sound());
    target.sql("UPDATE {person} SET email = 'mallory@example.com'");
    assert_eq!(migrate(&file.place(), &target.place(), &mut |_, _| {}), Err(MigrateError::People));
}

#[test]
fn an_interrupted_move_goes_on_where_it_stopped() {
    let (server, numbers) = (server(), Numbers::default());
    let (file, target) = (Ground::sqlite(), Ground::postgres(&server, &numbers));
    filled(&file, 40);
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'trimtab'";
    let interrupted = migrate(&file.place(), &target.place(), &mut |done, _| {
        if done == 1_024 {
            server.sql(kill).unwrap();
        }
    });
    assert!(matches!(interrupted, Err(MigrateError::Store(Error::Interrupted { .. }))), "{interrupted:?}");
    assert_eq!(target.open().verify().unwrap().size, 1_024);
    assert_eq!(migrate(&file.place(), &target.place(), &mut |_, _| {}).unwrap().copied, 576);
    assert_eq!(file.dump(), target.dump());
}

#[test]
fn another_ledger_is_not_overwritten_and_a_damaged_one_is_not_copied() {
    let (server, numbers) = (server(), Numbers::default());
    let (file, other) = (Ground::sqlite(), Ground::postgres(&server, &numbers));
    filled(&file, 2);
    other.open().append_blocking(&actor(), at(0), vec![event("another's")]).unwrap();
    let before = other.dump();
    assert_eq!(
        migrate(&file.place(), &other.place(), &mut |_, _| {}),
        Err(MigrateError::Different { size: 1 })
    );
    assert_eq!(other.dump(), before);
    file.sql("UPDATE {record} SET body = {bytes:00} WHERE sequence = 7");
    let empty = Ground::postgres(&server, &numbers);
    assert_eq!(
        migrate(&file.place(), &empty.place(), &mut |_, _| {}),
        Err(MigrateError::Unsound { damages: 2 })
    );
    assert!(matches!(empty.try_open(Access::ReadOnly), Err(Error::Missing { .. })), "nothing was made there");
    let nothing = Ground::sqlite();
    let missing = migrate(&nothing.place(), &empty.place(), &mut |_, _| {});
    assert!(matches!(missing, Err(MigrateError::Store(Error::Missing { .. }))), "{missing:?}");
}

#[test]
fn a_copy_that_was_changed_is_noticed() {
    let (server, numbers) = (server(), Numbers::default());
    let (file, target) = (Ground::sqlite(), Ground::postgres(&server, &numbers));
    filled(&file, 60);
    migrate(&file.place(), &target.place(), &mut |_, _| {}).unwrap();
    // Beyond the tail that every opening checks, so that only the comparison can find it.
    target.sql("UPDATE {record} SET body = {bytes:00} WHERE sequence = 5");
    let again = migrate(&file.place(), &target.place(), &mut |_, _| {});
    assert_eq!(again, Err(MigrateError::Unequal { sequence: 5 }));
    let damages = target.open().verify().unwrap().damages;
    assert_eq!(damages[0], Damage { sequence: 5, fault: store::Fault::Leaf });
}

#[test]
fn nobody_appends_to_the_original_meanwhile() {
    let (server, numbers) = (server(), Numbers::default());
    let (file, target) = (Ground::sqlite(), Ground::postgres(&server, &numbers));
    filled(&file, 20);
    let late = file.open();
    let mut refused = None;
    migrate(&file.place(), &target.place(), &mut |_, _| {
        refused = refused.take().or_else(|| Some(late.append_blocking(&actor(), at(0), vec![event("late")])));
    })
    .unwrap();
    assert_eq!(refused, Some(Err(Error::Locked { waited_ms: 5_000, holder: None })));
}
