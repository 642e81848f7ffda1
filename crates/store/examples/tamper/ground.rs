//! The ledger that is tampered with, and the two judges: the ledger's own code, and a plain look at the tables.

use std::cell::RefCell;

use crate::change::Random;
use camino::{Utf8Path, Utf8PathBuf};
use delivery::{Actor, Event, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use store::{Access, Checkpoint, Committer, Ledger, Place, Standing};

/// Records, more than a page of the tree and a few dozen pages of the file.
pub(crate) const RECORDS: u64 = 400;
/// Records before which the old head was taken.
pub(crate) const OLD: u64 = 360;
/// Every so many records a person acts.
const PERSON_EVERY: u64 = 20;

/// What asking the ledger came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Sound,
    Found,
    /// It looks sound by itself, but does not continue the checkpoint that was kept.
    FoundByCheckpoint,
}

/// A table's rows.
type Rows = Vec<Vec<Value>>;

/// See the module.
pub(crate) struct Ground {
    _folder: tempfile::TempDir,
    file: Utf8PathBuf,
    /// The untouched file.
    pub(crate) image: Vec<u8>,
    plain: Vec<Rows>,
    kept: Checkpoint,
    /// The head's row when there were [`OLD`] records.
    pub(crate) old_head: Vec<Value>,
    /// The person's row that was erased, as it was before.
    pub(crate) erased: Vec<Value>,
    grown: RefCell<i64>,
}

fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

impl Ground {
    /// A ledger with people, one of whom was erased, and a checkpoint over it.
    pub(crate) fn new() -> Result<Self, String> {
        let folder = said(tempfile::tempdir())?;
        let path = Utf8Path::from_path(folder.path()).ok_or("the folder's name is not UTF-8")?;
        let file = path.join("ledger.db");
        let place = Place::File(file.clone());
        let seed = Box::new(Random(9));
        let ledger = said(Ledger::open_seeded(&place, Access::ReadWrite, Committer::Caller, seed))?;
        let head = "SELECT size, root, frontier, last_at FROM head";
        let (mut old_head, mut erased) = (Vec::new(), Vec::new());
        for number in 1..RECORDS {
            let actor = if number.is_multiple_of(PERSON_EVERY) {
                Actor::Human(format!("person-{number}@example.com"))
            } else {
                Actor::Machine("trimtab".into())
            };
            let event = Event::IncidentResolved { incident: format!("incident {number}") };
            said(ledger.append_blocking(&actor, at(number as i64), vec![event]))?;
            if number == OLD {
                old_head = first(table(&file, head)?)?;
                erased = first(table(&file, "SELECT salt, email FROM person WHERE rowid = 3")?)?;
            }
        }
        let person =
            said(ledger.person("person-60@example.com"))?.ok_or("the person is not known")?.pseudonym;
        let event = Event::PersonErased { person };
        said(ledger.append_blocking(&Actor::Machine("trimtab".into()), at(RECORDS as i64), vec![event]))?;
        let kept = said(ledger.checkpoint())?.ok_or("the ledger is empty")?;
        drop(ledger);
        let image = said(std::fs::read(&file))?;
        let plain = plain(&file)?;
        Ok(Self { _folder: folder, file, image, plain, kept, old_head, erased, grown: RefCell::new(0) })
    }

    /// Puts the untouched file back.
    pub(crate) fn reset(&self) -> Result<(), String> {
        for tail in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{tail}", self.file));
        }
        self.write(&self.image)
    }

    /// Puts other bytes in the file's place.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), String> {
        // A new file each time: a file system may write one at once that is cut to nothing and filled again.
        said(std::fs::remove_file(&self.file))?;
        // Who has the ledger in hand has what lies beside it too: what was seen here last.
        let _ = std::fs::remove_file(format!("{}.seen", self.file));
        said(std::fs::write(&self.file, bytes))
    }

    /// The file, behind the ledger's back.
    pub(crate) fn sqlite(&self) -> Result<Connection, String> {
        let connection = said(Connection::open(&self.file))?;
        // What the drill does to the file need not outlive a power cut.
        said(connection.execute_batch("PRAGMA synchronous = OFF"))?;
        Ok(connection)
    }

    /// Appends something, as is right.
    pub(crate) fn grow(&self) -> Result<(), String> {
        *self.grown.borrow_mut() += 1;
        let number = *self.grown.borrow();
        let ledger =
            said(Ledger::open_at(&Place::File(self.file.clone()), Access::ReadWrite, Committer::Caller))?;
        let event = Event::IncidentResolved { incident: format!("grown {number}") };
        let actor = Actor::Human(format!("grower-{}@example.com", number % 7));
        said(ledger.append_blocking(&actor, at(10_000), vec![event])).map(drop)
    }

    /// What a user is told who asks for everything.
    pub(crate) fn judge(&self) -> Verdict {
        let asked = Ledger::open(&self.file, Access::ReadOnly).and_then(|ledger| {
            // Reading must get past whatever is there.
            ledger.read(0, usize::MAX)?;
            Ok((ledger.verify()?.is_sound(), ledger.standing(&self.kept)))
        });
        match asked {
            Ok((true, Ok(Standing::Continues(_)))) => Verdict::Sound,
            Ok((true, Ok(_))) => Verdict::FoundByCheckpoint,
            Ok((true, Err(_)) | (false, _)) | Err(_) => Verdict::Found,
        }
    }

    /// Whether the tables hold anything else than they did, or can't be read.
    pub(crate) fn differs(&self) -> bool {
        plain(&self.file).as_ref() != Ok(&self.plain)
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn first(rows: Rows) -> Result<Vec<Value>, String> {
    rows.into_iter().next().ok_or_else(|| "there is no row".to_owned())
}

/// Everything that the ledger consists of, read by its columns and by nothing else.
fn plain(file: &Utf8Path) -> Result<Vec<Rows>, String> {
    let mut people = table(file, "SELECT salt, email FROM person")?;
    // An erased person's row is zeros and says nothing, and neither does the place where a row lies.
    people.retain(|row| !row.iter().all(is_nothing));
    people.sort_by_key(|row| format!("{row:?}"));
    Ok(vec![
        table(file, "SELECT sequence, at, format, body, leaf FROM record ORDER BY sequence")?,
        table(file, "SELECT id, size, root, frontier, last_at FROM head")?,
        people,
    ])
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Blob(bytes) => bytes.iter().all(|byte| *byte == 0),
        Value::Text(text) => text.bytes().all(|byte| byte == 0),
        _ => false,
    }
}

fn table(file: &Utf8Path, sql: &str) -> Result<Rows, String> {
    let connection = said(Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY))?;
    let mut statement = said(connection.prepare(sql))?;
    let width = statement.column_count();
    let rows = statement.query_map([], |row| (0..width).map(|column| row.get(column)).collect());
    said(said(rows)?.collect())
}
