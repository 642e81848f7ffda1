//! Pages only show commands that exist: those that the binary's command line dispatches, and those of xtask.

use super::{Complaint, markdown};
use crate::tree::Tree;

/// Where the binary's commands are listed, one `Name(command::name::Args)` a line.
const CLI: &str = "crates/trimtab/src/cli.rs";
const XTASK: &[&str] = &[
    "test", "tidy", "tamper", "deadman", "powercut", "eio", "diskfull", "overload", "sim", "upgrade",
    "golden", "leader", "codegen",
];

/// Checks every Markdown page.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    let trimtab = tree.file(CLI).map(|file| commands(&file.text)).unwrap_or_default();
    if trimtab.is_empty() {
        return vec![Complaint::new(CLI, 1, "lists no command as `Name(command::name::Args)`")];
    }
    let mut complaints = Vec::new();
    for page in tree.pages() {
        for (program, known) in [("trimtab", trimtab.as_slice()), ("cargo xtask", XTASK)] {
            for (line, word) in markdown::calls(&page.text, program) {
                let command = word.starts_with(|c: char| c.is_ascii_lowercase());
                if command && !known.contains(&word) {
                    let message = format!("`{program} {word}` is not a command");
                    complaints.push(Complaint::new(&page.path, line, message));
                }
            }
        }
    }
    complaints
}

/// The names of the commands in the source of the command line.
fn commands(source: &str) -> Vec<&str> {
    source
        .lines()
        .filter_map(|line| line.trim().split_once("(command::")?.1.strip_suffix("::Args),"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "enum Command {\n    Ship(command::ship::Args),\n    Why(command::why::Args),\n}\n";

    #[test]
    fn a_command_that_does_not_exist_is_found() {
        let page = "`trimtab fly`\n\n```\ntrimtab ship\ncargo xtask dance\n```\n`trimtab --version` `trimtab COMMAND`\n";
        let found = check(&Tree::of([("a.md", page), (CLI, SOURCE)]));
        assert_eq!(found.iter().map(|complaint| complaint.line).collect::<Vec<_>>(), [1, 5]);
    }

    #[test]
    fn an_unreadable_list_of_commands_is_found() {
        assert_eq!(check(&Tree::of([(CLI, "enum Command {}\n")])).len(), 1);
    }
}
