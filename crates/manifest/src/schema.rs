//! The JSON Schema of the manifest, for editors.
//!
//! Leaves out what a schema can't say: references, circles, rules between keys.
//!
//! Invariant: made from the same table as the checker, so its keys are exactly the keys that are accepted.

use serde_json::{Map, Value, json};

use crate::format::Format;
use crate::keys::MANIFEST;
use crate::shape::{Key, Shape, TableShape};

/// The schema (draft 2020-12).
pub fn schema() -> Value {
    let mut root = table(&MANIFEST);
    if let Value::Object(members) = &mut root {
        members.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        members.insert("title".into(), json!("trimtab.toml, version 1"));
    }
    sorted(root)
}

/// With members in byte order, whichever order serde_json was built to keep.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.into_iter().collect();
            members.sort_by(|(left, _), (right, _)| left.cmp(right));
            Value::Object(members.into_iter().map(|(name, member)| (name, sorted(member))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        scalar => scalar,
    }
}

fn table(shape: &TableShape) -> Value {
    let properties: Map<String, Value> =
        shape.keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> = shape.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut value = json!({
        "type": "object",
        "description": shape.about,
        "properties": properties,
        "additionalProperties": false,
    });
    if let (false, Value::Object(members)) = (required.is_empty(), &mut value) {
        members.insert("required".into(), json!(required));
    }
    value
}

fn property(key: &Key) -> Value {
    let mut value = self::value(&key.shape);
    if let Value::Object(members) = &mut value {
        members.insert("description".into(), json!(key.about));
        for (name, text) in [("default", key.default), ("example", key.example)] {
            if let Some(given) = toml_value(text) {
                let entry = if name == "example" { ("examples", json!([given])) } else { (name, given) };
                members.insert(entry.0.into(), entry.1);
            }
        }
    }
    value
}

/// A value written as TOML, as JSON.
fn toml_value(text: &str) -> Option<Value> {
    let table: toml::Table = toml::from_str(&format!("value = {text}")).ok()?;
    serde_json::to_value(table.get("value")?).ok()
}

fn value(shape: &Shape) -> Value {
    match shape {
        Shape::Text(format) => text(*format),
        Shape::Texts(format, some) => {
            json!({ "type": "array", "items": text(*format), "minItems": u8::from(*some) })
        }
        Shape::Variables => {
            json!({ "type": "object", "propertyNames": text(Format::Variable), "additionalProperties": { "type": "string" } })
        }
        Shape::Addresses => json!({ "anyOf": [
            text(Format::Listen),
            { "type": "object", "propertyNames": text(Format::Name), "additionalProperties": text(Format::Listen) },
        ] }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Whole(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Number(least, most) => json!({ "type": "number", "minimum": least, "maximum": most }),
        Shape::Choice(words) => json!({ "enum": words }),
        Shape::Table(shape) => table(shape),
        Shape::Tables(shape, most) => {
            json!({ "type": "array", "items": table(shape), "minItems": 1, "maxItems": most })
        }
        Shape::Named(shape, format, most) => json!({
            "type": "object",
            "propertyNames": text(*format),
            "additionalProperties": table(shape),
            "maxProperties": most,
        }),
    }
}

fn text(format: Format) -> Value {
    match format.pattern() {
        Some(pattern) => json!({ "type": "string", "pattern": pattern }),
        None => json!({ "type": "string" }),
    }
}
