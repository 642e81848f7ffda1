//! Backups while others write, restores to a point, and what is refused.

use camino::{Utf8Path, Utf8PathBuf};
use delivery::code::Code;
use proptest::prelude::*;
use store::ledger::backup::{self, About, BackupError};
use store::ledger::restore::{End, Held, Staged, Until, digest_of};
use store::{Access, Blobs, Error, Head, Ledger};

use crate::{Folder, Random, actor, at, event, records};

fn blobs(folder: &Folder) -> Utf8PathBuf {
    folder.path().join("blobs")
}

fn back_up(folder: &Folder, to: &Utf8Path) -> Result<About, BackupError> {
    backup::write(&folder.file(), &blobs(folder), to, at(9_000))
}

/// A ledger of 60 records with two blobs, and its backup in another folder.
fn backed_up() -> (Folder, Folder, Utf8PathBuf) {
    let folder = Folder::with_records(60);
    let stored = Blobs::open(&blobs(&folder)).unwrap();
    stored.put(b"a blob").unwrap();
    stored.put_document(b"a document").unwrap();
    let elsewhere = Folder::new();
    let backup = elsewhere.path().join("backup");
    back_up(&folder, &backup).unwrap();
    (folder, elsewhere, backup)
}

fn restore(backup: &Utf8Path, to: &Folder, until: Option<Until>) -> Result<Option<Utf8PathBuf>, BackupError> {
    let held = Held::take(&to.file())?;
    Staged::of_backup(backup, &to.file(), until)?.put(held, &blobs(to))
}

fn head(folder: &Folder) -> Head {
    folder.open_to_read().head().unwrap()
}

#[test]
fn a_lost_disk_is_restored_whole() {
    let (folder, _keep, backup) = backed_up();
    let about = backup::check(&backup).unwrap();
    assert_eq!((about.size, about.blobs, &about.root), (60, 2, &digest_of(&head(&folder))));
    let new = Folder::new();
    assert_eq!(restore(&backup, &new, None).unwrap(), None);
    assert_eq!(head(&new), head(&folder));
    assert_eq!(records(&new.open_to_read()), records(&folder.open_to_read()));
    let stored = Blobs::open(&blobs(&new)).unwrap();
    assert_eq!(stored.document(&delivery::Digest::of(b"a document")).unwrap(), b"a document");
    assert_eq!(new.open().append_blocking(&actor(), at(9_999), vec![event("on")]).unwrap()[0].sequence, 61);
    let names: Vec<String> =
        new.path().read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned()).collect();
    assert!(!names.iter().any(|name| name.starts_with('.')), "{names:?}");
}

#[test]
fn the_sums_can_be_checked_without_trimtab() {
    let (_folder, _keep, backup) = backed_up();
    let text = std::fs::read_to_string(backup.join("SHA256SUMS")).unwrap();
    assert_eq!(text.lines().count(), 4, "{text}");
    for line in text.lines() {
        let (sum, name) = line.split_once("  ").unwrap();
        assert_eq!(delivery::Digest::of(&std::fs::read(backup.join(name)).unwrap()).as_str(), sum, "{name}");
    }
}

#[test]
fn a_backup_is_of_one_moment_while_others_append() {
    let folder = Folder::with_records(200);
    let elsewhere = Folder::new();
    let ledger = folder.open();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let appending = scope.spawn(|| {
            let mut appended = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let pair = vec![event("a"), event("b")];
                ledger.append_blocking(&actor(), at(9_000), pair).unwrap();
                appended += 2;
            }
            appended
        });
        for number in 0..8 {
            let about = back_up(&folder, &elsewhere.path().join(number.to_string())).unwrap();
            assert_eq!(about.size % 2, 0, "a batch is in it whole or not at all");
            let proof = ledger.prove_consistency(about.size).unwrap();
            let head = Head { size: about.size, root: proof.from_root, last_at: None };
            assert_eq!(digest_of(&head), about.root, "it is the ledger's own beginning");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(appending.join().unwrap() > 0);
    });
    assert!(ledger.verify().unwrap().is_sound());
}

