//! What rules need to know of a Markdown page: its links, its headings, its code. A reader of lines, not a parser.
//!
//! Leaves out what our pages don't use: link definitions, links with titles, indented code blocks.

/// A link as it stands in the page, outside of code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link<'a> {
    pub(crate) line: usize,
    pub(crate) target: &'a str,
}

/// A piece of a line: in a code block, in inline code, or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Inline,
    Block,
}

/// A line of the page and whether it is inside a fenced code block.
fn lines(page: &str) -> impl Iterator<Item = (usize, &str, bool)> {
    let mut fenced = false;
    page.lines().enumerate().map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        let inside = fenced || fence;
        fenced ^= fence;
        (index + 1, line, inside)
    })
}

/// The page in pieces that don't cross lines, each with its line and whether it begins where its kind does. Inline code may go on
/// over the end of a line, but not over an empty one.
fn pieces(page: &str) -> Vec<(usize, &str, Kind, bool)> {
    let mut found = Vec::new();
    let mut kind = Kind::Text;
    for (line, text, fenced) in lines(page) {
        if fenced || text.trim().is_empty() {
            kind = Kind::Text;
        }
        if fenced {
            found.push((line, text, Kind::Block, true));
            continue;
        }
        for (index, piece) in text.split('`').enumerate() {
            if index > 0 {
                kind = if kind == Kind::Text { Kind::Inline } else { Kind::Text };
            }
            found.push((line, piece, kind, index > 0));
        }
    }
    found
}

/// Every inline link and image. A link's text may hold inline code.
pub(crate) fn links(page: &str) -> Vec<Link<'_>> {
    let mut found = Vec::new();
    for (line, text, ..) in pieces(page).into_iter().filter(|(_, _, kind, _)| *kind == Kind::Text) {
        for (at, _) in text.match_indices("](") {
            let rest = &text[at + 2..];
            if let Some(end) = rest.find(')') {
                found.push(Link { line, target: &rest[..end] });
            }
        }
    }
    found
}

/// The anchors of the page's headings, as GitHub and mdBook make them.
pub(crate) fn anchors(page: &str) -> Vec<String> {
    let headings = lines(page).filter(|(_, line, fenced)| !fenced && line.starts_with('#'));
    headings.map(|(_, line, _)| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .collect::<String>();
    kept.replace(' ', "-")
}

/// The calls of a program that the page shows: in code blocks at the start of a line, and at the start of inline code. Gives
/// the line and the word after the program's name.
pub(crate) fn calls<'a>(page: &'a str, program: &str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for (line, text, kind, begins) in pieces(page) {
        if kind == Kind::Text || !begins {
            continue;
        }
        let start = if kind == Kind::Block { text.trim_start_matches("$ ") } else { text };
        if let Some(rest) = start.strip_prefix(program).and_then(|rest| rest.strip_prefix(' ')) {
            found.push((line, rest.split_whitespace().next().unwrap_or_default()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_outside_code_are_found() {
        let page = "see [a](b.md), `[no](x)` and ![c](d.svg#e)\n```\n[f](g)\n```\n[h](i)\n";
        let found: Vec<_> = links(page).into_iter().map(|link| (link.line, link.target)).collect();
        assert_eq!(found, [(1, "b.md"), (1, "d.svg#e"), (5, "i")]);
    }

    #[test]
    fn anchors_are_made_as_readers_make_them() {
        assert_eq!(anchors("# The loop\n```\n# no\n```\n## What's `new`?\n"), ["the-loop", "whats-new"]);
    }

    #[test]
    fn calls_are_found_in_code_only() {
        let page =
            "run `trimtab why x`, not trimtab fly\n```console\n$ trimtab ship --to a\ntrimtab: hello\n```\n";
        assert_eq!(calls(page, "trimtab"), [(1, "why"), (3, "ship")]);
        let broken = "first `trimtab ledger\nverify`, then trimtab flies. [a](b) `c\n\n[d](e)\n";
        assert_eq!(calls(broken, "trimtab"), [(1, "ledger")]);
        assert_eq!(links(broken).len(), 2);
    }
}
