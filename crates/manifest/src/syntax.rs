//! TOML's own errors in plain words.
//!
//! Invariant: at most one issue a line, because one slip (a forgotten quote) makes the parser stumble several times.

use delivery::code::Code;

use crate::issue::{Issue, Issues};

/// Syntax errors that are told at once.
const ERRORS_MAX: usize = 5;

/// Errors that are looked at; a megabyte of nonsense has half a million.
const ERRORS_LOOKED_AT_MAX: usize = 100;

/// The parser's errors as issues.
pub(crate) fn issues(errors: &[toml::de::Error], text: &str, issues: &mut Issues) {
    let mut lines = Vec::new();
    for error in errors.iter().take(ERRORS_LOOKED_AT_MAX) {
        let span = error.span().unwrap_or(text.len()..text.len());
        let line = text.get(..text.floor_char_boundary(span.start)).unwrap_or_default().matches('\n').count();
        if lines.contains(&line) {
            continue;
        }
        lines.push(line);
        let (words, hint) = plain(error.message());
        let issue = Issue::new(Code::ManifestSyntax, span, format!("this is not valid TOML: {words}"));
        issues.push(issue.hint(hint.map(str::to_owned)));
        if lines.len() == ERRORS_MAX {
            return;
        }
    }
}

/// The parser's message in plain words where its own are not, and what to do.
fn plain(message: &str) -> (&str, Option<&'static str>) {
    let known = PLAIN.iter().find(|(start, _, _)| message.starts_with(start));
    match known {
        Some((_, "", hint)) => (message, Some(hint)),
        Some((_, words, hint)) => (words, Some(hint)),
        None => (message, None),
    }
}

/// How the parser's message begins; our words, empty to keep its own; what to do.
const PLAIN: &[(&str, &str, &str)] = &[
    ("duplicate key", "this key was given before", "a key may stand once in a table: remove or rename one"),
    ("string values must be quoted", "the string has no quotes", "put the value in double quotes"),
    ("invalid basic string", "the string does not end", "end it with a double quote on the same line"),
    ("invalid literal string", "the string does not end", "end it with a single quote on the same line"),
    ("invalid multi-line", "the string does not end", "end it with three quotes"),
    ("unclosed array table", "the table's name does not end", "close it with `]]`"),
    ("unclosed array", "the list does not end", "close it with `]`"),
    ("unclosed table", "the table's name does not end", "close it with `]`"),
    ("unclosed inline table", "the table does not end", "close it with `}`"),
    ("missing comma", "", "put a comma between the two"),
    ("extra comma", "", "remove one comma"),
    ("key with no value", "the key has no value", "write it as `key = value`"),
    ("missing assignment", "the `=` is missing", "write it as `key = value`"),
    ("missing value", "the value is missing", "write a value after the `=`"),
    ("missing key for inline", "the key is missing", "write it as `key = value`"),
    ("invalid unquoted key", "", "a key without quotes holds letters, digits, `-` and `_`"),
    ("unquoted keys cannot be empty", "the key is missing", "write it as `key = value`"),
    (
        "missing escaped value",
        "the backslash stands alone",
        "write `\\\\` for a backslash, or use 'single quotes'",
    ),
    ("carriage return must be followed", "", "save the file with plain line ends"),
    ("unexpected leading zero", "", "write the number without leading zeros, or in quotes"),
    ("cannot recurse further", "this is nested too deep", "no key of the manifest is nested so far"),
];
