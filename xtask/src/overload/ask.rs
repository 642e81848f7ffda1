//! The server under test, and questions to it over HTTP.
//!
//! Invariant: every question has a time within which it must be answered.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use camino::Utf8Path;
use serde_json::Value;

use crate::figures::process::{self, Running};
use crate::figures::shop::Shop;

/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server at work.
pub(super) struct Server {
    running: Running,
    /// Where it listens.
    pub(super) address: String,
    /// What reports are sent with.
    pub(super) report_token: String,
    token: String,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// What the server says when all is over.
pub(super) struct After {
    /// Questions that were not answered well, or not within a second.
    pub(super) failed: u32,
}

impl Server {
    /// Starts it on a port of the system's choice.
    pub(super) fn start(shop: &Shop, folder: &Utf8Path) -> Result<Self, String> {
        let mut running = shop.start(&["server", "--listen", "127.0.0.1:0", "--format", "json"], "server")?;
        let deadline = process::now() + PATIENCE;
        let address = loop {
            let text = std::fs::read_to_string(&running.output).unwrap_or_default();
            if let Some(address) = text.lines().find_map(address_in) {
                break address;
            }
            if running.ended()?.is_some() || process::now() > deadline {
                return Err(format!("the server does not start: see {folder}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let token = |name: &str| {
            let path = shop.repository().join(".trimtab/keys").join(name);
            std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
        };
        Ok(Self { running, address, report_token: token("report-token")?, token: token("api-token")? })
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.running.id()
    }

    /// Ends it as Ctrl-C does.
    pub(super) fn stop(&mut self) -> Result<(), String> {
        self.running.interrupt()
    }

    /// One request on a connection of its own.
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        token: &str,
        kind: &str,
        body: &str,
    ) -> Result<Answer, String> {
        let asked = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(&self.address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let head = format!(
                "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Type: {kind}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                self.address,
                body.len()
            );
            stream.write_all(head.as_bytes())?;
            stream.write_all(body.as_bytes())?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        let text = asked().map_err(|error| format!("{method} {path}: {error}"))?;
        let (head, body) =
            text.split_once("\r\n\r\n").ok_or_else(|| format!("{method} {path}: no answer"))?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok(Answer { status, body: body.to_owned() })
    }

    /// Asks for the rollout to be taken back.
    pub(super) fn roll_back(&self, rollout: &str) -> Result<Answer, String> {
        let path = format!("/api/v1/rollouts/{rollout}/rollback");
        self.ask("POST", &path, &self.token, "application/json", r#"{"reason":"overload"}"#)
    }

    /// Whether it still does all that it should, at once.
    pub(super) fn answers_after(&self, shop: &Shop) -> Result<After, String> {
        let started = process::now();
        let mut failed = 0;
        for path in ["/healthz", "/", "/api/v1/state", "/api/v1/why", "/api/v1/ledger", "/rollouts"] {
            let asked = process::now();
            let answer = self.ask("GET", path, "", "", "")?;
            let well = answer.status == 200 && asked.elapsed() < Duration::from_secs(1);
            if !well {
                eprintln!("{path}: {} after {:?}: {}", answer.status, asked.elapsed(), answer.body);
            }
            failed += u32::from(!well);
        }
        let (source, kind) = ("/after", "dev.cdevents.incident.resolved.0.3.0");
        let event = format!(
            r#"{{"specversion":"1.0","id":"{0}","source":"{source}","type":"{kind}","data":{{"context":{{"id":"{0}","source":"{source}","type":"{kind}","timestamp":"2026-11-27T09:14:02Z"}},"subject":{{"id":"i","content":{{}}}}}}}}"#,
            started.elapsed().as_nanos()
        );
        let answer =
            self.ask("POST", "/api/v1/events", &self.report_token, "application/cloudevents+json", &event)?;
        failed += u32::from(answer.status != 200 || shop.rollouts_active()? != 0);
        Ok(After { failed })
    }
}

/// The address, in the line of output that tells it.
fn address_in(line: &str) -> Option<String> {
    Some(serde_json::from_str::<Value>(line).ok()?["address"].as_str()?.to_owned())
}
