//! The model against what is known of disks.

use super::*;

/// All that can be left after many cuts.
fn images(disk: &Disk) -> Vec<Image> {
    let mut dice = Dice::new(7, 7);
    (0..400).map(|_| disk.image(&mut dice)).collect()
}

fn write(disk: &mut Disk, node: Node, at: usize, bytes: &[u8]) {
    let change = disk.write(node, at, bytes).unwrap();
    disk.done(node, change);
}

fn sync(disk: &mut Disk, node: Node) {
    let sync = disk.sync(node);
    disk.synced(&sync, true);
}

fn durable_file(content: &[u8]) -> (Disk, Node) {
    let mut disk = Disk::new();
    let node = disk.create("a").unwrap();
    write(&mut disk, node, 0, content);
    sync(&mut disk, node);
    sync(&mut disk, ROOT);
    (disk, node)
}

#[test]
fn what_was_synced_survives_and_what_was_not_may_be_lost_or_torn() {
    let (mut disk, node) = durable_file(&[1; 1024]);
    assert!(images(&disk).iter().all(|image| image["a"] == [1; 1024]));
    write(&mut disk, node, 0, &[2; 1024]);
    let images = images(&disk);
    let seen = |first: u8, second: u8| {
        images.iter().any(|image| image["a"] == [[first; 512], [second; 512]].concat())
    };
    assert!(seen(1, 1) && seen(2, 2) && seen(1, 2) && seen(2, 1));
    assert!(images.iter().all(|image| image["a"].len() == 1024));
}

#[test]
fn a_write_that_begins_during_an_fsync_is_not_covered_by_it() {
    let (mut disk, node) = durable_file(&[1; 512]);
    let early = disk.write(node, 0, &[2; 512]).unwrap();
    let sync = disk.sync(node);
    disk.done(node, early);
    write(&mut disk, node, 0, &[3; 512]);
    disk.synced(&sync, true);
    for content in [1, 2, 3] {
        assert!(images(&disk).iter().any(|image| image["a"] == [content; 512]), "{content}");
    }
}

#[test]
fn what_a_failed_fsync_dropped_is_not_brought_back_by_the_next() {
    let (mut disk, node) = durable_file(&[1; 512]);
    write(&mut disk, node, 0, &[2; 512]);
    let sync_failed = disk.sync(node);
    disk.synced(&sync_failed, false);
    write(&mut disk, node, 512, &[3; 512]);
    sync(&mut disk, node);
    let images = images(&disk);
    assert!(images.iter().any(|image| image["a"][0] == 1), "it may be lost");
    assert!(images.iter().any(|image| image["a"][0] == 2), "it may have arrived");
    assert!(images.iter().all(|image| image["a"][512..] == [3; 512]), "the later one is durable");
    // Written again and synced, it is there.
    write(&mut disk, node, 0, &[4; 512]);
    sync(&mut disk, node);
    assert!(self::images(&disk).iter().all(|image| image["a"][0] == 4));
}

#[test]
fn a_name_is_durable_with_its_folder_only() {
    let mut disk = Disk::new();
    let folder = disk.make_folder("f").unwrap();
    let node = disk.create("f/a").unwrap();
    write(&mut disk, node, 0, b"x");
    sync(&mut disk, node);
    sync(&mut disk, folder);
    assert!(images(&disk).iter().any(Image::is_empty), "the folder itself is not durable");
    sync(&mut disk, ROOT);
    assert!(images(&disk).iter().all(|image| image["f/a"] == b"x"));
    disk.remove("f/a");
    let images = images(&disk);
    assert!(images.iter().any(Image::is_empty) && images.iter().any(|image| !image.is_empty()));
}

#[test]
fn a_rename_leaves_the_old_or_the_new() {
    let (mut disk, _) = durable_file(b"old");
    let new = disk.create("n").unwrap();
    write(&mut disk, new, 0, b"new");
    sync(&mut disk, new);
    disk.rename("n", "a");
    let images = images(&disk);
    assert!(images.iter().all(|image| image["a"] == b"old" || image["a"] == b"new"));
    assert!(images.iter().any(|image| image["a"] == b"new"));
    sync(&mut disk, ROOT);
    assert_eq!(disk.live(), Image::from([("a".to_owned(), b"new".to_vec())]));
    assert!(self::images(&disk).iter().all(|image| *image == disk.live()));
}

#[test]
fn a_rename_without_an_fsync_before_it_can_leave_half_a_file() {
    let (mut disk, _) = durable_file(b"old");
    let new = disk.create("n").unwrap();
    write(&mut disk, new, 0, &[9; 2048]);
    disk.rename("n", "a");
    sync(&mut disk, ROOT);
    assert!(images(&disk).iter().any(|image| image["a"] != [9; 2048]));
}

#[test]
fn a_link_is_the_same_file() {
    let (mut disk, node) = durable_file(b"one");
    disk.link("a", "b");
    disk.remove("a");
    write(&mut disk, node, 0, b"two");
    assert_eq!(disk.live(), Image::from([("b".to_owned(), b"two".to_vec())]));
}

#[test]
fn a_write_that_failed_is_not_there() {
    let (mut disk, node) = durable_file(b"abcd");
    let change = disk.write(node, 2, b"XXXX").unwrap();
    disk.failed(node, change, 1);
    assert_eq!(disk.live()["a"], b"abXd");
    let change = disk.write(node, 0, b"YY").unwrap();
    disk.failed(node, change, 0);
    assert_eq!(disk.live()["a"], b"abXd");
}

#[test]
fn a_file_that_grew_may_hold_garbage_where_nothing_arrived() {
    let (mut disk, node) = durable_file(&[1; 512]);
    write(&mut disk, node, 512, &[2; 1024]);
    let images = images(&disk);
    let holes: Vec<&[u8]> = images
        .iter()
        .map(|image| image["a"].as_slice())
        .filter(|content| content.len() == 1536 && content[512..1024] != [2; 512])
        .map(|content| &content[512..1024])
        .collect();
    assert!(holes.contains(&[0; 512].as_slice()), "zeros");
    assert!(holes.iter().any(|hole| *hole != [0; 512]), "garbage");
}
