//! Upgrades with real processes: killed at every step and at any instant, and under load. A test here that is started with
//! `TRIMTAB_STORE_CHILD` set plays the other process. `TRIMTAB_ROUNDS` says how often the rounds of chance are run;
//! `cargo xtask upgrade` runs many.

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "the tests are about processes, their clock and their environment"
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use delivery::{Actor, Event, Timestamp};
use store::ledger::backup;
use store::{Access, Entry, Error, Head, Ledger, Schema, Step};

const ROLE: &str = "TRIMTAB_STORE_CHILD";
const AT_STEP: &str = "TRIMTAB_KILLED_AT_STEP";
const ROUNDS: &str = "TRIMTAB_ROUNDS";
const RECORDS: usize = 2_000;

/// What a later Trimtab may do at its worst: a table beside, and the table of records written anew, row by row.
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

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn rounds(default: u32) -> u32 {
    variable(ROUNDS).map_or(default, |rounds| rounds.parse().unwrap())
}

fn event(name: &str) -> Event {
    Event::IncidentResolved { incident: name.into() }
}

fn append(ledger: &Ledger, names: &[String]) -> Result<Vec<u64>, Error> {
    let events = names.iter().map(|name| event(name)).collect();
    let recorded = ledger.append_blocking(&Actor::Machine("test".into()), Timestamp::UNIX_EPOCH, events)?;
    Ok(recorded.iter().map(|record| record.sequence).collect())
}

fn spawn(test: &str, folder: &Utf8Path, variables: &[(&str, String)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, folder)
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A folder with a closed ledger of schema 1.
fn of_schema_1() -> (tempfile::TempDir, Head) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open_as(&file(&folder), Access::ReadWrite, older()).unwrap();
    for first in (0..RECORDS).step_by(200) {
        let names: Vec<String> =
            (first..first + 200).map(|number| format!("incident {number:0>200}")).collect();
        append(&ledger, &names).unwrap();
    }
    let head = ledger.head().unwrap();
    (folder, head)
}

fn file(folder: &tempfile::TempDir) -> Utf8PathBuf {
    Utf8PathBuf::from_path_buf(folder.path().join("ledger.db")).unwrap()
}

fn copy_of(original: &tempfile::TempDir) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(file(original), file(&folder)).unwrap();
    folder
}

fn schema_of(file: &Utf8Path) -> i64 {
    let connection = rusqlite::Connection::open(file).unwrap();
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

/// After a kill: the ledger is whole, old or new; opening it goes on; what was kept is whole. Gives the schema that the kill left.
fn whole_after_a_kill(folder: &tempfile::TempDir, before: &Head) -> i64 {
    let file = file(folder);
    let schema = schema_of(&file);
    assert!(schema == 1 || schema == 3, "a half migration: {schema}");
    let found = if schema == 1 { older() } else { newer() };
    let ledger = Ledger::open_as(&file, Access::ReadWrite, found).unwrap();
    assert!(ledger.verify().unwrap().is_sound());
    assert_eq!(ledger.head().unwrap(), *before);
    drop(ledger);
    let ledger = Ledger::open_as(&file, Access::ReadWrite, newer()).unwrap();
    assert!(ledger.verify().unwrap().is_sound());
    assert_eq!(ledger.head().unwrap(), *before);
    assert_eq!(append(&ledger, &["it goes on".into()]).unwrap(), [before.size + 1]);
    let backups = file.with_file_name("backups");
    let kept: Vec<_> =
        backups.read_dir_utf8().unwrap().map(|entry| entry.unwrap().path().to_owned()).collect();
    let [kept] = &kept[..] else { panic!("one copy is kept, and no half one: {kept:?}") };
    let about = backup::check(kept).unwrap();
    assert_eq!((about.schema, about.size, about.root.as_str()), (1, before.size, &*hex(before)));
    schema
}

fn hex(head: &Head) -> String {
    store::ledger::restore::digest_of(head).to_string()
}

/// Migrates, and kills itself after so many steps.
fn migrate_until_killed(folder: &Utf8Path) {
    static LEFT: AtomicU32 = AtomicU32::new(0);
    fn count(_: Step) {
        if LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
        }
    }
    LEFT.store(variable(AT_STEP).unwrap().parse().unwrap(), Ordering::Relaxed);
    Ledger::open_as(&folder.join("ledger.db"), Access::ReadWrite, newer().watched(count)).unwrap();
}

#[test]
fn killed_in_every_step_of_a_migration() {
    if let Some(folder) = variable(ROLE) {
        return migrate_until_killed(folder.as_str().into());
    }
    let (original, head) = of_schema_1();
    let mut left = HashMap::new();
    for step in 1.. {
        let folder = copy_of(&original);
        let place = Utf8Path::from_path(folder.path()).unwrap();
        let mut child = spawn("killed_in_every_step_of_a_migration", place, &[(AT_STEP, step.to_string())]);
        let survived = child.wait().unwrap().success();
        *left.entry(whole_after_a_kill(&folder, &head)).or_insert(0) += 1;
        if survived {
            assert!(step > 10, "every step is one that it can be killed in: {step}");
            println!("killed in each of {} steps: left whole, by schema: {left:?}", step - 1);
            break;
        }
    }
    assert!(left[&1] >= 9 && left[&3] >= 1, "{left:?}");
}

fn migrate(folder: &Utf8Path) {
    let watch = |step| {
        if step == Step::Locked {
            println!("\nbegun");
        }
    };
    Ledger::open_as(&folder.join("ledger.db"), Access::ReadWrite, newer().watched(watch)).unwrap();
}

