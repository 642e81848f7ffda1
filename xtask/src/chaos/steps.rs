//! What happened to `.trimtab` in a project's folder, in the order in which strace saw it: changes, fsyncs, and answers that left a process.
//!
//! Leaves out logs, the cache, artifacts (which are verified before each start) and SQLite's shared memory, which is rebuilt from
//! the log at the first opening. Invariant: a call that changes something here in a way that the model of the disk does not
//! know is an error.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};

use camino::{Utf8Path, Utf8PathBuf};

use super::acknowledged::{self, Acknowledged};
use super::disk::{Change, Disk, Sync};
use super::strace::{Argument, Call, Ended, Reader, Seen};

/// What is looked at, below the project's folder.
const KEPT: &str = ".trimtab";
/// Folders in it whose files are not looked at.
const LEFT_OUT: [&str; 3] = ["/logs", "/cache", "/artifacts"];

/// An open file, as far as strace tells: the thread that used it, and its number in that thread's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Handle {
    thread: u32,
    number: i64,
}

/// One step. Paths are below the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A file was opened. Makes it if it may, empties it if it is told to.
    Open { by: Handle, path: String, create: bool, truncate: bool, append: bool },
    /// A folder was made.
    MakeFolder(String),
    /// A name was added.
    Link(String, String),
    /// A name was changed.
    Rename(String, String),
    /// A name was taken away.
    Remove(String),
    /// A write begins, at this place or where the handle was left.
    Write { by: Handle, path: String, at: Option<usize>, bytes: Vec<u8> },
    /// A change of length begins.
    Length { thread: u32, path: String, length: usize },
    /// An fsync begins.
    Sync { thread: u32, path: String },
    /// The thread's write, change of length or fsync ended: with a number, or not well.
    Ended { thread: u32, value: Option<i64> },
    /// Something was promised.
    Acknowledged(Acknowledged),
}

/// Whether the path, relative to the project's folder, is looked at; the empty path is that folder.
pub(crate) fn watched(path: &str) -> bool {
    let Some(below) = path.strip_prefix(KEPT) else { return path.is_empty() };
    let within = |folder: &str| {
        below.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    (below.is_empty() || below.starts_with('/'))
        && !below.ends_with("-shm")
        && !LEFT_OUT.iter().any(|folder| within(folder))
}

/// Reads a log of strace. `root` is the project's folder, absolute and without links.
pub(crate) fn read(log: &Utf8Path, root: &Utf8Path) -> Result<Vec<Step>, String> {
    let file = std::fs::File::open(log).map_err(|error| format!("{log}: {error}"))?;
    let lines = BufReader::new(file).lines();
    translate(lines.map(|line| line.map_err(|error| format!("{log}: {error}"))), root)
}

fn translate(
    lines: impl Iterator<Item = Result<String, String>>,
    root: &Utf8Path,
) -> Result<Vec<Step>, String> {
    let mut translator = Translator { root, steps: Vec::new(), within: HashMap::new() };
    let mut reader = Reader::default();
    for line in lines {
        for seen in reader.read(&line?)? {
            match seen {
                Seen::Began(call) => translator.began(call)?,
                Seen::Ended { thread, how } => translator.ended(thread, &how),
            }
        }
    }
    Ok(translator.steps)
}

/// Calls become steps.
struct Translator<'a> {
    root: &'a Utf8Path,
    steps: Vec<Step>,
    /// What each thread is within, if it matters when that ends.
    within: HashMap<u32, Within>,
}

enum Within {
    /// The beginning was a step already.
    Begun,
    /// It becomes a step if it ends well.
    Naming(Box<dyn Fn() -> Vec<Step>>),
    /// An open, with its flags.
    Open(String),
}

