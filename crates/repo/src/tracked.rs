//! Which files git tracks, and whether they are what a commit holds.
//!
//! Contents are compared by git itself, so that line endings and filters count as they do for a commit, and flags that hide
//! changes from `git status` don't count. Leaves out modes. Invariant: a path that is not said to be foreign is in the commit
//! with the content that it had when it was asked about.

use std::collections::HashMap;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::CommitId;

use crate::error::Error;
use crate::git::{Flow, Git};
use crate::log::object_name;
use crate::repository::Repository;

/// Paths hashed by one git: its answer must fit into a pipe, since it is read only after the question was written.
const PATHS_AT_ONCE: usize = 500;

/// The files that git tracks below the directory, relative to it, sorted bytewise. Ignored ones are among them.
pub fn tracked(directory: &Utf8Path) -> Result<Vec<String>, Error> {
    let mut paths = Vec::new();
    Git::at(directory).pieces(&["ls-files", "-z"], None, 0, &mut |path| {
        paths.extend(std::str::from_utf8(path).ok().map(str::to_owned));
        Ok(Flow::More)
    })?;
    paths.sort_unstable();
    paths.dedup();
    Ok(paths)
}

/// What a commit has at a path.
struct Held {
    is_link: bool,
    object: String,
}

impl Repository {
    /// Those of the paths, relative to the root, that the commit does not hold with the content that they have now.
    pub fn foreign(&self, commit: &CommitId, paths: &[Utf8PathBuf]) -> Result<Vec<Utf8PathBuf>, Error> {
        let mut held = HashMap::new();
        self.held(commit, Utf8Path::new(""), &mut held)?;
        let mut foreign = Vec::new();
        let mut files = Vec::new();
        for path in paths {
            match held.get(path) {
                None => foreign.push(path.clone()),
                Some(Held { is_link: true, object }) => {
                    let text = self.root().join(path).read_link_utf8().map(Utf8PathBuf::into_string);
                    let same = match text {
                        Ok(text) => self.hash(&["--stdin"], &text)?.first() == Some(object),
                        Err(_) => false,
                    };
                    if !same {
                        foreign.push(path.clone());
                    }
                }
                Some(Held { object, .. }) if self.root().join(path).is_file() => files.push((path, object)),
                Some(_) => foreign.push(path.clone()),
            }
        }
        for some in files.chunks(PATHS_AT_ONCE) {
            let question: Vec<&str> = some.iter().flat_map(|(path, _)| [path.as_str(), "\n"]).collect();
            let answer = self.hash(&["--stdin-paths"], &question.concat())?;
            let differs =
                |(at, (_, object)): &(usize, &(&Utf8PathBuf, &String))| answer.get(*at) != Some(object);
            foreign.extend(some.iter().enumerate().filter(differs).map(|(_, (path, _))| (*path).clone()));
        }
        Ok(foreign)
    }

    fn hash(&self, from: &[&str], input: &str) -> Result<Vec<String>, Error> {
        let arguments = [&["hash-object"], from].concat();
        let mut objects = Vec::new();
        self.git().pieces(&arguments, Some(input.as_bytes()), b'\n', &mut |object| {
            objects.push(String::from_utf8_lossy(object).into_owned());
            Ok(Flow::More)
        })?;
        Ok(objects)
    }

    /// All files of the commit, and those of the commits that it pins as submodules.
    fn held(
        &self,
        commit: &CommitId,
        prefix: &Utf8Path,
        held: &mut HashMap<Utf8PathBuf, Held>,
    ) -> Result<(), Error> {
        let mut pinned = Vec::new();
        let arguments = ["ls-tree", "-r", "-z", "--full-tree", commit.as_str()];
        self.git().pieces(&arguments, None, 0, &mut |piece| {
            // `<mode> <kind> <object>`, a tab, the path.
            let piece = String::from_utf8_lossy(piece);
            let Some((about, path)) = piece.split_once('\t') else { return Ok(Flow::More) };
            let fields: Vec<&str> = about.split(' ').collect();
            let [mode, kind, object] = fields[..] else { return Ok(Flow::More) };
            if kind == "commit" {
                pinned.push((Utf8PathBuf::from(path), object_name(object)?));
            } else {
                let is_link = mode == "120000";
                held.insert(prefix.join(path), Held { is_link, object: object.to_owned() });
            }
            Ok(Flow::More)
        })?;
        for (path, commit) in pinned {
            let root = self.root().join(&path);
            // A submodule that is not checked out has no files that could be asked about.
            if let Ok(inner) = Self::discover(&root).map(|inner| (inner.root() == root).then_some(inner))
                && let Some(inner) = inner
            {
                inner.held(&commit, &prefix.join(&path), held)?;
            }
        }
        Ok(())
    }
}
