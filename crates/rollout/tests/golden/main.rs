//! Golden stores: a ledger of every released schema, as it was written then. Each is opened by the Trimtab of its own schema
//! and by this one, which migrates it: the same records, bytes, root and state come of both.

#![expect(clippy::unwrap_used, reason = "tests")]

mod projection;

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::{Actor, Event, Timestamp};
use store::{Access, Entry, Ledger, Schema};

/// A later schema, made up: what migrates a store of the newest one today.
fn later() -> Schema {
    const MORE: &str = "CREATE TABLE beside (sequence INTEGER PRIMARY KEY, text TEXT) STRICT;
                        INSERT INTO beside SELECT sequence, 'x' FROM record;";
    let migrations = [Schema::RELEASED.migrations(), &[MORE]].concat();
    Schema::of(Vec::leak(migrations))
}

fn folder() -> Utf8PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden").into()
}

/// The stores with their schemas.
fn stores() -> Vec<(i64, Utf8PathBuf)> {
    let mut stores = Vec::new();
    for entry in folder().read_dir_utf8().unwrap() {
        let entry = entry.unwrap();
        let Some(rest) = entry.file_name().strip_prefix("schema-") else { continue };
        let number = rest.split('-').next().unwrap().parse().unwrap();
        for name in ["whole.db", "damaged.db"] {
            stores.push((number, entry.path().join(name)));
        }
    }
    stores.sort();
    stores
}

fn copy(store: &Utf8Path) -> (tempfile::TempDir, Utf8PathBuf) {
    let keep = tempfile::tempdir().unwrap();
    let file = Utf8PathBuf::from_path_buf(keep.path().join("ledger.db")).unwrap();
    std::fs::copy(store, &file).unwrap();
    (keep, file)
}

fn schema_of(file: &Utf8Path) -> i64 {
    let connection = rusqlite::Connection::open(file).unwrap();
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

#[test]
fn every_schema_has_its_golden_stores() {
    let have: BTreeSet<i64> = stores().into_iter().map(|(number, _)| number).collect();
    let want: BTreeSet<i64> = (1..=Schema::RELEASED.number()).collect();
    assert_eq!(have, want, "write the one that is missing with `cargo xtask golden`");
    for (number, store) in stores() {
        let (_keep, file) = copy(&store);
        assert_eq!(schema_of(&file), number, "{store}");
    }
}

#[test]
fn a_golden_store_is_what_it_was_to_its_own_trimtab_and_to_every_later_one() {
    for (number, store) in stores() {
        let expected = std::fs::read_to_string(store.with_extension("txt")).unwrap();
        let own = Schema::RELEASED.until(number as usize);
        for (who, schema) in [("its own", own), ("this", Schema::RELEASED), ("a later", later())] {
            let (_keep, file) = copy(&store);
            let found = projection::of(&file, Access::ReadWrite, schema).unwrap();
            assert_eq!(found, expected, "{store} by {who} Trimtab");
            assert_eq!(schema_of(&file), schema.number());
            let kept = file.with_file_name("backups").exists();
            assert_eq!(kept, schema.number() > number, "the old one is kept before it is changed");
        }
    }
}

#[test]
fn a_migrated_golden_store_goes_on_when_it_is_whole() {
    for (_, store) in stores() {
        let (_keep, file) = copy(&store);
        let ledger = Ledger::open_as(&file, Access::ReadWrite, later()).unwrap();
        let actor = Actor::Machine("test".into());
        let event = Event::IncidentResolved { incident: "i".into() };
        let appended = ledger.append_blocking(&actor, Timestamp::UNIX_EPOCH, vec![event]);
        let whole = store.ends_with("whole.db");
        assert_eq!(appended.is_ok(), whole, "{store}: {appended:?}");
        assert_eq!(ledger.verify().unwrap().is_sound(), whole);
    }
}

#[test]
fn every_kind_of_event_is_in_the_golden_stores() {
    let mut kinds = BTreeSet::new();
    for (_, store) in stores().into_iter().filter(|(_, store)| store.ends_with("whole.db")) {
        let (_keep, file) = copy(&store);
        let ledger = Ledger::open(&file, Access::ReadOnly).unwrap();
        for entry in ledger.read(0, usize::MAX).unwrap() {
            if let Entry::Record(record) = entry {
                kinds.insert(record.event.kind().to_owned());
            }
        }
    }
    // The page is made from the enum.
    let page = include_str!("../../../../docs/reference/events.md");
    let known: BTreeSet<String> =
        page.lines().filter_map(|line| line.strip_prefix("## ")).map(ToOwned::to_owned).collect();
    let missing: Vec<&String> = known.difference(&kinds).collect();
    assert!(missing.is_empty(), "add a record of {missing:?} to history.jsonl; see CONTRIBUTING.md");
}
