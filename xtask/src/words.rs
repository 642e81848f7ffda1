//! The options of a drill as words: `--name value` and `--flag`.
//!
//! Leaves out what they mean. Invariant: a word that is not understood is named, never passed over.

use std::slice::Iter;

/// Reads options from the left.
pub(crate) struct Words<'a> {
    /// Who reads them, for messages.
    drill: &'static str,
    rest: Iter<'a, &'a str>,
    name: &'a str,
}

impl<'a> Words<'a> {
    /// The options of this drill.
    pub(crate) fn of(drill: &'static str, options: &'a [&'a str]) -> Self {
        Self { drill, rest: options.iter(), name: "" }
    }

    /// The next option's name.
    pub(crate) fn name(&mut self) -> Option<&'a str> {
        self.name = self.rest.next()?;
        Some(self.name)
    }

    /// The value of the option that was named last.
    pub(crate) fn value(&mut self) -> Result<&'a str, String> {
        self.rest.next().copied().ok_or_else(|| format!("{} needs a value", self.name))
    }

    /// As [`Self::value`], as a number.
    pub(crate) fn number(&mut self) -> Result<u32, String> {
        let value = self.value()?;
        value.parse().map_err(|_| format!("{} needs a number, not {value:?}", self.name))
    }

    /// What is said about an option that the drill does not have.
    pub(crate) fn unknown(&self) -> String {
        format!("{} knows no {}", self.drill, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::Words;

    #[test]
    fn mistakes_are_named() {
        let mut words = Words::of("flood", &["--rounds", "3", "--debug", "--runs", "many", "--seed"]);
        assert_eq!(words.name(), Some("--rounds"));
        assert_eq!(words.number(), Ok(3));
        assert_eq!(words.name(), Some("--debug"));
        assert_eq!(words.unknown(), "flood knows no --debug");
        assert_eq!(words.name(), Some("--runs"));
        assert_eq!(words.number().unwrap_err(), "--runs needs a number, not \"many\"");
        assert_eq!(words.name(), Some("--seed"));
        assert_eq!(words.number().unwrap_err(), "--seed needs a value");
        assert_eq!(words.name(), None);
    }
}
