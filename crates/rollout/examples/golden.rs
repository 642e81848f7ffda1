//! Writes the golden stores of the newest schema: `cargo xtask golden [NAME]`, with a name for later ones of the same schema. They are committed and never edited; a test opens them with
//! every later Trimtab.
//!
//! The records come from `tests/golden/history.jsonl`, one body a line, so that they are the same whoever runs this. One store is
//! whole; the other has been damaged. Invariant: a store that exists is never written again.

use camino::{Utf8Path, Utf8PathBuf};
use delivery::{Actor, Event, Timestamp};
use rusqlite::{Connection, params};
use serde::Deserialize;
use store::merkle::{Frontier, leaf_hash};
use store::{Access, Ledger, Schema};

#[path = "../tests/golden/projection.rs"]
mod projection;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// After so many records comes one of a kind that nobody knows.
const UNKNOWN_AFTER: usize = 20;
const DAMAGED: i64 = 30;
const OF_ANOTHER_FORMAT: i64 = 35;

#[derive(Deserialize)]
struct Line {
    at: i64,
    actor: Actor,
    event: Event,
}

fn main() -> Outcome {
    let folder = Utf8PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    let number = Schema::RELEASED.number();
    let name = std::env::args().nth(1).map_or_else(String::new, |name| format!("-{name}"));
    let store = folder.join(format!("schema-{number}{name}"));
    if store.exists() {
        return Err(format!("{store} exists: a golden store is never written again").into());
    }
    std::fs::create_dir(&store)?;
    let history = std::fs::read_to_string(folder.join("history.jsonl"))?;
    let lines = history.lines().map(serde_json::from_str).collect::<Result<Vec<Line>, _>>()?;
    let whole = store.join("whole.db");
    let (before, after) = lines.split_at(UNKNOWN_AFTER);
    append(&whole, before)?;
    add_unknown(&whole)?;
    append(&whole, after)?;
    let damaged = store.join("damaged.db");
    std::fs::copy(&whole, &damaged)?;
    damage(&damaged)?;
    for file in [&whole, &damaged] {
        single(file)?;
        std::fs::write(
            file.with_extension("txt"),
            projection::of(file, Access::ReadOnly, Schema::RELEASED)?,
        )?;
    }
    println!("wrote {store}: {} records; commit it, and never change it", lines.len() + 1);
    Ok(())
}

fn append(file: &Utf8Path, lines: &[Line]) -> Outcome {
    let ledger = Ledger::open(file, Access::ReadWrite)?;
    for line in lines {
        let at = Timestamp::from_microsecond(line.at)?;
        ledger.append_blocking(&line.actor, at, vec![line.event.clone()])?;
    }
    Ok(())
}

/// A record as a later Trimtab would write it: whole, but of a kind that this one does not know.
fn add_unknown(file: &Utf8Path) -> Outcome {
    let connection = Connection::open(file)?;
    let (size, at): (i64, i64) =
        connection.query_row("SELECT size, last_at FROM head", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let body = format!(
        "{{\"v\":1,\"sequence\":{},\"at\":{at},\"actor\":{{\"kind\":\"machine\",\"name\":\"later\"}},\"event\":{{\"kind\":\"thing.of-later\",\"data\":{{\"x\":1}}}}}}",
        size + 1
    );
    let leaf = leaf_hash(body.as_bytes());
    connection.execute(
        "INSERT INTO record VALUES (?1, ?2, 1, ?3, ?4)",
        params![size + 1, at, body.as_bytes(), leaf],
    )?;
    let mut statement = connection.prepare("SELECT leaf FROM record ORDER BY sequence")?;
    let leaves = statement.query_map([], |row| row.get::<_, [u8; 32]>(0))?.collect::<Result<Vec<_>, _>>()?;
    let frontier: Frontier = leaves.into_iter().collect();
    connection.execute(
        "UPDATE head SET size = ?1, root = ?2, frontier = ?3",
        params![size + 1, frontier.root(), frontier.peaks().concat()],
    )?;
    // What was seen before this was added is not what the next one opens.
    Ok(std::fs::remove_file(format!("{file}.seen"))?)
}

fn damage(file: &Utf8Path) -> Outcome {
    let connection = Connection::open(file)?;
    connection.execute("UPDATE record SET body = substr(body, 1, 60) WHERE sequence = ?1", [DAMAGED])?;
    connection.execute("UPDATE record SET format = 9 WHERE sequence = ?1", [OF_ANOTHER_FORMAT])?;
    connection.execute("DELETE FROM record WHERE sequence = ?1", [DAMAGED + 10])?;
    Ok(())
}

/// One file, without what belongs to a ledger in use.
fn single(file: &Utf8Path) -> Outcome {
    Connection::open(file)?.query_row("PRAGMA journal_mode=DELETE", [], |_| Ok(()))?;
    match std::fs::remove_file(format!("{file}.seen")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
