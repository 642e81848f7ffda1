//! Every error code has a page, every page has a code, and no text names a code that does not exist.
//!
//! `trimtab explain CODE` prints the pages, so their form is part of the product.

use delivery::code::Code;

use super::Complaint;
use crate::tree::{File, Tree};

const FOLDER: &str = "docs/reference/errors";
const PREFIX: &str = "TRM-";

/// Checks the pages against `delivery::code`.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    let pages = Code::ALL.iter().filter_map(|&code| page(tree, code));
    pages.chain(unknown(tree)).collect()
}

fn page(tree: &Tree, code: Code) -> Option<Complaint> {
    let path = format!("{FOLDER}/{code}.md");
    let Some(file) = tree.file(&path) else {
        return Some(Complaint::new(path, 1, format!("is missing: the page of `{}`", code.title())));
    };
    let title = format!("# {code} · {}", code.title());
    if file.text.lines().next() != Some(title.as_str()) {
        return Some(Complaint::new(path, 1, format!("must open with `{title}`")));
    }
    let lacking = ["## What to do", "## Example"]
        .into_iter()
        .find(|heading| !file.text.lines().any(|line| line == *heading));
    lacking.map(|heading| Complaint::new(path, 1, format!("has no section `{heading}`")))
}

/// Codes in pages, sources and file names that the table does not have.
fn unknown(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let read = |file: &&File| {
        matches!(file.path.extension(), Some("md" | "rs" | "html")) && !file.path.starts_with("xtask")
    };
    for file in tree.files.iter().filter(read) {
        let named = file.path.starts_with(FOLDER).then(|| (0, file.path.file_stem().unwrap_or_default()));
        let lines =
            named.into_iter().chain(file.text.lines().enumerate().map(|(index, line)| (index + 1, line)));
        for (line, text) in lines {
            let strangers = codes(text).filter(|id| Code::parse(id).is_none());
            complaints.extend(strangers.map(|id| {
                Complaint::new(
                    &file.path,
                    line.max(1),
                    format!("{id} is not a code: see crates/delivery/src/code.rs"),
                )
            }));
        }
    }
    complaints
}

/// Everything in a text that looks like a code.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(PREFIX).filter_map(|(at, _)| {
        let digits = text[at + PREFIX.len()..].bytes().take_while(u8::is_ascii_digit).count();
        (digits == 4).then(|| &text[at..at + PREFIX.len() + digits])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_page_and_a_wrong_title_are_found() {
        let good = "# TRM-0101 · there is no trimtab.toml\n\n## What to do\n\n## Example\n";
        let path = "docs/reference/errors/TRM-0101.md";
        let about = |text: &str| {
            check(&Tree::of([(path, text)])).into_iter().filter(|found| found.path == path).count()
        };
        assert_eq!(about(good), 0);
        assert_eq!(about("# Another title\n"), 1);
        assert_eq!(about("# TRM-0101 · there is no trimtab.toml\n"), 1);
        assert_eq!(check(&Tree::default()).len(), Code::ALL.len());
    }

    #[test]
    fn a_code_that_does_not_exist_is_found() {
        let tree = Tree::of([
            ("docs/reference/errors/TRM-9999.md", "# x\n"),
            ("docs/a.md", "\nsee TRM-9998, TRM-0101\n"),
        ]);
        let found: Vec<_> = unknown(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("TRM-9999") && found[1].starts_with("docs/a.md:2: TRM-9998"), "{found:?}");
    }
}