#[test]
fn killed_at_any_instant_of_a_migration() {
    if let Some(folder) = variable(ROLE) {
        return migrate(folder.as_str().into());
    }
    let (original, head) = of_schema_1();
    let begun = |folder: &tempfile::TempDir| {
        let place = Utf8Path::from_path(folder.path()).unwrap();
        let mut child = spawn("killed_at_any_instant_of_a_migration", place, &[]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "begun"));
        (child, lines)
    };
    let folder = copy_of(&original);
    let (mut child, _lines) = begun(&folder);
    let start = Instant::now();
    child.wait().unwrap();
    let takes = start.elapsed();
    let (rounds, mut left) = (rounds(12), HashMap::new());
    for round in 0..rounds {
        let folder = copy_of(&original);
        let (mut child, _lines) = begun(&folder);
        let after = takes * round / rounds;
        let start = Instant::now();
        while start.elapsed() < after {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        *left.entry(whole_after_a_kill(&folder, &head)).or_insert(0) += 1;
    }
    println!("killed at {rounds} instants of a migration of {takes:?}: left whole, by schema: {left:?}");
}

/// Appends as the older Trimtab until it is refused.
fn append_until_refused(folder: &Utf8Path) {
    let ledger = Ledger::open_as(&folder.join("ledger.db"), Access::ReadWrite, older()).unwrap();
    for number in 0_u64.. {
        let names: Vec<String> =
            (0..=number % 3).map(|part| format!("{} {number} {part}", std::process::id())).collect();
        match append(&ledger, &names) {
            Ok(sequences) => sequences
                .iter()
                .zip(&names)
                .for_each(|(sequence, name)| println!("\nacknowledged {sequence} {name}")),
            // The migration holds the lock for longer than anybody waits; nothing was recorded.
            Err(Error::Locked { .. }) => println!("\nwaited"),
            Err(Error::Newer { found: 3, known: 1, kept: Some(_), .. }) => return println!("\nrefused"),
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Reads as the older Trimtab until it is refused.
fn read_until_refused(folder: &Utf8Path) {
    let ledger = Ledger::open_as(&folder.join("ledger.db"), Access::ReadOnly, older()).unwrap();
    loop {
        match ledger.read(0, 200) {
            Ok(entries) => assert!(entries.iter().all(|entry| matches!(entry, Entry::Record(_)))),
            Err(Error::Newer { found: 3, known: 1, .. }) => return println!("\nrefused"),
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn play(role: &str, folder: &Utf8Path) {
    match role {
        "append" => append_until_refused(folder),
        "read" => read_until_refused(folder),
        _ => migrate(folder),
    }
}

#[test]
fn upgraded_under_load() {
    if let Some(role) = variable(ROLE) {
        let (role, folder) = role.split_once(' ').unwrap();
        return play(role, folder.into());
    }
    let rounds = rounds(2);
    let (mut acknowledged, mut waited) = (0, 0);
    for _ in 0..rounds {
        let (a, w) = upgrade_under_load();
        acknowledged += a;
        waited += w;
    }
    println!("{rounds} upgrades under load: {acknowledged} acknowledged, 0 lost, {waited} told to wait");
}

/// Three processes append and one reads with the older schema; one migrates. Gives how many appends were acknowledged, and
/// how often somebody was told to wait.
fn upgrade_under_load() -> (usize, usize) {
    let (folder, before) = of_schema_1();
    let place = Utf8Path::from_path(folder.path()).unwrap();
    let start = |role: &str| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", "upgraded_under_load", "--nocapture", "--test-threads=1"])
            .env(ROLE, format!("{role} {place}"))
            .stdout(Stdio::piped());
        child.spawn().unwrap()
    };
    let mut old: Vec<Child> = ["append", "append", "append", "read"].map(start).into();
    let listen = |child: &mut Child| {
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || lines.map(Result::unwrap).collect::<Vec<String>>())
    };
    let heard: Vec<_> = old.iter_mut().map(listen).collect();
    std::thread::sleep(Duration::from_millis(700));
    let mut new = start("migrate");
    assert!(new.wait().unwrap().success());
    for child in &mut old {
        assert!(child.wait().unwrap().success(), "each ends by being refused");
    }
    let ledger = Ledger::open_as(&file(&folder), Access::ReadWrite, newer()).unwrap();
    assert!(ledger.verify().unwrap().is_sound());
    let (mut acknowledged, mut waited) = (0, 0);
    let mut after = before.size;
    let mut there = HashMap::new();
    loop {
        let entries = ledger.read(after, 1_000).unwrap();
        let Some(last) = entries.last() else { break };
        after = last.sequence();
        for entry in entries {
            let Entry::Record(record) = entry else { panic!("{entry:?}") };
            there.insert(record.sequence, record.event);
        }
    }
    for heard in heard {
        let lines = heard.join().unwrap();
        assert!(lines.iter().any(|line| line == "refused"), "{lines:?}");
        waited += lines.iter().filter(|line| *line == "waited").count();
        for line in lines.iter().filter_map(|line| line.strip_prefix("acknowledged ")) {
            let (sequence, name) = line.split_once(' ').unwrap();
            assert_eq!(there.get(&sequence.parse::<u64>().unwrap()), Some(&event(name)));
            acknowledged += 1;
        }
    }
    assert!(acknowledged > 10, "there was load: {acknowledged}");
    // What was kept is the ledger at the moment of the change: the newest that any older Trimtab could have written.
    let kept = place.join("backups").read_dir_utf8().unwrap().next().unwrap().unwrap();
    let about = backup::check(kept.path()).unwrap();
    assert_eq!((about.schema, about.size), (1, ledger.head().unwrap().size));
    (acknowledged, waited)
}
