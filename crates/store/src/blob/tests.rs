//! Storing, reading, repairing and copying out.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn store() -> (tempfile::TempDir, Blobs, Utf8PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
    let blobs = Blobs::open(&path.join("blobs")).unwrap();
    (directory, blobs, path)
}

#[test]
fn what_is_put_is_got() {
    let (_keep, blobs, path) = store();
    let empty = blobs.put(b"").unwrap();
    assert_eq!(empty.to_string(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    assert_eq!(blobs.get(&empty).unwrap(), b"");
    std::fs::write(path.join("file"), vec![7; 300_000]).unwrap();
    let (id, size) = blobs.put_file(path.join("file").as_std_path()).unwrap();
    assert_eq!((id, size), (BlobId::of(&vec![7; 300_000]), 300_000));
    assert_eq!(blobs.get(&id).unwrap(), vec![7; 300_000]);
    assert!(blobs.contains(&id) && !blobs.contains(&BlobId::of(b"other")));
    assert!(matches!(blobs.get(&BlobId::of(b"other")), Err(BlobError::Missing { .. })));
    assert_eq!(id.to_string().parse::<BlobId>().unwrap(), id);
    assert!(id.to_string().to_uppercase().parse::<BlobId>().is_err());
    let digest = blobs.put_document(b"evidence").unwrap();
    assert_eq!(digest, Digest::of(b"evidence"));
    assert_eq!(blobs.document(&digest).unwrap(), b"evidence");
    assert_eq!(std::fs::read_dir(path.join("blobs/tmp")).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_damaged_blob_is_found_and_repaired() {
    let (_keep, blobs, path) = store();
    let id = blobs.put(b"artifact").unwrap();
    let file = blobs.file((&id).into());
    for damage in [&b"artifakt"[..], b"art", b""] {
        std::fs::write(&file, damage).unwrap();
        assert!(matches!(blobs.get(&id), Err(BlobError::Damaged { .. })));
        let to = path.join("restored");
        assert!(matches!(blobs.restore(&id, to.as_std_path(), 0o644), Err(BlobError::Damaged { .. })));
        assert!(!to.exists(), "a damaged blob never appears under a name");
        assert_eq!(blobs.put(b"artifact").unwrap(), id);
        assert_eq!(blobs.get(&id).unwrap(), b"artifact");
    }
}

#[test]
fn a_restored_file_is_a_file_of_its_own() {
    let (_keep, blobs, path) = store();
    let id = blobs.put(b"#!/bin/sh\n").unwrap();
    let to = path.join("tool");
    std::fs::write(&to, "old").unwrap();
    for (wanted, mode) in [(0o755, 0o755), (0o600, 0o600), (0o100_644, 0o644), (0o4755, 0o755)] {
        blobs.restore(&id, to.as_std_path(), wanted).unwrap();
        let metadata = std::fs::metadata(&to).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode);
        assert_eq!(metadata.nlink(), 1);
    }
    std::fs::write(&to, "changed by its user").unwrap();
    assert_eq!(blobs.get(&id).unwrap(), b"#!/bin/sh\n");
}

#[test]
fn many_files_are_stored_at_once() {
    let (_keep, blobs, path) = store();
    let files: Vec<_> = (0..600)
        .map(|number| {
            let file = path.join(format!("f{number}"));
            std::fs::write(&file, format!("{}", number % 400)).unwrap();
            file
        })
        .collect();
    let stored = blobs.put_files(Space::Sha256, files.iter().map(|file| file.as_std_path())).unwrap();
    assert_eq!(stored.len(), 600);
    for (number, (key, size)) in stored.into_iter().enumerate() {
        let content = format!("{}", number % 400);
        assert_eq!(size, content.len() as u64);
        assert_eq!(blobs.get_in(key).unwrap(), content.as_bytes());
    }
    assert_eq!(std::fs::read_dir(path.join("blobs/tmp")).unwrap().count(), 0);
}

#[test]
fn what_dead_writers_left_is_removed_and_live_ones_are_not() {
    let (_keep, blobs, path) = store();
    let stale = path.join("blobs/tmp/.trimtab-1-0.tmp");
    std::fs::write(&stale, "half").unwrap();
    let live = blobs.temporary(&path.join("blobs/tmp")).unwrap();
    Blobs::open(&path.join("blobs")).unwrap();
    assert!(!stale.exists());
    assert!(live.path.exists());
}

#[test]
fn writers_of_the_same_content_do_not_disturb_each_other() {
    let (_keep, blobs, _) = store();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..25 {
                    let content = format!("content {number}");
                    let id = blobs.put(content.as_bytes()).unwrap();
                    assert_eq!(blobs.get(&id).unwrap(), content.as_bytes());
                }
            });
        }
    });
}
