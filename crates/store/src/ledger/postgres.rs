//! The ledger's rows in a PostgreSQL database, for several machines.
//!
//! A writer locks the head's row (`FOR UPDATE`) before it looks at anything, so the writers of all processes queue there, and
//! each sees what the one before it committed. Every commit marks its records with a name of its own, so that one whose answer
//! was lost can be told from one that never happened. How tables are made and what a server must promise is in `schema`.
//!
//! Invariant: a commit was answered by a server that flushes its log first, or its records were found afterwards. A client that
//! stops in the middle is cut off by the server, so it can't keep the others out for longer than that.

mod schema;

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use camino::Utf8Path;
use tokio_postgres::types::Type;

use super::database::{
    Database, Found, Passage, ReadingConnection, StoredHead, StoredPerson, Transaction, View, Visitor,
    WritingConnection,
};
use super::wire::Row;
use crate::error::Error;
use crate::merkle::Hash;
use crate::postgres::{Address, Background, Link, Value, is_corruption};

/// Rows that are fetched at once, at first and at most. A record has at most 64 KiB.
const PAGE_ROWS: (i64, i64) = (16, 512);

/// Nobody who stops between two statements keeps the others waiting for longer.
const WRITING: &str = "SET lock_timeout = '5s'; SET statement_timeout = '8s'; \
    SET idle_in_transaction_session_timeout = '5s'; SET client_min_messages = 'error'";
const READING: &str = "SET statement_timeout = '8s'; SET client_min_messages = 'error'";

/// A database on a server.
#[derive(Debug)]
pub(super) struct Postgres {
    address: Address,
    background: Arc<Background>,
}

impl Postgres {
    /// Connects to nothing yet.
    pub(super) fn new(address: &Address) -> Result<Self, Error> {
        Ok(Self { address: address.clone(), background: Background::start(address.name())? })
    }

    fn link(&self, settings: &'static str) -> Result<Link, Error> {
        Link::open(&self.address, &self.background, settings)
    }
}

impl Database for Postgres {
    fn place(&self) -> &Utf8Path {
        self.address.name()
    }

    fn open_writer(&self, _after_failure: bool) -> Result<Box<dyn WritingConnection>, Error> {
        let link = self.link(WRITING)?;
        schema::require_durable(&self.address, &link)?;
        schema::migrate(&self.address, &link)?;
        Ok(Box::new(self.connection(link, WRITING)))
    }

    fn open_reader(&self) -> Result<Box<dyn ReadingConnection>, Error> {
        let link = self.link(READING)?;
        schema::require_present(&self.address, &link)?;
        Ok(Box::new(self.connection(link, READING)))
    }
}

impl Postgres {
    fn connection(&self, link: Link, settings: &'static str) -> Connection {
        let (address, background) = (self.address.clone(), Arc::clone(&self.background));
        Connection { address, background, link, settings }
    }
}

/// A connection for reading or for writing.
struct Connection {
    address: Address,
    background: Arc<Background>,
    link: Link,
    settings: &'static str,
}

impl Connection {
    /// Connects anew. A server that restarts ends all connections, and that alone should fail nobody's read.
    fn renew(&mut self) -> Result<(), Error> {
        self.link = Link::open(&self.address, &self.background, self.settings)?;
        Ok(())
    }

    /// Whether a commit of that name holds the record. Waits until the transaction that tried has ended.
    fn was_recorded(&mut self, sequence: i64, batch: &str) -> Result<bool, Error> {
        self.renew()?;
        self.link.run("BEGIN ISOLATION LEVEL READ COMMITTED")?;
        self.link.query("SELECT id FROM trimtab_head WHERE id = 1 FOR UPDATE", Vec::new())?;
        let rows = self.link.query(
            "SELECT 1 FROM trimtab_record WHERE sequence = $1 AND batch = $2::text::uuid",
            vec![number(sequence), text(batch)],
        )?;
        self.link.run("ROLLBACK")?;
        Ok(!rows.is_empty())
    }
}

impl ReadingConnection for Connection {
    fn view(&mut self) -> Result<Box<dyn View + '_>, Error> {
        if self.link.is_closed() {
            self.renew()?;
        }
        match self.link.run(LOOK) {
            Err(Error::Interrupted { .. }) => {
                self.renew()?;
                self.link.run(LOOK)?;
            }
            other => other?,
        }
        Ok(Box::new(Moment { connection: self, writing: None, ended: false }))
    }
}

const LOOK: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

