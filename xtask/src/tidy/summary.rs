//! The book's table of contents holds every page below docs/: a page that is not in it is not in the book.

use super::{Complaint, markdown};
use crate::tree::Tree;

const SUMMARY: &str = "docs/SUMMARY.md";

/// Checks the contents against the pages. Links to nothing are the links rule's.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    let Some(summary) = tree.file(SUMMARY) else {
        return vec![Complaint::new(SUMMARY, 1, "is missing")];
    };
    let listed: Vec<&str> = markdown::links(&summary.text).into_iter().map(|link| link.target).collect();
    tree.pages()
        .filter(|page| page.path != SUMMARY)
        .filter_map(|page| page.path.strip_prefix("docs").ok().map(|inside| (page, inside)))
        .filter(|(_, inside)| !listed.contains(&inside.as_str()))
        .map(|(page, inside)| Complaint::new(&page.path, 1, format!("`{inside}` is not in {SUMMARY}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_outside_the_contents_is_found() {
        let tree =
            Tree::of([(SUMMARY, "- [a](a.md)\n"), ("docs/a.md", ""), ("docs/b/c.md", ""), ("README.md", "")]);
        let found = check(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "docs/b/c.md");
    }
}
