//! Looks at a project and proposes its first manifest, for `trimtab init`.
//!
//! One language a file. Each says what it recognised and by which file, and proposes only commands that the project itself
//! speaks of (a script, a configuration file, a test file): a proposal that is missing is easier to add than a wrong one is
//! to find. A service is proposed only where something says how it starts and that it listens where `PORT` says.
//! Leaves out running anything, the network, and every file that is large or ignored by custom.
//!
//! Invariant: the proposed text parses without problems.

mod container;
mod cpp;
mod dotnet;
mod folder;
mod go;
mod java;
mod node;
mod php;
mod proposal;
mod python;
mod ruby;
mod rust;
mod trunk;
mod write;

#[cfg(test)]
mod tests;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::code::Code;
use delivery::problem::Problem;

use folder::Folder;
use proposal::Found;

/// What was recognised, and the manifest that follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    /// In the order of the folders; empty when nothing was recognised.
    pub evidence: Vec<Evidence>,
    /// A complete `trimtab.toml` with short comments. Parses without problems.
    pub manifest: String,
}

/// One thing that was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// For example `Rust`, or `Node (web)` when it is in a folder.
    pub what: String,
    /// For example `Cargo.toml; tests: cargo nextest (.config/nextest.toml)`.
    pub because: String,
}

/// Why nothing can be proposed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not exist or can't be listed.
    #[error("{path} can't be looked at")]
    Unreadable {
        /// The directory.
        path: Utf8PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// As a person is told it.
    pub fn problem(&self) -> Problem {
        let Self::Unreadable { path, source } = self;
        Problem::new(Code::ManifestUnreadable, format!("{path} can't be looked at"))
            .because(source)
            .hint("give a directory that exists and that you may read")
    }
}

/// A way to recognise one language in one folder.
struct Language {
    /// Names tasks apart where one folder holds several languages.
    key: &'static str,
    /// Looks at one folder.
    find: fn(&Folder) -> Option<Found>,
}

const LANGUAGES: [Language; 9] = [
    Language { key: "rust", find: rust::find },
    Language { key: "go", find: go::find },
    Language { key: "node", find: node::find },
    Language { key: "python", find: python::find },
    Language { key: "java", find: java::find },
    Language { key: "dotnet", find: dotnet::find },
    Language { key: "ruby", find: ruby::find },
    Language { key: "php", find: php::find },
    Language { key: "cpp", find: cpp::cmake },
];

/// Projects in one repository that are proposed; more is for a person to decide.
const PROJECTS_MAX: usize = 40;

/// Looks at the directory, three folders deep, and proposes a manifest. Reads small files only, and runs nothing.
///
/// # Errors
/// When the directory can't be listed.
pub fn detect(directory: &Utf8Path) -> Result<Detection, Error> {
    let unreadable = |source| Error::Unreadable { path: directory.to_owned(), source };
    let root = directory.canonicalize_utf8().map_err(unreadable)?;
    let folders = folder::walk(&root).map_err(unreadable)?;
    let mut found = Vec::new();
    let mut claims: Vec<(&'static str, Utf8PathBuf)> = Vec::new();
    for folder in folders.iter().filter(|folder| folder.may_be_project()) {
        in_folder(folder, &mut claims, &mut found);
        if found.len() >= PROJECTS_MAX {
            break;
        }
    }
    let mut evidence: Vec<Evidence> = found.iter().map(Found::evidence).collect();
    if evidence.is_empty()
        && let Some(page) = folders.iter().find_map(Folder::page)
    {
        let because = format!("{page}; no source code was recognised");
        evidence.push(Evidence { what: "Documentation".into(), because });
    }
    let name = root.file_name().unwrap_or_default();
    let manifest = write::manifest(name, &trunk::trunk(&root), &found, &evidence);
    Ok(Detection { evidence, manifest })
}

/// Adds what the folder holds, with tasks named apart where it holds several languages.
fn in_folder(folder: &Folder, claims: &mut Vec<(&'static str, Utf8PathBuf)>, found: &mut Vec<Found>) {
    let mut here: Vec<(&'static str, Found)> = Vec::new();
    for language in &LANGUAGES {
        let claimed = claims.iter().any(|(key, path)| *key == language.key && folder.path.starts_with(path));
        if claimed {
            continue;
        }
        if let Some(one) = (language.find)(folder) {
            if one.claims_below {
                claims.push((language.key, folder.path.clone()));
            }
            here.push((language.key, one));
        }
    }
    // A Makefile beside another language only calls that language's tools.
    let make_claimed = claims.iter().any(|(key, path)| *key == "make" && folder.path.starts_with(path));
    if here.is_empty()
        && !make_claimed
        && let Some(one) = cpp::make(folder)
    {
        claims.push(("make", folder.path.clone()));
        here.push(("make", one));
    }
    let several = here.len() > 1;
    for (key, mut one) in here {
        if several {
            one.prefix_tasks(key);
        }
        container::add_service(folder, &mut one);
        found.push(one);
    }
}
