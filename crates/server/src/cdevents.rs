//! Reads reports from outside: CloudEvents 1.0 over HTTP, each carrying a CDEvent.
//!
//! All three content modes of the HTTP binding: structured, batched, binary. CloudEvents' attributes name the report; the
//! CDEvent in `data` says what happened, and its own `context` must not contradict them. What else an event holds is passed
//! over, as both specifications ask. Left out: types that say nothing of incidents or deployments, which are refused.
//!
//! Pure. Invariant: what comes out fits a record, and holds no character that changes how a record reads.

use delivery::Timestamp;
use delivery::limits::{REPORT_EVENTS_MAX, REPORT_NAME_BYTES_MAX, REPORT_SUMMARY_BYTES_MAX};
use delivery::report::{Fact, IncidentName, Origin, Report, ServiceStep};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::api::is_deceptive;

/// Why events can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// Neither of the content modes.
    #[error(
        "the body is neither application/cloudevents+json nor application/cloudevents-batch+json, and there are no ce- headers"
    )]
    Mode,
    /// More than one answer is given for.
    #[error("{events} events at once are more than {REPORT_EVENTS_MAX}")]
    Many { events: usize },
    /// One event, from 0, is not as it must be.
    #[error("event {index}: {wrong}")]
    Event { index: usize, wrong: String },
}

/// A CloudEvent in JSON (CloudEvents 1.0.2, JSON format, 3).
#[derive(Deserialize)]
struct CloudEvent<'a> {
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// A CDEvent: <https://github.com/cdevents/spec>.
#[derive(Deserialize)]
struct CdEvent {
    context: Context,
    subject: Subject,
}

#[derive(Deserialize)]
struct Context {
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    timestamp: Timestamp,
}

#[derive(Deserialize)]
struct Subject {
    id: String,
    source: Option<String>,
    content: Content,
}

/// The fields that any of our types needs.
#[derive(Deserialize)]
struct Content {
    environment: Option<Reference>,
    service: Option<Reference>,
    #[serde(rename = "artifactId")]
    artifact: Option<String>,
    description: Option<String>,
}

#[derive(Deserialize)]
struct Reference {
    id: String,
}

/// What a type means here.
#[derive(Clone, Copy)]
enum Meaning {
    Detected,
    Resolved,
    Changed(ServiceStep),
}

/// The types that are taken, without `dev.cdevents.` and their version.
const MEANINGS: [(&str, Meaning); 6] = [
    ("incident.detected", Meaning::Detected),
    // A person noticed what no program did: wrong all the same.
    ("incident.reported", Meaning::Detected),
    ("incident.resolved", Meaning::Resolved),
    ("service.deployed", Meaning::Changed(ServiceStep::Deployed)),
    ("service.upgraded", Meaning::Changed(ServiceStep::Upgraded)),
    ("service.rolledback", Meaning::Changed(ServiceStep::RolledBack)),
];

/// The reports in a request, at least one.
pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Report>, Unusable> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let wrong = |index: usize| move |wrong: String| Unusable::Event { index, wrong };
    match media.as_str() {
        "application/cloudevents+json" => {
            let event: CloudEvent<'_> = json(body).map_err(wrong(0))?;
            Ok(vec![report(event).map_err(wrong(0))?])
        }
        "application/cloudevents-batch+json" => {
            let events: Vec<&RawValue> =
                serde_json::from_slice(body).map_err(|error| wrong(0)(error.to_string()))?;
            if events.len() > REPORT_EVENTS_MAX {
                return Err(Unusable::Many { events: events.len() });
            }
            if events.is_empty() {
                return Err(wrong(0)("there is none".to_owned()));
            }
            let each = events.into_iter().enumerate();
            each.map(|(index, event)| json(event.get().as_bytes()).and_then(report).map_err(wrong(index)))
                .collect()
        }
        _ if headers.contains_key("ce-specversion") => Ok(vec![binary(headers, body).map_err(wrong(0))?]),
        _ => Err(Unusable::Mode),
    }
}

fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// Binary content mode: attributes are headers, the body is the data (CloudEvents 1.0.2, HTTP binding, 3.1).
fn binary(headers: &HeaderMap, body: &[u8]) -> Result<Report, String> {
    let attribute = |name: &'static str| {
        let value = headers.get(name).ok_or_else(|| format!("the header {name} is missing"))?;
        decoded(value.as_bytes()).ok_or_else(|| format!("the header {name} is not percent-encoded UTF-8"))
    };
    let data: &RawValue = json(body)?;
    report(CloudEvent {
        specversion: attribute("ce-specversion")?,
        id: attribute("ce-id")?,
        source: attribute("ce-source")?,
        kind: attribute("ce-type")?,
        data: Some(data),
    })
}

/// Undoes percent-encoding.
fn decoded(value: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            bytes.extend(hex::decode(digits).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

fn report(event: CloudEvent<'_>) -> Result<Report, String> {
    if event.specversion != "1.0" {
        return Err(format!("specversion is {:?}, it must be \"1.0\"", event.specversion));
    }
    let meaning = meaning(&event.kind).ok_or_else(|| {
        format!("it is of type {:?}, which says nothing of incidents or deployments", event.kind)
    })?;
    let data = event.data.ok_or("data is missing; it holds the CDEvent")?;
    let cd_event: CdEvent = owned(data)?;
    let context = &cd_event.context;
    let attributes = [
        ("id", &event.id, &context.id),
        ("source", &event.source, &context.source),
        ("type", &event.kind, &context.kind),
    ];
    for (name, outer, inner) in attributes {
        if outer != inner {
            return Err(format!("{name} is {outer:?}, but context.{name} in its data is {inner:?}"));
        }
    }
    let source = named("source", Some(event.source))?;
    Ok(Report {
        origin: Origin { id: named("id", Some(event.id))?, source: source.clone() },
        occurred_at: context.timestamp,
        fact: fact(meaning, source, cd_event.subject)?,
    })
}

fn owned<T: DeserializeOwned>(data: &RawValue) -> Result<T, String> {
    // The place in the data, not in the body, is told.
    serde_json::from_str(data.get()).map_err(|error| format!("data: {error}"))
}

fn meaning(kind: &str) -> Option<Meaning> {
    let name = kind.strip_prefix("dev.cdevents.")?;
    let (_, meaning) = MEANINGS.iter().find(|(known, _)| {
        name.strip_prefix(known).is_some_and(|version| version.starts_with('.') && version.len() > 1)
    })?;
    Some(*meaning)
}

fn fact(meaning: Meaning, source: String, subject: Subject) -> Result<Fact, String> {
    let Subject { id, source: owner, content } = subject;
    let environment = || named("subject.content.environment.id", content.environment.map(|place| place.id));
    let id = named("subject.id", Some(id))?;
    // Without a source of its own, a subject is of the event's (CDEvents, "subject").
    let owner = owner
        .filter(|owner| !owner.is_empty())
        .map_or(Ok(source), |owner| named("subject.source", Some(owner)))?;
    Ok(match meaning {
        Meaning::Detected => Fact::IncidentDetected {
            incident: IncidentName { source: owner, id },
            service: named("subject.content.service.id", content.service.map(|service| service.id))?,
            environment: environment()?,
            summary: summary(&content.description.unwrap_or_default()),
        },
        Meaning::Resolved => Fact::IncidentResolved { incident: IncidentName { source: owner, id } },
        Meaning::Changed(step) => Fact::ServiceChanged {
            step,
            service: id,
            environment: environment()?,
            artifact: named("subject.content.artifactId", content.artifact)?,
        },
    })
}

/// A name, if it can go on record.
fn named(member: &str, text: Option<String>) -> Result<String, String> {
    let text = text.ok_or_else(|| format!("{member} is missing"))?;
    if text.is_empty() {
        return Err(format!("{member} is empty"));
    }
    if text.len() > REPORT_NAME_BYTES_MAX {
        return Err(format!(
            "{member} is {} bytes long, at most {REPORT_NAME_BYTES_MAX} are taken",
            text.len()
        ));
    }
    if let Some(character) = text.chars().find(|character| is_deceptive(*character)) {
        return Err(format!("{member} holds the character U+{:04X}, which can't be read", character as u32));
    }
    Ok(text)
}

/// A description as it is recorded: on one line, without characters that deceive, and not too long.
fn summary(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.retain(|character| !is_deceptive(character));
    if line.len() > REPORT_SUMMARY_BYTES_MAX {
        line.truncate(line.floor_char_boundary(REPORT_SUMMARY_BYTES_MAX));
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests;
