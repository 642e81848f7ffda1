//! The ways in which a ledger is tampered with: bytes and pages of the file, columns and rows of the tables, and forgeries
//! that make every hash anew.

use rusqlite::types::Value;
use rusqlite::{Connection, params};
use store::merkle::{Frontier, leaf_hash};

use crate::ground::{Ground, OLD, RECORDS};

const PAGE: usize = 4_096;

/// SplitMix64: the same changes for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0..end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// A record's sequence.
    fn record(&mut self) -> i64 {
        1 + self.below(RECORDS) as i64
    }
}

impl delivery::Seed for Random {
    fn fill(&mut self, buffer: &mut [u8]) {
        buffer.iter_mut().for_each(|byte| *byte = self.next() as u8);
    }
}

type Outcome = Result<(), String>;
type File = fn(&mut Vec<u8>, &mut Random);
type Tables = fn(&Connection, &Ground, &mut Random) -> rusqlite::Result<()>;

/// One way.
#[derive(Clone, Copy)]
pub(crate) enum Change {
    File(&'static str, File),
    Tables(&'static str, Tables),
}

/// Flips of single bits are drawn as often as everything else in the file together.
const CHANGES: &[Change] = &[
    Change::File("file: flip a bit", |file, random| flip(file, random)),
    Change::File("file: flip a bit", |file, random| flip(file, random)),
    Change::File("file: flip a bit", |file, random| flip(file, random)),
    Change::File("file: overwrite up to 64 bytes", |file, random| overwrite(file, random)),
    Change::File("file: truncate", |file, random| file.truncate(random.index(file.len()))),
    Change::File("file: zero a page", |file, random| zero_page(file, random)),
    Change::File("file: swap two pages", |file, random| swap_pages(file, random)),
    Change::File("file: copy a page over another", |file, random| copy_page(file, random)),
    Change::Tables("record: flip a bit of the body", |db, _, random| flip_column(db, "body", random)),
    Change::Tables("record: flip a bit of the leaf hash", |db, _, random| flip_column(db, "leaf", random)),
    Change::Tables("record: another time", |db, _, random| {
        let by = 1 + random.below(1_000_000) as i64;
        db.execute("UPDATE record SET at = at + ?1 WHERE sequence = ?2", params![by, random.record()])
            .map(drop)
    }),
    Change::Tables("record: another format", |db, _, random| {
        let format = 2 + random.below(9) as i64;
        db.execute("UPDATE record SET format = ?1 WHERE sequence = ?2", params![format, random.record()])
            .map(drop)
    }),
    Change::Tables("record: delete", |db, _, random| {
        db.execute("DELETE FROM record WHERE sequence = ?1", [random.record()]).map(drop)
    }),
    Change::Tables("record: delete a range", |db, _, random| {
        let first = random.record();
        db.execute(
            "DELETE FROM record WHERE sequence BETWEEN ?1 AND ?2",
            [first, first + random.below(20) as i64],
        )
        .map(drop)
    }),
    Change::Tables("record: cut off the end", |db, _, random| {
        db.execute("DELETE FROM record WHERE sequence >= ?1", [random.record()]).map(drop)
    }),
    Change::Tables("record: swap two", |db, _, random| {
        swap(db, "record", "sequence", random.record(), random.record())
    }),
    Change::Tables("record: a copy in another's place", |db, _, random| {
        let sql = "UPDATE record SET (at, body, leaf) = (SELECT at, body, leaf FROM record WHERE sequence = ?1) WHERE sequence = ?2";
        db.execute(sql, [random.record(), random.record()]).map(drop)
    }),
    Change::Tables("record: one more", |db, _, random| {
        let place = [RECORDS as i64 + 1, 0, -7, RECORDS as i64 + 50][random.index(4)];
        let sql = "INSERT INTO record SELECT ?1, at, format, body, leaf FROM record WHERE sequence = ?2";
        db.execute(sql, [place, random.record()]).map(drop)
    }),
    Change::Tables("record: a new body with its leaf hash", |db, _, random| {
        let sequence = random.record();
        let body = edited(&body_of(db, sequence)?);
        let sql = "UPDATE record SET body = ?1, leaf = ?2 WHERE sequence = ?3";
        db.execute(sql, params![body, leaf_hash(&body), sequence]).map(drop)
    }),
    Change::Tables("head: flip a bit", |db, _, random| {
        let column = ["root", "frontier"][random.index(2)];
        let bytes: Vec<u8> = db.query_row(&format!("SELECT {column} FROM head"), [], |row| row.get(0))?;
        db.execute(&format!("UPDATE head SET {column} = ?1"), [flipped(bytes, random)]).map(drop)
    }),
    Change::Tables("head: another size or time", |db, _, random| {
        let column = ["size", "last_at"][random.index(2)];
        let by = [-1, 1, 7][random.index(3)];
        db.execute(&format!("UPDATE head SET {column} = {column} + ?1"), [by]).map(drop)
    }),
    Change::Tables("head: replay an old one", |db, ground, _| old_head(db, ground)),
    Change::Tables("forgery: an older ledger with its head", |db, ground, _| {
        db.execute("DELETE FROM record WHERE sequence > ?1", [OLD as i64])?;
        // The people of the records that are gone would be noticed, so the forger takes them out too.
        db.execute("DELETE FROM person WHERE email IN ('person-380@example.com')", [])?;
        db.execute(
            "UPDATE person SET salt = ?1, email = ?2 WHERE rowid = 3",
            rusqlite::params_from_iter(&ground.erased),
        )?;
        old_head(db, ground)
    }),
    Change::Tables("forgery: a changed record, all hashes anew", |db, _, random| {
        let first = random.record();
        let body = edited(&body_of(db, first)?);
        db.execute("UPDATE record SET body = ?1 WHERE sequence = ?2", params![body, first])?;
        hash_anew(db)
    }),
    Change::Tables("forgery: the end rewritten, all hashes anew", |db, _, random| {
        let first = random.record();
        for sequence in first..=RECORDS as i64 {
            let body = edited(&body_of(db, sequence)?);
            db.execute("UPDATE record SET body = ?1 WHERE sequence = ?2", params![body, sequence])?;
        }
        hash_anew(db)
    }),
    Change::Tables("people: another address", |db, _, random| {
        let email = format!("mallory-{}@example.com", random.below(1_000));
        db.execute(
            "UPDATE person SET email = ?1 WHERE rowid = ?2",
            params![email, 1 + random.below(19) as i64],
        )
        .map(drop)
    }),
    Change::Tables("people: another salt", |db, _, random| {
        db.execute("UPDATE person SET salt = randomblob(32) WHERE rowid = ?1", [1 + random.below(19) as i64])
            .map(drop)
    }),
    Change::Tables("people: delete", |db, _, random| {
        db.execute("DELETE FROM person WHERE rowid = ?1", [1 + random.below(19) as i64]).map(drop)
    }),
    Change::Tables("people: swap two addresses", |db, _, random| {
        let (one, two) = (1 + random.below(19) as i64, 1 + random.below(19) as i64);
        let email = |row| {
            db.query_row("SELECT email FROM person WHERE rowid = ?1", [row], |row| row.get::<_, Value>(0))
        };
        let (first, second) = (email(one)?, email(two)?);
        db.execute("UPDATE person SET email = ?1 WHERE rowid = ?2", params![second, one])?;
        db.execute("UPDATE person SET email = ?1 WHERE rowid = ?2", params![first, two]).map(drop)
    }),
    Change::Tables("people: bring an erased one back", |db, ground, _| {
        let sql = "INSERT INTO person (salt, email) VALUES (?1, ?2)";
        db.execute(sql, rusqlite::params_from_iter(&ground.erased)).map(drop)
    }),
];

impl Change {
    pub(crate) fn draw(random: &mut Random) -> Self {
        CHANGES[random.index(CHANGES.len())]
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::File(name, _) | Self::Tables(name, _) => name,
        }
    }

    /// Does it to the file.
    pub(crate) fn apply(self, ground: &Ground, random: &mut Random) -> Outcome {
        match self {
            Self::File(_, change) => {
                let mut bytes = ground.image.clone();
                change(&mut bytes, random);
                ground.write(&bytes)
            }
            Self::Tables(name, change) => {
                let db = ground.sqlite()?;
                change(&db, ground, random).map_err(|error| format!("{name}: {error}"))
            }
        }
    }
}

fn flip(file: &mut [u8], random: &mut Random) {
    let at = random.index(file.len());
    file[at] ^= 1 << random.below(8);
}

fn overwrite(file: &mut [u8], random: &mut Random) {
    let at = random.index(file.len());
    let end = (at + 1 + random.index(64)).min(file.len());
    file[at..end].iter_mut().for_each(|byte| *byte = random.next() as u8);
}

fn pages(file: &[u8], random: &mut Random) -> (usize, usize) {
    let pages = file.len() / PAGE;
    (random.index(pages) * PAGE, random.index(pages) * PAGE)
}

fn zero_page(file: &mut [u8], random: &mut Random) {
    let (at, _) = pages(file, random);
    file[at..at + PAGE].fill(0);
}

fn swap_pages(file: &mut [u8], random: &mut Random) {
    let (one, two) = pages(file, random);
    for at in 0..PAGE {
        file.swap(one + at, two + at);
    }
}

fn copy_page(file: &mut [u8], random: &mut Random) {
    let (from, to) = pages(file, random);
    file.copy_within(from..from + PAGE, to);
}

fn flipped(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    let at = random.index(bytes.len());
    bytes[at] ^= 1 << random.below(8);
    bytes
}

fn flip_column(db: &Connection, column: &str, random: &mut Random) -> rusqlite::Result<()> {
    let sequence = random.record();
    let sql = format!("SELECT {column} FROM record WHERE sequence = ?1");
    let bytes: Vec<u8> = db.query_row(&sql, [sequence], |row| row.get(0))?;
    let sql = format!("UPDATE record SET {column} = ?1 WHERE sequence = ?2");
    db.execute(&sql, params![flipped(bytes, random), sequence]).map(drop)
}

fn swap(db: &Connection, table: &str, key: &str, one: i64, two: i64) -> rusqlite::Result<()> {
    let sql = format!("UPDATE {table} SET {key} = ?1 WHERE {key} = ?2");
    db.execute(&sql, [-1, one])?;
    db.execute(&sql, [one, two])?;
    db.execute(&sql, [two, -1]).map(drop)
}

fn body_of(db: &Connection, sequence: i64) -> rusqlite::Result<Vec<u8>> {
    db.query_row("SELECT body FROM record WHERE sequence = ?1", [sequence], |row| row.get(0))
}

/// A record that says something else, and is well formed.
fn edited(body: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    text.replace("\"incident\":\"incident ", "\"incident\":\"accident ")
        .replace("\"trimtab\"", "\"trimtap\"")
        .into_bytes()
}

fn old_head(db: &Connection, ground: &Ground) -> rusqlite::Result<()> {
    let sql = "UPDATE head SET size = ?1, root = ?2, frontier = ?3, last_at = ?4";
    db.execute(sql, rusqlite::params_from_iter(&ground.old_head)).map(drop)
}

/// Leaf hashes, tree and head as the bodies are now.
fn hash_anew(db: &Connection) -> rusqlite::Result<()> {
    let mut statement = db.prepare("SELECT sequence, body FROM record ORDER BY sequence")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let mut frontier = Frontier::default();
    for row in rows.collect::<rusqlite::Result<Vec<_>>>()? {
        let leaf = leaf_hash(&row.1);
        frontier.push(leaf);
        db.execute("UPDATE record SET leaf = ?1 WHERE sequence = ?2 AND leaf <> ?1", params![leaf, row.0])?;
    }
    let sql = "UPDATE head SET size = ?1, root = ?2, frontier = ?3, last_at = (SELECT max(at) FROM record)";
    db.execute(sql, params![frontier.size() as i64, frontier.root(), frontier.peaks().concat()]).map(drop)
}
