//! Starts other programs and waits for them. The only module of xtask that does.
//!
//! Invariant: a program that can't be started, or that ends with anything but 0, is an `Err` with its command line.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};

use camino::Utf8Path;

use crate::place::Place;

/// One program to run: what, where, and with what in its environment.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    program: String,
    arguments: Vec<String>,
    folder: &'a Utf8Path,
    environment: Vec<(String, String)>,
}

impl<'a> Call<'a> {
    /// A program with its arguments, in the checkout, building into the place's target folder.
    pub(crate) fn new(place: &'a Place, program: &str, arguments: &[&str]) -> Self {
        let mut call = Self::bare(&place.root, program, arguments);
        call.environment.push(("CARGO_TARGET_DIR".into(), place.target.to_string()));
        call
    }

    /// A program with its arguments in a folder, with our own environment.
    pub(crate) fn bare(folder: &'a Utf8Path, program: &str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { program: program.to_owned(), arguments, folder, environment: Vec::new() }
    }

    /// With one more variable.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Runs it; its output goes where ours goes.
    pub(crate) fn run(&self) -> Result<(), String> {
        let status = self.command().status().map_err(|error| self.not_started(&error))?;
        self.judge(status)
    }

    /// Runs it and gives what it wrote to standard output; its standard error goes where ours goes.
    pub(crate) fn output(&self) -> Result<String, String> {
        let output =
            self.command().stderr(Stdio::inherit()).output().map_err(|error| self.not_started(&error))?;
        self.judge(output.status)?;
        String::from_utf8(output.stdout)
            .map_err(|_| format!("`{}` wrote text that is not UTF-8", self.line()))
    }

    /// Whether it runs and succeeds, without showing anything: for looking whether a tool is there.
    pub(crate) fn works(&self) -> bool {
        let quiet = self.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success())
    }

    /// Runs it, passes its standard error on line by line, and gives each line to `see` too.
    pub(crate) fn run_watched(&self, mut see: impl FnMut(&str)) -> Result<(), String> {
        let mut child =
            self.command().stderr(Stdio::piped()).spawn().map_err(|error| self.not_started(&error))?;
        if let Some(stream) = child.stderr.take() {
            pass_on(stream, &mut see);
        }
        let status = child.wait().map_err(|error| format!("`{}`: {error}", self.line()))?;
        self.judge(status)
    }

    #[expect(clippy::disallowed_methods, reason = "this module owns the start of processes in xtask")]
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.args(&self.arguments).current_dir(self.folder).envs(environment);
        command
    }

    fn judge(&self, status: ExitStatus) -> Result<(), String> {
        if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", self.line())) }
    }

    fn not_started(&self, error: &std::io::Error) -> String {
        format!("`{}` can't be started: {error}", self.line())
    }

    fn line(&self) -> String {
        std::iter::once(&self.program)
            .chain(&self.arguments)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// Copies a stream to our standard error line by line; bytes that are not UTF-8 are replaced.
fn pass_on(stream: impl Read, see: &mut impl FnMut(&str)) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line);
        eprint!("{text}");
        see(text.trim_end());
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Call<'static> {
        Call::bare(Utf8Path::new("/"), "sh", &["-c", script])
    }

    #[test]
    fn a_failure_names_the_command() {
        assert_eq!(shell("exit 3").run().unwrap_err(), "`sh -c exit 3` ended with exit status: 3");
        let missing = Call::bare(Utf8Path::new("/"), "no-such-program", &[]).run().unwrap_err();
        assert!(missing.starts_with("`no-such-program` can't be started"), "{missing}");
        assert!(!shell("exit 1").works());
    }

    #[test]
    fn watched_lines_arrive_even_when_it_fails() {
        let mut seen = Vec::new();
        let result =
            shell("echo one >&2; echo two >&2; exit 1").run_watched(|line| seen.push(line.to_owned()));
        assert!(result.is_err());
        assert_eq!(seen, ["one", "two"]);
    }

    #[test]
    fn variables_reach_the_program() {
        assert_eq!(
            shell("printf %s \"$GREETING\"").with("GREETING", "hello").output().as_deref(),
            Ok("hello")
        );
    }
}
