//! Which files a glob means.
//!
//! Inputs are looked for once a run: one walk below the literal beginnings of all input globs, respecting `.gitignore` and
//! leaving out `.git` and `.trimtab`. A path without wildcards is always meant, ignored or not. Outputs are looked for after
//! their task ran and ignore rules do not hold for them, since build results are commonly ignored.
//! Leaves out contents (see `cache::stat`). Invariant: lists are sorted, unique, relative to the root, and never leave it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use globset::{GlobBuilder, GlobMatcher};

/// Files that one task's outputs may have; more and the task is not cached.
pub(crate) const OUTPUT_FILES_MAX: usize = 1_000_000;

/// Folders that are never looked into.
const SKIPPED: [&str; 2] = [".git", ".trimtab"];

/// A glob split into the path before its first wildcard and the rest.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    negated: bool,
    /// Relative to the root; empty for the root.
    base: String,
    tail: Tail,
}

#[derive(Debug, Clone)]
enum Tail {
    /// No wildcard: a file, or a folder with all that is in it.
    Literal,
    /// `**`
    Everything,
    /// Matched against what follows `base/`.
    Glob(Arc<GlobMatcher>),
}

/// Compiles globs, each distinct tail once: a thousand packages with `src/**/*.ts` compile one matcher.
#[derive(Debug, Default)]
pub(crate) struct Compiler(HashMap<String, Arc<GlobMatcher>>);

impl Compiler {
    /// The patterns of one list, in its order. `directory` is taken literally.
    pub(crate) fn compile(
        &mut self,
        directory: &Utf8Path,
        globs: &[String],
    ) -> Result<Vec<Pattern>, globset::Error> {
        globs.iter().map(|glob| self.pattern(directory, glob)).collect()
    }

    fn pattern(&mut self, directory: &Utf8Path, glob: &str) -> Result<Pattern, globset::Error> {
        let (negated, glob) = glob.strip_prefix('!').map_or((false, glob), |rest| (true, rest));
        let parts: Vec<&str> = glob.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let literal = parts.iter().take_while(|part| !part.contains(['*', '?', '[', '{', '\\'])).count();
        let base = normal(directory, &parts[..literal]);
        let tail = match parts[literal..].join("/").as_str() {
            "" => Tail::Literal,
            "**" | "**/*" => Tail::Everything,
            tail => Tail::Glob(self.matcher(tail)?),
        };
        Ok(Pattern { negated, base, tail })
    }

    fn matcher(&mut self, tail: &str) -> Result<Arc<GlobMatcher>, globset::Error> {
        if let Some(known) = self.0.get(tail) {
            return Ok(Arc::clone(known));
        }
        let glob = GlobBuilder::new(tail).literal_separator(true).backslash_escape(true).build()?;
        let matcher = Arc::new(glob.compile_matcher());
        self.0.insert(tail.to_owned(), Arc::clone(&matcher));
        Ok(matcher)
    }
}

/// Joins without `.`; `..` goes up but never above the root.
fn normal(directory: &Utf8Path, parts: &[&str]) -> String {
    let mut path: Vec<&str> = Vec::new();
    for part in directory.as_str().split('/').chain(parts.iter().copied()) {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    path.join("/")
}

impl Pattern {
    /// Whether it asks for something and none of the paths is that.
    pub(crate) fn lacks(&self, paths: &[String]) -> bool {
        !self.negated && !paths.iter().any(|path| self.matches(path))
    }

    /// Whether the path, relative to the root, is meant.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let rest = if self.base.is_empty() {
            Some(path)
        } else {
            match path.strip_prefix(self.base.as_str()) {
                Some("") => return matches!(self.tail, Tail::Literal),
                Some(rest) => rest.strip_prefix('/'),
                None => None,
            }
        };
        rest.is_some_and(|rest| match &self.tail {
            Tail::Literal | Tail::Everything => true,
            Tail::Glob(matcher) => matcher.is_match(rest),
        })
    }
}

