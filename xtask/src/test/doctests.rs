//! Runs the examples in doc comments, where there are any.

use std::collections::BTreeSet;

use delivery::text::count;

use crate::place::Place;
use crate::shell::Call;
use crate::tree::Tree;

/// Runs `cargo test --doc` for the libraries that have examples, and says so when none has.
pub(super) fn run(place: &Place) -> Result<String, String> {
    let packages = with_examples(&Tree::load(&place.root)?);
    if packages.is_empty() {
        eprintln!("no library has an example in its doc comments: nothing to run");
        return Ok("no examples in the tree".into());
    }
    let mut arguments = vec!["test", "--doc"];
    arguments.extend(packages.iter().flat_map(|package| ["-p", package.as_str()]));
    Call::new(place, "cargo", &arguments).run()?;
    Ok(count(packages.len() as u64, "crate"))
}

/// Names of the crates below `crates/` whose doc comments hold a code block that is compiled.
fn with_examples(tree: &Tree) -> BTreeSet<String> {
    let libraries = tree.sources().filter_map(|file| {
        let name = file.path.strip_prefix("crates").ok()?.components().next()?.as_str();
        tree.file(&format!("crates/{name}/src/lib.rs"))?;
        has_example(&file.text).then(|| name.to_owned())
    });
    libraries.collect()
}

/// Whether a doc comment opens a code block that rustdoc compiles: without a language, or with one of its own words.
fn has_example(source: &str) -> bool {
    let mut inside = false;
    for line in source.lines() {
        let line = line.trim_start();
        let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        let Some(language) = doc.and_then(|doc| doc.trim_start().strip_prefix("```")) else { continue };
        let compiled = matches!(language.trim(), "" | "rust" | "no_run" | "should_panic" | "compile_fail");
        if !inside && compiled {
            return true;
        }
        inside = !inside;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_compiled_blocks_of_libraries_count() {
        let example = "/// ```\n/// assert!(true);\n/// ```\nfn a() {}\n";
        let text = "//! ```text\n//! a -> b\n//! ```\n";
        let tree = Tree::of([
            ("crates/gate/src/lib.rs", "//! g\n"),
            ("crates/gate/src/rule.rs", example),
            ("crates/store/src/lib.rs", text),
            ("crates/trimtab/src/main.rs", example),
        ]);
        assert_eq!(with_examples(&tree).into_iter().collect::<Vec<_>>(), ["gate"]);
    }
}
