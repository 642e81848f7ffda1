//! Starts the `git` binary, safely. The only module of the crate that starts a process.
//!
//! Every call: fixed locale, no pager, no prompt, no optional locks, no lazy fetching, no helper program named by the
//! repository's configuration (fsmonitor), none of the variables that a surrounding git hook sets, paths taken literally,
//! replacement refs ignored (an object name always means the content that everyone has). Output is cut at a limit;
//! standard error is drained beside it, so that neither pipe can block the other. There is no time limit: reading a local
//! repository does not wait for anyone.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use camino::{Utf8Path, Utf8PathBuf};

use crate::error::Error;
use crate::limits::{ANSWER_BYTES_MAX, COMPLAINT_BYTES_MAX, FIELD_BYTES_MAX};

/// Variables that would point git at another repository or change what a path means.
const FOREIGN_VARIABLES: &[&str] = &[
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GLOB_PATHSPECS",
    "GIT_GRAFT_FILE",
    "GIT_ICASE_PATHSPECS",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// Options before the subcommand.
const GLOBAL_OPTIONS: &[&str] = &[
    "--no-pager",
    "--no-replace-objects",
    "--literal-pathspecs",
    "-c",
    "core.quotePath=off",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "log.showSignature=false",
    "-c",
    "i18n.logOutputEncoding=UTF-8",
];

/// Whether a reader wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    More,
    Enough,
}

/// How a command ended, when an error is an answer too.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) success: bool,
    pub(crate) stdout: Vec<u8>,
    pub(crate) complaint: String,
}

/// Git in one directory.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    directory: Utf8PathBuf,
}

impl Git {
    pub(crate) fn at(directory: &Utf8Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    #[expect(clippy::disallowed_methods, reason = "this module owns the starting of git")]
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.directory).args(GLOBAL_OPTIONS).args(arguments);
        for variable in FOREIGN_VARIABLES {
            command.env_remove(variable);
        }
        command
            .env("LC_ALL", "C")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command that answers briefly; its failing is an answer too.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Answer, Error> {
        let mut running = Running::start(self.command(arguments), arguments)?;
        let mut stdout = Vec::new();
        if let Some(pipe) = running.child.stdout.take() {
            pipe.take(ANSWER_BYTES_MAX + 1)
                .read_to_end(&mut stdout)
                .map_err(|source| start_error(arguments, source))?;
        }
        if stdout.len() as u64 > ANSWER_BYTES_MAX {
            let limit = format!("{ANSWER_BYTES_MAX} bytes");
            return Err(Error::TooMuch { command: name_of(arguments), limit });
        }
        let (success, complaint) = running.finish()?;
        Ok(Answer { success, stdout, complaint })
    }

    /// Runs a command that must succeed, and gives its output.
    pub(crate) fn answer(&self, arguments: &[&str]) -> Result<Vec<u8>, Error> {
        let answer = self.ask(arguments)?;
        if answer.success { Ok(answer.stdout) } else { Err(failed(arguments, &answer.complaint)) }
    }

    /// Runs a command that must succeed and hands over its output piece by piece, each without the `separator` that ends it.
    /// A piece longer than [`FIELD_BYTES_MAX`] is cut. `input` is what the command reads; it must read all of it before
    /// it prints (as `--stdin` of `git log` does).
    pub(crate) fn pieces(
        &self,
        arguments: &[&str],
        input: Option<&[u8]>,
        separator: u8,
        each: &mut dyn FnMut(&[u8]) -> Result<Flow, Error>,
    ) -> Result<(), Error> {
        let mut command = self.command(arguments);
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut running = Running::start(command, arguments)?;
        if let (Some(input), Some(mut pipe)) = (input, running.child.stdin.take()) {
            // A command that ended early closes the pipe; its complaint says more than "broken pipe".
            let _ended_early = pipe.write_all(input);
        }
        if let Some(pipe) = running.child.stdout.take() {
            let mut reader = BufReader::with_capacity(256 << 10, pipe);
            let mut piece = Vec::new();
            while next_piece(&mut reader, separator, &mut piece).map_err(|e| start_error(arguments, e))? {
                if each(&piece)? == Flow::Enough {
                    return Ok(());
                }
            }
        }
        let (success, complaint) = running.finish()?;
        if success { Ok(()) } else { Err(failed(arguments, &complaint)) }
    }
}

/// Reads up to the next separator; false at the end of the stream.
fn next_piece(reader: &mut impl BufRead, separator: u8, piece: &mut Vec<u8>) -> std::io::Result<bool> {
    piece.clear();
    let read = reader.by_ref().take(FIELD_BYTES_MAX).read_until(separator, piece)?;
    if read == 0 {
        return Ok(false);
    }
    if piece.last() == Some(&separator) {
        piece.pop();
    } else if read as u64 == FIELD_BYTES_MAX {
        reader.skip_until(separator)?;
    }
    Ok(true)
}

/// A running git. Dropped before its end it is killed, so that no git outlives the question.
struct Running {
    child: Child,
    complaint: Option<JoinHandle<String>>,
    name: String,
}

impl Running {
    fn start(mut command: Command, arguments: &[&str]) -> Result<Self, Error> {
        let mut child = command.spawn().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::GitMissing,
            _ => start_error(arguments, source),
        })?;
        let stderr = child.stderr.take();
        let complaint = std::thread::spawn(move || {
            let mut kept = Vec::new();
            if let Some(mut stderr) = stderr {
                let _unreadable = stderr.by_ref().take(COMPLAINT_BYTES_MAX).read_to_end(&mut kept);
                let _drained = std::io::copy(&mut stderr, &mut std::io::sink());
            }
            String::from_utf8_lossy(&kept).into_owned()
        });
        Ok(Self { child, complaint: Some(complaint), name: name_of(arguments) })
    }

    /// Waits for the end; gives success and the complaint.
    fn finish(mut self) -> Result<(bool, String), Error> {
        let complaint = self.complaint.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let status =
            self.child.wait().map_err(|source| Error::Start { command: self.name.clone(), source })?;
        Ok((status.success(), complaint))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `finish` the child is reaped and both calls do nothing.
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn name_of(arguments: &[&str]) -> String {
    (*arguments.first().unwrap_or(&"")).to_owned()
}

fn start_error(arguments: &[&str], source: std::io::Error) -> Error {
    Error::Start { command: name_of(arguments), source }
}

/// The error of a command that failed, with its first complaint (git's own prefix removed).
pub(crate) fn failed(arguments: &[&str], complaint: &str) -> Error {
    let line = complaint.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given");
    let detail = line.strip_prefix("fatal: ").or_else(|| line.strip_prefix("error: ")).unwrap_or(line);
    Error::Failed { command: name_of(arguments), detail: detail.to_owned() }
}
