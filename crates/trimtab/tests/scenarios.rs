//! Runs every `scenarios/<area>/<case>/steps.txt` against the real binary in a folder of its own.
//!
//! A case is a list of steps. `$ COMMAND` runs in a shell with `trimtab` on the path; the lines below it say what must be
//! true of it:
//!
//! ```text
//! exit 2                     its exit code (0 when no such line is there)
//! stdout ~ TEXT              standard output holds the text; `stderr ~ TEXT` likewise
//! stdout ! TEXT              standard output does not hold it; `stderr ! TEXT` likewise
//! ```
//!
//! `# ` opens a comment. A first line `repository NAME` copies `scenarios/templates/NAME` into the case's folder, makes it a
//! git repository and commits it as dana@example.com. What lies in the case's `files/` is copied before that. Whatever a case leaves running is
//! stopped with `trimtab down`; that nothing survives it is checked for every case.

#![expect(clippy::disallowed_methods, reason = "a test harness starts processes and looks at the clock")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// No step may take longer.
const STEP_MAX: Duration = Duration::from_secs(100);

#[derive(Debug)]
enum Check {
    Exit(i32),
    Holds { stream: Stream, text: String, wanted: bool },
}

#[derive(Debug, Clone, Copy)]
enum Stream {
    Out,
    Err,
}

#[derive(Debug)]
struct Step {
    line: usize,
    command: String,
    checks: Vec<Check>,
}

fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        if line.trim().is_empty() || line.starts_with('#') || line.starts_with("repository ") {
            continue;
        }
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { line: line_number, command: command.to_owned(), checks: Vec::new() });
            continue;
        }
        let step = steps.last_mut().ok_or_else(|| format!("line {line_number}: a check before any step"))?;
        step.checks.push(check(line).ok_or_else(|| format!("line {line_number}: not understood: {line}"))?);
    }
    if steps.is_empty() { Err("there is no step".into()) } else { Ok(steps) }
}

fn check(line: &str) -> Option<Check> {
    if let Some(code) = line.strip_prefix("exit ") {
        return code.trim().parse().ok().map(Check::Exit);
    }
    let (stream, rest) = match line.split_at_checked(6)? {
        ("stdout", rest) => (Stream::Out, rest),
        ("stderr", rest) => (Stream::Err, rest),
        _ => return None,
    };
    let (wanted, text) = match rest.split_at_checked(3)? {
        (" ~ ", text) => (true, text),
        (" ! ", text) => (false, text),
        _ => return None,
    };
    Some(Check::Holds { stream, text: text.to_owned(), wanted })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target).map(|_| ())?;
        }
    }
    Ok(())
}

struct Stage {
    folder: tempfile::TempDir,
    path: String,
}

impl Stage {
    fn new(case: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("trimtab-case-").tempdir()?;
        std::fs::create_dir(folder.path().join("work"))?;
        let files = case.join("files");
        if files.exists() {
            copy(&files, &folder.path().join("work"))?;
        }
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_trimtab"));
        let binaries = binary.parent().ok_or("the binary has no folder")?;
        let path = format!("{}:{}", binaries.display(), std::env::var("PATH")?);
        Ok(Self { folder, path })
    }

    fn repository(&self, template: &Path) -> Result<()> {
        copy(template, &self.folder.path().join("work"))?;
        let output = self.run(
            "git init --quiet --initial-branch=main && git config user.name Dana && \
             git config user.email dana@example.com && git add --all && git commit --quiet --message 'feat: begin'",
        )?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
        }
    }

    fn run(&self, command: &str) -> Result<Output> {
        let (out, err) = (self.folder.path().join("stdout"), self.folder.path().join("stderr"));
        // Files, not pipes: what a step leaves running in the background must not keep it from ending.
        let mut child = Command::new("/bin/sh")
            .args(["-c", command])
            .current_dir(self.folder.path().join("work"))
            .env("PATH", &self.path)
            .env("HOME", self.folder.path())
            .env("XDG_RUNTIME_DIR", self.folder.path().join("run"))
            .env("GIT_CONFIG_GLOBAL", self.folder.path().join("gitconfig"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("NO_COLOR", "1")
            .env("CASE", self.folder.path())
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&out)?)
            .stderr(std::fs::File::create(&err)?)
            .spawn()?;
        let deadline = Instant::now() + STEP_MAX;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                child.kill()?;
                return Err(format!(
                    "took longer than {STEP_MAX:?}: {command}\n{}",
                    std::fs::read_to_string(err)?
                )
                .into());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Ok(Output { status, stdout: std::fs::read(out)?, stderr: std::fs::read(err)? })
    }

    /// Processes that work in the case's folder or were started with a path in it.
    fn survivors(&self) -> Result<Vec<String>> {
        let marker = self.folder.path().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let folder = entry?.path();
            let Ok(line) = std::fs::read(folder.join("cmdline")) else { continue };
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let within =
                std::fs::read_link(folder.join("cwd")).is_ok_and(|cwd| cwd.starts_with(self.folder.path()));
            if within || line.contains(&marker) {
                found.push(format!("{}: {line}", folder.display()));
            }
        }
        Ok(found)
    }
}

fn assert_step(step: &Step, output: &Output) -> std::result::Result<(), String> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let wanted_exit =
        step.checks.iter().find_map(|check| if let Check::Exit(code) = check { Some(*code) } else { None });
    let story = || format!("line {}: $ {}\n--- stdout\n{out}\n--- stderr\n{err}", step.line, step.command);
    if output.status.code() != Some(wanted_exit.unwrap_or(0)) {
        return Err(format!(
            "exit {:?}, expected {}\n{}",
            output.status.code(),
            wanted_exit.unwrap_or(0),
            story()
        ));
    }
    for check in &step.checks {
        let Check::Holds { stream, text, wanted } = check else { continue };
        let found = match stream {
            Stream::Out => out.contains(text.as_str()),
            Stream::Err => err.contains(text.as_str()),
        };
        if found != *wanted {
            let word = if *wanted { "lacks" } else { "holds" };
            return Err(format!("{stream:?} {word} {text:?}\n{}", story()));
        }
    }
    Ok(())
}

fn scenario(steps: &Path) -> Result<()> {
    let case = steps.parent().ok_or("a case is a folder")?;
    let stage = Stage::new(case)?;
    let text = std::fs::read_to_string(steps)?;
    if let Some(template) = text.lines().find_map(|line| line.strip_prefix("repository ")) {
        stage.repository(&case.join("../../templates").join(template.trim()))?;
    }
    let mut result = Ok(());
    for step in parse(&text)? {
        let output = stage.run(&step.command)?;
        result = assert_step(&step, &output);
        if result.is_err() {
            break;
        }
    }
    let down = stage.run("[ -f trimtab.toml ] && [ ! -f no-down ] && trimtab down || true")?;
    result?;
    let survivors = stage.survivors()?;
    if !survivors.is_empty() {
        let said = String::from_utf8_lossy(&down.stderr).into_owned();
        return Err(format!("left running: {survivors:#?}\n{said}").into());
    }
    Ok(())
}

datatest_stable::harness! {
    { test = scenario, root = "../../scenarios", pattern = r"steps\.txt$" },
}
