//! Which files a glob means.
//!
//! Inputs are looked for once a run, and again where tasks wrote: one walk below the literal beginnings of all input globs,
//! leaving out `.git`, `.trimtab` and what git ignores, unless it is tracked. A path without wildcards is always meant,
//! ignored or not. A link to a folder means what is in that folder, too. Outputs are looked for after their task ran and
//! ignore rules do not hold for them, since build results are commonly ignored.
//! Leaves out contents (see `cache::stat`). Invariant: lists are sorted, unique, relative to the root, and never leave it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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

    /// Whether it may mean files behind a link to a folder. Where the link lies right in the base, a tail of one component means
    /// the link alone.
    fn reaches_behind(&self, link: &str) -> bool {
        let is_flat = match &self.tail {
            Tail::Literal | Tail::Everything => false,
            Tail::Glob(matcher) => !["/", "**", "{"].iter().any(|deep| matcher.glob().glob().contains(deep)),
        };
        related(link, &self.base) && (is_below(&self.base, link) || !is_flat)
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn is_negated(&self) -> bool {
        self.negated
    }
}

/// Globs as the manifest has them, for the files of tasks and of artifacts alike.
#[derive(Debug, Clone)]
pub struct Globs(Vec<Pattern>);

impl Globs {
    /// The globs are relative to the directory, and that to the project's root.
    pub fn new(directory: &Utf8Path, globs: &[String]) -> Result<Self, globset::Error> {
        Compiler::default().compile(directory, globs).map(Self)
    }

    /// Whether the path, relative to the project's root, is meant.
    pub fn matches(&self, path: &str) -> bool {
        let meant =
            |negated| self.0.iter().any(|pattern| pattern.negated == negated && pattern.matches(path));
        meant(false) && !meant(true)
    }

    /// The existing files that are meant, ignored by git or not, relative to the root.
    pub fn files(&self, root: &Utf8Path) -> io::Result<Vec<String>> {
        outputs(root, &self.0).map(|(files, _)| files)
    }
}

/// The files below the root as they were when they were last asked for.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Utf8PathBuf,
    /// Where to look.
    bases: BTreeSet<String>,
    /// Those, and the paths that are inputs by themselves.
    watched: BTreeSet<String>,
    /// What is never an input unless it is tracked or its own path says so.
    never: Vec<Pattern>,
    tracked: OnceLock<Vec<String>>,
    walked: Mutex<Walked>,
}

#[derive(Debug, Default)]
struct Walked {
    listing: Option<Arc<Listing>>,
    /// Below these, files may have come or gone since.
    stale: BTreeSet<String>,
}

/// What a walk found.
#[derive(Debug, Default, Clone)]
struct Listing {
    files: Vec<String>,
    /// Those files that are links to folders.
    links: BTreeSet<String>,
    /// Those files that are ignored, but tracked.
    ignored: BTreeSet<String>,
    /// Folders with names or entries that can't be read; lists that need them are refused.
    unreadable: Vec<(String, String)>,
}

/// The inputs that patterns mean.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Meant {
    pub(crate) paths: Vec<String>,
    /// Positions of the patterns with wildcards that mean no file.
    pub(crate) empty: Vec<usize>,
}

