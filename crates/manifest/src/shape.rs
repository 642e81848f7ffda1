//! The grammar of the manifest as data: tables, their keys, and what each key may hold.
//!
//! One table drives the checker, the readers' defaults, the JSON Schema and the reference page, so they can't disagree.
//! Leaves out rules between keys (see `rules`).
//!
//! Invariant: a key's default, where it has one, is written as it would stand in the file, and passes the key's own shape.

use crate::format::Format;

/// A table with a fixed set of keys.
#[derive(Debug)]
pub(crate) struct TableShape {
    /// What one is called: `task`, `step`.
    pub(crate) noun: &'static str,
    /// A few sentences for the reference page.
    pub(crate) about: &'static str,
    /// In the order of the reference page.
    pub(crate) keys: &'static [Key],
}

/// One key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    /// As it is written.
    pub(crate) name: &'static str,
    /// What it may hold.
    pub(crate) shape: Shape,
    /// Whether it must be there.
    pub(crate) required: bool,
    /// The value when it is absent, as TOML; empty when there is none.
    pub(crate) default: &'static str,
    /// The default in words, where no fixed value can say it; empty otherwise.
    pub(crate) default_words: &'static str,
    /// What it means.
    pub(crate) about: &'static str,
    /// A value, as TOML.
    pub(crate) example: &'static str,
}

/// What a key may hold.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A string.
    Text(Format),
    /// A list of strings; the flag asks for at least one.
    Texts(Format, bool),
    /// A table of strings: environment variables.
    Variables,
    /// Where to listen: one address, or a table of them by service.
    Addresses,
    /// `true` or `false`.
    Flag,
    /// A whole number, bounds included.
    Whole(u64, u64),
    /// A finite number, bounds included.
    Number(f64, f64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A table with fixed keys.
    Table(&'static TableShape),
    /// A list of tables, at least one where the key is given, at most this many.
    Tables(&'static TableShape, usize),
    /// Tables by name, at most this many.
    Named(&'static TableShape, Format, usize),
}

impl TableShape {
    /// The key of this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Key {
    /// An optional key without a default.
    pub(crate) const fn new(
        name: &'static str,
        shape: Shape,
        example: &'static str,
        about: &'static str,
    ) -> Self {
        Self { name, shape, required: false, default: "", default_words: "", about, example }
    }

    /// The same, required.
    pub(crate) const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// The same, with the value that stands in when it is absent.
    pub(crate) const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    /// The same, with words on what happens when it is absent.
    pub(crate) const fn otherwise(self, default_words: &'static str) -> Self {
        Self { default_words, ..self }
    }
}

impl Shape {
    /// After "expected".
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Text(Format::Duration(..)) => "a duration in quotes".into(),
            Self::Text(_) => "a string".into(),
            Self::Texts(..) => "a list of strings".into(),
            Self::Variables => "a table of strings".into(),
            Self::Addresses => "a string, or a table of strings by service".into(),
            Self::Flag => "true or false".into(),
            Self::Whole(..) => "a whole number".into(),
            Self::Number(..) => "a number".into(),
            Self::Choice(words) => format!("one of {}", quoted(words)),
            Self::Table(_) => "a table".into(),
            Self::Tables(..) => "a list of tables".into(),
            Self::Named(shape, ..) => format!("tables named `[{}.NAME]`", shape.noun),
        }
    }
}

/// `"a", "b" or "c"`.
pub(crate) fn quoted(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
