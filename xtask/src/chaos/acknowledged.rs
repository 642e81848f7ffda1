//! What a process promises when it answers: these records are in the ledger, this command was done at the edge.
//!
//! Read from the bytes that it hands to the system, so it counts from the earliest moment at which anybody can know. Leaves out
//! everything that promises nothing durable, such as refusals and readings.

use serde_json::Value;

/// One promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    /// The event API: the record of the report with this id has this sequence.
    Report { id: String, sequence: u64 },
    /// `trimtab run`: this run is recorded, all of it.
    Run(String),
    /// A controller told of a record of this time of day, `HH:MM:SS.mmm`.
    Told(String),
    /// The edge applied a command, or refused it for good.
    Effect,
}

/// The promises in what was written to a pipe, a file or a socket.
pub(crate) fn read(bytes: &[u8]) -> Vec<Acknowledged> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Vec::new() };
    if let Some(rest) = text.strip_prefix("HTTP/1.1 2") {
        let Some((_, body)) = rest.split_once("\r\n\r\n") else { return Vec::new() };
        return body
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .flat_map(|body: Value| answer(&body))
            .collect();
    }
    text.lines().filter_map(line).collect()
}

/// In an answer over HTTP.
fn answer(body: &Value) -> Vec<Acknowledged> {
    if let Some(recorded) = body["recorded"].as_array() {
        let report = |item: &Value| {
            let (id, sequence) = (item["id"].as_str()?.to_owned(), item["sequence"].as_u64()?);
            Some(Acknowledged::Report { id, sequence })
        };
        return recorded.iter().filter_map(report).collect();
    }
    let effect = body["outcome"].as_str().is_some_and(|outcome| outcome == "applied" || outcome == "refused");
    if effect { vec![Acknowledged::Effect] } else { Vec::new() }
}

/// In a line on a terminal.
fn line(line: &str) -> Option<Acknowledged> {
    if line.starts_with("{\"version\":1,\"run\":\"") {
        let said: Value = serde_json::from_str(line).ok()?;
        return Some(Acknowledged::Run(said["run"].as_str()?.to_owned()));
    }
    let (stamp, _) = line.split_once("  ")?;
    let shape = |(at, byte): (usize, u8)| match at {
        2 | 5 => byte == b':',
        8 => byte == b'.',
        _ => byte.is_ascii_digit(),
    };
    (stamp.len() == 12 && stamp.bytes().enumerate().all(shape)).then(|| Acknowledged::Told(stamp.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_found_and_nothing_else_is_one() {
        let answer =
            |status: &str, body: &str| read(format!("HTTP/1.1 {status}\r\na: b\r\n\r\n{body}").as_bytes());
        let recorded = "{\"version\":1,\"recorded\":[{\"source\":\"/s\",\"id\":\"a\",\"sequence\":7}]}";
        assert_eq!(answer("200 OK", recorded), [Acknowledged::Report { id: "a".into(), sequence: 7 }]);
        assert_eq!(answer("200 OK", "{\"outcome\":\"applied\",\"detail\":\"x\"}"), [Acknowledged::Effect]);
        assert!(answer("200 OK", "{\"outcome\":\"fenced\",\"epoch\":2}").is_empty());
        assert!(answer("503 Service Unavailable", recorded).is_empty());
        assert_eq!(read(b"{\"version\":1,\"run\":\"run-1\",\"x\":0}\n"), [Acknowledged::Run("run-1".into())]);
        assert_eq!(read(b"10:20:30.123  shop 1.0 is up\n"), [Acknowledged::Told("10:20:30.123".into())]);
        assert!(read(b"10:20:30.123 edge serves\nhello  you\n").is_empty());
    }
}
