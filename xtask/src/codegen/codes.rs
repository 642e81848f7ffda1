//! The tables of error codes and exit codes, from `delivery::code` and `delivery::exit`.

use std::fmt::Write as _;

use delivery::code::Code;
use delivery::exit::Exit;

use super::NOTICE;

/// The ranges of codes, as `delivery::code` documents them.
const RANGES: &[(&str, &str)] = &[
    ("01", "Manifest"),
    ("02", "Repository"),
    ("03", "Ledger"),
    ("04", "Pipeline"),
    ("05", "Gates"),
    ("06", "Provenance"),
    ("07", "Platform"),
    ("08", "Promotion and rollout"),
    ("09", "Server and command line"),
];

/// The page of all error codes.
pub(super) fn errors() -> String {
    let mut page = format!(
        "{NOTICE}\n\n# Error codes\n\nEvery problem that Trimtab reports has a code. `trimtab explain CODE` prints its page; the exit code tells \
         scripts which [class of ending](exit-codes.md) it was.\n"
    );
    for (range, name) in RANGES {
        let _ = write!(page, "\n## {name}\n\n| code | what it says | exit |\n|---|---|---|\n");
        for code in Code::ALL.iter().filter(|code| code.id().starts_with(&format!("TRM-{range}"))) {
            let _ =
                writeln!(page, "| [{code}](errors/{code}.md) | {} | {} |", code.title(), code.exit() as u8);
        }
    }
    page
}

/// The page of exit codes.
pub(super) fn exits() -> String {
    let mut page = format!(
        "{NOTICE}\n\n# Exit codes\n\nEvery command ends with one of these, so that a script can act on the class of ending without reading text. \
         With `--format json` the problem's code is in the output as well.\n\n| exit | meaning | error codes |\n|---|---|---|\n"
    );
    for (exit, meaning) in Exit::ALL {
        let codes: Vec<String> = Code::ALL
            .iter()
            .filter(|code| code.exit() == exit)
            .map(|code| format!("[{code}](errors/{code}.md)"))
            .collect();
        let codes = if codes.is_empty() { "-".to_owned() } else { codes.join(" ") };
        let _ = writeln!(page, "| {} | {meaning} | {codes} |", exit as u8);
    }
    page.push_str(
        "\nA process that was ended by a signal reports 128 plus the signal's number, as shells do.\n",
    );
    page
}

/// The book's contents with the list of error pages brought up to date: the lines below the link to `error-codes.md`.
pub(super) fn summary(old: &str) -> String {
    let mut new = String::new();
    for line in old.lines().filter(|line| !line.trim_start().starts_with("- [TRM-")) {
        new.push_str(line);
        new.push('\n');
        if line.contains("(reference/error-codes.md)") {
            for code in Code::ALL {
                let _ = writeln!(new, "  - [{code}](reference/errors/{code}.md)");
            }
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_row_in_a_range() {
        let page = errors();
        let rows = page.lines().filter(|line| line.starts_with("| [TRM-")).count();
        assert_eq!(rows, Code::ALL.len());
        assert!(page.contains("| [TRM-0101](errors/TRM-0101.md) | there is no trimtab.toml | 2 |"));
    }

    #[test]
    fn every_exit_has_its_row() {
        let page = exits();
        for (exit, meaning) in Exit::ALL {
            assert!(page.contains(&format!("| {} | {meaning} |", exit as u8)));
        }
    }

    #[test]
    fn the_summary_is_replaced_not_grown() {
        let once = summary("- [Codes](reference/error-codes.md)\n  - [TRM-9999](x.md)\n- [Next](n.md)\n");
        assert_eq!(summary(&once), once);
        assert!(!once.contains("TRM-9999") && once.ends_with("- [Next](n.md)\n"));
        assert_eq!(once.lines().count(), 2 + Code::ALL.len());
    }
}
