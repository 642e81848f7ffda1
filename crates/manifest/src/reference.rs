//! The reference page of the manifest, `docs/reference/manifest.md`.
//!
//! Invariant: made from the same table as the checker; a test compares it with the committed page.

use std::fmt::Write as _;

use crate::keys::MANIFEST;
use crate::shape::{Key, Shape, TableShape, quoted};

/// The page as Markdown.
pub fn reference() -> String {
    let mut page = String::from(include_str!("reference_head.md"));
    section(&mut page, &MANIFEST, "", 0);
    page
}

fn section(page: &mut String, shape: &'static TableShape, path: &str, depth: usize) {
    let title = if depth == 0 { "The file".to_owned() } else { format!("`{path}`") };
    // Writing to a string does not fail.
    let _ = write!(page, "\n## {title}\n\n{}\n\n", shape.about);
    page.push_str("| Key | Type | Default | Meaning | Example |\n|---|---|---|---|---|\n");
    for key in shape.keys {
        let example = if key.example.is_empty() { String::new() } else { format!("`{}`", cell(key.example)) };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {example} |",
            key.name,
            cell(&kind(&key.shape)),
            cell(&default(key)),
            cell(key.about),
        );
    }
    for key in shape.keys {
        match &key.shape {
            Shape::Table(inner) => section(page, inner, &join(path, key.name), depth + 1),
            Shape::Tables(inner, _) if depth == 0 => {
                section(page, inner, &format!("[[{}]]", key.name), depth + 1);
            }
            Shape::Tables(inner, _) => {
                section(page, inner, &format!("{} = [{{ ... }}]", join(path, key.name)), depth + 1);
            }
            Shape::Named(inner, ..) => section(page, inner, &format!("[{}.NAME]", key.name), depth + 1),
            _ => {}
        }
    }
}

fn join(path: &str, name: &str) -> String {
    let path = path.trim_start_matches('[').trim_end_matches(']').trim_end_matches(".NAME");
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn default(key: &Key) -> String {
    match key {
        Key { required: true, .. } => "required".into(),
        Key { default_words, .. } if !default_words.is_empty() => (*default_words).to_owned(),
        Key { default: "", .. } => "none".into(),
        Key { default, .. } => format!("`{default}`"),
    }
}

fn kind(shape: &Shape) -> String {
    match shape {
        Shape::Text(format) => format.noun().into(),
        Shape::Texts(format, _) => format!("list of {}s", format.noun()).replace("addresss", "addresses"),
        Shape::Variables => "table of strings".into(),
        Shape::Addresses => "address:port, or a table of them by service".into(),
        Shape::Flag => "`true` or `false`".into(),
        Shape::Whole(least, most) if least == most => format!("`{least}`"),
        Shape::Whole(least, most) => format!("whole number, {least} to {most}"),
        Shape::Number(least, most) => format!("number, {least} to {most}"),
        Shape::Choice(words) => quoted(words),
        Shape::Table(_) => "table".into(),
        Shape::Tables(_, most) => format!("list of tables, at most {most}"),
        Shape::Named(_, _, most) => format!("named tables, at most {most}"),
    }
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
