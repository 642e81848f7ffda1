//! What a ledger can be opened on, and what is said when it can't.

use std::os::unix::fs::PermissionsExt;

use delivery::code::Code;
use store::{Access, Error, Ledger};

use crate::{Folder, actor, at, event, records};

fn open(folder: &Folder, access: Access) -> Result<Ledger, Error> {
    Ledger::open(&folder.file(), access)
}

#[test]
fn directories_and_files_are_private() {
    let folder = Folder::new();
    let path = folder.path().join("a/b/ledger.db");
    let ledger = Ledger::open(&path, Access::ReadWrite).unwrap();
    ledger.append_blocking(&actor(), at(0), vec![event("a")]).unwrap();
    let mode = |path: &camino::Utf8Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path().join("a")), 0o700);
    assert_eq!(mode(&folder.path().join("a/b")), 0o700);
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        assert_eq!(mode(&folder.path().join("a/b").join(file)), 0o600, "{file}");
    }
}

#[test]
fn a_ledger_that_is_not_there_is_not_made_by_a_reader() {
    let folder = Folder::new();
    let error = open(&folder, Access::ReadOnly).unwrap_err();
    assert_eq!(error, Error::Missing { path: folder.file() });
    assert_eq!(error.problem().code, Code::StoreUnavailable);
    assert!(!folder.file().exists());
}

#[test]
fn a_newer_ledger_is_left_alone() {
    let folder = Folder::with_records(3);
    folder.sqlite().execute_batch("PRAGMA user_version = 3").unwrap();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let error = open(&folder, access).unwrap_err();
        assert_eq!(error, Error::Newer { found: 3, known: 2, needs: None, kept: None });
        assert_eq!(error.problem().code, Code::StoreNewer);
    }
}

#[test]
fn files_of_others_are_left_alone() {
    let folder = Folder::new();
    folder.sqlite().execute_batch("CREATE TABLE theirs (x)").unwrap();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        assert!(matches!(open(&folder, access), Err(Error::Unavailable { .. })));
    }
    let text = Folder::new();
    let content = "not a database, but long enough to have a header of its own. ".repeat(10);
    std::fs::write(text.file(), &content).unwrap();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        assert!(matches!(open(&text, access), Err(Error::Damaged { .. })));
    }
    assert_eq!(std::fs::read_to_string(text.file()).unwrap(), content);
    std::fs::remove_file(text.file()).unwrap();
    std::fs::create_dir(text.file()).unwrap();
    assert!(matches!(open(&text, Access::ReadWrite), Err(Error::Unavailable { .. })));
}

#[test]
fn a_reader_can_not_append() {
    let folder = Folder::with_records(3);
    let ledger = folder.open_to_read();
    let error = ledger.append_blocking(&actor(), at(0), vec![event("a")]).unwrap_err();
    assert_eq!(error, Error::ReadOnly { path: folder.file() });
    assert_eq!(error.problem().code, Code::StoreReadOnly);
    assert_eq!(records(&ledger).len(), 3);
}

#[test]
fn a_reader_sees_what_a_writer_appends() {
    let folder = Folder::with_records(3);
    let (reader, writer) = (folder.open_to_read(), folder.open());
    writer.append_blocking(&actor(), at(9), vec![event("a")]).unwrap();
    assert_eq!(records(&reader).len(), 4);
    assert_eq!(reader.head(), writer.head());
}

#[test]
fn a_lock_that_is_not_given_back_is_reported() {
    let folder = Folder::with_records(3);
    let ledger = folder.open();
    let mut other = folder.sqlite();
    let held = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let error = ledger.append_blocking(&actor(), at(0), vec![event("a")]).unwrap_err();
    assert_eq!(error, Error::Locked { waited_ms: 5_000, holder: None });
    assert_eq!(error.problem().code, Code::StoreLocked);
    assert_eq!(records(&ledger).len(), 3, "reading goes on");
    drop(held);
    assert_eq!(ledger.append_blocking(&actor(), at(0), vec![event("a")]).unwrap()[0].sequence, 4);
}

#[test]
fn whoever_is_stopped_while_it_closes_the_ledger_makes_nobody_wait_for_ever() {
    let folder = Folder::with_records(3);
    // The last one to close a ledger has it for itself for a moment; a process that is stopped then, for as long as it is.
    let closing = folder.sqlite();
    closing.execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN IMMEDIATE; COMMIT;").unwrap();
    for error in [
        Ledger::open(&folder.file(), Access::ReadOnly).map(drop).unwrap_err(),
        Ledger::open(&folder.file(), Access::ReadWrite).map(drop).unwrap_err(),
    ] {
        assert_eq!(error, Error::Locked { waited_ms: 5_000, holder: None });
    }
    drop(closing);
    assert_eq!(records(&folder.open()).len(), 3);
}

#[test]
fn every_error_tells_what_to_do() {
    let path = camino::Utf8PathBuf::from("ledger.db");
    let detail = String::new;
    let errors = [
        Error::Missing { path: path.clone() },
        Error::Unavailable { path: path.clone(), detail: detail() },
        Error::ReadOnly { path: path.clone() },
        Error::Newer { found: 3, known: 2, needs: None, kept: None },
        Error::Full { path: path.clone() },
        Error::Damaged { detail: detail() },
        Error::Locked { waited_ms: 1, holder: None },
        Error::Disk { path: path.clone(), detail: detail() },
        Error::Interrupted { path: path.clone(), detail: detail() },
        Error::Undecided { path, detail: detail() },
        Error::RecordTooLarge { kind: "x" },
        Error::BatchTooLarge { events: 600 },
        Error::NotRepresentable { kind: "x", detail: detail() },
        Error::Conflict { size: 1 },
        Error::Overloaded,
        Error::Stopped,
        Error::SqliteTooOld { version: "3.40.1".into() },
        Error::NoSuchRecord { sequence: 1 },
    ];
    for error in errors {
        let problem = error.problem();
        assert!(problem.hint.is_some_and(|hint| !hint.is_empty()), "{error}");
        assert!(!problem.message.ends_with('.') && !problem.message.is_empty());
    }
}