#[test]
fn a_restore_to_a_point_is_the_old_beginning() {
    let (folder, _keep, backup) = backed_up();
    let ledger = folder.open_to_read();
    for size in [1, 2, 31, 32, 59, 60] {
        let new = Folder::new();
        let held = Held::take(&new.file()).unwrap();
        let staged = Staged::of_backup(&backup, &new.file(), Some(Until::Sequence(size))).unwrap();
        let appendable = Ledger::open(&staged.file(), Access::ReadWrite).unwrap();
        assert_eq!(appendable.older().unwrap(), None, "it may be appended to before it is put");
        drop(appendable);
        staged.put(held, &blobs(&new)).unwrap();
        let restored = new.open_to_read();
        assert!(restored.verify().unwrap().is_sound());
        let root = ledger.prove_consistency(size).unwrap().from_root;
        assert_eq!((restored.head().unwrap().size, restored.head().unwrap().root), (size, root));
        assert_eq!(records(&restored), records(&ledger)[..size as usize]);
        let next = new.open().append_blocking(&actor(), at(9_999), vec![event("on")]).unwrap();
        assert_eq!(next[0].sequence, size + 1);
    }
    // Records 1 to 50 are of one second, 51 to 60 of a later one.
    let new = Folder::new();
    restore(&backup, &new, Some(Until::Time(at(1)))).unwrap();
    assert_eq!(head(&new).size, 50);
    for until in [Until::Sequence(0), Until::Sequence(61), Until::Time(at(0))] {
        let new = Folder::new();
        let error = restore(&backup, &new, Some(until)).unwrap_err();
        assert!(matches!(error, BackupError::NoSuchPoint { .. }), "{error}");
        assert!(!new.file().exists());
    }
}