impl Tree {
    /// Of the root, to be looked into below the patterns' bases. Files that `never` means are not seen.
    pub(crate) fn new<'p>(
        root: &Utf8Path,
        patterns: impl Iterator<Item = &'p Pattern>,
        mut never: Vec<Pattern>,
    ) -> Self {
        never.retain(|pattern| !pattern.negated);
        let (mut bases, mut watched) = (BTreeSet::new(), BTreeSet::new());
        for pattern in patterns.filter(|pattern| !pattern.negated) {
            if !matches!(pattern.tail, Tail::Literal) {
                bases.insert(pattern.base.clone());
            }
            watched.insert(pattern.base.clone());
        }
        let (tracked, walked) = (OnceLock::new(), Mutex::default());
        Self { root: root.to_owned(), bases, watched, never, tracked, walked }
    }

    /// Files that the patterns mean may have come or gone. Says whether they may be anybody's inputs.
    pub(crate) fn touch(&self, patterns: &[Pattern]) -> bool {
        let positive = patterns.iter().filter(|pattern| !pattern.negated);
        let touched: Vec<&String> =
            positive.map(|pattern| &pattern.base).filter(|base| leads(base, &self.watched)).collect();
        let mut walked = self.walked.lock().unwrap_or_else(PoisonError::into_inner);
        walked
            .stale
            .extend(touched.iter().filter(|base| leads(base, &self.bases)).map(|base| (*base).clone()));
        !touched.is_empty()
    }

    /// The files that the patterns mean. Paths without wildcards are listed whether they exist or not.
    pub(crate) fn inputs(&self, patterns: &[Pattern]) -> io::Result<Meant> {
        let mut found = BTreeSet::new();
        let mut empty = Vec::new();
        for (at, pattern) in patterns.iter().enumerate().filter(|(_, pattern)| !pattern.negated) {
            if matches!(pattern.tail, Tail::Literal) {
                let path = self.root.join(&pattern.base);
                match path.symlink_metadata() {
                    Ok(meta) if meta.is_dir() => follow(&self.root, &pattern.base, &mut found)?,
                    Ok(meta) if meta.is_symlink() && path.is_dir() => {
                        found.insert(pattern.base.clone());
                        behind(&self.root, &pattern.base, &mut found)?;
                    }
                    _ => drop(found.insert(pattern.base.clone())),
                }
                continue;
            }
            let mut meant = self.walked_inputs(pattern)?;
            if meant.is_empty() {
                empty.push(at);
            }
            found.append(&mut meant);
        }
        let mut paths: Vec<String> = found.into_iter().collect();
        paths.retain(|path| !patterns.iter().any(|pattern| pattern.negated && pattern.matches(path)));
        Ok(Meant { paths, empty })
    }

    fn walked_inputs(&self, pattern: &Pattern) -> io::Result<BTreeSet<String>> {
        let listing = self.listing();
        if let Some((path, reason)) = listing.unreadable.iter().find(|(path, _)| related(path, &pattern.base))
        {
            let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
            return Err(io::Error::other(format!("{place}{reason}")));
        }
        let below = range(&listing.files, &pattern.base);
        let mut found: BTreeSet<String> =
            below.iter().filter(|path| pattern.matches(path)).cloned().collect();
        for link in listing.links.iter().filter(|link| pattern.reaches_behind(link)) {
            let mut files = BTreeSet::new();
            behind(&self.root, link, &mut files)?;
            found.extend(files.into_iter().filter(|path| pattern.matches(path)));
        }
        Ok(found)
    }

    /// Whether git tracks the path, ignored or not. Outside of a repository nothing is tracked.
    pub(crate) fn is_tracked(&self, path: &str) -> bool {
        self.tracked().binary_search_by(|tracked| tracked.as_str().cmp(path)).is_ok()
    }

    fn tracked(&self) -> &[String] {
        self.tracked.get_or_init(|| repo::tracked(&self.root).unwrap_or_default())
    }

    fn listing(&self) -> Arc<Listing> {
        let mut walked = self.walked.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = std::mem::take(&mut walked.stale);
        let listing = match walked.listing.take() {
            None => Arc::new(self.list(&self.root, &self.bases)),
            Some(known) if stale.is_empty() => known,
            Some(known) => {
                let mut listing = Arc::unwrap_or_clone(known);
                // A folder that is not ignored can be walked by itself, without its siblings; else git's rules are asked from the top.
                let (direct, rest): (BTreeSet<String>, _) =
                    stale.into_iter().partition(|base| listing.is_seen(&self.root, base));
                for base in direct {
                    let fresh = self.list(&self.root.join(&base), &BTreeSet::from([base.clone()]));
                    listing.replace(fresh, &BTreeSet::from([base]));
                }
                if !rest.is_empty() {
                    listing.replace(self.list(&self.root, &rest), &rest);
                }
                Arc::new(listing)
            }
        };
        walked.listing = Some(Arc::clone(&listing));
        listing
    }

    /// Walks below the bases, beginning in the folder.
    fn list(&self, from: &Utf8Path, bases: &BTreeSet<String>) -> Listing {
        let mut listing = std::thread::scope(|scope| {
            // git answers while the walk goes on.
            scope.spawn(|| self.tracked().len());
            walk(&self.root, from, bases)
        });
        let tracked = self.tracked();
        for base in bases {
            let ignored = missing_from(range(tracked, base), range(&listing.files, base));
            listing.add_tracked(&self.root, ignored);
        }
        without(listing, &self.never, tracked)
    }
}

