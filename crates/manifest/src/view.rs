//! A table seen through its grammar: values, or the defaults that the grammar gives.
//!
//! Leaves out complaints. What the checker has refused reads as absent here, so that the rules between keys can still be
//! looked at in a file that has other mistakes.
//!
//! Invariant: every key that is asked for is in the grammar; a debug assertion says so in every test.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::check::number;
use crate::format::{Format, duration_ms, listen};
use crate::issue::Span;
use crate::shape::{Key, Shape, TableShape};

/// A table, or the absence of one.
#[derive(Clone, Copy)]
pub(crate) struct View<'t> {
    shape: &'static TableShape,
    table: Option<&'t DeTable<'t>>,
}

/// Where to listen.
pub(crate) struct Address<'t> {
    /// For which service, and where its name stands.
    pub(crate) service: Option<(&'t str, Span)>,
    /// The address, if it is valid, and where it stands.
    pub(crate) given: (Option<SocketAddr>, Span),
}

impl<'t> View<'t> {
    /// Of a table.
    pub(crate) fn new(shape: &'static TableShape, table: &'t DeTable<'t>) -> Self {
        Self { shape, table: Some(table) }
    }

    fn key(&self, name: &str) -> Option<&'static Key> {
        let key = self.shape.key(name);
        debug_assert!(key.is_some(), "a {} has no key {name}", self.shape.noun);
        key
    }

    fn value(&self, name: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        debug_assert!(self.shape.key(name).is_some(), "a {} has no key {name}", self.shape.noun);
        self.table?.get(name)
    }

    /// Whether the key is there, whatever it holds.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Where the key's value stands.
    pub(crate) fn span(&self, name: &str) -> Option<Span> {
        self.value(name).map(Spanned::span)
    }

    /// Where the key itself stands.
    pub(crate) fn key_span(&self, name: &str) -> Option<Span> {
        self.table?.get_key_value(name).map(|(key, _)| key.span())
    }

    /// The string, if it is there and valid.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let key = self.key(name)?;
        let given = match (&key.shape, self.value(name).map(Spanned::get_ref)) {
            (Shape::Text(format), Some(DeValue::String(text))) if format.check(text).is_ok() => {
                Some(text.to_string())
            }
            (Shape::Text(Format::Moment), Some(DeValue::Datetime(moment))) => Some(moment.to_string()),
            (Shape::Choice(words), Some(DeValue::String(word))) if words.contains(&&**word) => {
                Some(word.to_string())
            }
            _ => None,
        };
        given.or_else(|| unquoted(key.default).map(str::to_owned))
    }

    /// Whether the key holds one of its words.
    pub(crate) fn has_valid_choice(&self, name: &str) -> bool {
        match (self.key(name).map(|key| &key.shape), self.value(name).map(Spanned::get_ref)) {
            (Some(Shape::Choice(words)), Some(DeValue::String(word))) => words.contains(&&**word),
            _ => false,
        }
    }

    /// The duration in milliseconds, or its default, or nothing.
    pub(crate) fn duration_if(&self, name: &str) -> Option<u64> {
        self.text(name).and_then(|text| duration_ms(&text).ok())
    }

    /// The duration in milliseconds, or its default.
    pub(crate) fn duration(&self, name: &str) -> u64 {
        self.duration_if(name).unwrap_or_default()
    }

    /// The strings that are valid, each with its place.
    pub(crate) fn texts(&self, name: &str) -> Vec<(String, Span)> {
        let (Some(key), Some(DeValue::Array(items))) =
            (self.key(name), self.value(name).map(Spanned::get_ref))
        else {
            return Vec::new();
        };
        let Shape::Texts(format, _) = key.shape else { return Vec::new() };
        let texts = items.iter().filter_map(|item| Some((item.get_ref().as_str()?, item.span())));
        texts
            .filter(|(text, _)| format.check(text).is_ok())
            .map(|(text, span)| (text.to_owned(), span))
            .collect()
    }

    /// The strings that are valid.
    pub(crate) fn strings(&self, name: &str) -> Vec<String> {
        self.texts(name).into_iter().map(|(text, _)| text).collect()
    }

    /// A table of strings.
    pub(crate) fn variables(&self, name: &str) -> BTreeMap<String, String> {
        let Some(DeValue::Table(table)) = self.value(name).map(Spanned::get_ref) else {
            return BTreeMap::new();
        };
        let pairs =
            table.iter().filter_map(|(name, value)| Some((name.get_ref(), value.get_ref().as_str()?)));
        pairs.map(|(name, value)| (name.to_string(), value.to_owned())).collect()
    }

    /// Addresses by service, each with the name's place, the address where it is valid, and its place; an only address has
    /// no name.
    pub(crate) fn addresses(&self, name: &str) -> Vec<Address<'t>> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let address = |value: &Spanned<DeValue<'t>>| {
            let address = value.get_ref().as_str().and_then(|text| listen(text).ok());
            (address, value.span())
        };
        match value.get_ref() {
            DeValue::Table(table) => {
                let named = |(name, value): (&'t Spanned<std::borrow::Cow<'t, str>>, _)| Address {
                    service: Some((name.get_ref().as_ref(), name.span())),
                    given: address(value),
                };
                table.iter().map(named).collect()
            }
            _ => vec![Address { service: None, given: address(value) }],
        }
    }

    /// The flag, if it is given.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.value(name)?.get_ref().as_bool()
    }

    /// The whole number, or its default, or nothing.
    pub(crate) fn whole_if(&self, name: &str) -> Option<u64> {
        let key = self.key(name)?;
        let Shape::Whole(least, most) = key.shape else { return None };
        let given = match self.value(name).map(Spanned::get_ref) {
            Some(DeValue::Integer(number)) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        given.filter(|found| (least..=most).contains(found)).or_else(|| key.default.parse().ok())
    }

    /// The whole number, or its default.
    pub(crate) fn whole(&self, name: &str) -> u64 {
        self.whole_if(name).unwrap_or_default()
    }

    /// The number, or its default, or nothing.
    pub(crate) fn number_if(&self, name: &str) -> Option<f64> {
        let key = self.key(name)?;
        let Shape::Number(least, most) = key.shape else { return None };
        let given = self.value(name).and_then(|value| number(value.get_ref()));
        given.filter(|found| (least..=most).contains(found)).or_else(|| key.default.parse().ok())
    }

    /// The number, or its default.
    pub(crate) fn number(&self, name: &str) -> f64 {
        self.number_if(name).unwrap_or_default()
    }

    /// The table below, or all its defaults.
    pub(crate) fn table(&self, name: &str) -> View<'t> {
        let table = self.value(name).and_then(|value| value.get_ref().as_table());
        match self.key(name).map(|key| &key.shape) {
            Some(Shape::Table(shape)) => View { shape, table },
            _ => View { shape: self.shape, table: None },
        }
    }

    /// The tables of a list, with the words for each and where it stands.
    pub(crate) fn tables(&self, name: &str) -> Vec<(View<'t>, String, Span)> {
        let Some(Shape::Tables(shape, most)) = self.key(name).map(|key| &key.shape) else {
            return Vec::new();
        };
        let Some(DeValue::Array(items)) = self.value(name).map(Spanned::get_ref) else { return Vec::new() };
        let view = |(index, item): (usize, &'t Spanned<DeValue<'t>>)| {
            let table = item.get_ref().as_table()?;
            let words = crate::check::item_words(shape, index, item.get_ref());
            Some((View::new(shape, table), words, item.span()))
        };
        items.iter().take(*most).enumerate().filter_map(view).collect()
    }

    /// The tables by name, in the order of the names, each with its name's place.
    pub(crate) fn named(&self, name: &str) -> Vec<(&'t str, View<'t>, Span)> {
        let Some(Shape::Named(shape, _, most)) = self.key(name).map(|key| &key.shape) else {
            return Vec::new();
        };
        let Some(DeValue::Table(tables)) = self.value(name).map(Spanned::get_ref) else { return Vec::new() };
        if tables.len() > *most {
            return Vec::new();
        }
        let view = |(name, value): (&'t Spanned<std::borrow::Cow<'t, str>>, &'t Spanned<DeValue<'t>>)| {
            let table = value.get_ref().as_table()?;
            Some((name.get_ref().as_ref(), View::new(shape, table), name.span()))
        };
        tables.iter().filter_map(view).collect()
    }

    /// The names of the tables by name, broken ones too, so that a reference to one of them is not called unknown.
    pub(crate) fn names(&self, name: &str) -> Vec<&'t str> {
        let Some(DeValue::Table(tables)) = self.value(name).map(Spanned::get_ref) else { return Vec::new() };
        tables.keys().map(|name| name.get_ref().as_ref()).collect()
    }
}

/// A default's text without its quotes.
fn unquoted(default: &'static str) -> Option<&'static str> {
    default.strip_prefix('"')?.strip_suffix('"')
}
