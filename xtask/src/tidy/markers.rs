//! No unfinished work and no lint switched off without a reason.

use super::{Complaint, rust};
use crate::tree::{File, Tree};

/// A text in the masked code, and what to do instead.
const MARKERS: &[(&str, &str)] = &[
    ("todo!", "finish it or leave it out"),
    ("unimplemented!", "finish it or leave it out"),
    ("dbg!", "take it out"),
    ("#[ignore", "a test that does not run shows nothing: mend it or delete it"),
];

const SWITCHES: &[&str] = &["#[allow(", "#![allow(", "#[expect(", "#![expect("];

/// Checks every Rust file, tests included.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    tree.rust().flat_map(|file| markers(file).chain(switches(file)).collect::<Vec<_>>()).collect()
}

fn markers(file: &File) -> impl Iterator<Item = Complaint> {
    MARKERS.iter().flat_map(move |(marker, advice)| {
        file.code
            .match_indices(marker)
            .filter(move |&(at, _)| {
                marker.starts_with('#')
                    || !at.checked_sub(1).is_some_and(|i| rust::is_name(file.code.as_bytes()[i]))
            })
            .map(move |(at, _)| {
                Complaint::new(&file.path, rust::line_of(&file.code, at), format!("`{marker}`: {advice}"))
            })
    })
}

fn switches(file: &File) -> impl Iterator<Item = Complaint> {
    SWITCHES.iter().flat_map(move |switch| {
        file.code
            .match_indices(switch)
            .filter(move |&(at, _)| {
                let attribute = &file.code[at..];
                let end = attribute.find(']').unwrap_or(attribute.len());
                !attribute[..end].contains("reason")
            })
            .map(move |(at, _)| {
                let message = format!("`{switch}…)]` without a `reason = \"…\"`");
                Complaint::new(&file.path, rust::line_of(&file.code, at), message)
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_marker_is_found_in_code_and_not_in_text() {
        let bad =
            "fn a() { todo!() }\nfn b() { unimplemented!() }\nfn c() { dbg!(1); }\n#[ignore]\nfn d() {}\n";
        assert_eq!(check(&Tree::of([("a.rs", bad)])).len(), 4);
        let good = "// no todo!() here\nconst A: &str = \"dbg!\";\nfn my_todo() { nottodo!() }\n";
        assert_eq!(check(&Tree::of([("a.rs", good)])), []);
    }

    #[test]
    fn a_lint_is_switched_off_with_a_reason_or_not_at_all() {
        let bad = "#![allow(dead_code)]\n#[expect(\n  unused\n)]\nfn a() {}\n";
        let found: Vec<_> =
            check(&Tree::of([("a.rs", bad)])).iter().map(|complaint| complaint.line).collect();
        assert_eq!(found, [1, 2]);
        let good = "#[expect(\n  unused,\n  reason = \"a trait asks for it\"\n)]\nfn a() {}\n";
        assert_eq!(check(&Tree::of([("a.rs", good)])), []);
    }
}