/// The files below the root as they were when they were first asked for.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Utf8PathBuf,
    /// Where to look.
    bases: BTreeSet<String>,
    /// What is never an input unless its own path says so.
    never: Vec<Pattern>,
    files: Mutex<Option<Arc<Listing>>>,
}

/// What a walk found.
#[derive(Debug, Default)]
struct Listing {
    files: Vec<String>,
    /// Folders with names or entries that can't be read; lists that need them are refused.
    unreadable: Vec<(String, String)>,
}

impl Tree {
    /// Of the root, to be looked into below the patterns' bases. Files that `never` means are not seen.
    pub(crate) fn new<'p>(
        root: &Utf8Path,
        patterns: impl Iterator<Item = &'p Pattern>,
        mut never: Vec<Pattern>,
    ) -> Self {
        never.retain(|pattern| !pattern.negated);
        let bases = patterns
            .filter(|pattern| !pattern.negated && !matches!(pattern.tail, Tail::Literal))
            .map(|pattern| pattern.base.clone())
            .collect();
        Self { root: root.to_owned(), bases, never, files: Mutex::new(None) }
    }

    /// The files that the patterns mean. Paths without wildcards are listed whether they exist or not.
    pub(crate) fn inputs(&self, patterns: &[Pattern]) -> io::Result<Vec<String>> {
        let mut found = BTreeSet::new();
        for pattern in patterns.iter().filter(|pattern| !pattern.negated) {
            if matches!(pattern.tail, Tail::Literal) {
                if self.root.join(&pattern.base).symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                    list_below(&self.root, &pattern.base, &mut |path| {
                        found.insert(path);
                    })?;
                } else {
                    found.insert(pattern.base.clone());
                }
                continue;
            }
            let listing = self.listing();
            if let Some((path, reason)) =
                listing.unreadable.iter().find(|(path, _)| related(path, &pattern.base))
            {
                return Err(io::Error::other(format!("{path}: {reason}")));
            }
            let below = range(&listing.files, &pattern.base);
            found.extend(below.iter().filter(|path| pattern.matches(path)).cloned());
        }
        let mut paths: Vec<String> = found.into_iter().collect();
        paths.retain(|path| !patterns.iter().any(|pattern| pattern.negated && pattern.matches(path)));
        Ok(paths)
    }

    fn listing(&self) -> Arc<Listing> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(files.get_or_insert_with(|| Arc::new(without(walk(&self.root, &self.bases), &self.never))))
    }
}

/// Whether one of the two is the other or lies below it.
fn related(a: &str, b: &str) -> bool {
    let below = |inner: &str, outer: &str| {
        outer.is_empty()
            || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below(a, b) || below(b, a)
}

/// The paths strictly below `base` in a sorted list.
fn range<'f>(files: &'f [String], base: &str) -> &'f [String] {
    if base.is_empty() {
        return files;
    }
    let prefix = format!("{base}/");
    let from = files.partition_point(|path| path.as_str() < prefix.as_str());
    let length = files[from..].partition_point(|path| path.starts_with(&prefix));
    &files[from..from + length]
}

/// Whether a walk needs to enter the folder: it is below a base, is one, or leads to one.
fn leads(folder: &str, bases: &BTreeSet<String>) -> bool {
    if bases.contains("") || folder.is_empty() {
        return true;
    }
    let mut outer = Some(folder);
    while let Some(path) = outer {
        if bases.contains(path) {
            return true;
        }
        outer = path.rfind('/').map(|at| &path[..at]);
    }
    let prefix = format!("{folder}/");
    bases.range(prefix.clone()..).next().is_some_and(|base| base.starts_with(&prefix))
}

fn without(mut listing: Listing, never: &[Pattern]) -> Listing {
    let mut out = HashSet::new();
    for pattern in never {
        let own = listing.files.binary_search(&pattern.base).ok().map(|at| &listing.files[at]);
        let below = range(&listing.files, &pattern.base).iter();
        out.extend(below.chain(own).filter(|path| pattern.matches(path)).cloned());
    }
    if !out.is_empty() {
        listing.files.retain(|path| !out.contains(path));
    }
    listing
}

