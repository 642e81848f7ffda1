//! An older schema and a newer one: what is kept, what is refused, and the way back. Killed migrations are in `real_upgrade`.

use std::sync::Mutex;

use delivery::code::Code;
use store::ledger::{backup, restore};
use store::{Access, Error, Ledger, Schema, Step};

use crate::{Folder, actor, at, event, records};

/// What a later Trimtab may do: a table beside, and the table of records written anew.
const LATER: &[&str] = &[
    Schema::RELEASED.migrations()[0],
    "CREATE TABLE beside (sequence INTEGER PRIMARY KEY, text TEXT) STRICT;
     INSERT INTO beside SELECT sequence, 'x' FROM record;",
    "CREATE TABLE anew (
        sequence INTEGER PRIMARY KEY, at INTEGER NOT NULL, format INTEGER NOT NULL, body BLOB NOT NULL, leaf BLOB NOT NULL,
        more TEXT
     ) STRICT;
     INSERT INTO anew SELECT sequence, at, format, body, leaf, NULL FROM record;
     DROP TABLE record;
     ALTER TABLE anew RENAME TO record;",
];

fn older() -> Schema {
    Schema::of(LATER).until(1)
}

fn newer() -> Schema {
    Schema::of(LATER)
}

fn open(folder: &Folder, schema: Schema) -> Result<Ledger, Error> {
    Ledger::open_as(&folder.file(), Access::ReadWrite, schema)
}

/// A closed ledger of schema 1.
fn of_schema_1(count: i64) -> Folder {
    let folder = Folder::new();
    let ledger = open(&folder, older()).unwrap();
    for number in 0..count {
        ledger.append_blocking(&actor(), at(number), vec![event(&format!("incident {number}"))]).unwrap();
    }
    drop(ledger);
    folder
}

fn kept(folder: &Folder) -> Vec<camino::Utf8PathBuf> {
    let Ok(entries) = folder.path().join("backups").read_dir_utf8() else { return Vec::new() };
    let mut kept: Vec<_> = entries.map(|entry| entry.unwrap().path().to_owned()).collect();
    kept.sort();
    kept
}

#[test]
fn a_migration_changes_no_record_and_keeps_the_old_ledger() {
    let folder = of_schema_1(20);
    let ledger = Ledger::open_as(&folder.file(), Access::ReadOnly, older()).unwrap();
    let before = (ledger.head().unwrap(), records(&ledger));
    drop(ledger);
    assert_eq!(kept(&folder), Vec::<camino::Utf8PathBuf>::new());
    let ledger = open(&folder, newer()).unwrap();
    assert_eq!((ledger.head().unwrap(), records(&ledger)), before);
    assert!(ledger.verify().unwrap().is_sound());
    assert_eq!(ledger.append_blocking(&actor(), at(30), vec![event("new")]).unwrap()[0].sequence, 21);
    let [copy] = &kept(&folder)[..] else { panic!("{:?}", kept(&folder)) };
    let about = backup::check(copy).unwrap();
    assert_eq!((about.schema, about.size, about.root), (1, 20, restore::digest_of(&before.0)));
    // Opening it again changes nothing more.
    drop(ledger);
    drop(open(&folder, newer()).unwrap());
    assert_eq!(kept(&folder).len(), 1);
}

#[test]
fn a_new_ledger_has_nothing_to_keep() {
    let folder = Folder::new();
    drop(open(&folder, newer()).unwrap());
    assert_eq!(kept(&folder), Vec::<camino::Utf8PathBuf>::new());
}

#[test]
fn an_older_trimtab_is_told_what_it_needs_and_where_the_way_back_is() {
    let folder = of_schema_1(20);
    let ledger = open(&folder, newer()).unwrap();
    ledger.append_blocking(&actor(), at(30), vec![event("new")]).unwrap();
    drop(ledger);
    let bytes = std::fs::read(folder.file()).unwrap();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let error = Ledger::open_as(&folder.file(), access, older()).unwrap_err();
        let copy = kept(&folder).remove(0);
        let needs = Some(env!("CARGO_PKG_VERSION").to_owned());
        assert_eq!(error, Error::Newer { found: 3, known: 1, needs, kept: Some(copy.clone()) });
        let problem = error.problem();
        assert_eq!(problem.code, Code::StoreNewer);
        let hint = problem.hint.unwrap();
        assert!(hint.contains(&format!("trimtab ledger restore {copy} --replace")), "{hint}");
    }
    assert_eq!(std::fs::read(folder.file()).unwrap(), bytes, "it is left alone");
}

