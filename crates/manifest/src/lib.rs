//! Reads `trimtab.toml` into checked, versioned types; says what is wrong and where. Proposes a first one (`detect`).
//!
//! One table (`keys`) says what the file may hold; from it come the checker, the defaults, the JSON Schema and the reference
//! page. Parsing goes: TOML (`syntax`), version, single keys (`check`), rules between keys (`read`, `environment`, `strategy`).
//! All of them report into one list, so that a user sees every problem at once. Leaves out everything that is not in
//! the file: whether programs, files or branches exist.
//!
//! Invariant: a [`Manifest`] in hand keeps all that [`model`] promises; any text gives either that or at least one problem,
//! never a panic.

mod check;
pub mod detect;
mod environment;
mod format;
mod graph;
mod haproxy;
mod hints;
mod issue;
mod keys;
mod listen;
mod load;
pub mod model;
mod outputs;
mod policy;
mod read;
mod reference;
mod schema;
mod shape;
mod strategy;
mod syntax;
mod view;

#[cfg(test)]
mod tests;

use camino::Utf8Path;
use delivery::code::Code;
use delivery::limits::MANIFEST_BYTES_MAX;
use delivery::problem::Problem;
use toml::de::{DeTable, DeValue};

pub use load::{FILE_NAME, load};
pub use model::{Front, Gate, Haproxy, Manifest, Readiness, Service, Task};
pub use policy::policy_digest;
pub use reference::reference;
pub use schema::schema;

use crate::check::Checker;
use crate::issue::{Issue, Issues};

/// The manifest's only version.
const VERSION: &str = "1";

/// Reads the text. `path` is for the problems only.
///
/// # Errors
/// All problems, in the order of the text; at least one, at most 51 (the last then counts the rest).
pub fn parse(path: &Utf8Path, text: &str) -> Result<Manifest, Vec<Problem>> {
    if text.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(vec![load::too_large(path, text.len() as u64)]);
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut issues = Issues::default();
    if !errors.is_empty() {
        syntax::issues(&errors, text, &mut issues);
        return Err(issues.into_problems(path, text));
    }
    let table = document.get_ref();
    if table.is_empty() {
        let problem = Problem::new(Code::ManifestEmpty, format!("{path} says nothing"));
        return Err(vec![problem.hint("start it with version = 1, or remove it and run `trimtab init`")]);
    }
    if let Some(issue) = other_version(table) {
        issues.push(issue);
        return Err(issues.into_problems(path, text));
    }
    let mut checker = Checker::new(text);
    let first_line = text.find('\n').unwrap_or(text.len());
    checker.table(&keys::MANIFEST, read::ROOT, table, &(0..first_line));
    let mut issues = checker.issues;
    let manifest = read::manifest(table, &mut issues);
    if issues.is_empty() { Ok(manifest) } else { Err(issues.into_problems(path, text)) }
}

/// Another version is told alone: everything else may be different there.
fn other_version(table: &DeTable<'_>) -> Option<Issue> {
    let version = table.get("version")?;
    let DeValue::Integer(number) = version.get_ref() else { return None };
    if number.as_str() == VERSION && number.radix() == 10 {
        return None;
    }
    let message = format!("this is a manifest of version {number}, and this Trimtab reads version {VERSION}");
    let issue = Issue::new(Code::ManifestVersion, version.span(), message);
    Some(issue.hint("write version = 1, or use the Trimtab that the manifest was written for".to_owned()))
}
