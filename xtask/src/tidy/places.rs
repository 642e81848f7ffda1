//! Nothing committed holds a path of somebody's machine or the address of somebody's package mirror: it would be false
//! everywhere else.

use super::{Complaint, rust};
use crate::tree::{File, Tree};

/// First folders of paths that exist on one machine only. Written without slashes so that this file keeps its own rule.
const FOLDERS: &[&str] = &["home", "root", "work", "workspace", "Users", "builds"];

/// Beginnings of lines that point a package manager elsewhere.
const MIRRORS: &[&str] =
    &["replace-with", "registry=", "registry =", "index-url", "extra-index-url", "@npm:registry"];

/// Where cargo's lock file may say that a package comes from.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks every text file.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    tree.files.iter().flat_map(|file| machine_paths(file).into_iter().chain(mirrors(file))).collect()
}

fn machine_paths(file: &File) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for folder in FOLDERS {
        let needle = format!("/{folder}/");
        for (at, _) in file.text.match_indices(&needle) {
            let before = at.checked_sub(1).map(|index| file.text.as_bytes()[index]);
            if before.is_none_or(begins_a_path) {
                let message = format!(
                    "`{needle}…` is a path of one machine: make it relative, or take it as an argument"
                );
                complaints.push(Complaint::new(&file.path, rust::line_of(&file.text, at), message));
            }
        }
    }
    complaints
}

/// Whether an absolute path can begin after this byte: not inside a longer path or address.
fn begins_a_path(before: u8) -> bool {
    !(rust::is_name(before) || matches!(before, b'.' | b'-' | b'~' | b'}' | b'/' | b'$' | b'*' | b')' | b'>'))
}

fn mirrors(file: &File) -> Vec<Complaint> {
    let lock = file.path.file_name() == Some("Cargo.lock");
    let config = matches!(file.path.extension(), Some("toml" | "npmrc" | "ini" | "cfg" | "conf"))
        || file.path.file_name() == Some(".npmrc");
    let foreign = |line: &str| {
        let line = line.trim();
        (config && MIRRORS.iter().any(|start| line.starts_with(start)))
            || (lock && line.starts_with("source = ") && !line.contains(CRATES_IO))
    };
    let lines = file.text.lines().enumerate().filter(|(_, line)| foreign(line));
    lines
        .map(|(index, _)| {
            Complaint::new(&file.path, index + 1, "points at a package source other than the public one")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(folder: &str) -> String {
        format!("/{folder}/ann/trimtab")
    }

    #[test]
    fn a_machine_path_is_found_and_a_part_of_a_path_is_not() {
        let bad = format!("first\nsee {}\n", path("home"));
        assert_eq!(check(&Tree::of([("a.md", &bad)]))[0].line, 2);
        let good = format!("~{0} https://example.com{0} a{0}\n", path("work"));
        assert_eq!(check(&Tree::of([("a.md", &good)])), []);
    }

    #[test]
    fn a_mirror_is_found() {
        let lock = format!("source = \"{CRATES_IO}\"\nsource = \"registry+https://mirror.example/index\"\n");
        let config = "[source.crates-io]\nreplace-with = \"mirror\"\n";
        let found = check(&Tree::of([("Cargo.lock", &lock), (".cargo/config.toml", config)]));
        assert_eq!(found.iter().map(|complaint| complaint.line).collect::<Vec<_>>(), [2, 2]);
    }
}