#[test]
fn the_way_back_works_for_the_older_trimtab_and_loses_nothing() {
    let folder = of_schema_1(20);
    let ledger = open(&folder, newer()).unwrap();
    ledger.append_blocking(&actor(), at(30), vec![event("new")]).unwrap();
    drop(ledger);
    let copy = kept(&folder).remove(0);
    // The present Trimtab knows schema 1 only, so here it is the older one.
    let held = restore::Held::take(&folder.file()).unwrap();
    assert_eq!(held.end().map(|end| end.size), Some(21));
    let staged = restore::Staged::of_backup(&copy, &folder.file(), None).unwrap();
    let old = staged.put(held, &folder.path().join("blobs")).unwrap().unwrap();
    let ledger = Ledger::open(&folder.file(), Access::ReadWrite).unwrap();
    assert_eq!(records(&ledger).len(), 20);
    assert_eq!(ledger.append_blocking(&actor(), at(40), vec![event("old again")]).unwrap()[0].sequence, 21);
    // The newer one's records are kept for the newer one.
    let ledger = Ledger::open_as(&old, Access::ReadOnly, newer()).unwrap();
    assert_eq!(records(&ledger).len(), 21);
}

#[test]
fn who_has_an_older_schema_open_neither_writes_nor_reads_on() {
    let folder = of_schema_1(5);
    let (writer, reader) = (
        open(&folder, older()).unwrap(),
        Ledger::open_as(&folder.file(), Access::ReadOnly, older()).unwrap(),
    );
    assert_eq!(records(&reader).len(), 5);
    writer.append_blocking(&actor(), at(10), vec![event("before")]).unwrap();
    let new = open(&folder, newer()).unwrap();
    for _ in 0..2 {
        let error = writer.append_blocking(&actor(), at(11), vec![event("after")]).unwrap_err();
        assert!(matches!(error, Error::Newer { found: 3, known: 1, kept: Some(_), .. }), "{error:?}");
        let error = reader.read(0, 10).unwrap_err();
        assert!(matches!(error, Error::Newer { found: 3, known: 1, .. }), "{error:?}");
    }
    assert_eq!(new.head().unwrap().size, 6);
    assert!(new.verify().unwrap().is_sound());
}

#[test]
fn what_can_not_be_kept_is_not_migrated() {
    let folder = of_schema_1(5);
    // A file where the folder of copies would be.
    std::fs::write(folder.path().join("backups"), "").unwrap();
    let error = open(&folder, newer()).unwrap_err();
    assert!(matches!(error, Error::NotKept { .. }), "{error:?}");
    let ledger = open(&folder, older()).unwrap();
    assert_eq!(ledger.append_blocking(&actor(), at(9), vec![event("goes on")]).unwrap()[0].sequence, 6);
}

#[test]
fn a_damaged_ledger_is_migrated_with_its_damage() {
    let folder = of_schema_1(20);
    folder.sqlite().execute_batch("UPDATE record SET body = x'7b7d' WHERE sequence = 7").unwrap();
    let damages = |ledger: &Ledger| ledger.verify().unwrap().damages;
    let before = damages(&Ledger::open_as(&folder.file(), Access::ReadOnly, older()).unwrap());
    assert_eq!(before.len(), 2, "{before:?}");
    // Its appends fail as they did before; it can be read.
    let ledger = open(&folder, newer()).unwrap();
    assert_eq!(damages(&ledger), before);
    assert_eq!(ledger.read(0, 100).unwrap().len(), 20);
    assert_eq!(kept(&folder).len(), 1);
}

#[test]
fn every_statement_is_a_step() {
    static STEPS: Mutex<Vec<Step>> = Mutex::new(Vec::new());
    let folder = of_schema_1(5);
    drop(open(&folder, newer().watched(|step| STEPS.lock().unwrap().push(step))).unwrap());
    let steps = STEPS.lock().unwrap();
    assert_eq!(steps.first(), Some(&Step::Locked));
    assert_eq!(steps.iter().filter(|step| **step == Step::Statement).count(), 6);
    assert_eq!(steps[steps.len() - 2..], [Step::Marked, Step::Committed]);
}
