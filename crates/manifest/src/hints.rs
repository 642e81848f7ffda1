//! What to write instead: hints that repeat the user's own text in the right shape.
//!
//! Invariant: a hint is a suggestion only; nothing is read from it.

use std::fmt::Write as _;

use toml::de::DeValue;

use crate::format::Format;
use crate::shape::{Key, Shape, TableShape};

/// Words that other tools use for our keys, and that lie too far off to be found as mistyped.
const SYNONYMS: &[(&str, &str)] = &[
    ("args", "command"),
    ("cmd", "command"),
    ("cwd", "directory"),
    ("depends", "needs"),
    ("depends-on", "needs"),
    ("depends_on", "needs"),
    ("dependencies", "needs"),
    ("deps", "needs"),
    ("dir", "directory"),
    ("env", "environment"),
    ("environments", "environment"),
    ("files", "artifact"),
    ("health", "ready"),
    ("healthcheck", "ready"),
    ("host", "listen"),
    ("jobs", "task"),
    ("path", "directory"),
    ("port", "listen"),
    ("replicas", "instances"),
    ("root", "directory"),
    ("run", "command"),
    ("run", "start"),
    ("script", "command"),
    ("sources", "inputs"),
    ("stage", "environment"),
    ("timeout", "within"),
    ("branch", "trunk"),
    ("command", "start"),
    ("name", "project"),
    ("percent", "weight"),
    ("tests", "tests-min"),
];

/// A value longer than this is not repeated in a hint.
const SOURCE_BYTES_MAX: usize = 200;

/// Our word for another tool's, if this table has it.
pub(crate) fn synonym(word: &str, shape: &TableShape) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    SYNONYMS.iter().find(|(theirs, ours)| *theirs == word && shape.key(ours).is_some()).map(|(_, ours)| *ours)
}

/// The value in quotes, where that is all that is missing.
pub(crate) fn quote(found: &DeValue<'_>, source: &str) -> Option<String> {
    matches!(found, DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_))
        .then(|| format!("write it in quotes: \"{source}\""))
}

/// What to write instead of a value of the wrong type.
pub(crate) fn wrong_type(key: &Key, found: &DeValue<'_>, source: &str) -> Option<String> {
    let name = key.name;
    if source.len() > SOURCE_BYTES_MAX {
        return (!key.example.is_empty()).then(|| format!("for example {name} = {}", key.example));
    }
    match (&key.shape, found) {
        (Shape::Texts(Format::Argument, _), DeValue::String(line)) => {
            Some(format!("write {name} = {}", argv(line)))
        }
        (Shape::Texts(..), DeValue::String(text)) => Some(format!("write {name} = [{}]", toml_string(text))),
        (Shape::Text(Format::Duration(..)), DeValue::Integer(number)) => {
            Some(format!("write the unit too: {name} = \"{number}s\""))
        }
        (Shape::Text(_), DeValue::Array(items)) if items.len() == 1 => {
            let only = items.first().and_then(|item| item.get_ref().as_str())?;
            Some(format!("write {name} = {}", toml_string(only)))
        }
        (Shape::Text(_) | Shape::Addresses, _) => quote(found, source),
        (Shape::Whole(..) | Shape::Number(..), DeValue::String(text))
            if text.trim().parse::<f64>().is_ok() =>
        {
            Some(format!("write {name} = {} without quotes", text.trim()))
        }
        (Shape::Flag, DeValue::String(text)) if matches!(text.as_ref(), "true" | "false") => {
            Some(format!("write {name} = {text} without quotes"))
        }
        (Shape::Named(shape, ..), DeValue::Array(_)) => {
            Some(format!("write [{}.NAME] instead of [[{name}]]", shape.noun))
        }
        (Shape::Tables(..), DeValue::Table(table)) if name == "environment" => {
            let first =
                table.iter().find(|(_, value)| value.get_ref().is_table()).map(|(key, _)| key.get_ref());
            Some(match first {
                Some(first) => format!("write [[{name}]] and beneath it name = {}", toml_string(first)),
                None => format!("write [[{name}]] with two brackets"),
            })
        }
        (Shape::Tables(..), DeValue::Table(_)) => Some(format!("put it in brackets: {name} = [{{ ... }}]")),
        (Shape::Named(shape, ..), _) => {
            Some(format!("write [{name}.NAME] and the {}'s keys beneath", shape.noun))
        }
        (Shape::Tables(..), _) if key.example.is_empty() => {
            Some(format!("write [[{name}]] and its keys beneath"))
        }
        _ if key.example.is_empty() => None,
        _ => Some(format!("for example {name} = {}", key.example)),
    }
}

/// A command line as an argument list. Words are split at blanks; what needs a shell is given to one.
fn argv(line: &str) -> String {
    if line.contains(['|', '&', ';', '<', '>', '$', '*', '`', '"', '\'', '\\', '(', '\n']) {
        return format!("[\"sh\", \"-c\", {}]", toml_string(line.trim()));
    }
    let words: Vec<String> = line.split_whitespace().map(toml_string).collect();
    format!("[{}]", words.join(", "))
}

/// The text as a TOML string on one line.
pub(crate) fn toml_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => drop(write!(quoted, "\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