impl WritingConnection for Connection {
    fn begin(&mut self) -> Result<Box<dyn Transaction + '_>, Error> {
        self.link.run("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")?;
        let mut moment = Moment { connection: self, writing: None, ended: false };
        let rows = moment.connection.link.query(
            "SELECT gen_random_uuid()::text, current_setting('fsync'), current_setting('synchronous_commit'), \
             (SELECT id FROM trimtab_head WHERE id = 1 FOR UPDATE)",
            Vec::new(),
        )?;
        let [row] = rows.as_slice() else {
            return Err(Error::Damaged { detail: "the server gave no name for the commit".to_owned() });
        };
        schema::require_flushing(&moment.connection.address, row.get(1), row.get(2))?;
        moment.writing = Some(Written { batch: row.get(0), first: None, waiting: Waiting::default() });
        Ok(Box::new(moment))
    }

    /// Frees what the deleted rows took, so that it is written over. The server's log and its backups are not ours to change.
    fn purge(&mut self) -> Result<(), Error> {
        self.link.run("VACUUM trimtab_person")
    }
}

/// What a transaction has added.
struct Written {
    /// The commit's name.
    batch: String,
    /// The first sequence.
    first: Option<i64>,
    waiting: Waiting,
}

/// Rows that were not sent yet.
#[derive(Default)]
struct Waiting {
    sequences: Vec<i64>,
    times: Vec<i64>,
    formats: Vec<i64>,
    bodies: Vec<Vec<u8>>,
    leaves: Vec<Vec<u8>>,
}

/// A transaction of either kind.
struct Moment<'a> {
    connection: &'a mut Connection,
    /// `None` when it only looks.
    writing: Option<Written>,
    /// Whether the server's transaction is over.
    ended: bool,
}

impl Moment<'_> {
    /// Asks, after whatever waits has been sent.
    fn query(
        &mut self,
        statement: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<tokio_postgres::Row>, Error> {
        self.send_waiting()?;
        self.connection.link.query(statement, values)
    }

    fn send_waiting(&mut self) -> Result<(), Error> {
        let Some(written) = &mut self.writing else { return Ok(()) };
        if written.waiting.sequences.is_empty() {
            return Ok(());
        }
        let Waiting { sequences, times, formats, bodies, leaves } = std::mem::take(&mut written.waiting);
        let values = vec![
            (Box::new(sequences) as Box<_>, Type::INT8_ARRAY),
            (Box::new(times) as Box<_>, Type::INT8_ARRAY),
            (Box::new(formats) as Box<_>, Type::INT8_ARRAY),
            (Box::new(bodies) as Box<_>, Type::BYTEA_ARRAY),
            (Box::new(leaves) as Box<_>, Type::BYTEA_ARRAY),
            text(&written.batch),
        ];
        self.connection.link.query(
            "INSERT INTO trimtab_record (sequence, at, format, body, leaf, batch) \
             SELECT *, $6::text::uuid FROM unnest($1, $2, $3, $4, $5)",
            values,
        )?;
        Ok(())
    }

    /// Goes on after an error, which ends the server's transaction. Only a looking one can: a writing one has lost its lock.
    fn look_again(&mut self) -> Result<(), Error> {
        self.connection.link.run("ROLLBACK")?;
        self.connection.link.run(LOOK)
    }

    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            // Where that fails the connection is gone, and the transaction with it.
            let _ = self.connection.link.run("ROLLBACK");
        }
    }
}

impl Drop for Moment<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

fn number(value: i64) -> Value {
    (Box::new(value), Type::INT8)
}

fn text(value: &str) -> Value {
    (Box::new(value.to_owned()), Type::TEXT)
}

fn values_of(person: &StoredPerson) -> Vec<Value> {
    vec![(Box::new(person.salt.clone()) as Box<_>, Type::BYTEA), text(&person.email)]
}

fn found(row: &tokio_postgres::Row) -> Found<'_> {
    let (sequence, at, format) = (row.get(0), row.get(1), row.get(2));
    Found::Row(Row { sequence, at, format, body: row.get(3), leaf: row.get(4) })
}

