//! The canonical list, what may be packed, and what comes out again.

use proptest::prelude::*;

use super::*;

struct Place {
    _keep: tempfile::TempDir,
    root: Utf8PathBuf,
    blobs: Blobs,
    path: Utf8PathBuf,
}

fn place() -> Place {
    let keep = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(keep.path().canonicalize().unwrap()).unwrap();
    let root = path.join("work");
    std::fs::create_dir_all(root.join("web")).unwrap();
    std::fs::write(root.join("app"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(root.join("app"), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(root.join("web/index.html"), "<p>hello</p>\n").unwrap();
    std::fs::write(root.join("web-b"), "").unwrap();
    let blobs = Blobs::open(&path.join("blobs")).unwrap();
    Place { _keep: keep, root, blobs, path }
}

fn paths(paths: &[&str]) -> Vec<Utf8PathBuf> {
    paths.iter().map(Into::into).collect()
}

fn service() -> ServiceName {
    ServiceName::new("web").unwrap()
}

const ALL: [&str; 3] = ["web/index.html", "app", "web-b"];

#[test]
fn the_list_is_canonical() {
    let Place { root, blobs, .. } = &place();
    let (artifact, list) = pack(root, &paths(&ALL), &service(), blobs).unwrap();
    let order: Vec<_> = list.entries().iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(order, ["app", "web-b", "web/index.html"], "bytewise: '-' is before '/'");
    let expected = "trimtab-artifact-v1\n\
        100755 a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf 10 app\n\
        100644 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 web-b\n\
        100644 ebd124fc4e4c92f8d1d08886925f12ece8727c21f05a54fd8a020cc8c86ab669 13 web/index.html\n";
    assert_eq!(list.canonical(), expected);
    // As `sha256sum` gives it for that text.
    assert_eq!(artifact.digest.as_str(), "501a3a008e87a64aaf24a9549fd11dd5130309da2e52f3852696fea436354e5c");
    assert_eq!((artifact.files, artifact.bytes), (3, 23));
    assert_eq!(artifact.digest, Digest::of(list.canonical().as_bytes()));
    let (again, _) =
        pack(root, &paths(&["web-b", "app", "app", "web/index.html"]), &service(), blobs).unwrap();
    assert_eq!(again, artifact, "order and repetitions don't matter");
    assert_eq!(load(&artifact.digest, blobs).unwrap(), list);
}

#[test]
fn what_is_unpacked_is_what_was_packed() {
    let Place { root, blobs, path, .. } = &place();
    let (artifact, list) = pack(root, &paths(&ALL), &service(), blobs).unwrap();
    let to = path.join("releases/one");
    unpack(&list, blobs, &to).unwrap();
    assert_eq!(check(&to).unwrap(), artifact.digest);
    let before = std::fs::metadata(&to).unwrap().modified().unwrap();
    unpack(&list, blobs, &to).unwrap();
    assert_eq!(std::fs::metadata(&to).unwrap().modified().unwrap(), before, "nothing to do the second time");
    assert_eq!(std::fs::read_dir(path.join("releases")).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn every_change_is_seen_and_mended() {
    let Place { root, blobs, path, .. } = &place();
    let (artifact, list) = pack(root, &paths(&ALL), &service(), blobs).unwrap();
    let to = path.join("one");
    let changes: [&dyn Fn(); 6] = [
        &|| std::fs::write(to.join("extra"), "").unwrap(),
        &|| std::fs::write(to.join("web/index.html"), "<p>hellO</p>\n").unwrap(),
        &|| std::fs::remove_file(to.join("web-b")).unwrap(),
        &|| std::fs::set_permissions(to.join("app"), PermissionsExt::from_mode(0o644)).unwrap(),
        &|| std::os::unix::fs::symlink("app", to.join("link")).unwrap(),
        &|| std::fs::rename(to.join("app"), to.join("App")).unwrap(),
    ];
    for (number, change) in changes.iter().enumerate() {
        unpack(&list, blobs, &to).unwrap();
        change();
        assert!(check(&to).map_or(true, |found| found != artifact.digest), "change {number}");
        unpack(&list, blobs, &to).unwrap();
        assert_eq!(check(&to).unwrap(), artifact.digest, "after change {number}");
    }
}

#[test]
fn links_are_followed_inside_only() {
    let Place { root, blobs, path, .. } = &place();
    std::fs::write(path.join("secret"), "key").unwrap();
    std::os::unix::fs::symlink("web/index.html", root.join("inside")).unwrap();
    std::os::unix::fs::symlink("../secret", root.join("outside")).unwrap();
    std::os::unix::fs::symlink("..", root.join("up")).unwrap();
    let (_, list) = pack(root, &paths(&["inside"]), &service(), blobs).unwrap();
    assert_eq!(list.entries()[0].sha256, Digest::of(b"<p>hello</p>\n"));
    std::fs::create_dir_all(root.join(".trimtab/keys")).unwrap();
    std::fs::write(root.join(".trimtab/keys/signing.pem"), "key").unwrap();
    std::os::unix::fs::symlink(".trimtab/keys/signing.pem", root.join("key")).unwrap();
    for link in ["outside", "up/secret", "key", ".trimtab/keys/signing.pem"] {
        let refused = pack(root, &paths(&[link]), &service(), blobs);
        assert!(matches!(refused, Err(ArtifactError::Link { .. })), "{link}");
    }
}

#[test]
fn bad_input_is_refused() {
    let Place { root, blobs, .. } = &place();
    let try_pack = |files: &[&str]| pack(root, &paths(files), &service(), blobs).unwrap_err();
    assert!(matches!(try_pack(&[]), ArtifactError::Empty));
    assert!(matches!(try_pack(&["web"]), ArtifactError::NotAFile { .. }));
    assert!(matches!(try_pack(&["missing"]), ArtifactError::Blob(BlobError::Io { .. })));
    for path in ["/etc/passwd", "../x", "web/../app", "./app", "web//index.html", "web/", "a\nb", ""] {
        assert!(matches!(try_pack(&[path]), ArtifactError::Path { .. }), "{path:?}");
    }
    assert_eq!(try_pack(&[]).problem().code, Code::ArtifactUnpackable);
}

#[test]
fn only_canonical_lists_are_read() {
    let Place { blobs, .. } = &place();
    let hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let good = format!("trimtab-artifact-v1\n100644 {hash} 0 a\n100644 {hash} 0 b\n");
    assert!(FileList::parse(&good).is_some());
    let bad = [
        good.replace("v1", "v2"),
        good.replace(" 0 a", " 00 a"),
        good.replace(" 0 a", " 0 c"),
        good.replace(" 0 a", " 0 b"),
        good.replace(" 0 a", " 0 ../a"),
        good.replace("100644", "100600"),
        good.trim_end().to_owned(),
        good.replace('\n', "\r\n"),
        format!("{good}\n"),
        String::new(),
    ];
    for text in bad {
        assert!(FileList::parse(&text).is_none(), "{text:?}");
        let digest = blobs.put_document(text.as_bytes()).unwrap();
        assert!(matches!(load(&digest, blobs), Err(ArtifactError::List { .. })));
    }
}

#[test]
fn a_missing_or_damaged_file_leaves_nothing_behind() {
    let Place { root, blobs, path, .. } = &place();
    let (_, list) = pack(root, &paths(&ALL), &service(), blobs).unwrap();
    let other = Blobs::open(&path.join("other")).unwrap();
    assert!(matches!(
        unpack(&list, &other, &path.join("one")),
        Err(ArtifactError::Blob(BlobError::Missing { .. }))
    ));
    let left: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

proptest! {
    #[test]
    fn lists_read_back(names in prop::collection::btree_map("[a-z]{1,3}(/[a-zé .-]{1,4}[a-z]){0,2}", (any::<bool>(), 0_u64..1000), 1..20)) {
        let entries: Vec<_> = names.into_iter().map(|(path, (executable, size))| FileEntry {
            sha256: Digest::of(path.as_bytes()), path: path.into(), executable, size,
        }).collect();
        if let Ok(list) = FileList::new(entries) {
            prop_assert_eq!(FileList::parse(&list.canonical()), Some(list));
        }
    }
}
