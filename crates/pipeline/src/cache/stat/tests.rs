use std::time::Duration;

use camino::Utf8PathBuf;

use super::*;

fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    (folder, root)
}

fn learnt(stats: &mut Stats, root: &Utf8Path, path: &str) -> Hashed {
    let hashed = hash(root, path).unwrap().unwrap();
    stats.learn(path, hashed, 1);
    hashed
}

#[test]
fn an_unchanged_file_is_not_read_again() {
    let (_folder, root) = folder();
    std::fs::write(root.join("a"), "one").unwrap();
    std::thread::sleep(Duration::from_millis(60));
    let mut stats = Stats::default();
    let hashed = learnt(&mut stats, &root, "a");
    let mut again = Stats::decode(&stats.encode().unwrap());
    assert!(matches!(again.look(&root, "a", 1).unwrap(), Look::Same(state) if state == hashed.state));
    assert!(again.encode().is_none(), "nothing changed, so nothing is written");
}

#[test]
fn a_change_of_the_same_length_with_its_time_set_back_is_seen() {
    let (_folder, root) = folder();
    let path = root.join("a");
    std::fs::write(&path, "one").unwrap();
    let modified = path.metadata().unwrap().modified().unwrap();
    std::thread::sleep(Duration::from_millis(60));
    let mut stats = Stats::default();
    learnt(&mut stats, &root, "a");
    std::fs::write(&path, "two").unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert!(matches!(stats.look(&root, "a", 2).unwrap(), Look::Unknown(3)));
}

#[test]
fn a_file_hashed_right_after_its_change_is_never_trusted() {
    let (_folder, root) = folder();
    std::fs::write(root.join("a"), "one").unwrap();
    let mut stats = Stats::default();
    learnt(&mut stats, &root, "a");
    assert!(matches!(stats.look(&root, "a", 1).unwrap(), Look::Same(_)), "within the generation it is");
    assert!(matches!(stats.look(&root, "a", 2).unwrap(), Look::Unknown(3)));
}

#[test]
fn a_link_counts_by_its_text_and_by_what_it_leads_to() {
    let (_folder, root) = folder();
    std::fs::write(root.join("a"), "one").unwrap();
    std::os::unix::fs::symlink("a", root.join("link")).unwrap();
    let first = hash(&root, "link").unwrap().unwrap().state;
    std::fs::write(root.join("a"), "two").unwrap();
    let second = hash(&root, "link").unwrap().unwrap().state;
    assert_ne!(first.hash, second.hash);
    assert_eq!(second.kind, Kind::Link);
}

#[test]
fn what_is_no_file_is_refused_without_hanging() {
    let (_folder, root) = folder();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe").as_std_path(), 0o600.into()).unwrap();
    std::fs::create_dir(root.join("folder")).unwrap();
    let mut stats = Stats::default();
    assert!(stats.look(&root, "pipe", 1).is_err());
    assert!(hash(&root, "pipe").is_err());
    assert!(stats.look(&root, "folder", 1).is_err());
    assert!(matches!(stats.look(&root, "absent", 1).unwrap(), Look::Absent));
    assert!(matches!(stats.look(&root, "absent/below", 1).unwrap(), Look::Absent));
}

#[test]
fn damaged_bytes_are_forgotten() {
    let (_folder, root) = folder();
    std::fs::write(root.join("a"), "one").unwrap();
    std::thread::sleep(Duration::from_millis(60));
    let mut stats = Stats::default();
    learnt(&mut stats, &root, "a");
    let mut bytes = stats.encode().unwrap();
    bytes[20] ^= 1;
    assert!(Stats::decode(&bytes).known.is_empty());
    assert!(Stats::decode(b"").known.is_empty());
}