impl View for Moment<'_> {
    fn head(&mut self) -> Result<Option<StoredHead>, Error> {
        let rows =
            self.query("SELECT size, root, frontier, last_at FROM trimtab_head WHERE id = 1", Vec::new())?;
        Ok(rows.first().map(|row| StoredHead {
            size: row.get(0),
            root: row.get(1),
            frontier: row.get(2),
            last_at: row.get(3),
        }))
    }

    fn last_sequence(&mut self) -> Result<u64, Error> {
        let rows = self.query("SELECT max(sequence) FROM trimtab_record", Vec::new())?;
        let last: Option<i64> = rows.first().and_then(|row| row.get(0));
        Ok(last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0))
    }

    fn rows(&mut self, mut after: i64, visit: &mut Visitor<'_>) -> Result<Passage, Error> {
        let (mut wanted, most) = PAGE_ROWS;
        loop {
            let page = self.query(
                "SELECT sequence, at, format, body, leaf FROM trimtab_record WHERE sequence > $1 \
                 ORDER BY sequence LIMIT $2",
                vec![number(after), number(wanted)],
            );
            let page = match page {
                Err(Error::Damaged { detail }) if is_corruption(&detail) && self.writing.is_none() => {
                    self.look_again()?;
                    return Ok(Passage::Broken(detail));
                }
                other => other?,
            };
            for row in &page {
                after = row.get(0);
                if visit(found(row)).is_break() {
                    return Ok(Passage::Through);
                }
            }
            if (page.len() as i64) < wanted {
                return Ok(Passage::Through);
            }
            wanted = most.min(wanted * 4);
        }
    }

    fn row(&mut self, sequence: i64, visit: &mut Visitor<'_>) -> Result<(), Error> {
        let rows = self.query(
            "SELECT sequence, at, format, body, leaf FROM trimtab_record WHERE sequence = $1",
            vec![number(sequence)],
        );
        if matches!(&rows, Err(Error::Damaged { .. })) && self.writing.is_none() {
            self.look_again()?;
        }
        if let Some(row) = rows?.first() {
            let _: ControlFlow<()> = visit(found(row));
        }
        Ok(())
    }

    fn leaves(&mut self, range: Range<u64>, visit: &mut dyn FnMut(Hash)) -> Result<(), Error> {
        // Hashes are small, so that one page takes many.
        const PAGE: u64 = 16_384;
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + PAGE);
            let rows = self.query(
                "SELECT leaf FROM trimtab_record WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence",
                vec![number(start as i64), number(end as i64)],
            )?;
            for row in &rows {
                let leaf: &[u8] = row.get(0);
                let hash = leaf.try_into().map_err(|_| Error::Damaged {
                    detail: "a leaf hash has not the length of one".to_owned(),
                })?;
                visit(hash);
            }
            start = end;
        }
        Ok(())
    }

    fn misplaced(&mut self) -> Result<u64, Error> {
        let rows = self.query("SELECT count(*) FROM trimtab_record WHERE sequence < 1", Vec::new())?;
        let count: i64 = rows.first().map_or(0, |row| row.get(0));
        Ok(u64::try_from(count).unwrap_or(0))
    }

    fn people(&mut self) -> Result<Vec<StoredPerson>, Error> {
        let rows = self.query("SELECT salt, email FROM trimtab_person", Vec::new())?;
        Ok(rows.iter().map(|row| StoredPerson { salt: row.get(0), email: row.get(1) }).collect())
    }
}

impl Transaction for Moment<'_> {
    fn insert(&mut self, rows: &[Row<'_>]) -> Result<(), Error> {
        let Some(written) = &mut self.writing else { return Err(Error::Stopped) };
        for row in rows {
            written.first.get_or_insert(row.sequence);
            written.waiting.sequences.push(row.sequence);
            written.waiting.times.push(row.at);
            written.waiting.formats.push(row.format);
            written.waiting.bodies.push(row.body.to_vec());
            written.waiting.leaves.push(row.leaf.to_vec());
        }
        Ok(())
    }

    fn add_person(&mut self, person: &StoredPerson) -> Result<(), Error> {
        let sql = "INSERT INTO trimtab_person (salt, email) VALUES ($1, $2)";
        self.query(sql, values_of(person)).map(drop)
    }

    fn remove_person(&mut self, person: &StoredPerson) -> Result<(), Error> {
        let sql = "DELETE FROM trimtab_person WHERE salt = $1 AND email = $2";
        self.query(sql, values_of(person)).map(drop)
    }

    fn replace_head(&mut self, head: &StoredHead) -> Result<(), Error> {
        let values = vec![
            number(head.size),
            (Box::new(head.root.clone()) as Box<_>, Type::BYTEA),
            (Box::new(head.frontier.clone()) as Box<_>, Type::BYTEA),
            (Box::new(head.last_at) as Box<_>, Type::INT8),
        ];
        let changed = self.query(
            "UPDATE trimtab_head SET size = $1, root = $2, frontier = $3, last_at = $4 WHERE id = 1 \
             RETURNING id",
            values,
        )?;
        if changed.len() == 1 {
            Ok(())
        } else {
            Err(Error::Damaged { detail: "its head is missing".to_owned() })
        }
    }

    fn commit(mut self: Box<Self>) -> Result<(), Error> {
        self.send_waiting()?;
        let committed = self.connection.link.run("COMMIT");
        self.ended = true;
        let (Err(Error::Interrupted { path, detail }), Some(written)) = (&committed, &self.writing) else {
            return committed;
        };
        let Some(first) = written.first else { return committed };
        match self.connection.was_recorded(first, &written.batch) {
            Ok(true) => Ok(()),
            Ok(false) => committed,
            Err(error) => {
                let detail = format!("{detail}; then: {error}");
                Err(Error::Undecided { path: path.clone(), detail })
            }
        }
    }
}
