//! JUnit XML in, findings out.
//!
//! There is no standard, only dialects. Read here: pytest, Surefire, jest-junit, gotestsum, GoogleTest, nextest, and Node's test
//! runner; others that keep to `testsuite` and `testcase` work as well. No DTD is read, no entity but XML's own is replaced,
//! and every limit is checked before memory is asked for. Leaves out judging.
//! Invariant: a report that says that something failed never reads as one where all is well.

mod parse;

use camino::Utf8Path;
use delivery::Problem;
use delivery::code::Code;
use delivery::finding::Finding;
use delivery::limits::REPORT_BYTES_MAX;

pub use parse::parse;

/// The name of this format in [`Finding::tool`].
pub const TOOL: &str = "junit";
/// Nested suites.
pub const DEPTH_MAX: usize = 256;
/// Attributes of one element.
pub const ATTRIBUTES_MAX: usize = 64;

/// What a report says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestReport {
    /// Tests executed; skipped ones not counted.
    pub tests: u64,
    /// Of these, failed or in error; also suites that failed outside any test.
    pub failures: u64,
    /// Not executed.
    pub skipped: u64,
    /// Executed and passed only when tried again.
    pub flaky: u64,
    /// Tests that suites say they have, but do not list.
    pub unlisted: u64,
    /// A finding of level error for each failure, of level warning for each flaky test; at most `FINDINGS_MAX`.
    pub findings: Vec<Finding>,
}

/// Why a report can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The file system refused.
    #[error("it can't be opened: {0}")]
    Io(String),
    /// More than `REPORT_BYTES_MAX`.
    #[error("it has {bytes} bytes; the limit is {REPORT_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// Not well-formed.
    #[error("it is not well-formed XML at byte {at}: {detail}")]
    NotXml {
        /// Where, in bytes.
        at: u64,
        /// What the parser said.
        detail: String,
    },
    /// It ends within an element: whoever wrote it did not come to the end.
    #[error("it ends too early, within <{element}>")]
    Truncated {
        /// The element.
        element: String,
    },
    /// It has a document type declaration, which reports have no use for and attacks do.
    #[error("it has a document type declaration")]
    Doctype,
    /// A suite's count is no number, so nobody can say whether something failed.
    #[error("a suite's {attribute} is {value:?}, which is no count")]
    Count {
        /// Which count.
        attribute: &'static str,
        /// What it says.
        value: String,
    },
    /// Another format.
    #[error("it is not a JUnit report: its root is <{root}>")]
    NotJunit {
        /// The root element.
        root: String,
    },
    /// More than [`DEPTH_MAX`] elements within each other.
    #[error("its elements are nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// More than [`ATTRIBUTES_MAX`] attributes.
    #[error("an element has more than {ATTRIBUTES_MAX} attributes")]
    TooManyAttributes,
}

impl ReportError {
    /// For the user, about the report at `path`.
    pub fn problem(&self, path: &Utf8Path) -> Problem {
        let problem =
            Problem::new(Code::ReportUnreadable, format!("the report {path} can't be read")).because(self);
        match self {
            Self::Truncated { .. } | Self::Empty => problem
                .hint("the test program ended before it had written its report: look at the task's log"),
            Self::NotJunit { .. } => {
                problem.hint("let the test program write JUnit XML, or correct the junit globs")
            }
            Self::TooLarge { .. } => problem.hint("split the report, or leave captured output out of it"),
            Self::Io(_)
            | Self::NotXml { .. }
            | Self::Count { .. }
            | Self::Doctype
            | Self::TooDeep
            | Self::TooManyAttributes => {
                problem.hint("look at the file; it may have been written by two programs at once")
            }
        }
    }
}

/// Reads and parses a file. Its size is checked first.
pub fn read(path: &Utf8Path) -> Result<TestReport, ReportError> {
    let io = |error: std::io::Error| ReportError::Io(error.to_string());
    let meta = path.metadata().map_err(io)?;
    if !meta.is_file() {
        return Err(ReportError::Io("it is not a file".to_owned()));
    }
    if meta.len() > REPORT_BYTES_MAX {
        return Err(ReportError::TooLarge { bytes: meta.len() });
    }
    parse(&std::fs::read(path).map_err(io)?)
}

#[cfg(test)]
mod tests;
