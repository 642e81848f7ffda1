//! Our style as a test: each rule is one file below this folder, reads a [`Tree`] and complains with a place.
//!
//! A rule looks at text only; what needs types is clippy's. Invariant: a rule has a unit test that shows it bites.

mod banned;
mod changelog;
mod codes;
mod commands;
mod files;
mod functions;
mod generated;
mod heads;
mod links;
pub(crate) mod markdown;
mod markers;
mod places;
pub(crate) mod rust;
mod schema;
mod summary;
mod tiers;

use std::fmt;

use camino::Utf8PathBuf;
use delivery::text::count;

use crate::tree::Tree;

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Complaint {
    path: Utf8PathBuf,
    line: usize,
    message: String,
}

impl Complaint {
    /// About a line (from 1) of a file.
    pub(crate) fn new(path: impl Into<Utf8PathBuf>, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.into(), line, message: message.into() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// What a rule is about; `cargo xtask test` runs the families as two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Sources and the shape of the house.
    Code,
    /// Pages, links and what is generated.
    Docs,
}

struct Rule {
    name: &'static str,
    family: Family,
    check: fn(&Tree) -> Vec<Complaint>,
}

const RULES: &[Rule] = &[
    Rule { name: "heads", family: Family::Code, check: heads::check },
    Rule { name: "functions", family: Family::Code, check: functions::check },
    Rule { name: "files", family: Family::Code, check: files::check },
    Rule { name: "markers", family: Family::Code, check: markers::check },
    Rule { name: "banned", family: Family::Code, check: banned::check },
    Rule { name: "places", family: Family::Code, check: places::check },
    Rule { name: "tiers", family: Family::Code, check: tiers::check },
    Rule { name: "codes", family: Family::Docs, check: codes::check },
    Rule { name: "generated", family: Family::Docs, check: generated::check },
    Rule { name: "changelog", family: Family::Docs, check: changelog::check },
    Rule { name: "links", family: Family::Docs, check: links::check },
    Rule { name: "summary", family: Family::Docs, check: summary::check },
    Rule { name: "commands", family: Family::Docs, check: commands::check },
    Rule { name: "schema", family: Family::Docs, check: schema::check },
];

/// Runs the families' rules and prints what they find to standard output; `Err` when there is anything.
pub(crate) fn report(tree: &Tree, families: &[Family]) -> Result<(), String> {
    let rules = RULES.iter().filter(|rule| families.contains(&rule.family));
    let mut rules_seen = 0;
    let mut complaints_seen = 0;
    for rule in rules {
        rules_seen += 1;
        let mut complaints = (rule.check)(tree);
        complaints.sort();
        complaints_seen += complaints.len() as u64;
        for complaint in complaints {
            println!("{complaint} [{}]", rule.name);
        }
    }
    if complaints_seen > 0 {
        return Err(format!("tidy found {}", count(complaints_seen, "complaint")));
    }
    println!(
        "tidy: {} over {}, nothing to complain about",
        count(rules_seen, "rule"),
        count(tree.files.len() as u64, "file")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_an_error_and_names_its_place() {
        let tree = Tree::of([("crates/store/src/lib.rs", "fn f() {}\n")]);
        assert!(report(&tree, &[Family::Code]).is_err());
        assert_eq!(Complaint::new("a.rs", 3, "is wrong").to_string(), "a.rs:3: is wrong");
    }
}