impl Translator<'_> {
    /// A path below the folder that is looked at.
    fn below(&self, path: &str) -> Option<String> {
        let below = Utf8Path::new(path).strip_prefix(self.root).ok()?.as_str();
        watched(below).then(|| below.to_owned())
    }

    /// The path in the argument, seen from the folder in the argument before it, if there is one.
    fn path(&self, from: Option<&Argument>, path: Option<&Argument>) -> Result<Option<String>, String> {
        let Some(Argument::Bytes(path)) = path else { return Ok(None) };
        let path = Utf8PathBuf::from(String::from_utf8_lossy(path).into_owned());
        match from {
            Some(Argument::File { path: folder, .. }) => {
                Ok(self.below(Utf8Path::new(folder).join(path).as_str()))
            }
            _ if path.is_relative() && path.as_str().contains(".trimtab") => {
                Err(format!("a process changes {path} by a path whose folder is not known"))
            }
            _ => Ok(self.below(path.as_str())),
        }
    }

    fn began(&mut self, call: Call) -> Result<(), String> {
        let Call { thread, name, mut arguments } = call;
        let argument = |at: usize| arguments.get(at);
        let number = |at: usize| match argument(at) {
            Some(Argument::Word(word)) => word.parse::<usize>().ok(),
            _ => None,
        };
        let (target, number_of) = match argument(0) {
            Some(Argument::File { path, number, deleted }) => {
                (self.below(path).filter(|_| !deleted), *number)
            }
            _ => (None, -1),
        };
        let by = Handle { thread, number: number_of };
        let step = match (name.as_str(), target) {
            ("write" | "writev" | "pwrite64" | "sendto" | "sendmsg", None) => {
                self.answered(arguments.get(1));
                return Ok(());
            }
            ("write" | "writev", Some(path)) => {
                let Some(Argument::Bytes(bytes)) = arguments.get_mut(1) else { return Ok(()) };
                Step::Write { by, path, at: None, bytes: std::mem::take(bytes) }
            }
            ("pwrite64", Some(path)) => {
                let at = number(3).ok_or("a pwrite64 without a place")?;
                let Some(Argument::Bytes(bytes)) = arguments.get_mut(1) else { return Ok(()) };
                Step::Write { by, path, at: Some(at), bytes: std::mem::take(bytes) }
            }
            ("ftruncate", Some(path)) => {
                let length = number(1).ok_or("an ftruncate without a length")?;
                Step::Length { thread, path, length }
            }
            ("fsync" | "fdatasync", Some(path)) => Step::Sync { thread, path },
            ("openat", _) => {
                if let Some(Argument::Word(flags)) = argument(2) {
                    self.within.insert(thread, Within::Open(flags.clone()));
                }
                return Ok(());
            }
            ("copy_file_range" | "sendfile" | "splice", _) => {
                // Their target is not always the first argument; a source that is ours does no harm.
                let target = argument(if name == "sendfile" { 0 } else { 2 });
                let Some(Argument::File { path, .. }) = target else { return Ok(()) };
                return self.below(path).map_or(Ok(()), |path| Err(unknown(&name, &path)));
            }
            (_, Some(path)) if !name.ends_with("at") => return Err(unknown(&name, &path)),
            _ => return self.names(thread, &name, &arguments),
        };
        self.within.insert(thread, Within::Begun);
        self.steps.push(step);
        Ok(())
    }

    /// Calls that change names.
    fn names(&mut self, thread: u32, name: &str, arguments: &[Argument]) -> Result<(), String> {
        let [zero, one, two, three] = [0, 1, 2, 3].map(|at| arguments.get(at));
        let (first, second) = match name {
            "mkdir" | "unlink" | "rmdir" | "open" | "creat" | "truncate" => (self.path(None, zero)?, None),
            "mkdirat" | "unlinkat" => (self.path(zero, one)?, None),
            "rename" | "link" => (self.path(None, zero)?, self.path(None, one)?),
            "symlink" => (None, self.path(None, one)?),
            "renameat" | "renameat2" | "linkat" => (self.path(zero, one)?, self.path(two, three)?),
            "symlinkat" => (None, self.path(one, two)?),
            _ => (None, None),
        };
        let step: Box<dyn Fn() -> Vec<Step>> = match (name, first, second) {
            (_, None, None) => return Ok(()),
            ("mkdir" | "mkdirat", Some(path), _) => Box::new(move || vec![Step::MakeFolder(path.clone())]),
            ("unlink" | "unlinkat" | "rmdir", Some(path), _) => {
                Box::new(move || vec![Step::Remove(path.clone())])
            }
            ("link" | "linkat", Some(from), Some(to)) => {
                Box::new(move || vec![Step::Link(from.clone(), to.clone())])
            }
            ("rename" | "renameat" | "renameat2", Some(from), Some(to)) => {
                Box::new(move || vec![Step::Rename(from.clone(), to.clone())])
            }
            // To a place that is not looked at: it is gone from here.
            ("rename" | "renameat" | "renameat2", Some(from), None) => {
                Box::new(move || vec![Step::Remove(from.clone())])
            }
            (_, Some(path), _) | (_, None, Some(path)) => return Err(unknown(name, &path)),
        };
        self.within.insert(thread, Within::Naming(step));
        Ok(())
    }

    fn ended(&mut self, thread: u32, how: &Ended) {
        let value = match how {
            Ended::Well { value, .. } => Some(*value),
            Ended::Failed(_) | Ended::Never => None,
        };
        match self.within.remove(&thread) {
            Some(Within::Begun) => self.steps.push(Step::Ended { thread, value }),
            Some(Within::Naming(step)) if value.is_some() => self.steps.extend(step()),
            Some(Within::Open(flags)) => {
                let Ended::Well { value, path: Some(path) } = how else { return };
                let Some(path) = self.below(path) else { return };
                let has = |flag: &str| flags.split('|').any(|word| word == flag);
                if has("O_WRONLY") || has("O_RDWR") {
                    let (create, truncate, append) = (has("O_CREAT"), has("O_TRUNC"), has("O_APPEND"));
                    let by = Handle { thread, number: *value };
                    self.steps.push(Step::Open { by, path, create, truncate, append });
                }
            }
            _ => {}
        }
    }

    /// What a process told the world counts from the moment when it began to tell it.
    fn answered(&mut self, bytes: Option<&Argument>) {
        let Some(Argument::Bytes(bytes)) = bytes else { return };
        self.steps.extend(acknowledged::read(bytes).into_iter().map(Step::Acknowledged));
    }
}