impl Listing {
    /// Whether the base is a folder that surely is not ignored.
    fn is_seen(&self, root: &Utf8Path, base: &str) -> bool {
        let below = range(&self.files, base);
        let is_folder = || root.join(base).symlink_metadata().is_ok_and(|meta| meta.is_dir());
        !base.is_empty() && below.iter().any(|path| !self.ignored.contains(path)) && is_folder()
    }

    /// Takes another listing for all that is at or below the bases.
    fn replace(&mut self, other: Self, bases: &BTreeSet<String>) {
        self.files.retain(|path| !within(path, bases));
        self.links.retain(|path| !within(path, bases));
        self.ignored.retain(|path| !within(path, bases));
        self.unreadable.retain(|(path, _)| !within(path, bases));
        self.files.extend(other.files.into_iter().filter(|path| within(path, bases)));
        self.ignored.extend(other.ignored);
        self.links.extend(other.links.into_iter().filter(|path| within(path, bases)));
        self.unreadable.extend(other.unreadable.into_iter().filter(|(path, _)| leads(path, bases)));
        // Two sorted runs, which this sort merges.
        self.files.sort();
    }

    /// Adds tracked files that the ignore rules hid.
    fn add_tracked(&mut self, root: &Utf8Path, paths: Vec<String>) {
        let hidden = |path: &String| path.split('/').any(|part| SKIPPED.contains(&part));
        let before = self.files.len();
        for path in paths.into_iter().filter(|path| !hidden(path)) {
            let full = root.join(&path);
            let Ok(meta) = full.symlink_metadata() else { continue };
            if meta.is_symlink() && full.is_dir() {
                self.links.insert(path.clone());
            }
            if meta.is_symlink() || meta.is_file() {
                self.ignored.insert(path.clone());
                self.files.push(path);
            }
        }
        if self.files.len() > before {
            self.files.sort();
        }
    }
}

/// Those of the first sorted list that are not in the second.
fn missing_from(all: &[String], known: &[String]) -> Vec<String> {
    let mut known = known.iter().peekable();
    let mut missing = Vec::new();
    for path in all {
        while known.next_if(|known| *known < path).is_some() {}
        if known.peek() != Some(&path) {
            missing.push(path.clone());
        }
    }
    missing
}

/// Whether the path is one of the bases or lies below one.
fn within(path: &str, bases: &BTreeSet<String>) -> bool {
    let mut outer = Some(path);
    while let Some(path) = outer {
        if bases.contains(path) {
            return true;
        }
        outer = path.rfind('/').map(|at| &path[..at]);
    }
    bases.contains("")
}

/// Whether one of the two is the other or lies below it.
fn related(a: &str, b: &str) -> bool {
    is_below(a, b) || is_below(b, a)
}

/// Whether the first is the second or lies below it.
fn is_below(inner: &str, outer: &str) -> bool {
    outer.is_empty() || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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
    if folder.is_empty() || within(folder, bases) {
        return true;
    }
    let prefix = format!("{folder}/");
    bases.range(prefix.clone()..).next().is_some_and(|base| base.starts_with(&prefix))
}

