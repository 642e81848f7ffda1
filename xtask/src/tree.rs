//! The tree that tidy looks at: the files that git knows or would add, and the packages that cargo knows.
//!
//! Rules take a [`Tree`] as a value, so that a unit test can hand them a bad one. Invariant: paths are relative to the
//! root, in order, without duplicates.

use camino::{Utf8Path, Utf8PathBuf};

use crate::shell::Call;
use crate::tidy::rust;

/// A file with its text.
#[derive(Debug)]
pub(crate) struct File {
    /// Relative to the root.
    pub(crate) path: Utf8PathBuf,
    /// Its text; empty for files that are not UTF-8.
    pub(crate) text: String,
    /// For Rust sources, the text with comments and literals blanked (see [`rust::mask`]); empty otherwise.
    pub(crate) code: String,
}

impl File {
    /// A file of this text.
    pub(crate) fn new(path: impl Into<Utf8PathBuf>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let code = if path.extension() == Some("rs") { rust::mask(&text) } else { String::new() };
        Self { path, text, code }
    }

    /// Whether it holds the unit tests of the module beside it.
    pub(crate) fn is_unit_test(&self) -> bool {
        self.path.file_stem().is_some_and(|stem| stem == "tests" || stem.ends_with("_tests"))
    }

    /// Whether it is Rust that is only compiled for tests or benchmarks.
    pub(crate) fn is_test(&self) -> bool {
        self.is_unit_test()
            || self.path.components().any(|part| matches!(part.as_str(), "tests" | "benches" | "examples"))
    }
}

/// A package of the workspace with the packages of the workspace that it is built with (not only tested with).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    /// Its name, which is its folder's.
    pub(crate) name: String,
    /// Names of workspace packages among its normal and build dependencies.
    pub(crate) imports: Vec<String>,
}

/// Everything that the rules may look at.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The checkout; empty in unit tests.
    pub(crate) root: Utf8PathBuf,
    /// All files, by path.
    pub(crate) files: Vec<File>,
    /// All packages of the workspace.
    pub(crate) packages: Vec<Package>,
}

impl Tree {
    /// Reads a checkout.
    pub(crate) fn load(root: &Utf8Path) -> Result<Self, String> {
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"];
        let listed = Call::bare(root, "git", &list).output()?;
        let mut files = Vec::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            match std::fs::read(root.join(path)) {
                Ok(bytes) => files.push(File::new(path, String::from_utf8(bytes).unwrap_or_default())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("{path}: {error}")),
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let metadata = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
        let packages = packages(&Call::bare(root, "cargo", &metadata).output()?)?;
        Ok(Self { root: root.to_owned(), files, packages })
    }

    /// A tree of these files, for tests.
    #[cfg(test)]
    pub(crate) fn of<const N: usize>(files: [(&str, &str); N]) -> Self {
        let files = files.into_iter().map(|(path, text)| File::new(path, text)).collect();
        Self { files, ..Self::default() }
    }

    /// The file at this path.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The Rust sources of the workspace, tests included.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.extension() == Some("rs"))
    }

    /// The Rust sources that are compiled into programs: without tests and benchmarks.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &File> {
        self.rust().filter(|file| !file.is_test())
    }

    /// The Markdown pages.
    pub(crate) fn pages(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.extension() == Some("md"))
    }
}

/// Reads `cargo metadata --no-deps`.
fn packages(metadata: &str) -> Result<Vec<Package>, String> {
    let value: serde_json::Value =
        serde_json::from_str(metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    let list = value["packages"].as_array().ok_or("cargo metadata: no packages")?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok(list
        .iter()
        .map(|package| Package {
            name: text(&package["name"]),
            imports: package["dependencies"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|dependency| dependency["path"].is_string() && dependency["kind"] != "dev")
                .map(|dependency| text(&dependency["name"]))
                .collect(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_workspace_packages_that_are_built_with_count_as_imports() {
        let metadata = r#"{"packages": [{"name": "gate", "dependencies": [
            {"name": "delivery", "path": "d", "kind": null}, {"name": "serde", "kind": null},
            {"name": "store", "path": "s", "kind": "dev"}]}]}"#;
        let expected = Package { name: "gate".into(), imports: vec!["delivery".into()] };
        assert_eq!(packages(metadata), Ok(vec![expected]));
        assert!(packages("{}").is_err());
    }

    #[test]
    fn tests_are_told_from_sources() {
        for (path, test) in [
            ("crates/store/src/ledger.rs", false),
            ("crates/store/src/ledger/tests.rs", true),
            ("crates/store/src/ledger/proof_tests.rs", true),
            ("crates/store/tests/crash.rs", true),
            ("crates/store/src/testsuite.rs", false),
        ] {
            assert_eq!(File::new(path, "").is_test(), test, "{path}");
        }
    }
}
