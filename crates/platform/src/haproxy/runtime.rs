//! Talks to HAProxy's runtime API: one connection for each line of commands.
//!
//! Leaves out what the commands mean. Invariant: an answer that is not known to mean success is an error.

use std::io;
use std::time::Duration;

use camino::Utf8Path;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Error;

/// How long one exchange may take. A healthy HAProxy answers within some milliseconds.
const ANSWER_MS_MAX: u64 = 1_500;
/// An answer is about 6 KiB a server.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Commands of one line together: HAProxy's buffer holds 16 KiB.
const LINE_BYTES_MAX: usize = 4 << 10;

/// What `set server ... addr` says when it did it, or had nothing to do.
const ADDRESS_ANSWERS: [&str; 3] = ["IP changed", "port changed", "no need to change"];

/// Commands, cut into lines that HAProxy takes whole.
pub(super) fn lines(commands: &[String]) -> Vec<&[String]> {
    let (mut lines, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (at, command) in commands.iter().enumerate() {
        if at > from && bytes + command.len() > LINE_BYTES_MAX {
            lines.push(&commands[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += command.len() + 1;
    }
    if from < commands.len() {
        lines.push(&commands[from..]);
    }
    lines
}

/// Sends the commands in one line; their answers, one after the other.
pub(super) async fn ask(socket: &Utf8Path, commands: &[String]) -> Result<String, Error> {
    let unreachable = |source: io::Error| Error::Unreachable { socket: socket.to_owned(), source };
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(commands.join(";").as_bytes()).await?;
        stream.write_all(b"\n").await?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
        Ok(answer)
    };
    match timeout(Duration::from_millis(ANSWER_MS_MAX), exchange).await {
        Ok(answer) => answer.map_err(unreachable),
        Err(_) => Err(unreachable(io::Error::from(io::ErrorKind::TimedOut))),
    }
}

/// Sends commands that change something.
pub(super) async fn set(socket: &Utf8Path, commands: &[String]) -> Result<(), Error> {
    let answer = ask(socket, commands).await?;
    let succeeded =
        |line: &&str| line.trim().is_empty() || ADDRESS_ANSWERS.iter().any(|words| line.starts_with(words));
    match answer.lines().find(|line| !succeeded(line)) {
        None => Ok(()),
        Some(line) => Err(Error::Refused { answer: line.trim().to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_commands_are_cut_between_commands() {
        let commands: Vec<String> = (0..300).map(|n| format!("set server b/s{n} state maint")).collect();
        let lines = lines(&commands);
        assert!(lines.len() > 1);
        assert!(lines.iter().all(|line| line.join(";").len() <= LINE_BYTES_MAX));
        assert_eq!(lines.concat(), commands);
        assert!(super::lines(&[]).is_empty());
    }
}
