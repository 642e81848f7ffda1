//! The project's folders, three deep, as lists of names; and small files' texts.
//!
//! Invariant: symbolic links are not followed, at most [`ENTRIES_MAX`] entries are listed, and at most [`FILE_BYTES_MAX`] of
//! any file are read.

use std::collections::BTreeSet;
use std::io::Read as _;

use camino::{Utf8Path, Utf8PathBuf};

/// Folders beneath the project's own.
const DEPTH_MAX: usize = 3;

/// Entries that are listed in all; the rest of a larger project is not looked at.
const ENTRIES_MAX: usize = 50_000;

/// A larger file is not read.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Folders of build results, foreign code and caches.
const SKIPPED: [&str; 20] = [
    "node_modules",
    "target",
    "vendor",
    "dist",
    "build",
    "out",
    "bin",
    "obj",
    "venv",
    "env",
    "__pycache__",
    "third_party",
    "third-party",
    "external",
    "deps",
    "coverage",
    "tmp",
    "logs",
    "_build",
    "bower_components",
];

/// Folders whose projects are not the user's product.
const NOT_PROJECTS: [&str; 12] = [
    "test",
    "tests",
    "spec",
    "testdata",
    "fixtures",
    "__fixtures__",
    "examples",
    "example",
    "docs",
    "doc",
    "benches",
    "fuzz",
];

/// One folder.
#[derive(Debug)]
pub(super) struct Folder {
    root: Utf8PathBuf,
    /// Relative to the project; empty for the project itself.
    pub(super) path: Utf8PathBuf,
    /// Names of the files in it.
    pub(super) files: BTreeSet<String>,
    /// Names of the folders in it, the skipped ones left out.
    pub(super) folders: BTreeSet<String>,
    /// Paths of the files beneath, relative to this folder, as deep as was looked.
    pub(super) beneath: Vec<String>,
}

/// All folders, each before the ones in it.
pub(super) fn walk(root: &Utf8Path) -> std::io::Result<Vec<Folder>> {
    let mut left = ENTRIES_MAX;
    let mut folders = vec![list(root, Utf8PathBuf::new(), &mut left)?];
    let mut next = 0;
    while let Some(folder) = folders.get(next) {
        next += 1;
        if folder.path.components().count() >= DEPTH_MAX {
            continue;
        }
        let inner: Vec<Utf8PathBuf> = folder.folders.iter().map(|name| folder.path.join(name)).collect();
        for path in inner {
            // A folder that can't be listed says nothing; the project may still be recognised by the others.
            if let Ok(folder) = list(root, path, &mut left) {
                folders.push(folder);
            }
        }
    }
    let files: Vec<(Utf8PathBuf, String)> = folders
        .iter()
        .flat_map(|folder| folder.files.iter().map(|name| (folder.path.clone(), name.clone())))
        .collect();
    for folder in &mut folders {
        let below =
            files.iter().filter_map(|(path, name)| Some(path.strip_prefix(&folder.path).ok()?.join(name)));
        folder.beneath = below.map(Utf8PathBuf::into_string).collect();
    }
    Ok(folders)
}

fn list(root: &Utf8Path, path: Utf8PathBuf, left: &mut usize) -> std::io::Result<Folder> {
    let (mut files, mut folders) = (BTreeSet::new(), BTreeSet::new());
    for entry in root.join(&path).read_dir_utf8()?.take(*left) {
        *left -= 1;
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        let Ok(kind) = entry.file_type() else { continue };
        // These would mean something else in a glob.
        if name.contains(|c: char| c.is_control() || "*?[]{}\\!~:".contains(c)) {
            continue;
        }
        if kind.is_file() {
            files.insert(name.to_owned());
        } else if kind.is_dir() && !name.starts_with('.') && !SKIPPED.contains(&name) {
            folders.insert(name.to_owned());
        }
    }
    Ok(Folder { root: root.to_owned(), path, files, folders, beneath: Vec::new() })
}

impl Folder {
    /// Whether a project here is likely a part of the product.
    pub(super) fn may_be_project(&self) -> bool {
        !self.path.components().any(|part| NOT_PROJECTS.contains(&part.as_str()))
    }

    /// Whether there is such a file.
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains(name)
    }

    /// The first of these files that is there.
    pub(super) fn first<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|name| self.has(name))
    }

    /// The text of a small file, given relative to this folder.
    pub(super) fn read(&self, name: &str) -> Option<String> {
        let path = self.root.join(&self.path).join(name);
        let metadata = path.symlink_metadata().ok()?;
        if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            return None;
        }
        let mut text = String::new();
        std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// A TOML file, if it is one.
    pub(super) fn toml(&self, name: &str) -> Option<toml::Table> {
        toml::from_str(&self.read(name)?).ok()
    }

    /// A JSON file, if it is one.
    pub(super) fn json(&self, name: &str) -> Option<serde_json::Value> {
        serde_json::from_str(&self.read(name)?).ok()
    }

    /// The first file beneath for which the test holds.
    pub(super) fn any_beneath(&self, test: impl Fn(&str) -> bool) -> Option<&str> {
        self.beneath.iter().map(String::as_str).find(|path| test(path))
    }

    /// A Markdown page here.
    pub(super) fn page(&self) -> Option<Utf8PathBuf> {
        let name = self.files.iter().find(|name| ends(name, &[".md", ".markdown", ".rst", ".adoc"]))?;
        Some(self.path.join(name))
    }

    /// Globs of everything here that looks like the program itself: files that are not notes, folders that are not tests.
    pub(super) fn program_globs(&self) -> Vec<String> {
        let files = self.files.iter().filter(|name| {
            !name.starts_with('.')
                && !ends(name, &[".md"])
                && *name != crate::FILE_NAME
                && !name.starts_with("LICENSE")
        });
        let folders = self.folders.iter().filter(|name| !NOT_PROJECTS.contains(&name.as_str()));
        files.cloned().chain(folders.map(|name| format!("{name}/**"))).collect()
    }
}

/// Whether the name ends in one of these.
pub(super) fn ends(name: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| name.ends_with(ending))
}

/// A path that a service is likely to answer for health checks, if the text names one in quotes.
pub(super) fn health_path(text: &str) -> Option<&'static str> {
    ["/healthz", "/health", "/readyz", "/livez"]
        .into_iter()
        .find(|path| ['"', '\'', '`'].iter().any(|quote| text.contains(&format!("{quote}{path}{quote}"))))
}
