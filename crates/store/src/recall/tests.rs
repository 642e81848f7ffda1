use camino::Utf8PathBuf;
use delivery::report::{Fact, IncidentName};
use delivery::{Actor, Timestamp};

use super::*;
use crate::Access;

struct World {
    _folder: tempfile::TempDir,
    root: Utf8PathBuf,
    ledger: Ledger,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let ledger = Ledger::open(&root.join("ledger.db"), Access::ReadWrite).unwrap();
        Self { _folder: folder, root, ledger }
    }

    fn recall(&self) -> Recall {
        Recall::open(&self.file(), &self.ledger).unwrap()
    }

    fn file(&self) -> Utf8PathBuf {
        self.root.join("cache").join("reports.db")
    }
}

fn origin(source: &str, id: &str) -> Origin {
    Origin { source: source.into(), id: id.into() }
}

fn report(ledger: &Ledger, source: &str, ids: std::ops::Range<u32>) {
    let event = |id: u32| Event::Reported {
        origin: origin(source, &id.to_string()),
        occurred_at: Timestamp::UNIX_EPOCH,
        fact: Fact::IncidentResolved { incident: IncidentName { source: source.into(), id: "i".into() } },
    };
    let events: Vec<Event> = ids.map(event).collect();
    for some in events.chunks(500) {
        ledger.append_blocking(&Actor::Machine(source.into()), Timestamp::UNIX_EPOCH, some.to_vec()).unwrap();
    }
}

#[test]
fn a_report_is_found_by_both_its_names_under_its_first_sequence() {
    let world = World::new();
    report(&world.ledger, "a", 0..3);
    report(&world.ledger, "a", 1..2);
    let mut recall = world.recall();
    assert_eq!(recall.first(&origin("a", "1")), Ok(None), "it has read nothing yet");
    assert_eq!(recall.catch_up(&world.ledger), Ok(4));
    assert_eq!(recall.first(&origin("a", "1")), Ok(Some(2)));
    assert_eq!(recall.first(&origin("b", "1")), Ok(None));
    // The two names are not one text.
    report(&world.ledger, "a1", 0..1);
    recall.catch_up(&world.ledger).unwrap();
    assert_eq!(recall.first(&origin("a", "10")), Ok(None));
    assert_eq!(recall.first(&origin("a1", "0")), Ok(Some(5)));
}

#[test]
fn it_goes_on_after_a_restart_and_reads_more_than_one_page() {
    let world = World::new();
    report(&world.ledger, "a", 0..1_500);
    assert_eq!(world.recall().catch_up(&world.ledger), Ok(1_500));
    report(&world.ledger, "a", 1_500..3_000);
    let mut recall = world.recall();
    assert_eq!(recall.first(&origin("a", "1499")), Ok(Some(1_500)));
    assert_eq!(recall.catch_up(&world.ledger), Ok(3_000));
    assert_eq!(recall.first(&origin("a", "2999")), Ok(Some(3_000)));
}

#[test]
fn two_processes_may_keep_one_file() {
    let world = World::new();
    let (mut one, mut other) = (world.recall(), world.recall());
    report(&world.ledger, "a", 0..10);
    assert_eq!(one.catch_up(&world.ledger), Ok(10));
    assert_eq!(other.catch_up(&world.ledger), Ok(10));
    assert_eq!(other.first(&origin("a", "9")), Ok(Some(10)));
}

#[test]
fn another_ledger_in_the_same_place_is_read_from_its_beginning() {
    let world = World::new();
    report(&world.ledger, "a", 0..5);
    world.recall().catch_up(&world.ledger).unwrap();
    // Shorter than what was read, and longer but different.
    for (name, records) in [("shorter.db", 3), ("longer.db", 9)] {
        let ledger = Ledger::open(&world.root.join(name), Access::ReadWrite).unwrap();
        report(&ledger, name, 0..records);
        let mut recall = Recall::open(&world.file(), &ledger).unwrap();
        assert_eq!(recall.catch_up(&ledger), Ok(u64::from(records)));
        assert_eq!(recall.first(&origin("a", "1")), Ok(None));
        assert_eq!(recall.first(&origin(name, "2")), Ok(Some(3)));
    }
}

#[test]
fn a_damaged_or_removed_file_is_made_anew() {
    let world = World::new();
    report(&world.ledger, "a", 0..5);
    world.recall().catch_up(&world.ledger).unwrap();
    std::fs::write(world.file(), vec![7_u8; 8_192]).unwrap();
    let mut recall = world.recall();
    recall.catch_up(&world.ledger).unwrap();
    assert_eq!(recall.first(&origin("a", "4")), Ok(Some(5)));
    drop(recall);
    std::fs::remove_dir_all(world.root.join("cache")).unwrap();
    let mut recall = world.recall();
    recall.catch_up(&world.ledger).unwrap();
    assert_eq!(recall.first(&origin("a", "4")), Ok(Some(5)));
}
