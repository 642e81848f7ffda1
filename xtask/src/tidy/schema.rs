//! The manifest's JSON Schema is committed, so that editors can use it without building anything.
//!
//! That it is the one which the code generates is checked by the manifest crate's own test.

use super::Complaint;
use crate::tree::Tree;

const PATH: &str = "docs/reference/trimtab.schema.json";

/// Checks that the schema is there and is JSON.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    let Some(file) = tree.file(PATH) else {
        return vec![Complaint::new(PATH, 1, "is missing: the manifest's JSON Schema")];
    };
    let schema = serde_json::from_str::<serde_json::Value>(&file.text);
    match schema {
        Ok(schema) if schema["$schema"].is_string() => Vec::new(),
        Ok(_) => vec![Complaint::new(PATH, 1, "has no `$schema`")],
        Err(error) => vec![Complaint::new(PATH, error.line().max(1), format!("is not JSON: {error}"))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_broken_schema_is_found() {
        let draft = "{\"$schema\": \"https://json-schema.org/draft/2020-12/schema\"}";
        assert_eq!(check(&Tree::of([(PATH, draft)])), []);
        for bad in ["{}", "{\n", ""] {
            assert_eq!(check(&Tree::of([(PATH, bad)])).len(), 1, "{bad}");
        }
        assert_eq!(check(&Tree::default()).len(), 1);
    }
}
