//! One suite of stories, told on SQLite and on PostgreSQL: what is answered, what is stored, and which errors come must be the
//! same to the byte.

use delivery::limits::BATCH_RECORDS_MAX;
use store::merkle::{Frontier, leaf_hash};
use store::{Access, BASIS_RECORDS_MAX, Basis, Ledger};

use crate::ground::{Ground, Numbers, server};
use crate::{actor, at, event};

type Story = fn(&Ground<'_>, &mut Vec<String>);

const STORIES: &[(&str, Story)] = &[
    ("nothing there", nothing_there),
    ("appending and reading", appending_and_reading),
    ("times", times),
    ("limits", limits),
    ("conditions", conditions),
    ("a condition from long ago", a_condition_from_long_ago),
    ("proofs", proofs),
    ("large records in many pages", large_records),
    ("verification of damage", verification_of_damage),
    ("damage refuses appends", damage_refuses_appends),
    ("damage while open", damage_while_open),
    ("an older copy in its place", an_older_copy),
    ("what is not understood", what_is_not_understood),
    ("readers", readers),
    ("people", people),
];

#[test]
fn both_databases_tell_the_same_stories() {
    let (server, numbers) = (server(), Numbers::default());
    for (name, story) in STORIES {
        let [sqlite, postgres] = [Ground::sqlite(), Ground::postgres(&server, &numbers)].map(|ground| {
            let mut transcript = Vec::new();
            story(&ground, &mut transcript);
            assert!(!transcript.is_empty());
            transcript
        });
        for (line, (one, other)) in sqlite.iter().zip(&postgres).enumerate() {
            assert_eq!(one, other, "{name}, line {line}");
        }
        assert_eq!(sqlite.len(), postgres.len(), "{name}");
    }
}

fn fill(ledger: &Ledger, count: usize) {
    for first in (0..count).step_by(100) {
        let events = (first..count.min(first + 100)).map(|number| event(&format!("incident {number}")));
        ledger.append_blocking(&actor(), at(first as i64), events.collect()).unwrap();
    }
}

fn nothing_there(ground: &Ground<'_>, told: &mut Vec<String>) {
    told.push(ground.told(&ground.try_open(Access::ReadOnly).unwrap_err()));
    let ledger = ground.open();
    told.push(ground.told(&ledger.head()));
    told.push(ground.told(&ledger.read(0, 10)));
    told.push(ground.told(&ledger.verify()));
    told.push(ground.dump());
}

fn appending_and_reading(ground: &Ground<'_>, told: &mut Vec<String>) {
    let ledger = ground.open();
    for number in 0..20 {
        let events =
            (0..=number % 3).map(|part| event(&format!("{number} {part} \u{1F6F0} \"quoted\""))).collect();
        told.push(ground.told(&ledger.append_blocking(&actor(), at(number), events)));
    }
    told.push(ground.told(&ledger.append_blocking(&actor(), at(0), Vec::new())));
    for (after, limit) in [(0, 7), (7, 1), (7, 0), (0, usize::MAX), (38, 9), (u64::MAX, 5), (1 << 63, 5)] {
        told.push(ground.told(&ledger.read(after, limit)));
    }
    told.push(ground.told(&ledger.head()));
    told.push(ground.told(&ledger.verify()));
    told.push(ground.dump());
    drop(ledger);
    told.push(ground.told(&ground.open().head()));
}

fn times(ground: &Ground<'_>, told: &mut Vec<String>) {
    let ledger = ground.open();
    let fine = at(100).checked_add(std::time::Duration::from_nanos(1_999)).unwrap();
    for time in [fine, at(-3_600), at(200), delivery::Timestamp::MIN, delivery::Timestamp::MAX] {
        told.push(ground.told(&ledger.append_blocking(&actor(), time, vec![event("x")])));
    }
    told.push(ground.told(&ledger.verify()));
    told.push(ground.dump());
}

fn limits(ground: &Ground<'_>, told: &mut Vec<String>) {
    let ledger = ground.open();
    let many = |count| vec![event("x"); count];
    let attempts = [
        vec![event("fits"), event(&"x".repeat(65_535))],
        many(BATCH_RECORDS_MAX + 1),
        many(BATCH_RECORDS_MAX),
        vec![event(&"x".repeat(65_000))],
    ];
    for events in attempts {
        let answer = ledger.append_blocking(&actor(), at(0), events);
        told.push(ground.told(&answer.map(|records| records.len())));
    }
    told.push(ground.dump());
}

fn conditions(ground: &Ground<'_>, told: &mut Vec<String>) {
    let ledger = ground.open();
    let mut decide = |basis, events| {
        told.push(ground.told(&ledger.append_if_blocking(basis, &actor(), at(0), events)));
    };
    decide(Basis::whole(0), vec![event("a")]);
    decide(Basis::whole(0), vec![event("b")]);
    decide(Basis::whole(1), Vec::new());
    decide(Basis::whole(7), Vec::new());
    decide(Basis::until(0, |_| false), vec![event("c"), event("d")]);
    decide(
        Basis::until(1, |event| matches!(event, delivery::Event::IncidentResolved { .. })),
        vec![event("e")],
    );
    told.push(ground.dump());
}

fn a_condition_from_long_ago(ground: &Ground<'_>, told: &mut Vec<String>) {
    let ledger = ground.open();
    fill(&ledger, BASIS_RECORDS_MAX as usize);
    for seen in [0, 0, 1] {
        let basis = Basis::until(seen, |_| false);
        told.push(ground.told(&ledger.append_if_blocking(basis, &actor(), at(0), vec![event("x")])));
    }
    let size = ledger.head().unwrap().size;
    ground.sql(&format!("UPDATE {{record}} SET body = {{bytes:00}} WHERE sequence = {}", size - 1));
    for seen in [size - 2, size - 1] {
        let basis = Basis::until(seen, |_| false);
        told.push(ground.told(&ledger.append_if_blocking(basis, &actor(), at(0), vec![event("x")])));
    }
    told.push(ground.dump());
}

fn proofs(ground: &Ground<'_>, told: &mut Vec<String>) {
    let ledger = ground.open();
    fill(&ledger, 300);
    for sequence in [0, 1, 2, 77, 256, 257, 300, 301, u64::MAX] {
        told.push(ground.told(&ledger.prove_inclusion(sequence)));
        told.push(ground.told(&ledger.prove_consistency(sequence)));
    }
    ground.sql("UPDATE {record} SET leaf = {bytes:0000000000000000000000000000000000000000000000000000000000000000} WHERE sequence = 5");
    told.push(ground.told(&ledger.prove_inclusion(9)));
}

fn large_records(ground: &Ground<'_>, told: &mut Vec<String>) {
    let ledger = ground.open();
    for number in 0..9 {
        let events = (0..100).map(|part| event(&format!("{number} {part} {}", "x".repeat(9_000)))).collect();
        ledger.append_blocking(&actor(), at(number), events).unwrap();
    }
    told.push(ground.told(&ledger.verify()));
    let mut after = 0;
    while let Some(last) = ledger.read(after, 77).unwrap().last() {
        after = last.sequence();
        told.push(after.to_string());
    }
    told.push(ground.dump());
}

fn verification_of_damage(ground: &Ground<'_>, told: &mut Vec<String>) {
    fill(&ground.open(), 64);
    let damages = [
        "UPDATE {record} SET body = {bytes:00} WHERE sequence = 3",
        "DELETE FROM {record} WHERE sequence IN (7, 8)",
        "UPDATE {record} SET at = at - 1 WHERE sequence = 12",
        "UPDATE {record} SET format = 9 WHERE sequence = 15",
        "UPDATE {record} SET sequence = -1 WHERE sequence = 20",
        "UPDATE {record} SET sequence = 20 WHERE sequence = 30",
        "UPDATE {record} SET sequence = sequence + 1000 WHERE sequence = 40",
        "DELETE FROM {record} WHERE sequence > 60",
        "UPDATE {head} SET size = 63",
        "DELETE FROM {head}",
    ];
    for damage in damages {
        ground.sql(damage);
        let ledger = ground.try_open(Access::ReadOnly).unwrap();
        told.push(ground.told(&ledger.verify()));
        told.push(ground.told(&ledger.read(0, 200)));
        told.push(ground.told(&ledger.head()));
    }
}

fn damage_refuses_appends(ground: &Ground<'_>, told: &mut Vec<String>) {
    fill(&ground.open(), 64);
    let damages = [
        (
            "UPDATE {record} SET body = {bytes:00} WHERE sequence = 60",
            "UPDATE {record} SET body = {bytes:01} WHERE sequence = 60",
        ),
        ("UPDATE {head} SET size = 63", "UPDATE {head} SET size = 64"),
        ("UPDATE {head} SET root = {bytes:00}", "UPDATE {head} SET size = 64"),
        ("UPDATE {head} SET last_at = 0", "UPDATE {head} SET size = 64"),
        ("DELETE FROM {head}", "DELETE FROM {head}"),
        ("DELETE FROM {record} WHERE sequence = 64", "DELETE FROM {record} WHERE sequence = 30"),
    ];
    for (damage, more) in damages {
        ground.sql(damage);
        let ledger = ground.open();
        told.push(ground.told(&ledger.append_blocking(&actor(), at(0), vec![event("a")])));
        ground.sql(more);
        told.push(ground.told(&ledger.append_blocking(&actor(), at(0), vec![event("a")])));
    }
}

fn damage_while_open(ground: &Ground<'_>, told: &mut Vec<String>) {
    let ledger = ground.open();
    fill(&ledger, 11);
    ground.sql("DELETE FROM {record} WHERE sequence = 11");
    for _ in 0..2 {
        told.push(ground.told(&ledger.append_blocking(&actor(), at(0), vec![event("b")])));
    }
}

fn an_older_copy(ground: &Ground<'_>, told: &mut Vec<String>) {
    let ledger = ground.open();
    fill(&ledger, 10);
    let dump = ground.dump();
    let head: Vec<&str> = dump.lines().last().unwrap().split('|').collect();
    ledger.append_blocking(&actor(), at(0), vec![event("a")]).unwrap();
    ground.sql("DELETE FROM {record} WHERE sequence = 11");
    ground.sql(&format!(
        "UPDATE {{head}} SET size = {}, root = {{bytes:{}}}, frontier = {{bytes:{}}}, last_at = {}",
        head[0], head[1], head[2], head[3]
    ));
    told.push(ground.told(&ledger.verify()));
    told.push(ground.told(&ledger.append_blocking(&actor(), at(0), vec![event("b")])));
}

/// Appends bodies as another version of the program might have: whole, but not for us.
fn what_is_not_understood(ground: &Ground<'_>, told: &mut Vec<String>) {
    let time = at(0).as_microsecond();
    ground.open();
    let unknown = format!(
        r#"{{"v":1,"sequence":1,"at":{time},"actor":{{"kind":"machine","name":"x"}},"event":{{"kind":"moon.landed","data":{{}}}}}}"#
    );
    let newer = format!(r#"{{"v":2,"sequence":2,"at":{time},"all":"different"}}"#);
    let mut frontier = Frontier::default();
    for (sequence, body) in [unknown.as_bytes(), newer.as_bytes(), b"\xff\xfe", b""].into_iter().enumerate() {
        let leaf = leaf_hash(body);
        frontier.push(leaf);
        let (body, leaf) = (hex::encode(body), hex::encode(leaf));
        let columns = "sequence, at, format, body, leaf";
        let values = format!("{}, {time}, 1, {{bytes:{body}}}, {{bytes:{leaf}}}", sequence + 1);
        ground.sql(&match ground {
            Ground::Sqlite(_) => format!("INSERT INTO {{record}} ({columns}) VALUES ({values})"),
            Ground::Postgres { .. } => {
                format!("INSERT INTO {{record}} ({columns}, batch) VALUES ({values}, gen_random_uuid())")
            }
        });
    }
    let (root, peaks) = (hex::encode(frontier.root()), hex::encode(frontier.peaks().concat()));
    ground.sql(&format!(
        "UPDATE {{head}} SET size = 4, root = {{bytes:{root}}}, frontier = {{bytes:{peaks}}}, last_at = {time}"
    ));
    let ledger = ground.open();
    told.push(ground.told(&ledger.read(0, 9)));
    told.push(ground.told(&ledger.verify()));
    told.push(ground.told(&ledger.append_blocking(&actor(), at(5), vec![event("the ledger goes on")])));
    told.push(ground.dump());
}

fn readers(ground: &Ground<'_>, told: &mut Vec<String>) {
    let writer = ground.open();
    let reader = ground.try_open(Access::ReadOnly).unwrap();
    told.push(ground.told(&reader.append_blocking(&actor(), at(0), vec![event("a")])));
    fill(&writer, 3);
    told.push(ground.told(&reader.read(0, 9)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        told.push(ground.told(&reader.changed(2).await));
        let late = reader.clone();
        let waiter = tokio::spawn(async move { late.changed(3).await });
        writer.append(&actor(), at(9), vec![event("late")]).await.unwrap();
        told.push(ground.told(&waiter.await.unwrap()));
    });
}

fn people(ground: &Ground<'_>, told: &mut Vec<String>) {
    let ledger = ground.open();
    let human = |name: &str| delivery::Actor::Human(format!("{name}@example.com"));
    for (number, name) in (0..).zip(["anna", "bert", "anna", "carl"]) {
        told.push(ground.told(&ledger.append_blocking(&human(name), at(number), vec![event("x")])));
    }
    told.push(ground.dump());
    let person = ledger.person("bert@example.com").unwrap().unwrap().pseudonym;
    let erasure = delivery::Event::PersonErased { person };
    told.push(ground.told(&ledger.append_blocking(&human("anna"), at(9), vec![erasure])));
    for name in ["anna", "bert", "carl"] {
        told.push(ground.told(&ledger.person(&format!("{name}@example.com"))));
    }
    told.push(ground.told(&ledger.append_blocking(&human("bert"), at(10), vec![event("back again")])));
    told.push(ground.told(&ledger.read(0, 99)));
    told.push(ground.told(&ledger.verify()));
    told.push(ground.dump());
}