fn walk(root: &Utf8Path, bases: &BTreeSet<String>) -> Listing {
    let mut listing = Listing::default();
    if bases.is_empty() {
        return listing;
    }
    let filter_bases = bases.clone();
    let filter_root = root.to_owned();
    let walk = ignore::WalkBuilder::new(root)
        .hidden(false)
        .ignore(false)
        .git_global(false)
        .require_git(false)
        .follow_links(false)
        .filter_entry(move |entry| {
            if entry.depth() == 0 || !entry.file_type().is_some_and(|kind| kind.is_dir()) {
                return true;
            }
            if SKIPPED.iter().any(|name| entry.file_name() == *name) {
                return false;
            }
            let relative = entry.path().strip_prefix(&filter_root).ok().and_then(|path| path.to_str());
            relative.is_none_or(|folder| leads(folder, &filter_bases))
        })
        .build();
    for entry in walk {
        match entry {
            Ok(entry) => {
                let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
                if entry.file_type().is_some_and(|kind| kind.is_file() || kind.is_symlink()) {
                    match relative.to_str() {
                        Some(path) => listing.files.push(path.to_owned()),
                        None => listing.unreadable.push(lossy(relative, "its name is not UTF-8")),
                    }
                }
            }
            Err(error) => listing.unreadable.push((place(root, &error), error.to_string())),
        }
    }
    listing.files.sort_unstable();
    listing
}

/// The nearest folder with a readable name, so that only globs that reach it are refused.
fn lossy(relative: &std::path::Path, reason: &str) -> (String, String) {
    let readable = relative.ancestors().skip(1).find_map(std::path::Path::to_str).unwrap_or("");
    (readable.to_owned(), format!("{}: {reason}", relative.display()))
}

fn place(root: &Utf8Path, error: &ignore::Error) -> String {
    let path = match error {
        ignore::Error::WithPath { path, .. } => path.strip_prefix(root).ok().and_then(|path| path.to_str()),
        _ => None,
    };
    path.unwrap_or("").to_owned()
}

/// The existing files that output patterns mean, ignored or not, and for each positive pattern whether it found one.
pub(crate) fn outputs(root: &Utf8Path, patterns: &[Pattern]) -> io::Result<(Vec<String>, Vec<bool>)> {
    let mut all = BTreeSet::new();
    let mut found = Vec::new();
    for pattern in patterns {
        let before = all.len();
        let mut any = false;
        let path = root.join(&pattern.base);
        if pattern.negated {
            found.push(true);
            continue;
        }
        match (&pattern.tail, path.symlink_metadata()) {
            (Tail::Literal, Ok(meta)) if !meta.is_dir() => {
                any = true;
                all.insert(pattern.base.clone());
            }
            (_, Ok(meta)) if meta.is_dir() => {
                any = matches!(pattern.tail, Tail::Literal);
                list_below(root, &pattern.base, &mut |path| {
                    if pattern.matches(&path) {
                        any = true;
                        all.insert(path);
                    }
                })?;
            }
            _ => {}
        }
        if all.len() > OUTPUT_FILES_MAX {
            return Err(io::Error::other(format!("more than {OUTPUT_FILES_MAX} outputs")));
        }
        found.push(any || all.len() > before);
    }
    let mut files: Vec<String> = all.into_iter().collect();
    files.retain(|path| !patterns.iter().any(|pattern| pattern.negated && pattern.matches(path)));
    Ok((files, found))
}

/// Every file and link below a folder, in no order.
fn list_below(root: &Utf8Path, base: &str, take: &mut dyn FnMut(String)) -> io::Result<()> {
    let mut open = vec![base.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in root.join(&folder).read_dir_utf8()? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let path = if folder.is_empty() {
                entry.file_name().to_owned()
            } else {
                format!("{folder}/{}", entry.file_name())
            };
            if kind.is_dir() {
                if !SKIPPED.contains(&entry.file_name()) {
                    open.push(path);
                }
            } else if kind.is_file() || kind.is_symlink() {
                take(path);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