fn unknown(name: &str, path: &str) -> String {
    format!("a process called {name} for {path}, which the model of the disk does not know")
}

/// A disk on which steps are done.
#[derive(Debug)]
pub(crate) struct Replay {
    /// What is on it.
    pub(crate) disk: Disk,
    under_way: HashMap<u32, UnderWay>,
    /// Where the next write without a place goes, by file and handle; `None` is the end.
    cursors: HashMap<usize, Vec<(Handle, Option<usize>)>>,
    /// Whether fsyncs of these files are believed; the control of `powercut` has a disk that lies.
    honest: bool,
}

#[derive(Debug)]
enum UnderWay {
    Change { node: usize, change: Change, length: usize },
    Sync(Sync),
}

impl Replay {
    /// On an empty disk. One that is not `honest` answers every fsync of a file well and does nothing.
    pub(crate) fn new(honest: bool) -> Self {
        Self { disk: Disk::new(), under_way: HashMap::new(), cursors: HashMap::new(), honest }
    }

    /// Does one step.
    pub(crate) fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Open { by, path, create, truncate, append } => {
                self.open(*by, path, *create, *truncate, *append)?;
            }
            Step::MakeFolder(path) => drop(self.disk.make_folder(path)),
            Step::Link(from, to) => self.disk.link(from, to),
            Step::Rename(from, to) => self.disk.rename(from, to),
            Step::Remove(path) => self.disk.remove(path),
            Step::Write { by, path, at, bytes } => self.write(*by, path, *at, bytes)?,
            Step::Length { thread, path, length } => {
                let node = self.known(path)?;
                let change = self.disk.set_length(node, *length);
                self.begun(*thread, node, change, 0);
            }
            Step::Sync { thread, path } => {
                let node = self.known(path)?;
                let sync = self.disk.sync(node);
                self.under_way.insert(*thread, UnderWay::Sync(sync));
            }
            Step::Ended { thread, value } => self.ended(*thread, *value),
            Step::Acknowledged(_) => {}
        }
        Ok(())
    }

    fn known(&self, path: &str) -> Result<usize, String> {
        self.disk.find(path).ok_or_else(|| format!("{path} is changed, but its making was not seen"))
    }

    fn open(
        &mut self,
        by: Handle,
        path: &str,
        create: bool,
        truncate: bool,
        append: bool,
    ) -> Result<(), String> {
        let node = if create { self.disk.create(path) } else { self.disk.find(path) };
        let node = node.ok_or_else(|| format!("{path} is opened, but its folder's making was not seen"))?;
        if truncate
            && self.disk.length(node) > 0
            && let Some(change) = self.disk.set_length(node, 0)
        {
            self.disk.done(node, change);
        }
        self.cursors.entry(node).or_default().push((by, if append { None } else { Some(0) }));
        Ok(())
    }

    fn write(&mut self, by: Handle, path: &str, at: Option<usize>, bytes: &[u8]) -> Result<(), String> {
        let node = self.known(path)?;
        let end = self.disk.length(node);
        let cursors = self.cursors.entry(node).or_default();
        // Whoever opened it last; another thread of the process may use it, but two processes don't share it here.
        let own = cursors.iter().rposition(|(handle, _)| *handle == by);
        let own = own.or_else(|| cursors.iter().rposition(|(handle, _)| handle.number == by.number));
        let start = match (at, own.and_then(|index| cursors[index].1.as_mut())) {
            (Some(at), _) => at,
            (None, Some(cursor)) => {
                *cursor += bytes.len();
                *cursor - bytes.len()
            }
            (None, None) => end,
        };
        let change = self.disk.write(node, start, bytes);
        self.begun(by.thread, node, change, bytes.len());
        Ok(())
    }

    fn begun(&mut self, thread: u32, node: usize, change: Option<Change>, length: usize) {
        if let Some(change) = change {
            self.under_way.insert(thread, UnderWay::Change { node, change, length });
        }
    }

    fn ended(&mut self, thread: u32, value: Option<i64>) {
        match (self.under_way.remove(&thread), value) {
            (Some(UnderWay::Change { node, change, length }), Some(value)) if value as usize == length => {
                self.disk.done(node, change);
            }
            (Some(UnderWay::Change { node, change, .. }), value) => {
                self.disk.failed(node, change, value.unwrap_or(0) as usize);
            }
            (Some(UnderWay::Sync(sync)), value) if self.honest => self.disk.synced(&sync, value.is_some()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
