//! Conventional Commits 1.0.0 (conventionalcommits.org): what a commit's message says about the change.
//!
//! Reads the header and whether the change is breaking; other footers are left alone. Stricter than many tools in one
//! point, as the specification is: the colon must be followed by a space. More lenient in one: `BREAKING CHANGE:` counts
//! wherever it starts a line and whatever the header is, because announcing a break in the wrong place is still announcing it.

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conventional<'a> {
    /// The type in lower case: `feat`, `fix`, `docs`.
    pub kind: String,
    /// What it is about, where given: `feat(parser): ...`.
    pub scope: Option<&'a str>,
    /// Whether it breaks users: `!` before the colon, or a `BREAKING CHANGE:` line.
    pub breaking: bool,
    /// The rest of the header.
    pub description: &'a str,
}

/// Reads a message; `None` when it does not follow the convention.
pub fn parse(message: &str) -> Option<Conventional<'_>> {
    let header = message.lines().next()?;
    let (prefix, description) = header.trim_end().split_once(": ")?;
    let description = description.trim();
    let (prefix, marked) = prefix.strip_suffix('!').map_or((prefix, false), |prefix| (prefix, true));
    let (kind, scope) = match prefix.split_once('(') {
        Some((kind, scope)) => (kind, Some(scope.strip_suffix(')')?)),
        None => (prefix, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    // "BREAKING CHANGE: x" as a header is a breaking change too, by the specification's rule 12 and 15.
    let announced = matches!(prefix, "BREAKING CHANGE" | "BREAKING-CHANGE");
    let well_formed = !kind.is_empty() && kind.chars().all(word) && !description.is_empty();
    let scope_well_formed = scope.is_none_or(|scope| !scope.is_empty() && !scope.contains(['(', ')', '\r']));
    if !(announced || well_formed) || !scope_well_formed {
        return None;
    }
    let breaking = marked || announces_break(message);
    Some(Conventional { kind: kind.to_lowercase(), scope, breaking, description })
}

/// Whether a line of the message announces a breaking change, conventional or not. Upper case is required.
pub fn announces_break(message: &str) -> bool {
    let marks = ["BREAKING CHANGE:", "BREAKING-CHANGE:"];
    message.lines().any(|line| marks.iter().any(|mark| line.starts_with(mark)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the specification, in its order.
    #[test]
    fn the_specifications_examples() {
        let cases: [(&str, &str, Option<&str>, bool); 9] = [
            (
                "feat: allow provided config object to extend other configs\n\nBREAKING CHANGE: `extends` key in config file \
                 is now used for extending other config files",
                "feat",
                None,
                true,
            ),
            ("feat!: send an email to the customer when a product is shipped", "feat", None, true),
            (
                "feat(api)!: send an email to the customer when a product is shipped",
                "feat",
                Some("api"),
                true,
            ),
            (
                "feat!: drop support for Node 6\n\nBREAKING CHANGE: use JavaScript features not available in Node 6.",
                "feat",
                None,
                true,
            ),
            ("docs: correct spelling of CHANGELOG", "docs", None, false),
            ("feat(lang): add Polish language", "feat", Some("lang"), false),
            (
                "fix: prevent racing of requests\n\nIntroduce a request id\n\nReviewed-by: Z\nRefs: #123",
                "fix",
                None,
                false,
            ),
            (
                "revert: let us never again speak of the noodle incident\n\nRefs: 676104e, a215868",
                "revert",
                None,
                false,
            ),
            ("chore!: drop support for Node 6\n\nBREAKING-CHANGE: as above", "chore", None, true),
        ];
        for (message, kind, scope, breaking) in cases {
            let read = parse(message).unwrap_or_else(|| panic!("{message}"));
            assert_eq!((read.kind.as_str(), read.scope, read.breaking), (kind, scope, breaking), "{message}");
        }
    }

    #[test]
    fn other_messages_are_not_conventional() {
        for message in [
            "",
            "Merge pull request #12 from x/feat",
            "feat:no space",
            "feat : space before",
            "feat(: x",
            "feat(): x",
            "feat(a)b: x",
            "feat: ",
            "two words: x",
            ": x",
        ] {
            assert_eq!(parse(message), None, "{message:?}");
        }
    }

    #[test]
    fn types_are_read_in_any_case_but_breaks_are_upper_case() {
        assert_eq!(parse("FEAT(x): y").map(|c| c.kind), Some("feat".to_owned()));
        assert_eq!(parse("fix: y\n\nbreaking change: no").map(|c| c.breaking), Some(false));
        assert_eq!(parse("fix: y\r\n\r\nBREAKING CHANGE: yes\r\n").map(|c| c.breaking), Some(true));
        assert_eq!(parse("BREAKING CHANGE: yes").map(|c| c.breaking), Some(true));
        assert_eq!(parse("feat: y\n\nBREAKING CHANGE:\nthe text is below").map(|c| c.breaking), Some(true));
    }
}
