//! The few HTTP/1.1 requests that the chaos commands send to `trimtab server`: one on each connection.
//!
//! Leaves out everything else of HTTP. Invariant: ends, because every wait has a limit.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than the server may take for anything that is asked here.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Such as 201.
    pub(crate) status: u16,
    /// The header `Retry-After`.
    pub(crate) retry_after: Option<String>,
    /// What follows the head.
    pub(crate) body: String,
}

/// Sends a request with these further header lines, and reads the answer to its end.
pub(crate) fn ask(address: &str, line: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer, String> {
    let fault = |error: std::io::Error| format!("{line} at {address}: {error}");
    let mut stream = TcpStream::connect(address).map_err(fault)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(fault)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(fault)?;
    let lines =
        headers.iter().fold(String::new(), |lines, (name, value)| lines + name + ": " + value + "\r\n");
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{lines}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).map_err(fault)?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).map_err(fault)?;
    read(&String::from_utf8_lossy(&text)).ok_or_else(|| format!("{line} at {address}: no answer"))
}

fn read(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let value = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("retry-after").then(|| value.trim().to_owned())
    };
    Some(Answer { status, retry_after: lines.find_map(value), body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let text = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n{}";
        let answer = Answer { status: 503, retry_after: Some("1".into()), body: "{}".into() };
        assert_eq!(read(text), Some(answer));
        assert_eq!(read("nonsense"), None);
    }
}
