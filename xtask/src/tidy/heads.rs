//! Every module opens with `//!`: a reader learns in three lines what the file is for and what it leaves out.

use super::Complaint;
use crate::tree::Tree;

/// Checks every Rust file but unit tests beside their module, which its head speaks for.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    tree.rust()
        .filter(|file| !file.is_unit_test() && !file.text.trim_start().starts_with("//! "))
        .map(|file| {
            Complaint::new(
                &file.path,
                1,
                "opens without `//!`: say what it is for, what it leaves out, its invariant",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_headless_module_is_found() {
        let tree = Tree::of([
            ("a.rs", "use std::fmt;\n"),
            ("b.rs", "//! Talks.\n"),
            ("b/tests.rs", "use a;\n"),
            ("c.md", "text\n"),
        ]);
        let found = check(&tree);
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().starts_with("a.rs:1: "));
    }
}
