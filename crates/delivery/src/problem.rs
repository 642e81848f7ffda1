//! A problem as a person is told it: a code, one sentence, the place with a caret, and what to do.
//!
//! Libraries have their own error enums for programs; where an error reaches a user they turn it into a [`Problem`]. The
//! binary renders it (annotate-snippets on a terminal, JSON with `--format json`).

use std::ops::Range;

use camino::Utf8PathBuf;

use crate::code::Code;

/// The text that a problem points into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The file, as the user knows it.
    pub path: Utf8PathBuf,
    /// Its whole text.
    pub text: String,
    /// What is meant, in bytes; within `text`, on character boundaries.
    pub span: Range<usize>,
    /// A few words at the caret; may be empty.
    pub label: String,
}

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its code, which `trimtab explain` knows.
    pub code: Code,
    /// One sentence, lower case, without a full stop.
    pub message: String,
    /// Where.
    pub snippet: Option<Snippet>,
    /// What lies beneath, nearest first.
    pub causes: Vec<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem with nothing but its sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), snippet: None, causes: Vec::new(), hint: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the place.
    #[must_use]
    pub fn at(mut self, snippet: Snippet) -> Self {
        self.snippet = Some(snippet);
        self
    }

    /// With the error beneath and all that lies beneath it.
    #[must_use]
    pub fn because(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Problem {}
