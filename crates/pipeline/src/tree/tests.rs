use super::*;

fn patterns(directory: &str, globs: &[&str]) -> Vec<Pattern> {
    let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
    Compiler::default().compile(Utf8Path::new(directory), &globs).unwrap()
}

fn tree(files: &[&str]) -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    for file in files {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file).unwrap();
    }
    (folder, root)
}

fn inputs(root: &Utf8Path, directory: &str, globs: &[&str]) -> Vec<String> {
    let patterns = patterns(directory, globs);
    Tree::new(root, patterns.iter(), Vec::new()).inputs(&patterns).unwrap().paths
}

#[test]
fn globs_are_relative_to_the_directory() {
    let (_folder, root) =
        tree(&["web/src/a.ts", "web/src/deep/b.ts", "web/src/c.css", "api/src/d.ts", "e.ts"]);
    assert_eq!(inputs(&root, "web", &["src/**/*.ts"]), ["web/src/a.ts", "web/src/deep/b.ts"]);
    assert_eq!(inputs(&root, "web", &["src/*"]), ["web/src/a.ts", "web/src/c.css"]);
    assert_eq!(inputs(&root, "web", &["**", "!src/deep/**"]), ["web/src/a.ts", "web/src/c.css"]);
    assert_eq!(inputs(&root, ".", &["*.ts"]), ["e.ts"]);
    assert_eq!(inputs(&root, ".", &["{web,api}/src/*.ts"]), ["api/src/d.ts", "web/src/a.ts"]);
    assert_eq!(inputs(&root, "web", &["../api/**"]), ["api/src/d.ts"]);
}

#[test]
fn ignored_files_count_only_by_their_own_path() {
    let (_folder, root) = tree(&["a.txt", "out/b.txt", "local.env", ".trimtab/x", ".git/y", "sub/out/z"]);
    std::fs::write(root.join(".gitignore"), "out/\n*.env\n").unwrap();
    assert_eq!(inputs(&root, ".", &["**"]), [".gitignore", "a.txt"]);
    assert_eq!(inputs(&root, ".", &["local.env", "absent"]), ["absent", "local.env"]);
    assert_eq!(inputs(&root, ".", &["out"]), ["out/b.txt"]);
}

#[test]
fn a_folder_means_all_that_is_in_it() {
    let (_folder, root) = tree(&["src/a", "src/b/c", "srcs"]);
    assert_eq!(inputs(&root, ".", &["src"]), ["src/a", "src/b/c"]);
    assert_eq!(inputs(&root, ".", &["./src/", "!src/a"]), ["src/b/c"]);
}

#[test]
fn outputs_say_which_pattern_found_nothing() {
    let (_folder, root) = tree(&["dist/app.js", "dist/app.map", "target/x"]);
    std::fs::write(root.join(".gitignore"), "dist\n").unwrap();
    let (files, found) =
        outputs(&root, &patterns(".", &["dist/**", "!**/*.map", "report.xml", "target"])).unwrap();
    assert_eq!(files, ["dist/app.js", "target/x"]);
    assert_eq!(found, [true, true, false, true]);
}

#[test]
fn only_what_leads_to_a_base_is_entered() {
    let bases: BTreeSet<String> = ["a/b".to_owned(), "c".to_owned()].into();
    for (folder, wanted) in
        [("a", true), ("a/b", true), ("a/b/x", true), ("a/x", false), ("c", true), ("cc", false)]
    {
        assert_eq!(leads(folder, &bases), wanted, "{folder}");
    }
}

#[test]
fn reports_are_no_inputs_of_globs() {
    let (_folder, root) = tree(&["a", "out/r.xml", "report.xml"]);
    let all = patterns(".", &["**"]);
    let tree = Tree::new(&root, all.iter(), patterns(".", &["report.xml", "out/*.xml"]));
    assert_eq!(tree.inputs(&all).unwrap().paths, ["a"]);
    assert_eq!(tree.inputs(&patterns(".", &["report.xml"])).unwrap().paths, ["report.xml"]);
}
