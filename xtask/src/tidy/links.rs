//! Every relative link of every page leads somewhere: the file is in the tree, and the heading is in the file.

use camino::{Utf8Path, Utf8PathBuf};

use super::{Complaint, markdown};
use crate::tree::{File, Tree};

/// Checks every Markdown page.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    tree.pages().flat_map(|page| broken(tree, page)).collect()
}

fn broken(tree: &Tree, page: &File) -> Vec<Complaint> {
    let relative =
        |link: &markdown::Link<'_>| !link.target.contains("://") && !link.target.starts_with("mailto:");
    markdown::links(&page.text)
        .into_iter()
        .filter(relative)
        .filter_map(|link| {
            let fault = fault(tree, page, link.target)?;
            Some(Complaint::new(
                &page.path,
                link.line,
                format!("the link `{}` leads nowhere: {fault}", link.target),
            ))
        })
        .collect()
}

/// What is wrong with a relative link, if anything.
fn fault(tree: &Tree, page: &File, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let path = if path.is_empty() { Some(page.path.clone()) } else { resolve(&page.path, path) };
    let Some(path) = path else {
        return Some("it leaves the repository".into());
    };
    let Some(file) = tree.file(path.as_str()) else {
        let folder = tree.files.iter().any(|file| file.path.starts_with(&path));
        return (!folder).then(|| format!("there is no {path}"));
    };
    let anchor = anchor?;
    let known = markdown::anchors(&file.text).iter().any(|known| known == anchor);
    (!known).then(|| format!("{path} has no heading `{anchor}`"))
}

/// The path from the root; `None` when it leaves the repository.
fn resolve(from: &Utf8Path, target: &str) -> Option<Utf8PathBuf> {
    let mut path = from.parent()?.to_path_buf();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if !path.pop() {
                    return None;
                }
            }
            part => path.push(part),
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> usize {
        let tree = Tree::of([("docs/a.md", text), ("docs/b/c.md", "# The end\n"), ("README.md", "# R\n")]);
        check(&tree).len()
    }

    #[test]
    fn links_to_files_folders_and_headings_hold() {
        assert_eq!(
            faults(
                "# Top\n[a](b/c.md) [b](b/c.md#the-end) [c](../README.md) [d](b) [e](#top) [f](https://x.y)\n"
            ),
            0
        );
    }

    #[test]
    fn links_to_nothing_are_found() {
        for text in ["[a](c.md)\n", "[a](b/c.md#no)\n", "[a](../../x.md)\n", "[a](#nothing)\n"] {
            assert_eq!(faults(text), 1, "{text}");
        }
    }
}
