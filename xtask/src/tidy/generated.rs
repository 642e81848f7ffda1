//! What is generated and committed is what would be generated now.

use super::Complaint;
use crate::codegen;
use crate::tree::Tree;

/// Compares each generated page with the committed one.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    let pages = match codegen::pages(tree) {
        Ok(pages) => pages,
        Err(message) => return vec![Complaint::new("xtask/src/codegen.rs", 1, message)],
    };
    let stale = pages.into_iter().filter_map(|page| {
        let committed = tree.file(page.path.as_str()).map(|file| file.text.as_str());
        let line = first_difference(committed.unwrap_or_default(), &page.text)?;
        Some(Complaint::new(page.path, line, "is not what is generated: run `cargo xtask codegen`"))
    });
    stale.collect()
}

/// The first line that differs, from 1.
fn first_difference(a: &str, b: &str) -> Option<usize> {
    if a == b {
        return None;
    }
    Some(a.lines().zip(b.lines()).take_while(|(a, b)| a == b).count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_edited_by_hand_is_found_at_its_line() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        let events = include_str!("../../../crates/delivery/src/event.rs");
        let tree = Tree::of([
            ("docs/reference/exit-codes.md", "# mine\n"),
            ("docs/SUMMARY.md", ""),
            ("crates/delivery/src/event.rs", events),
        ]);
        assert!(check(&tree).iter().any(|complaint| complaint.path == "docs/reference/exit-codes.md"));
    }
}
