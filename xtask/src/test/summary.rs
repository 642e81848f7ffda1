//! Reads nextest's closing line, so that the whole command can end with its figures.

use std::fmt;

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    seen: bool,
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Counts {
    /// Looks at one line of nextest's output: `Summary [ 1.2s] 3 tests run: 2 passed, 1 failed, 4 skipped`.
    pub(super) fn see(&mut self, line: &str) {
        let plain = without_colour(line);
        let Some(("Summary", rest)) = plain.trim_start().split_once(' ') else { return };
        let Some((_, ends)) = rest.split_once(" run: ") else { return };
        *self = Self { seen: true, ..Self::default() };
        for part in ends.split(", ") {
            let mut words = part.split_whitespace();
            let n: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => self.passed = n,
                Some("failed" | "timed" | "exec") => self.failed += n,
                Some("skipped") => self.skipped = n,
                _ => {}
            }
        }
    }

    /// A remark for the table; an error when nextest gave no figures or ran nothing.
    pub(super) fn remark(&self) -> Result<String, String> {
        if !self.seen {
            return Err("nextest's summary line was not found".into());
        }
        if self.passed == 0 {
            return Err("no test was run".into());
        }
        Ok(format!("{} tests", self.passed))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.seen {
            return f.write_str("the tests did not run");
        }
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(f, ", {} skipped", self.skipped) } else { Ok(()) }
    }
}

/// The text without ANSI colour sequences (ECMA-48 SGR).
fn without_colour(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(line: &str) -> Counts {
        let mut counts = Counts::default();
        counts.see(line);
        counts
    }

    #[test]
    fn the_closing_line_is_read() {
        let line =
            "     Summary [   1.234s] 12 tests run: 9 passed (1 slow), 2 failed, 1 timed out, 3 skipped";
        assert_eq!(counted(line).to_string(), "9 passed, 3 failed, 3 skipped");
        let coloured = "\x1b[32;1m     Summary\x1b[0m [   0.1s] \x1b[1m2\x1b[0m tests run: \x1b[1m2\x1b[0m \x1b[32;1mpassed\x1b[0m, 0 skipped";
        assert_eq!(counted(coloured).to_string(), "2 passed, 0 failed");
    }

    #[test]
    fn no_figures_and_no_tests_are_errors() {
        assert!(counted("PASS something").remark().is_err());
        assert!(counted("Summary [ 0s] 0 tests run: 0 passed, 5 skipped").remark().is_err());
        assert_eq!(counted("Summary [ 0s] 1 test run: 1 passed").remark().as_deref(), Ok("1 tests"));
    }
}
