//! CHANGELOG.md keeps the form of Keep a Changelog 1.1.0: an Unreleased section on top, known kinds of change below.

use super::Complaint;
use crate::tree::Tree;

const PAGE: &str = "CHANGELOG.md";
const KINDS: &[&str] = &["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];

/// Checks the changelog.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    let Some(page) = tree.file(PAGE) else {
        return vec![Complaint::new(PAGE, 1, "is missing")];
    };
    let mut complaints = Vec::new();
    let first = page.text.lines().find(|line| line.starts_with("## "));
    if first != Some("## [Unreleased]") {
        complaints.push(Complaint::new(PAGE, 1, "its first section must be `## [Unreleased]`"));
    }
    for (index, line) in page.text.lines().enumerate() {
        if line.strip_prefix("### ").is_some_and(|kind| !KINDS.contains(&kind)) {
            complaints.push(Complaint::new(
                PAGE,
                index + 1,
                format!("`{line}` is none of {}", KINDS.join(", ")),
            ));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changelog_without_unreleased_or_with_a_strange_kind_is_found() {
        assert_eq!(
            check(&Tree::of([(PAGE, "# Changelog\n\n## [Unreleased]\n\n### Added\n\n## [0.1.0]\n")])),
            []
        );
        assert_eq!(check(&Tree::of([(PAGE, "# Changelog\n\n## [0.1.0]\n\n### New\n")])).len(), 2);
        assert_eq!(check(&Tree::default()).len(), 1);
    }
}
