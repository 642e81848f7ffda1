//! Events that pour into `trimtab server` from several senders, and what each was answered.
//!
//! Leaves out judging. Invariant: every report has its own id, so that what was acknowledged can be looked for in the ledger.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::http::{self, Answer};
use crate::figures::process::{self, Running};

/// How long a server may take to listen.
const START_MOST: Duration = Duration::from_mins(1);

/// The wait of a sender between two events, so that they pour for as long as rollouts go on.
const PAUSE: Duration = Duration::from_millis(8);

/// A server that takes events.
#[derive(Debug)]
pub(crate) struct Pour {
    /// Its address.
    pub(crate) address: String,
    token: String,
}

/// An answer to one report.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// The id that we gave it.
    pub(crate) id: String,
    /// What came back; an error when the connection broke.
    pub(crate) answer: Result<Answer, String>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    list: Vec<Report>,
}

impl Pour {
    /// Waits for the server's address and takes the project's token.
    pub(crate) fn at(server: &mut Running, project: &Utf8Path) -> Result<Self, String> {
        let deadline = process::now() + START_MOST;
        loop {
            let said = std::fs::read_to_string(&server.output).unwrap_or_default();
            if let Some(address) = said.lines().find_map(address_in) {
                let path = project.join(".trimtab/keys/report-token");
                let token = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
                return Ok(Self { address, token: token.trim().to_owned() });
            }
            if server.ended()?.is_some() || process::now() > deadline {
                let talk = std::fs::read_to_string(&server.talk).unwrap_or_default();
                return Err(format!("the server does not listen: {said}{talk}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends one report.
    pub(crate) fn send(&self, id: &str) -> Report {
        self.post("application/cloudevents+json", id, &event(id).to_string())
    }

    /// Sends so many reports in one request: all are recorded, or none.
    pub(crate) fn send_many(&self, id: &str, count: usize) -> Report {
        let events: Vec<Value> = (0..count).map(|number| event(&format!("{id}{number}-"))).collect();
        self.post("application/cloudevents-batch+json", id, &Value::Array(events).to_string())
    }

    fn post(&self, kind: &str, id: &str, body: &str) -> Report {
        let authorization = format!("Bearer {}", self.token);
        let headers = [("content-type", kind), ("authorization", authorization.as_str())];
        let answer = http::ask(&self.address, "POST /api/v1/events", &headers, body);
        Report { id: id.to_owned(), answer }
    }

    /// Sends so many from so many senders at once, and gives all answers.
    pub(crate) fn all(&self, senders: u32, events: u32) -> Result<Reports, String> {
        let (next, list) = (AtomicU32::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..senders {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= events {
                            return;
                        }
                        std::thread::sleep(PAUSE);
                        let report = self.send(&format!("poured-{number}-"));
                        if let Ok(mut list) = list.lock() {
                            list.push(report);
                        }
                    }
                });
            }
        });
        let list = list.into_inner().map_err(|_| "a sender panicked".to_owned())?;
        Ok(Reports { list })
    }
}

/// An incident, as monitoring reports it: a CDEvent in a CloudEvent.
fn event(id: &str) -> Value {
    let (kind, at) = ("dev.cdevents.incident.detected.0.3.0", "2026-01-01T00:00:00Z");
    serde_json::json!({
        "specversion": "1.0", "id": id, "source": "/chaos", "type": kind,
        "data": {
            "context": { "specversion": "0.4.1", "id": id, "source": "/chaos", "type": kind, "timestamp": at },
            "subject": {
                "id": id,
                "content": {
                    "description": "poured", "environment": { "id": "production" }, "service": { "id": "shop" },
                },
            },
        },
    })
}

fn address_in(line: &str) -> Option<String> {
    let said: Value = serde_json::from_str(line).ok()?;
    said["address"].as_str().map(str::to_owned)
}

impl Report {
    /// The sequence that its record was told to have.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        let answer = self.answer.as_ref().ok().filter(|answer| (200..300).contains(&answer.status))?;
        serde_json::from_str::<Value>(&answer.body).ok()?["recorded"][0]["sequence"].as_u64()
    }
}

impl Report {
    /// Whether a refusal says that and when to try again, and has a code.
    pub(crate) fn is_clear(&self) -> bool {
        self.answer.as_ref().is_ok_and(|answer| {
            let after = answer.retry_after.as_ref().and_then(|seconds| seconds.parse::<u32>().ok());
            answer.status == 503 && after.is_some() && answer.body.contains("TRM-")
        })
    }
}

impl Reports {
    /// Where a stage leaves them: one line each, the id and the acknowledged sequence.
    pub(crate) fn path(folder: &Utf8Path) -> Utf8PathBuf {
        folder.join("acknowledged.txt")
    }

    /// Leaves the acknowledged ones for whoever judges. Nothing acknowledged, or an answer that is no success: an error.
    pub(crate) fn write(&self, folder: &Utf8Path) -> Result<(), String> {
        if let Some(report) = self.list.iter().find(|report| report.acknowledged().is_none()) {
            return Err(format!("a report was not taken: {report:?}"));
        }
        let line = |report: &Report| Some(format!("{} {}\n", report.id, report.acknowledged()?));
        let text: String = self.list.iter().filter_map(line).collect();
        let path = Self::path(folder);
        std::fs::write(&path, text).map_err(|error| format!("{path}: {error}"))
    }
}