/// Every file of the backup with its length.
fn files(backup: &Utf8Path) -> Vec<(Utf8PathBuf, u64)> {
    let (mut found, mut left) = (Vec::new(), vec![backup.to_owned()]);
    while let Some(folder) = left.pop() {
        for entry in folder.read_dir_utf8().unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path().to_owned());
            } else {
                found.push((entry.path().to_owned(), entry.metadata().unwrap().len()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn any_damage_to_any_file_is_refused_before_anything_is_touched() {
    let (_folder, _keep, backup) = backed_up();
    let target = Folder::with_records(10);
    let before = head(&target);
    let mut random = Random(7_311);
    let mut refused = 0;
    for (file, length) in files(&backup) {
        let whole = std::fs::read(&file).unwrap();
        // All of a small file, a sample of a large one.
        let spots: Vec<u64> = (0..length).filter(|_| length < 700 || random.below(length) < 120).collect();
        for spot in spots {
            let mut bytes = whole.clone();
            bytes[spot as usize] ^= 1 << random.below(8);
            std::fs::write(&file, &bytes).unwrap();
            let error = restore(&backup, &target, None).unwrap_err();
            assert!(matches!(error, BackupError::Damaged { .. }), "{file} byte {spot}: {error:?}");
            refused += 1;
        }
        for length in [0, length / 2, length - 1] {
            std::fs::write(&file, &whole[..length as usize]).unwrap();
            let error = restore(&backup, &target, None).unwrap_err();
            assert!(matches!(error, BackupError::Damaged { .. }), "{file} cut to {length}: {error:?}");
        }
        std::fs::remove_file(&file).unwrap();
        let error = restore(&backup, &target, None).unwrap_err();
        assert_eq!(error.problem().code, Code::BackupDamaged, "{file} removed: {error:?}");
        std::fs::write(&file, &whole).unwrap();
    }
    std::fs::write(backup.join("blobs/more"), "more").unwrap();
    assert!(matches!(restore(&backup, &target, None), Err(BackupError::Damaged { .. })));
    std::fs::remove_file(backup.join("blobs/more")).unwrap();
    assert!(refused > 400, "{refused}");
    assert_eq!(head(&target), before);
    // Whole again, it is taken; what was there is kept.
    let old = restore(&backup, &target, None).unwrap().unwrap();
    assert_eq!(head(&target).size, 60);
    assert_eq!(Ledger::open(&old, Access::ReadOnly).unwrap().head().unwrap(), before);
}

#[test]
fn a_forger_who_mends_the_sums_is_found_by_the_tree() {
    let (_folder, _keep, backup) = backed_up();
    let ledger = backup.join("ledger.db");
    let sql = "UPDATE record SET body = CAST(replace(CAST(body AS TEXT), 'incident 7', 'incident 8') AS BLOB)
               WHERE sequence = 7";
    rusqlite::Connection::open(&ledger).unwrap().execute_batch(sql).unwrap();
    let sums = std::fs::read_to_string(backup.join("SHA256SUMS")).unwrap();
    let new = delivery::Digest::of(&std::fs::read(&ledger).unwrap());
    let mended = sums.lines().map(|line| match line.split_once("  ") {
        Some((_, "ledger.db")) => format!("{new}  ledger.db\n"),
        _ => format!("{line}\n"),
    });
    std::fs::write(backup.join("SHA256SUMS"), mended.collect::<String>()).unwrap();
    let error = restore(&backup, &Folder::new(), None).unwrap_err();
    assert!(matches!(&error, BackupError::Damaged { detail, .. } if detail.contains("record 7")), "{error}");
}

#[test]
fn a_damaged_ledger_or_blob_is_not_backed_up_as_if_it_were_whole() {
    let (folder, elsewhere, _) = backed_up();
    let document = delivery::Digest::of(b"a document");
    let (first, rest) = document.as_str().split_at(2);
    std::fs::write(blobs(&folder).join("sha256").join(first).join(rest), "another").unwrap();
    let about = back_up(&folder, &elsewhere.path().join("second")).unwrap();
    assert_eq!((about.blobs, about.damaged), (1, vec![document.to_string()]));
    folder.sqlite().execute_batch("UPDATE record SET leaf = zeroblob(32) WHERE sequence = 5").unwrap();
    let error = back_up(&folder, &elsewhere.path().join("third")).unwrap_err();
    assert!(matches!(error, BackupError::Unsound { .. }), "{error:?}");
    assert_eq!(error.problem().code, Code::StoreDamaged);
    let names: Vec<_> =
        elsewhere.path().read_dir_utf8().unwrap().map(|e| e.unwrap().file_name().to_owned()).collect();
    assert!(!names.iter().any(|name| name.contains("third")), "{names:?}");
}

#[test]
fn nothing_is_overwritten() {
    let (folder, _keep, backup) = backed_up();
    assert!(matches!(back_up(&folder, &backup), Err(BackupError::Exists { .. })));
    let nothing = Folder::new();
    let file = nothing.path().join("file");
    std::fs::write(&file, "no backup").unwrap();
    let ways = [
        (nothing.path().join("none"), "there is no such folder"),
        (nothing.path().to_owned(), "it has no"),
        (file, "a backup is a folder"),
    ];
    for (path, why) in ways {
        let error = restore(&path, &folder, None).unwrap_err();
        assert!(
            matches!(&error, BackupError::NotABackup { detail, .. } if detail.contains(why)),
            "{error:?}"
        );
    }
}

#[test]
fn a_ledger_that_is_in_use_is_not_replaced() {
    let (folder, _keep, backup) = backed_up();
    let writer = folder.open();
    writer.append_blocking(&actor(), at(9_000), vec![event("in use")]).unwrap();
    let error = restore(&backup, &folder, None).unwrap_err();
    assert!(matches!(error, BackupError::Ledger(Error::Locked { .. })), "{error:?}");
    drop(writer);
    let reader = folder.open_to_read();
    records(&reader);
    let error = restore(&backup, &folder, None).unwrap_err();
    assert!(matches!(error, BackupError::Ledger(Error::Locked { .. })), "{error:?}");
    drop(reader);
    restore(&backup, &folder, None).unwrap();
    assert_eq!(head(&folder).size, 60);
}

#[test]
fn nobody_opens_a_ledger_whose_place_is_being_taken() {
    let (folder, _keep, _) = backed_up();
    let held = Held::take(&folder.file()).unwrap();
    let other = rusqlite::Connection::open(folder.file()).unwrap();
    other.busy_timeout(std::time::Duration::ZERO).unwrap();
    let read = || other.query_row("SELECT count(*) FROM record", [], |row| row.get::<_, i64>(0));
    assert!(read().is_err(), "it is held");
    let itself = Staged::of_itself(&held).unwrap();
    assert_eq!(itself.head().size, 60);
    assert!(read().is_err(), "also after it was copied");
    drop((held, itself));
    assert_eq!(read(), Ok(60));
}

#[test]
fn a_file_that_is_no_ledger_any_more_is_replaced_and_kept() {
    let (_folder, _keep, backup) = backed_up();
    let target = Folder::new();
    let rubble = "rubble ".repeat(2_000);
    std::fs::write(target.file(), &rubble).unwrap();
    std::fs::write(format!("{}-wal", target.file()), "a log of another time").unwrap();
    let old = restore(&backup, &target, None).unwrap().unwrap();
    assert!(!Utf8PathBuf::from(format!("{}-wal", target.file())).exists(), "the log was the old one's");
    assert!(target.open().verify().unwrap().is_sound());
    assert_eq!(std::fs::read_to_string(&old).unwrap(), rubble);
}

#[test]
fn an_older_ledger_that_was_put_back_by_hand_is_read_but_not_written() {
    let folder = Folder::with_records(20);
    let copy = std::fs::read(folder.file()).unwrap();
    let ledger = folder.open();
    for number in 0..10 {
        ledger.append_blocking(&actor(), at(100 + number), vec![event("more")]).unwrap();
    }
    drop(ledger);
    assert_eq!(folder.open_to_read().older().unwrap(), None);
    std::fs::write(folder.file(), &copy).unwrap();
    let ledger = folder.open();
    assert_eq!(records(&ledger).len(), 20, "it can be read");
    for _ in 0..2 {
        let error = ledger.append_blocking(&actor(), at(200), vec![event("fork")]).unwrap_err();
        assert!(
            matches!(&error, Error::Older { detail } if detail.contains("20 records where 30")),
            "{error}"
        );
        assert_eq!(error.problem().code, Code::StoreOlder);
    }
    assert!(folder.open_to_read().older().unwrap().is_some());
    assert!(ledger.verify().unwrap().is_sound(), "it is whole, only older");
    drop(ledger);
    // Without the witness it would have become another history of the same length.
    std::fs::remove_file(format!("{}.seen", folder.file())).unwrap();
    let ledger = folder.open();
    let events = (0..15).map(|_| event("fork")).collect();
    ledger.append_blocking(&actor(), at(200), events).unwrap();
}

#[test]
fn another_history_of_the_same_length_is_found() {
    let folder = Folder::with_records(20);
    let copy = std::fs::read(folder.file()).unwrap();
    folder.open().append_blocking(&actor(), at(100), vec![event("one")]).unwrap();
    let seen = std::fs::read(format!("{}.seen", folder.file())).unwrap();
    std::fs::write(folder.file(), &copy).unwrap();
    std::fs::remove_file(format!("{}.seen", folder.file())).unwrap();
    let events = vec![event("another"), event("and more")];
    folder.open().append_blocking(&actor(), at(200), events).unwrap();
    std::fs::write(format!("{}.seen", folder.file()), &seen).unwrap();
    let error = folder.open().append_blocking(&actor(), at(300), vec![event("x")]).unwrap_err();
    assert!(matches!(&error, Error::Older { detail } if detail.contains("another history")), "{error}");
}

#[test]
fn a_restore_takes_the_place_of_what_was_seen() {
    let (folder, _keep, backup) = backed_up();
    folder.open().append_blocking(&actor(), at(9_000), vec![event("lost")]).unwrap();
    let held = Held::take(&folder.file()).unwrap();
    let end = held.end().unwrap();
    assert_eq!((end.size, end.last_at), (61, Some(at(9_000))));
    let staged = Staged::of_backup(&backup, &folder.file(), None).unwrap();
    let ledger = Ledger::open(&staged.file(), Access::ReadWrite).unwrap();
    ledger.append_blocking(&actor(), at(9_100), vec![event("restored")]).unwrap();
    drop(ledger);
    staged.put(held, &blobs(&folder)).unwrap();
    let ledger = folder.open();
    assert_eq!(ledger.append_blocking(&actor(), at(9_200), vec![event("on")]).unwrap()[0].sequence, 62);
    assert_eq!(ledger.older().unwrap(), None);
    // The end that is known when the ledger itself is gone is the one that was seen.
    drop(ledger);
    std::fs::remove_file(folder.file()).unwrap();
    let end: End = Held::take(&folder.file()).unwrap().end().unwrap();
    assert_eq!(end.size, 62);
}

#[test]
fn two_at_once_exclude_each_other_and_a_dead_one_is_cleaned_up_after() {
    let (folder, elsewhere, backup) = backed_up();
    let staged = Staged::of_backup(&backup, &folder.file(), None).unwrap();
    let error = Staged::of_backup(&backup, &folder.file(), None).err().unwrap();
    assert!(matches!(error, BackupError::Busy { .. }), "{error:?}");
    drop(staged);
    // What a killed process leaves.
    let left = elsewhere.path().join(".next.part");
    std::fs::create_dir_all(left.join("blobs/sha256")).unwrap();
    std::fs::write(left.join("ledger.db"), "half").unwrap();
    back_up(&folder, &elsewhere.path().join("next")).unwrap();
    backup::check(&elsewhere.path().join("next")).unwrap();
    assert!(!left.exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever was restored to whatever point, its beginning is the backup's, and going on from it forks only after that.
    #[test]
    fn restored_beginnings_are_prefixes(size in 1_u64..=60, more in 0_usize..5) {
        let (folder, _keep, backup) = backed_up();
        let new = Folder::new();
        restore(&backup, &new, Some(Until::Sequence(size))).unwrap();
        let ledger = new.open();
        for _ in 0..more {
            ledger.append_blocking(&actor(), at(9_999), vec![event("on")]).unwrap();
        }
        let root = folder.open_to_read().prove_consistency(size).unwrap().from_root;
        prop_assert_eq!(ledger.prove_consistency(size).unwrap().from_root, root);
    }
}

/// Puts the backup in place of the ledger, with the records that a restore appends.
fn restore_and_erase(backup: &Utf8Path, to: &Folder, until: Option<Until>) -> usize {
    let held = Held::take(&to.file()).unwrap();
    let staged = Staged::of_backup(backup, &to.file(), until).unwrap();
    let erased = staged.erased_since(&held).unwrap();
    let ledger = Ledger::open(&staged.file(), Access::ReadWrite).unwrap();
    let events = [vec![event("restored")], erased.clone()].concat();
    ledger.append_blocking(&actor(), at(9_999), events).unwrap();
    drop(ledger);
    staged.put(held, &blobs(to)).unwrap();
    erased.len()
}

fn hold(file: &Utf8Path, address: &str) -> bool {
    std::fs::read(file).unwrap().windows(address.len()).any(|part| part == address.as_bytes())
}

fn append_as(ledger: &Ledger, number: i64, address: &str) {
    let human = delivery::Actor::Human(address.into());
    ledger.append_blocking(&human, at(number), vec![event("by a person")]).unwrap();
}

fn erase(ledger: &Ledger, address: &str) {
    let person = ledger.person(address).unwrap().unwrap().pseudonym;
    let erasure = delivery::Event::PersonErased { person };
    ledger.append_blocking(&actor(), at(9_000), vec![erasure]).unwrap();
}

#[test]
fn a_restore_brings_nobody_back_who_was_erased_since() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let ledger = folder.open();
    append_as(&ledger, 1, "anna@example.com");
    append_as(&ledger, 2, "bert@example.com");
    let backup = elsewhere.path().join("backup");
    back_up(&folder, &backup).unwrap();
    erase(&ledger, "anna@example.com");
    drop(ledger);
    assert!(hold(&backup.join("ledger.db"), "anna@example.com"), "the backup has it");
    assert_eq!(restore_and_erase(&backup, &folder, None), 1);
    let restored = folder.open_to_read();
    assert!(restored.verify().unwrap().is_sound());
    assert_eq!(restored.person("anna@example.com").unwrap(), None);
    assert!(restored.person("bert@example.com").unwrap().is_some());
    drop(restored);
    assert!(!hold(&folder.file(), "anna@example.com"));
    // Nothing is left to erase.
    back_up(&folder, &elsewhere.path().join("again")).unwrap();
    assert_eq!(restore_and_erase(&elsewhere.path().join("again"), &folder, None), 0);
}

#[test]
fn a_restore_to_a_point_keeps_the_people_of_that_point_and_no_others() {
    let (folder, elsewhere, new) = (Folder::new(), Folder::new(), Folder::new());
    let ledger = folder.open();
    append_as(&ledger, 1, "anna@example.com");
    append_as(&ledger, 2, "bert@example.com");
    append_as(&ledger, 3, "carl@example.com");
    erase(&ledger, "anna@example.com");
    drop(ledger);
    let backup = elsewhere.path().join("backup");
    back_up(&folder, &backup).unwrap();
    // Anna's row is gone from the backup, her erasure is in the part that is cut off, and Carl is not on record yet.
    assert_eq!(restore_and_erase(&backup, &new, Some(Until::Sequence(2))), 1);
    let restored = new.open_to_read();
    let found = restored.verify().unwrap();
    assert!(found.is_sound(), "{:?}", found.damages);
    assert!(restored.person("bert@example.com").unwrap().is_some());
    assert_eq!(restored.person("carl@example.com").unwrap(), None);
    drop(restored);
    assert!(!hold(&new.file(), "carl@example.com"));
}
