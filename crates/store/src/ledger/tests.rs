//! The writer's failures, provoked from inside: a full disk and what comes after a failed commit.
//!
//! The full disk is SQLite's own `max_page_count`, which gives SQLITE_FULL at the same place each time and takes the same
//! path as ENOSPC; a real full file system would need mount rights.

use std::sync::atomic::{AtomicBool, Ordering};

use camino::Utf8PathBuf;
use delivery::code::Code;
use rusqlite::Connection;

use super::basis::Basis;
use super::database::WritingConnection;
use super::sqlite::Sqlite;
use super::*;

/// A file on a disk that is full while the first writer has it open.
struct FullAtFirst {
    file: Sqlite,
    opened: AtomicBool,
}

impl Database for FullAtFirst {
    fn place(&self) -> &Utf8Path {
        self.file.place()
    }

    fn open_writer(&self, after_failure: bool) -> Result<Box<dyn WritingConnection>, Error> {
        let writing = self.file.writer(after_failure)?;
        if !self.opened.swap(true, Ordering::Relaxed) {
            writing.connection.execute_batch("PRAGMA max_page_count = 1").unwrap();
        }
        Ok(Box::new(writing))
    }

    fn open_reader(&self) -> Result<Box<dyn ReadingConnection>, Error> {
        self.file.open_reader()
    }
}

fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().join("ledger.db")).unwrap();
    (folder, path)
}

fn writer() -> (tempfile::TempDir, Utf8PathBuf, Writer) {
    let (folder, path) = folder();
    let writer = Writer::open(Arc::new(Sqlite::file(&path)), Growth::default(), Salts::System).unwrap();
    (folder, path, writer)
}

fn append(writer: &mut Writer, incidents: &[&str]) -> Result<Vec<Recorded>, Error> {
    let (sender, answers) = std::sync::mpsc::channel();
    let events = incidents.iter().map(|i| Event::IncidentResolved { incident: (*i).into() }).collect();
    writer.serve(vec![Request {
        basis: None,
        actor: Actor::Machine("test".into()),
        at: 0,
        events,
        reply: Box::new(move |answer| sender.send(answer).unwrap()),
    }]);
    answers.recv().unwrap()
}

#[test]
fn a_full_disk_records_nothing_and_is_got_over() {
    let (_folder, path, mut before) = writer();
    assert_eq!(append(&mut before, &["before"]).unwrap()[0].sequence, 1);
    let disk = FullAtFirst { file: Sqlite::file(&path), opened: AtomicBool::new(false) };
    let mut writer = Writer::open(Arc::new(disk), Growth::default(), Salts::System).unwrap();
    let large = "x".repeat(60_000);
    let error = append(&mut writer, &["small", &large]).unwrap_err();
    assert_eq!(error, Error::Full { path: path.clone() });
    assert_eq!(error.problem().code, Code::StoreFull);
    assert!(writer.connection.is_none() && writer.failed, "the connection is not trusted any more");
    let ledger = Ledger::open(&path, Access::ReadOnly).unwrap();
    assert_eq!(ledger.head().unwrap().size, 1, "nothing of the batch is there");
    // Opening anew is as if space had returned.
    assert_eq!(append(&mut writer, &["small", &large]).unwrap()[1].sequence, 3);
    assert!(!writer.failed);
    assert!(ledger.verify().unwrap().is_sound());
}

#[test]
fn after_a_failure_nothing_is_acknowledged_before_the_tail_is_verified() {
    let (_folder, path, mut writer) = writer();
    append(&mut writer, &["a", "b", "c"]).unwrap();
    writer.connection = None;
    writer.failed = true;
    let behind = Connection::open(&path).unwrap();
    behind.execute_batch("UPDATE record SET body = x'00' WHERE sequence = 2").unwrap();
    for _ in 0..2 {
        assert!(matches!(append(&mut writer, &["d"]), Err(Error::Damaged { .. })));
    }
    assert!(writer.failed, "still not trusted");
}

#[test]
fn a_failure_syncs_the_log_into_the_database() {
    let (_folder, path, mut writer) = writer();
    append(&mut writer, &["a", "b", "c"]).unwrap();
    let log = std::path::PathBuf::from(format!("{path}-wal"));
    // Keeps the log from being removed at the writer's close.
    let reader = Sqlite::file(&path).reader().unwrap();
    let _: i64 = reader.connection.query_row("SELECT count(*) FROM record", [], |row| row.get(0)).unwrap();
    assert!(std::fs::metadata(&log).unwrap().len() > 0);
    writer.connection = None;
    let _settled = Sqlite::file(&path).open_writer(true).unwrap();
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
    writer.failed = true;
    assert_eq!(append(&mut writer, &["d"]).unwrap()[0].sequence, 4);
}

#[test]
fn one_failed_condition_in_a_shared_commit_disturbs_nobody() {
    let (_folder, _path, mut writer) = writer();
    let (sender, answers) = std::sync::mpsc::channel();
    let request = |basis, name: &str| Request {
        basis,
        actor: Actor::Machine("test".into()),
        at: 0,
        events: vec![Event::IncidentResolved { incident: name.into() }],
        reply: Box::new({
            let sender = sender.clone();
            move |answer: writer::Answer| sender.send(answer.map(|records| records[0].sequence)).unwrap()
        }),
    };
    writer.serve(vec![
        request(Some(Basis::whole(0)), "a"),
        request(Some(Basis::whole(0)), "b"),
        request(None, "c"),
        request(Some(Basis::whole(2)), "d"),
    ]);
    let got: Vec<_> = answers.try_iter().collect();
    assert_eq!(got, [Ok(1), Err(Error::Conflict { size: 1 }), Ok(2), Ok(3)]);
}

#[test]
fn a_writer_without_a_thread_answers_before_it_returns() {
    let (_folder, path) = folder();
    let ledger = Ledger::open_at(&Place::File(path), Access::ReadWrite, Committer::Caller).unwrap();
    let actor = Actor::Machine("test".into());
    let event = Event::IncidentResolved { incident: "a".into() };
    let append = std::pin::pin!(ledger.append(&actor, Timestamp::UNIX_EPOCH, vec![event.clone()]));
    let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(answer) = append.poll(&mut nobody) else { panic!("it waits for somebody") };
    assert_eq!(answer.unwrap()[0].sequence, 1);
    let again = ledger.append_blocking(&actor, Timestamp::UNIX_EPOCH, vec![event]).unwrap();
    assert_eq!(again[0].sequence, 2);
    assert!(ledger.verify().unwrap().is_sound());
}

#[test]
fn a_file_of_a_vfs_is_opened_through_it() {
    // The file system's own VFS, by its name: what another one gets is the same.
    let (_folder, path) = folder();
    let place = Place::VfsFile { vfs: "unix-excl".into(), path: path.clone() };
    let ledger = Ledger::open_at(&place, Access::ReadWrite, Committer::Caller).unwrap();
    let event = Event::IncidentResolved { incident: "a".into() };
    ledger.append_blocking(&Actor::Machine("test".into()), Timestamp::UNIX_EPOCH, vec![event]).unwrap();
    assert_eq!(ledger.read(0, 9).unwrap().len(), 1);
    let nowhere = Place::VfsFile { vfs: "no such".into(), path };
    assert!(Ledger::open_at(&nowhere, Access::ReadOnly, Committer::Caller).is_err());
}
