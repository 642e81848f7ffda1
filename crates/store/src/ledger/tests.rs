//! The writer's failures, provoked from inside: a full disk and what comes after a failed commit.
//!
//! The full disk is SQLite's own `max_page_count`, which gives SQLITE_FULL at the same place each time and takes the same
//! path as ENOSPC; a real full file system would need mount rights.

use delivery::code::Code;

use super::basis::Basis;
use super::writer::Writer;
use super::*;

fn writer() -> (tempfile::TempDir, Utf8PathBuf, Writer) {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().join("ledger.db")).unwrap();
    let mut writer = Writer::new(&path, watch::Sender::new(0));
    writer.connect().unwrap();
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
    let (_folder, path, mut writer) = writer();
    let large = "x".repeat(60_000);
    assert_eq!(append(&mut writer, &["before"]).unwrap()[0].sequence, 1);
    writer.connection.as_ref().unwrap().execute_batch("PRAGMA max_page_count = 1").unwrap();
    let error = append(&mut writer, &["small", &large]).unwrap_err();
    assert_eq!(error, Error::Full { path: path.clone() });
    assert_eq!(error.problem().code, Code::StoreFull);
    assert!(writer.connection.is_none() && writer.failed, "the connection is not trusted any more");
    let ledger = Ledger::open(&path, Access::ReadOnly).unwrap();
    assert_eq!(ledger.head().unwrap().size, 1, "nothing of the batch is there");
    // The limit was the connection's, so opening anew is as if space had returned.
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
    let reader = schema::open_reader(&path).unwrap();
    let _: i64 = reader.connection.query_row("SELECT count(*) FROM record", [], |row| row.get(0)).unwrap();
    assert!(std::fs::metadata(&log).unwrap().len() > 0);
    writer.connection = None;
    writer.failed = true;
    writer.connect().unwrap();
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
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
