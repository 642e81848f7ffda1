//! The page of events, read from the doc comments in `delivery::event`, so that what people read is what the code says.
//!
//! Reads the one enum `Event`, by lines: doc comment, `rename`, variant, fields with doc comments. Invariant: a variant
//! without a doc comment or without a wire name is an error, not a gap on the page.

use std::fmt::Write as _;

use super::NOTICE;

/// Where the events are defined.
pub(super) const SOURCE: &str = "crates/delivery/src/event.rs";

/// One event, or one field of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    name: String,
    about: String,
    kind: String,
    fields: Vec<Entry>,
}

/// The page.
pub(super) fn page(source: &str) -> Result<String, String> {
    let events = events(source)?;
    let shared = fields(&body(source, "pub struct ServiceChange {")?.join("\n"))?;
    let mut page = format!(
        "{NOTICE}\n\n# Events\n\nThe ledger holds these events and nothing else; all state is a fold over them. Names follow \
         [CDEvents](https://cdevents.dev) where it has one. A record is `{{\"kind\": NAME, \"data\": FIELDS}}` with its sequence, time and actor \
         beside it.\n"
    );
    for event in &events {
        let _ = write!(page, "\n## {}\n\n{}\n", event.name, event.about);
        let fields = if event.kind == "ServiceChange" { &shared } else { &event.fields };
        if !fields.is_empty() {
            page.push_str("\n| field | type | meaning |\n|---|---|---|\n");
        }
        for field in fields {
            let _ = writeln!(
                page,
                "| `{}` | `{}` | {} |",
                field.name,
                field.kind,
                field.about.replace('|', "\\|")
            );
        }
    }
    Ok(page)
}

/// The lines between an opening line and its closing brace.
fn body<'a>(source: &'a str, opening: &str) -> Result<Vec<&'a str>, String> {
    let lines = source.lines().skip_while(|line| *line != opening).skip(1);
    let body: Vec<&str> = lines.take_while(|line| *line != "}").collect();
    if body.is_empty() { Err(format!("{SOURCE} has no `{opening}`")) } else { Ok(body) }
}

fn events(source: &str) -> Result<Vec<Entry>, String> {
    let mut events = Vec::new();
    let (mut event, mut inner) = (Entry::default(), Vec::new());
    for line in body(source, "pub enum Event {")? {
        let text = line.trim();
        if line.starts_with("        ") {
            inner.push(text);
        } else if let Some(doc) = text.strip_prefix("///") {
            append(&mut event.about, doc);
        } else if let Some(name) = text.strip_prefix("#[serde(rename = \"") {
            name.trim_end_matches("\")]").clone_into(&mut event.name);
        } else if let Some(holds) = text.strip_suffix("),").and_then(|variant| variant.split_once('(')) {
            holds.1.clone_into(&mut event.kind);
            events.push(checked(std::mem::take(&mut event))?);
        } else if text == "}," {
            event.fields = fields(&inner.join("\n"))?;
            inner.clear();
            events.push(checked(std::mem::take(&mut event))?);
        }
    }
    Ok(events)
}

fn fields(body: &str) -> Result<Vec<Entry>, String> {
    let mut fields = Vec::new();
    let mut field = Entry::default();
    for line in body.lines() {
        let text = line.trim();
        if let Some(doc) = text.strip_prefix("///") {
            append(&mut field.about, doc);
        } else if let Some((name, kind)) = text.trim_end_matches(',').split_once(": ") {
            name.trim_start_matches("pub ").clone_into(&mut field.name);
            kind.clone_into(&mut field.kind);
            fields.push(checked(std::mem::take(&mut field))?);
        }
    }
    Ok(fields)
}

fn append(about: &mut String, doc: &str) {
    if !about.is_empty() {
        about.push(' ');
    }
    about.push_str(doc.trim());
}

fn checked(entry: Entry) -> Result<Entry, String> {
    if entry.name.is_empty() || entry.about.is_empty() {
        return Err(format!(
            "{SOURCE}: `{}{}` lacks its wire name or its doc comment",
            entry.name, entry.about
        ));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "pub enum Event {\n    /// A thing\n    /// began.\n    #[serde(rename = \"thing.began\")]\n    Began {\n        /// Which | what.\n        thing: Vec<String>,\n    },\n    /// It ran.\n    #[serde(rename = \"thing.ran\")]\n    Ran(ServiceChange),\n}\npub struct ServiceChange {\n    /// The service.\n    pub service: ServiceName,\n}\n";

    #[test]
    fn variants_fields_and_shared_fields_are_read() {
        let page = page(SAMPLE).unwrap();
        assert!(page.contains("## thing.began\n\nA thing began.\n"));
        assert!(page.contains("| `thing` | `Vec<String>` | Which \\| what. |"));
        assert!(
            page.contains("## thing.ran\n\nIt ran.\n")
                && page.contains("| `service` | `ServiceName` | The service. |")
        );
    }

    #[test]
    fn an_undocumented_event_is_an_error() {
        assert!(page(&SAMPLE.replace("    /// It ran.\n", "")).is_err());
        assert!(page("").is_err());
    }
}
