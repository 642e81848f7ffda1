//! What a language proposes.
//!
//! Leaves out names that are unique over the project (see `write`).

use camino::Utf8PathBuf;

use super::Evidence;
use super::folder::Folder;

/// A project of one language in one folder.
#[derive(Debug)]
pub(super) struct Found {
    /// Relative to the manifest; empty for its own directory.
    pub(super) path: Utf8PathBuf,
    /// `Rust`.
    pub(super) what: String,
    /// Why, in parts.
    pub(super) because: Vec<String>,
    /// In the order of the manifest.
    pub(super) tasks: Vec<ProposedTask>,
    /// How it is started, where that is clear.
    pub(super) service: Option<ProposedService>,
    /// Whether folders beneath of the same language belong to it.
    pub(super) claims_below: bool,
}

/// A task. Its names are local to the folder.
#[derive(Debug, Clone, Default)]
pub(super) struct ProposedTask {
    /// `test`.
    pub(super) name: String,
    /// Argument list.
    pub(super) command: Vec<String>,
    /// Globs; empty means that it always runs.
    pub(super) inputs: Vec<String>,
    /// It runs although it has inputs, which then only tell the tasks behind it whether anything changed.
    pub(super) always: bool,
    /// Globs.
    pub(super) outputs: Vec<String>,
    /// Local names.
    pub(super) needs: Vec<String>,
    /// Globs.
    pub(super) junit: Vec<String>,
    /// A few words above it; may be empty.
    pub(super) comment: &'static str,
}

/// A service.
#[derive(Debug, Clone)]
pub(super) struct ProposedService {
    /// Any text; a name is made of it.
    pub(super) name: String,
    /// Globs.
    pub(super) artifact: Vec<String>,
    /// Argument list.
    pub(super) start: Vec<String>,
    /// The health page, where one was seen.
    pub(super) ready: Option<String>,
    /// A few words above it; may be empty.
    pub(super) comment: String,
}

impl Found {
    /// Nothing but the language and its file.
    pub(super) fn new(folder: &Folder, what: &str, file: &str) -> Self {
        Self {
            path: folder.path.clone(),
            what: what.to_owned(),
            because: vec![file.to_owned()],
            tasks: Vec::new(),
            service: None,
            claims_below: true,
        }
    }

    /// As the user is told it.
    pub(super) fn evidence(&self) -> Evidence {
        let what = if self.path.as_str().is_empty() {
            self.what.clone()
        } else {
            format!("{} ({})", self.what, self.path)
        };
        Evidence { what, because: self.because.join("; ") }
    }

    /// Adds a reason.
    pub(super) fn because(&mut self, reason: impl Into<String>) {
        self.because.push(reason.into());
    }

    /// Whether there is a task of this local name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tasks.iter().any(|task| task.name == name)
    }

    /// Puts the language in front of each task's name.
    pub(super) fn prefix_tasks(&mut self, key: &str) {
        for task in &mut self.tasks {
            task.name = format!("{key}:{}", task.name);
            for need in &mut task.needs {
                *need = format!("{key}:{need}");
            }
        }
    }
}

impl ProposedTask {
    /// A task that always runs.
    pub(super) fn new(name: &str, command: &[&str]) -> Self {
        Self { name: name.to_owned(), command: words(command), ..Self::default() }
    }

    /// The same, with inputs.
    pub(super) fn inputs(mut self, globs: &[&str]) -> Self {
        self.inputs = words(globs);
        self
    }

    /// The same for what installs packages: it always runs, and what it gives depends on these files of the folder alone.
    /// Without them nobody knows, and the tasks behind it always run as well.
    pub(super) fn pinned_by(mut self, names: &[&str], folder: &Folder) -> Self {
        self.inputs = names.iter().filter(|name| folder.has(name)).map(|name| (*name).to_owned()).collect();
        self.always = true;
        self.comment = "Always runs; it is quick when nothing has changed.";
        self
    }

    /// The same, with outputs.
    pub(super) fn outputs(mut self, globs: Vec<String>) -> Self {
        self.outputs = globs;
        self
    }

    /// The same, after another if that one is proposed.
    pub(super) fn after(mut self, name: &str, found: &Found) -> Self {
        if found.has(name) {
            self.needs.push(name.to_owned());
        }
        self
    }

    /// The same, with reports, which are no inputs.
    pub(super) fn junit(mut self, glob: &str) -> Self {
        self.junit.push(glob.to_owned());
        if !self.inputs.is_empty() {
            self.inputs.push(format!("!{glob}"));
        }
        self
    }

    /// The same, with words above it.
    pub(super) fn comment(mut self, comment: &'static str) -> Self {
        self.comment = comment;
        self
    }
}

/// Owned.
pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A command line of plain words, split; nothing when it needs a shell.
pub(super) fn plain_argv(line: &str) -> Option<Vec<String>> {
    let line = line.trim();
    if line.is_empty() || line.contains(|c: char| "|&;<>$*?`\"'\\()#~=\n\0".contains(c)) {
        return None;
    }
    Some(line.split_whitespace().map(str::to_owned).collect())
}
