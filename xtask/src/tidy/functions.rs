//! Functions stay within 70 lines of code: what fits on a screen can be read.
//!
//! Counted from the signature to the closing brace, without blank lines and comments, so that a comment never costs.

use super::{Complaint, rust};
use crate::tree::{File, Tree};

const LINES_MAX: usize = 70;

/// Checks every Rust file, tests included.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    tree.rust().flat_map(long_functions).collect()
}

fn long_functions(file: &File) -> Vec<Complaint> {
    let code = &file.code;
    let mut complaints = Vec::new();
    for at in rust::find_word(code, "fn") {
        let name: String =
            code[at + 2..].trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            continue;
        }
        let body = &code[at..at + rust::item_end(&code[at..])];
        let lines = body.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > LINES_MAX {
            let message =
                format!("`{name}` has {lines} lines of code, more than {LINES_MAX}: take an idea out of it");
            complaints.push(Complaint::new(&file.path, rust::line_of(code, at), message));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(lines: usize) -> String {
        format!("fn long(a: [u8; 2]) -> fn() {{\n{}}}\n", "    step();\n".repeat(lines - 2))
    }

    #[test]
    fn the_71st_line_is_found_and_the_70th_is_not() {
        let tree = Tree::of([("short.rs", &function(70)), ("long.rs", &format!("\n{}", function(71)))]);
        let found = check(&tree);
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().starts_with("long.rs:2: `long` has 71 lines"), "{}", found[0]);
    }

    #[test]
    fn comments_and_blank_lines_are_free() {
        let text = function(70).replace("    step();\n", "    step(); // why {\n\n    // more }\n");
        assert_eq!(check(&Tree::of([("a.rs", &text)])), []);
    }
}
