//! What was found wrong, as a span and words; turned into problems at the end, because each problem carries the whole text.
//!
//! Invariant: at most [`PROBLEMS_MAX`] problems are made, in the order of the text, and every span lies within the text on
//! character boundaries.

use std::ops::Range;

use camino::Utf8Path;
use delivery::code::Code;
use delivery::problem::{Problem, Snippet};

/// Problems that are told at once; the rest are counted.
pub(crate) const PROBLEMS_MAX: usize = 50;

/// Issues that are kept while checking; the rest are counted.
const ISSUES_MAX: usize = 1_000;

/// A span in bytes.
pub(crate) type Span = Range<usize>;

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub(crate) struct Issue {
    /// What kind.
    pub(crate) code: Code,
    /// Where.
    pub(crate) span: Span,
    /// One sentence.
    pub(crate) message: String,
    /// A few words at the caret.
    pub(crate) label: String,
    /// What to do.
    pub(crate) hint: Option<String>,
}

impl Issue {
    /// With neither label nor hint.
    pub(crate) fn new(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { code, span, message: message.into(), label: String::new(), hint: None }
    }

    /// With words at the caret.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// With what to do, where that is known.
    pub(crate) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Issues {
    kept: Vec<Issue>,
    dropped: usize,
}

impl Issues {
    /// Takes one more.
    pub(crate) fn push(&mut self, issue: Issue) {
        if self.kept.len() < ISSUES_MAX {
            self.kept.push(issue);
        } else {
            self.dropped += 1;
        }
    }

    /// Whether more is only counted; then words need not be found for it.
    pub(crate) fn is_full(&self) -> bool {
        self.kept.len() >= ISSUES_MAX
    }

    /// Counts one more without its words.
    pub(crate) fn count_one(&mut self) {
        self.dropped += 1;
    }

    /// How many were kept.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The problems, in the order of the text.
    pub(crate) fn into_problems(mut self, path: &Utf8Path, text: &str) -> Vec<Problem> {
        self.kept.sort_by_key(|issue| issue.span.start);
        let more = self.kept.len().saturating_sub(PROBLEMS_MAX) + self.dropped;
        let last_code = self.kept.get(PROBLEMS_MAX).map(|issue| issue.code);
        self.kept.truncate(PROBLEMS_MAX);
        let mut problems: Vec<Problem> =
            self.kept.into_iter().map(|issue| problem(issue, path, text)).collect();
        if let Some(code) = last_code {
            let message =
                format!("the manifest has {} beyond these", delivery::text::count(more as u64, "problem"));
            problems.push(Problem::new(code, message).hint("correct the ones above first"));
        }
        problems
    }
}

fn problem(issue: Issue, path: &Utf8Path, text: &str) -> Problem {
    let start = text.floor_char_boundary(issue.span.start);
    let end = text.ceil_char_boundary(issue.span.end.clamp(start, text.len()));
    let snippet =
        Snippet { path: path.to_owned(), text: text.to_owned(), span: start..end, label: issue.label };
    let mut problem = Problem::new(issue.code, issue.message).at(snippet);
    problem.hint = issue.hint;
    problem
}
