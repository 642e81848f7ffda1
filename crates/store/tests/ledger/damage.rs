//! A ledger that somebody, or a disk, has changed: verification finds it, reading goes on past it, writing stops.

use rusqlite::{Connection, params};
use store::merkle::{Frontier, leaf_hash};
use store::{Access, Damage, Entry, Error, Fault, Ledger};

use crate::{Folder, Random, actor, at, event, quarantined, records};

const RECORDS: u64 = 64;

/// One random change that leaves the file readable for SQLite. `true` if anything differs afterwards.
fn tamper(connection: &Connection, kind: u64, random: &mut Random) -> bool {
    let one = 1 + random.below(RECORDS) as i64;
    let two = 1 + random.below(RECORDS) as i64;
    let (bit, spot) = (1_u8 << random.below(8), random.next() as usize);
    let blob = |sql: &str| -> Vec<u8> { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| connection.execute(sql, values).unwrap() > 0;
    let flipped = |mut bytes: Vec<u8>| {
        let spot = spot % bytes.len();
        bytes[spot] ^= bit;
        bytes
    };
    let body = || blob(&format!("SELECT body FROM record WHERE sequence = {one}"));
    match kind {
        0 => run("UPDATE record SET body = ?1 WHERE sequence = ?2", &[&flipped(body()), &one]),
        1 => {
            let leaf = blob(&format!("SELECT leaf FROM record WHERE sequence = {one}"));
            run("UPDATE record SET leaf = ?1 WHERE sequence = ?2", &[&flipped(leaf), &one])
        }
        2 => run("UPDATE record SET at = at + ?1 WHERE sequence = ?2", &[&(1 + (spot % 9) as i64), &one]),
        3 => run("UPDATE record SET format = ?1 WHERE sequence = ?2", &[&(2 + (spot % 9) as i64), &one]),
        4 => run("DELETE FROM record WHERE sequence = ?1", &[&one]),
        5 => {
            run("UPDATE record SET sequence = -1 WHERE sequence = ?1", &[&one]);
            run("UPDATE record SET sequence = ?2 WHERE sequence = ?1", &[&two, &one]);
            run("UPDATE record SET sequence = ?1 WHERE sequence = -1", &[&two]);
            one != two
        }
        6 => run("DELETE FROM record WHERE sequence >= ?1", &[&one]),
        7 => {
            let copy = "UPDATE record SET (body, leaf) = (SELECT body, leaf FROM record WHERE sequence = ?1) \
                        WHERE sequence = ?2";
            run(copy, &[&one, &two]) && one != two
        }
        8 => {
            // A forger who knows the record's hash, but not that it is in a tree.
            let text = String::from_utf8(body()).unwrap().replace("incident ", "Incident ");
            let leaf = leaf_hash(text.as_bytes());
            run(
                "UPDATE record SET body = ?1, leaf = ?2 WHERE sequence = ?3",
                &[&text.as_bytes(), &leaf, &one],
            )
        }
        9 => run("UPDATE head SET size = size + ?1", &[&if spot % 2 == 0 { 1 } else { -1 }]),
        10 => run("UPDATE head SET root = ?1", &[&flipped(blob("SELECT root FROM head"))]),
        11 => run("UPDATE head SET frontier = ?1", &[&flipped(blob("SELECT frontier FROM head"))]),
        12 => run("UPDATE head SET last_at = last_at - 1", &[]),
        13 => run("DELETE FROM head", &[]),
        14 => {
            let copy = "INSERT INTO record SELECT ?1, at, format, body, leaf FROM record WHERE sequence = ?2";
            let place = [0, -5, RECORDS as i64 + 1, RECORDS as i64 + 999][spot % 4];
            run(copy, &[&place, &one])
        }
        15 => {
            let body = body();
            run("UPDATE record SET body = ?1 WHERE sequence = ?2", &[&&body[..spot % body.len()], &one])
        }
        _ => run("UPDATE record SET sequence = sequence + 1000 WHERE sequence = ?1", &[&one]),
    }
}

#[test]
fn every_tampering_is_found() {
    let original = Folder::with_records(RECORDS);
    let bytes = std::fs::read(original.file()).unwrap();
    assert!(original.open_to_read().verify().unwrap().is_sound(), "no false alarm");
    let folder = Folder::new();
    let mut random = Random(20_260_901);
    let mut found = 0;
    while found < 1_000 {
        std::fs::write(folder.file(), &bytes).unwrap();
        let kind = random.below(17);
        if !tamper(&folder.sqlite(), kind, &mut random) {
            continue;
        }
        let ledger = folder.open_to_read();
        let verification = ledger.verify().unwrap();
        assert!(!verification.is_sound(), "kind {kind} was not found");
        assert_eq!(verification.damages_total, verification.damages.len() as u64);
        ledger.read(0, 200).unwrap();
        found += 1;
    }
}

#[test]
fn a_flipped_bit_in_the_file_is_found_or_changes_nothing() {
    let original = Folder::with_records(RECORDS);
    let bytes = std::fs::read(original.file()).unwrap();
    let expected = records(&original.open_to_read());
    let folder = Folder::new();
    let mut random = Random(7);
    let (mut refused, mut unsound, mut harmless) = (0, 0, 0);
    for _ in 0..600 {
        let mut changed = bytes.clone();
        let spot = random.below(bytes.len() as u64) as usize;
        changed[spot] ^= 1 << random.below(8);
        std::fs::write(folder.file(), &changed).unwrap();
        match Ledger::open(&folder.file(), Access::ReadOnly).and_then(|ledger| {
            let entries = ledger.read(0, 1_000)?;
            Ok((ledger.verify()?, entries))
        }) {
            Err(_) => refused += 1,
            Ok((verification, _)) if !verification.is_sound() => unsound += 1,
            Ok((_, entries)) => {
                let whole: Vec<_> = expected.iter().cloned().map(Entry::Record).collect();
                assert_eq!(entries, whole, "byte {spot} changed the content unseen");
                harmless += 1;
            }
        }
    }
    assert!(unsound > 100, "{refused} refused, {unsound} found, {harmless} harmless");
}

#[test]
fn damage_is_named_with_its_place() {
    let folder = Folder::with_records(20);
    folder
        .sqlite()
        .execute_batch(
            "UPDATE record SET body = x'00' WHERE sequence = 3; DELETE FROM record WHERE sequence IN (7, 8);
             UPDATE record SET at = at - 1 WHERE sequence = 12; UPDATE record SET format = 9 WHERE sequence = 15;",
        )
        .unwrap();
    let ledger = folder.open_to_read();
    let verification = ledger.verify().unwrap();
    let expected = [
        (3, Fault::Leaf),
        (7, Fault::Missing(8)),
        (12, Fault::Time),
        (12, Fault::Order),
        (15, Fault::Format(9)),
    ];
    let expected = expected.map(|(sequence, fault)| Damage { sequence, fault });
    assert_eq!(verification.damages[..5], expected);
    assert_eq!(verification.damages[5].to_string(), "head: it counts 20 records, there are 18");
    assert_eq!(verification.size, 18);
    assert_eq!(quarantined(&ledger), [3, 8, 12, 15]);
    let entries = ledger.read(5, 2).unwrap();
    assert_eq!(entries[1], Entry::Quarantined { sequence: 8, reason: "records 7 to 8 are missing".into() });
}

#[test]
fn records_that_changed_places_are_not_read_as_if_they_belonged_there() {
    let folder = Folder::with_records(20);
    let swap = "UPDATE record SET sequence = -1 WHERE sequence = 5; UPDATE record SET sequence = 5 WHERE sequence = 9;
                UPDATE record SET sequence = 9 WHERE sequence = -1;";
    folder.sqlite().execute_batch(swap).unwrap();
    let ledger = folder.open_to_read();
    assert_eq!(quarantined(&ledger), [5, 9]);
    let damages = ledger.verify().unwrap().damages;
    assert_eq!(damages[0], Damage { sequence: 5, fault: Fault::Sequence(9) });
    assert_eq!(damages[1], Damage { sequence: 9, fault: Fault::Sequence(5) });
}

#[test]
fn a_cut_off_end_is_seen_by_readers() {
    let folder = Folder::with_records(20);
    folder.sqlite().execute_batch("DELETE FROM record WHERE sequence > 15").unwrap();
    assert_eq!(quarantined(&folder.open_to_read()), [20]);
}

#[test]
fn a_damaged_ledger_is_read_but_not_written() {
    let damages = [
        "UPDATE record SET body = x'00' WHERE sequence = 60",
        "UPDATE record SET body = x'00', leaf = zeroblob(32) WHERE sequence = 64",
        "DELETE FROM record WHERE sequence = 64",
        "DELETE FROM record WHERE sequence = 30",
        "UPDATE head SET size = 63",
        "UPDATE head SET root = zeroblob(32)",
        "UPDATE head SET last_at = 0",
        "DELETE FROM head",
        "DROP TABLE head",
        "INSERT INTO record SELECT 70, at, format, body, leaf FROM record WHERE sequence = 64",
    ];
    for damage in damages {
        let folder = Folder::with_records(64);
        folder.sqlite().execute_batch(damage).unwrap();
        let ledger = folder.open();
        let refused = ledger.append_blocking(&actor(), at(0), vec![event("a")]);
        assert!(matches!(refused, Err(Error::Damaged { .. })), "{damage}: {refused:?}");
        let whole = ledger.read(0, 100).unwrap().iter().filter(|e| matches!(e, Entry::Record(_))).count();
        assert!(whole >= 63, "{damage}: {whole} records are read");
        assert!(!ledger.verify().unwrap().is_sound());
    }
}

#[test]
fn damage_while_open_stops_the_writer_too() {
    let folder = Folder::with_records(10);
    let ledger = folder.open();
    ledger.append_blocking(&actor(), at(0), vec![event("a")]).unwrap();
    folder.sqlite().execute_batch("DELETE FROM record WHERE sequence = 11").unwrap();
    assert!(matches!(ledger.append_blocking(&actor(), at(0), vec![event("b")]), Err(Error::Damaged { .. })));
    assert!(matches!(ledger.append_blocking(&actor(), at(0), vec![event("b")]), Err(Error::Damaged { .. })));
}

#[test]
fn an_older_copy_put_in_its_place_is_refused() {
    let folder = Folder::with_records(10);
    let mut frontier = Frontier::default();
    let ledger = folder.open();
    ledger.append_blocking(&actor(), at(0), vec![event("a")]).unwrap();
    // Rolled back through SQL, as a restored backup would be: consistent in itself, but shorter than what was acknowledged.
    let connection = folder.sqlite();
    connection.execute_batch("DELETE FROM record WHERE sequence = 11").unwrap();
    let mut statement = connection.prepare("SELECT body FROM record ORDER BY sequence").unwrap();
    let bodies = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    bodies.for_each(|body| frontier.push(leaf_hash(&body.unwrap())));
    connection
        .execute(
            "UPDATE head SET size = 10, root = ?1, frontier = ?2, last_at = (SELECT max(at) FROM record)",
            params![frontier.root(), frontier.peaks().concat()],
        )
        .unwrap();
    assert!(ledger.verify().unwrap().is_sound());
    match ledger.append_blocking(&actor(), at(0), vec![event("b")]) {
        Err(Error::Damaged { detail }) => assert!(detail.contains("10 records where 11"), "{detail}"),
        other => panic!("{other:?}"),
    }
}

/// Appends a body as another version of the program might have: whole, but not for us.
fn append_foreign(folder: &Folder, body: &[u8]) {
    let connection = folder.sqlite();
    let (size, packed, last_at): (i64, Vec<u8>, i64) = connection
        .query_row("SELECT size, frontier, last_at FROM head", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    let mut frontier = Frontier::from_parts(size as u64, packed.as_chunks::<32>().0.to_vec()).unwrap();
    frontier.push(leaf_hash(body));
    connection
        .execute(
            "INSERT INTO record VALUES (?1, ?2, 1, ?3, ?4)",
            params![size + 1, last_at, body, leaf_hash(body)],
        )
        .unwrap();
    connection
        .execute(
            "UPDATE head SET size = size + 1, root = ?1, frontier = ?2",
            params![frontier.root(), frontier.peaks().concat()],
        )
        .unwrap();
}

#[test]
fn what_is_not_understood_is_quarantined_and_stops_nothing() {
    let folder = Folder::with_records(10);
    let at_column: i64 = folder.sqlite().query_row("SELECT last_at FROM head", [], |row| row.get(0)).unwrap();
    let unknown = format!(
        r#"{{"v":1,"sequence":11,"at":{at_column},"actor":{{"kind":"machine","name":"x"}},"event":{{"kind":"moon.landed","data":{{}}}}}}"#
    );
    let newer = format!(r#"{{"v":2,"sequence":13,"at":{at_column},"all":"different"}}"#);
    for body in [unknown.as_bytes(), b"\xff\xfenot json", newer.as_bytes(), &b"[".repeat(60_000), b""] {
        append_foreign(&folder, body);
    }
    let ledger = folder.open();
    assert_eq!(quarantined(&ledger), [11, 12, 13, 14, 15]);
    let verification = ledger.verify().unwrap();
    assert!(verification.is_sound(), "{:?}", verification.damages);
    assert_eq!(verification.unreadable_total, 5);
    assert!(verification.unreadable[0].to_string().contains("moon.landed"), "{}", verification.unreadable[0]);
    let recorded = ledger.append_blocking(&actor(), at(99), vec![event("a")]).unwrap();
    assert_eq!(recorded[0].sequence, 16, "the ledger goes on");
    assert_eq!(ledger.read(10, 100).unwrap().last(), Some(&Entry::Record(recorded[0].clone())));
}

#[test]
fn a_broken_page_hides_only_its_own_records() {
    let folder = Folder::with_records(1_000);
    let mut bytes = std::fs::read(folder.file()).unwrap();
    let pages = bytes.len() / 4_096;
    assert!(pages > 20);
    bytes[4_096 * (pages / 2)..][..4_096].fill(0xa5);
    std::fs::write(folder.file(), &bytes).unwrap();
    let ledger = folder.open();
    let entries = ledger.read(0, 5_000).unwrap();
    let sequences: Vec<_> = entries.iter().map(Entry::sequence).collect();
    assert_eq!(sequences, (1..=1_000).collect::<Vec<_>>());
    let hidden = quarantined(&ledger).len();
    assert!((1..100).contains(&hidden), "{hidden}");
    assert_eq!(ledger.verify().unwrap().damages.iter().filter(|damage| damage.sequence > 0).count(), hidden);
}