fn without(mut listing: Listing, never: &[Pattern], tracked: &[String]) -> Listing {
    let mut out = HashSet::new();
    for pattern in never {
        let own = listing.files.binary_search(&pattern.base).ok().map(|at| &listing.files[at]);
        let below = range(&listing.files, &pattern.base).iter();
        out.extend(below.chain(own).filter(|path| pattern.matches(path)).cloned());
    }
    out.retain(|path| tracked.binary_search(path).is_err());
    if !out.is_empty() {
        listing.files.retain(|path| !out.contains(path));
    }
    listing
}

fn walk(root: &Utf8Path, from: &Utf8Path, bases: &BTreeSet<String>) -> Listing {
    let mut listing = Listing::default();
    if bases.is_empty() {
        return listing;
    }
    let filter_bases = bases.clone();
    let filter_root = root.to_owned();
    let walk = ignore::WalkBuilder::new(from)
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
                let is_link = entry.path_is_symlink();
                if is_link || entry.file_type().is_some_and(|kind| kind.is_file()) {
                    match relative.to_str() {
                        Some(path) => {
                            if is_link && entry.path().is_dir() {
                                listing.links.insert(path.to_owned());
                            }
                            listing.files.push(path.to_owned());
                        }
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
        if let Some(link) = link_above(root, &pattern.base) {
            return Err(io::Error::other(format!("{link} is a link, and what lies behind it is not kept")));
        }
        match (&pattern.tail, path.symlink_metadata()) {
            (Tail::Literal, Ok(meta)) if !meta.is_dir() => {
                any = true;
                all.insert(pattern.base.clone());
            }
            (_, Ok(meta)) if meta.is_dir() => {
                list_below(root, &pattern.base, &mut |path, _| {
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

/// The nearest folder above the path, below the root, that is a link: what is done to the path is done elsewhere.
pub(crate) fn link_above<'p>(root: &Utf8Path, path: &'p str) -> Option<&'p str> {
    let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
    folders.into_iter().find(|folder| root.join(folder).is_symlink())
}

/// The files below a folder, and those in folders that it has links to.
fn follow(root: &Utf8Path, base: &str, found: &mut BTreeSet<String>) -> io::Result<()> {
    let mut links = Vec::new();
    list_below(root, base, &mut |path, is_link| {
        if is_link && root.join(&path).is_dir() {
            links.push(path.clone());
        }
        found.insert(path);
    })?;
    links.iter().try_for_each(|link| behind(root, link, found))
}

/// The files in the folder that a link leads to, by their paths through the link.
fn behind(root: &Utf8Path, link: &str, found: &mut BTreeSet<String>) -> io::Result<()> {
    let refuse = |path: &str, why: &str| Err(io::Error::other(format!("{path} is a link to a folder {why}")));
    let full = root.join(link);
    let (real, real_root) = (full.canonicalize_utf8()?, root.canonicalize_utf8()?);
    if !real.starts_with(&real_root) {
        return refuse(link, "outside of the project");
    }
    if full.parent().and_then(|parent| parent.canonicalize_utf8().ok()).is_none_or(|at| at.starts_with(&real))
    {
        return refuse(link, "that it lies in");
    }
    let mut nested = None;
    list_below(root, link, &mut |path, is_link| {
        if is_link && root.join(&path).is_dir() {
            nested = Some(path);
        } else {
            found.insert(path);
        }
    })?;
    nested.map_or(Ok(()), |path| refuse(&path, "behind another such link"))
}

/// Every file and link below a folder, in no order, and whether it is a link.
fn list_below(root: &Utf8Path, base: &str, take: &mut dyn FnMut(String, bool)) -> io::Result<()> {
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
                take(path, kind.is_symlink());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
