//! Two tasks may write one output only if one of them needs the other.
//!
//! Outputs are compared as they are written, without what makes no difference (`./`, a trailing `/` or `/**`). Leaves out whether
//! two different globs could match one file. Invariant: tasks that pass here have an order for every output that both name.

use std::collections::{BTreeMap, BTreeSet};

use delivery::code::Code;

use crate::format::directory;
use crate::issue::{Issue, Issues, Span};
use crate::view::View;

/// `needs` are positions in `names`.
pub(crate) fn check<'t>(
    names: &[&str],
    tasks: impl Iterator<Item = View<'t>>,
    needs: &[Vec<usize>],
    issues: &mut Issues,
) {
    let mut writers: BTreeMap<String, Vec<(usize, String, Span)>> = BTreeMap::new();
    for (at, view) in tasks.enumerate() {
        let folder = view.text("directory").and_then(|text| directory(&text).ok()).unwrap_or_default();
        for (glob, span) in view.texts("outputs").into_iter().filter(|(glob, _)| !glob.starts_with('!')) {
            writers.entry(normal(folder.as_str(), &glob)).or_default().push((at, glob, span));
        }
    }
    for writers in writers.into_values() {
        for (index, (at, glob, span)) in writers.iter().enumerate().skip(1) {
            let loose =
                |other: &usize| other != at && !leads(needs, *at, *other) && !leads(needs, *other, *at);
            let Some((other, ..)) = writers[..index].iter().find(|(other, ..)| loose(other)) else {
                continue;
            };
            let (one, two) = (names[*other], names[*at]);
            let message = format!("tasks `{one}` and `{two}` both write {glob}");
            let hint = format!(
                "let each write elsewhere, or name one of them in `needs` of the other: needs = [\"{one}\"]"
            );
            issues.push(
                Issue::new(Code::ManifestOutputs, span.clone(), message).label("written by both").hint(hint),
            );
        }
    }
}

fn normal(folder: &str, glob: &str) -> String {
    let parts = folder.split('/').chain(glob.split('/')).filter(|part| !matches!(*part, "" | "."));
    let mut parts: Vec<&str> = parts.collect();
    if parts.ends_with(&["**", "*"]) {
        parts.pop();
    }
    if parts.last() == Some(&"**") {
        parts.pop();
    }
    parts.join("/")
}

/// Whether the task needs the other, directly or through others.
fn leads(needs: &[Vec<usize>], from: usize, to: usize) -> bool {
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        for need in needs.get(at).into_iter().flatten() {
            if *need == to {
                return true;
            }
            if seen.insert(*need) {
                open.push(*need);
            }
        }
    }
    false
}
