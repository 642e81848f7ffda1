//! Walks the parsed file along the grammar in `keys` and says everything that is wrong with a single key or value.
//!
//! Leaves out rules between keys (see `rules`) and making values (see `read`).
//!
//! Invariant: a table without an issue here can be read by `read` without loss.

use delivery::code::Code;
use delivery::text::nearest;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::format::{Format, shown};
use crate::hints;
use crate::issue::{Issue, Issues, Span};
use crate::shape::{Key, Shape, TableShape, quoted};

/// What is checked: the issues so far, and the file's text for hints that repeat it.
pub(crate) struct Checker<'t> {
    text: &'t str,
    /// What was found.
    pub(crate) issues: Issues,
}

/// A value with the words for where it stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// `task `test``.
    subject: &'a str,
    key: &'a str,
}

impl Place<'_> {
    fn issue(self, code: Code, span: Span, message: &str) -> Issue {
        Issue::new(code, span, format!("`{}` of {}: {message}", self.key, self.subject))
    }
}

impl<'t> Checker<'t> {
    /// For this text.
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, issues: Issues::default() }
    }

    /// Checks a table and all below it. The depth is that of the grammar, which is fixed.
    pub(crate) fn table(
        &mut self,
        shape: &'static TableShape,
        subject: &str,
        table: &DeTable<'_>,
        span: &Span,
    ) {
        for (name, value) in table {
            match shape.key(name.get_ref()) {
                Some(key) => self.value(key, Place { subject, key: key.name }, value),
                None => self.unknown(shape, subject, name),
            }
        }
        for key in shape.keys.iter().filter(|key| key.required && !table.contains_key(key.name)) {
            let message = format!("{subject} has no `{}`", key.name);
            let issue = Issue::new(Code::ManifestKeyMissing, self.first_line(span), message);
            let hint = format!("add {} = {}", key.name, key.example);
            self.issues.push(issue.label(format!("`{}` is missing here", key.name)).hint(hint));
        }
    }

    fn unknown(&mut self, shape: &TableShape, subject: &str, name: &Spanned<std::borrow::Cow<'_, str>>) {
        if self.issues.is_full() {
            return self.issues.count_one();
        }
        let word: &str = name.get_ref();
        let message = format!("{subject} has the unknown key `{}`", shown(word));
        let word = word.get(..word.floor_char_boundary(80)).unwrap_or_default();
        let names = || shape.keys.iter().map(|key| key.name);
        let hint = match nearest(word, names()).or_else(|| hints::synonym(word, shape)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("a {} knows {}", shape.noun, names().collect::<Vec<_>>().join(", ")),
        };
        self.issues
            .push(Issue::new(Code::ManifestKeyUnknown, name.span(), message).label("unknown key").hint(hint));
    }

    fn value(&mut self, key: &'static Key, place: Place<'_>, value: &Spanned<DeValue<'_>>) {
        match (&key.shape, value.get_ref()) {
            (Shape::Text(format), DeValue::String(text)) => self.text(*format, place, text, value.span()),
            // TOML has moments of its own; both spellings are taken.
            (Shape::Text(Format::Moment), DeValue::Datetime(moment)) => {
                self.text(Format::Moment, place, &moment.to_string(), value.span());
            }
            (Shape::Texts(format, some), DeValue::Array(items)) => {
                self.texts(key, *format, *some, place, items, value);
            }
            (Shape::Addresses, DeValue::String(text)) => {
                self.text(Format::Listen, place, text, value.span());
            }
            (Shape::Addresses, DeValue::Table(addresses)) => {
                self.strings((Format::Name, Format::Listen), place, addresses);
            }
            (Shape::Variables, DeValue::Table(variables)) => {
                self.strings((Format::Variable, Format::Argument), place, variables);
            }
            (Shape::Flag, DeValue::Boolean(_)) => {}
            (Shape::Whole(least, most), DeValue::Integer(number)) => {
                let found = u64::from_str_radix(number.as_str(), number.radix()).ok();
                if !found.is_some_and(|found| (*least..=*most).contains(&found)) {
                    self.out_of_range(place, value.span(), *least, *most);
                }
            }
            (Shape::Number(least, most), DeValue::Integer(_) | DeValue::Float(_)) => {
                if !number(value.get_ref()).is_some_and(|found| (*least..=*most).contains(&found)) {
                    self.out_of_range(place, value.span(), *least, *most);
                }
            }
            (Shape::Choice(words), DeValue::String(word)) => self.choice(words, place, word, value.span()),
            (Shape::Table(shape), DeValue::Table(table)) => {
                let subject = format!("`{}` of {}", key.name, place.subject);
                self.table(shape, &subject, table, &value.span());
            }
            (Shape::Tables(shape, most), DeValue::Array(items)) => {
                self.tables(key, shape, *most, place, items, value);
            }
            (Shape::Named(shape, format, most), DeValue::Table(tables)) => {
                self.named(key, shape, *format, *most, place, tables);
            }
            (shape, found) => {
                let hint = hints::wrong_type(key, found, self.source(&value.span()));
                self.wrong_type(place, value.span(), &shape.words(), found, hint);
            }
        }
    }

    fn text(&mut self, format: Format, place: Place<'_>, text: &str, span: Span) {
        if let Err(trouble) = format.check(text) {
            self.issues.push(place.issue(Code::ManifestValue, span, &trouble.message).hint(trouble.hint));
        }
    }

    fn texts(
        &mut self,
        key: &'static Key,
        format: Format,
        some: bool,
        place: Place<'_>,
        items: &[Spanned<DeValue<'_>>],
        whole: &Spanned<DeValue<'_>>,
    ) {
        if some && items.is_empty() {
            let issue = place.issue(Code::ManifestValue, whole.span(), "the list is empty");
            self.issues.push(issue.hint(format!("for example {} = {}", key.name, key.example)));
        }
        for (index, item) in items.iter().enumerate() {
            match item.get_ref() {
                // The first element is the program; without one there is nothing to start.
                DeValue::String(text)
                    if format == Format::Argument && index == 0 && text.trim().is_empty() =>
                {
                    let issue = place.issue(Code::ManifestValue, item.span(), "the program's name is empty");
                    self.issues.push(issue.hint(format!("for example {} = {}", key.name, key.example)));
                }
                DeValue::String(text) => self.text(format, place, text, item.span()),
                found => {
                    let hint = hints::quote(found, self.source(&item.span()));
                    let expected = format!("a string as element {} of the list", index + 1);
                    self.wrong_type(place, item.span(), &expected, found, hint);
                }
            }
        }
    }

    /// A table of strings: the formats of its names and of its values.
    fn strings(&mut self, (names, values): (Format, Format), place: Place<'_>, strings: &DeTable<'_>) {
        for (name, value) in strings {
            self.text(names, place, name.get_ref(), name.span());
            match value.get_ref() {
                DeValue::String(text) => self.text(values, place, text, value.span()),
                found => {
                    let hint = hints::quote(found, self.source(&value.span()));
                    self.wrong_type(place, value.span(), "a string", found, hint);
                }
            }
        }
    }

    fn choice(&mut self, words: &'static [&'static str], place: Place<'_>, word: &str, span: Span) {
        if words.contains(&word) {
            return;
        }
        let hint = match nearest(word, words.iter().copied()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("write {}", quoted(words)),
        };
        let message = format!("expected {}", quoted(words));
        self.issues.push(place.issue(Code::ManifestValue, span, &message).hint(hint));
    }

    fn tables(
        &mut self,
        key: &'static Key,
        shape: &'static TableShape,
        most: usize,
        place: Place<'_>,
        items: &[Spanned<DeValue<'_>>],
        whole: &Spanned<DeValue<'_>>,
    ) {
        if items.is_empty() {
            let issue = place.issue(Code::ManifestValue, whole.span(), "the list is empty");
            self.issues.push(issue.hint(format!("remove `{}`, or put something into it", key.name)));
        }
        if items.len() > most {
            self.too_many(place, whole.span(), most);
            return;
        }
        for (index, item) in items.iter().enumerate() {
            let subject = item_subject(shape, index, item.get_ref(), place);
            match item.get_ref() {
                DeValue::Table(table) => self.table(shape, &subject, table, &item.span()),
                found => {
                    let hint = (!key.example.is_empty())
                        .then(|| format!("for example {} = {}", key.name, key.example));
                    let expected = format!("a table as element {} of the list", index + 1);
                    self.wrong_type(place, item.span(), &expected, found, hint);
                }
            }
        }
    }

    fn named(
        &mut self,
        key: &'static Key,
        shape: &'static TableShape,
        format: Format,
        most: usize,
        place: Place<'_>,
        tables: &DeTable<'_>,
    ) {
        if tables.len() > most {
            let span = tables.keys().map(Spanned::span).min_by_key(|span| span.start).unwrap_or(0..0);
            self.too_many(place, span, most);
            return;
        }
        for (name, value) in tables {
            let subject = format!("{} `{}`", shape.noun, shown(name.get_ref()));
            if let Err(trouble) = format.check(name.get_ref()) {
                let message = format!("{subject}: {}", trouble.message);
                self.issues.push(Issue::new(Code::ManifestValue, name.span(), message).hint(trouble.hint));
            }
            if let DeValue::Table(table) = value.get_ref() {
                self.table(shape, &subject, table, &value.span());
                continue;
            }
            // `[task]` with `command = ...` beneath: the name is what is missing, not a table.
            let hint = if shape.key(name.get_ref()).is_some() {
                format!("the {}'s name is missing: write [{}.NAME] above it", shape.noun, key.name)
            } else {
                format!("write [{}.{}] and its keys beneath", key.name, shown(name.get_ref()))
            };
            let message = format!("{subject}: expected a table, found {}", found_words(value.get_ref()));
            let issue = Issue::new(Code::ManifestType, value.span(), message);
            self.issues.push(issue.label("expected a table").hint(hint));
        }
    }

    fn too_many(&mut self, place: Place<'_>, span: Span, most: usize) {
        let message = format!("there are more than {most}");
        let issue = place.issue(Code::ManifestValue, self.first_line(&span), &message);
        self.issues.push(issue.hint("split the project".to_owned()));
    }

    fn out_of_range(
        &mut self,
        place: Place<'_>,
        span: Span,
        least: impl std::fmt::Display,
        most: impl std::fmt::Display,
    ) {
        // Version is handled before; a range of one number does not come here otherwise.
        let message = format!("{} is out of range", shown(self.source(&span).trim()));
        let hint = format!("it may be from {least} to {most}");
        self.issues.push(place.issue(Code::ManifestValue, span, &message).hint(hint));
    }

    fn wrong_type(
        &mut self,
        place: Place<'_>,
        span: Span,
        expected: &str,
        found: &DeValue<'_>,
        hint: Option<String>,
    ) {
        let message = format!("expected {expected}, found {}", found_words(found));
        let span = self.first_line(&span);
        let issue = place.issue(Code::ManifestType, span, &message);
        self.issues.push(issue.label(format!("expected {expected}")).hint(hint));
    }

    /// What stands at the span.
    fn source(&self, span: &Span) -> &'t str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// The span, cut at its first line's end: a caret under forty lines helps nobody.
    fn first_line(&self, span: &Span) -> Span {
        let length = self.source(span).find(['\n', '\r']).unwrap_or(span.end.saturating_sub(span.start));
        span.start..span.start + length
    }
}

/// How an element of a list of tables is called: by its name where it has one, else by its number.
pub(crate) fn item_words(shape: &TableShape, index: usize, item: &DeValue<'_>) -> String {
    match item.get("name").map(Spanned::get_ref) {
        Some(DeValue::String(name)) if shape.key("name").is_some() => {
            format!("{} `{}`", shape.noun, shown(name))
        }
        _ => format!("{} {}", shape.noun, index + 1),
    }
}

fn item_subject(shape: &TableShape, index: usize, item: &DeValue<'_>, place: Place<'_>) -> String {
    let words = item_words(shape, index, item);
    if place.subject == crate::read::ROOT { words } else { format!("{words} of {}", place.subject) }
}

/// After "found".
pub(crate) fn found_words(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(items) if items.iter().all(|item| item.get_ref().is_table()) && !items.is_empty() => {
            "a list of tables"
        }
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The number, if it is a finite one.
pub(crate) fn number(value: &DeValue<'_>) -> Option<f64> {
    let number = match value {
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok()? as f64,
        DeValue::Float(number) => number.as_str().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}
