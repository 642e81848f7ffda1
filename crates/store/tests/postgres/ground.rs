//! The two databases, so that one story can be told on both.

use std::cell::Cell;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::clock::CountingSeed;
use store::{Access, Address, Committer, Error, Ledger, Place};
use testbed::PostgresServer;

/// A place for one ledger.
pub(crate) enum Ground<'a> {
    Sqlite(tempfile::TempDir),
    Postgres { server: &'a PostgresServer, schema: String },
}

/// Tells the schemas of one server apart.
#[derive(Default)]
pub(crate) struct Numbers(Cell<u32>);

impl Numbers {
    fn next(&self) -> u32 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }
}

pub(crate) fn server() -> PostgresServer {
    PostgresServer::start().unwrap()
}

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text, &|_| None).unwrap()
}

pub(crate) fn open_at(text: &str, access: Access) -> Result<Ledger, Error> {
    Ledger::open_at(&Place::Postgres(Box::new(address(text))), access, Committer::Thread)
}

impl<'a> Ground<'a> {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(crate) fn postgres(server: &'a PostgresServer, numbers: &Numbers) -> Self {
        let schema = format!("case_{}", numbers.next());
        server.sql(&format!("CREATE SCHEMA {schema}")).unwrap();
        Self::Postgres { server, schema }
    }

    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Sqlite(_) => Place::File(self.file()),
            Self::Postgres { server, schema } => Place::Postgres(Box::new(address(&server.address(schema)))),
        }
    }

    fn file(&self) -> Utf8PathBuf {
        let Self::Sqlite(folder) = self else { panic!("not a file") };
        Utf8Path::from_path(folder.path()).unwrap().join("ledger.db")
    }

    /// With salts that are the same on both grounds.
    pub(crate) fn try_open(&self, access: Access) -> Result<Ledger, Error> {
        let seed = Box::new(CountingSeed::default());
        Ledger::open_seeded(&self.place(), access, Committer::Thread, seed)
    }

    pub(crate) fn open(&self) -> Ledger {
        self.try_open(Access::ReadWrite).unwrap()
    }

    /// Runs statements behind the ledger's back. `{record}`, `{head}` and `{person}` are the tables, `{bytes:00ff}` a value of bytes.
    pub(crate) fn sql(&self, statements: &str) {
        let (record, head, person, open, close) = match self {
            Self::Sqlite(_) => ("record", "head", "person", "x'", "'"),
            Self::Postgres { .. } => ("trimtab_record", "trimtab_head", "trimtab_person", "'\\x", "'::bytea"),
        };
        let mut text =
            statements.replace("{record}", record).replace("{head}", head).replace("{person}", person);
        while let Some((before, rest)) = text.split_once("{bytes:") {
            let (bytes, after) = rest.split_once('}').unwrap();
            text = format!("{before}{open}{bytes}{close}{after}");
        }
        match self {
            Self::Sqlite(_) => {
                rusqlite::Connection::open(self.file()).unwrap().execute_batch(&text).unwrap();
            }
            Self::Postgres { server, schema } => {
                server.sql(&format!("SET search_path = {schema}; {text}")).unwrap();
            }
        }
    }

    /// Everything that is stored, as hexadecimal text.
    pub(crate) fn dump(&self) -> String {
        match self {
            Self::Sqlite(_) => {
                let connection = rusqlite::Connection::open(self.file()).unwrap();
                let line = |sql: &str| -> Vec<String> {
                    let mut statement = connection.prepare(sql).unwrap();
                    let rows = statement.query_map([], |row| row.get(0)).unwrap();
                    rows.map(Result::unwrap).collect()
                };
                let records = "SELECT concat_ws('|', sequence, at, format, lower(hex(body)), lower(hex(leaf))) \
                               FROM record ORDER BY sequence";
                let head =
                    "SELECT concat_ws('|', size, lower(hex(root)), lower(hex(frontier)), last_at) FROM head";
                let people = "SELECT concat_ws('|', lower(hex(salt)), email) FROM person \
                              WHERE salt != zeroblob(length(salt)) ORDER BY 1";
                [line(records), line(people), line(head)].concat().join("\n")
            }
            Self::Postgres { server, schema } => {
                let records = "SELECT concat_ws('|', sequence, at, format, encode(body, 'hex'), \
                               encode(leaf, 'hex')) FROM trimtab_record ORDER BY sequence";
                let head = "SELECT concat_ws('|', size, encode(root, 'hex'), encode(frontier, 'hex'), last_at) \
                            FROM trimtab_head";
                let answer = |sql: &str| server.sql(&format!("SET search_path = {schema}; {sql}")).unwrap();
                let people =
                    "SELECT concat_ws('|', encode(salt, 'hex'), email) FROM trimtab_person ORDER BY 1";
                let parts = [answer(records), answer(people), answer(head)];
                parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
            }
        }
    }

    /// An outcome as text, with the place's name taken out.
    pub(crate) fn told(&self, outcome: &dyn std::fmt::Debug) -> String {
        let name = match self.place() {
            Place::Postgres(address) => address.name().to_string(),
            _ => self.file().to_string(),
        };
        format!("{outcome:?}").replace(&name, "PLACE")
    }
}
