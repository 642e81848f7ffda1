//! What people and programs get to see: data on standard output, talk on standard error.
//!
//! Colour never carries meaning alone, and is only used on a terminal that wants it (anstream decides: NO_COLOR,
//! CLICOLOR, TERM=dumb). A closed pipe ends the output, not the command; data that could not be written otherwise (a full
//! disk) makes the command fail, so that nobody takes half an answer for a whole one.

use std::io::{ErrorKind, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use delivery::Problem;
use delivery::exit::Exit;
use serde::Serialize;

/// Whether some data could not be written. One for the process, as standard output is.
static DATA_LOST: AtomicBool = AtomicBool::new(false);

/// Whether some data could not be written.
pub(crate) fn data_lost() -> bool {
    DATA_LOST.load(Ordering::Relaxed)
}

fn noted(written: std::io::Result<()>) {
    if written.is_err_and(|error| error.kind() != ErrorKind::BrokenPipe) {
        DATA_LOST.store(true, Ordering::Relaxed);
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON value, whatever the end; problems are in it.
    Json,
}

/// The two streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
}

/// A problem as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct ProblemWire {
    code: &'static str,
    title: &'static str,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    path: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
    exit: u8,
}

#[derive(Debug, Serialize)]
struct ProblemsWire {
    problems: Vec<ProblemWire>,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// A line of data for people; nothing with `--format json`.
    pub(crate) fn line(self, text: impl AsRef<str>) {
        if !self.is_json() {
            noted(writeln!(anstream::stdout(), "{}", text.as_ref()));
        }
    }

    /// A line of talk for people; nothing with `--format json`.
    pub(crate) fn talk(self, text: impl AsRef<str>) {
        if !self.is_json() {
            let _ = writeln!(anstream::stderr(), "{}", text.as_ref());
        }
    }

    /// Data for programs, as one line; nothing without `--format json`.
    pub(crate) fn json(self, value: &impl Serialize) {
        if self.is_json()
            && let Ok(text) = serde_json::to_string(value)
        {
            noted(writeln!(std::io::stdout(), "{text}"));
        }
    }

    /// The end of a command that may have gone wrong in part: programs get the one value, which holds the problems, people
    /// get the problems. The first gives the exit.
    pub(crate) fn conclude(self, value: &impl Serialize, problems: Vec<Problem>) -> crate::command::Result {
        self.json(value);
        match problems.first() {
            None => Ok(Exit::Success),
            Some(first) if self.is_json() => Ok(first.code.exit()),
            Some(_) => Err(problems),
        }
    }

    /// Text as it is, whatever the format.
    pub(crate) fn raw(text: &str) {
        noted(std::io::stdout().write_all(text.as_bytes()));
    }

    /// Problems: on standard error for people, on standard output for programs.
    pub(crate) fn problems(self, problems: &[Problem]) {
        if self.is_json() {
            self.json(&ProblemsWire { problems: wires(problems) });
            return;
        }
        for problem in problems {
            let _ = writeln!(anstream::stderr(), "{}\n", render(problem));
        }
    }
}

/// Problems as they stand in a command's answer.
pub(crate) fn wires(problems: &[Problem]) -> Vec<ProblemWire> {
    problems.iter().map(wire).collect()
}

fn wire(problem: &Problem) -> ProblemWire {
    let place = problem.snippet.as_ref().map(|snippet| {
        let before = snippet.text.get(..snippet.span.start).unwrap_or(&snippet.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (snippet.path.as_str(), line, column)
    });
    ProblemWire {
        code: problem.code.id(),
        title: problem.code.title(),
        message: problem.message.clone(),
        causes: problem.causes.clone(),
        hint: problem.hint.clone(),
        path: place.map(|(path, ..)| path.to_owned()),
        line: place.map(|(_, line, _)| line),
        column: place.map(|(.., column)| column),
        exit: problem.code.exit() as u8,
    }
}

/// A problem as people read it.
pub(crate) fn render(problem: &Problem) -> String {
    let mut group = match &problem.snippet {
        Some(snippet) => {
            let mark = AnnotationKind::Primary.span(snippet.span.clone()).label(snippet.label.as_str());
            let source = Snippet::source(snippet.text.as_str()).path(snippet.path.as_str()).annotation(mark);
            Level::ERROR.primary_title(problem.message.as_str()).id(problem.code.id()).element(source)
        }
        None => Group::with_title(Level::ERROR.primary_title(problem.message.as_str()).id(problem.code.id())),
    };
    for cause in &problem.causes {
        group = group.element(Level::NOTE.message(cause.as_str()));
    }
    if let Some(hint) = &problem.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    Renderer::styled().render(&[group])
}
