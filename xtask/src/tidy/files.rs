//! Files stay within 900 lines: one idea a file. Tests are free, because a table of cases may be long.

use super::Complaint;
use crate::tree::Tree;

const LINES_MAX: usize = 900;

/// Checks the Rust files that are compiled into programs.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    tree.sources()
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| {
            Complaint::new(
                &file.path,
                LINES_MAX + 1,
                format!("has {lines} lines, more than {LINES_MAX}: part it by idea"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_901st_line_is_found_outside_tests() {
        let (long, full) = ("\n".repeat(901), "\n".repeat(900));
        let tree = Tree::of([("src/a.rs", &long), ("src/b.rs", &full), ("src/a/tests.rs", &long)]);
        let found = check(&tree);
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().starts_with("src/a.rs:901: has 901 lines"));
    }
}
