//! Starts, watches and kills the programs that figures are taken of, and reads the clock for them.
//!
//! Other than `shell`, it keeps hold of what it started. Invariant: a program is killed by the handle that started it, never
//! by its name; what a dropped handle leaves running is killed.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};

/// The wait between two looks at something that is about to happen.
pub(crate) const GLANCE: Duration = Duration::from_micros(200);
const SIGKILL: i32 = 9;

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this module owns the clock of the figures")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this module owns the processes of the figures")]
fn command(program: &Utf8Path, arguments: &[&str], folder: &Utf8Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command
}

/// What a program said that ran to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Its standard output.
    pub(crate) text: String,
}

/// Runs a program to its end.
pub(crate) fn ask(program: &Utf8Path, arguments: &[&str], folder: &Utf8Path) -> Result<Answer, String> {
    let output = command(program, arguments, folder)
        .output()
        .map_err(|error| not_started(program, arguments, &error))?;
    Ok(Answer { code: output.status.code(), text: String::from_utf8_lossy(&output.stdout).into_owned() })
}

fn not_started(program: &Utf8Path, arguments: &[&str], error: &std::io::Error) -> String {
    format!("`{program} {}` can't be started: {error}", arguments.join(" "))
}

/// A program at work. Its output goes to files, so that what it leaves behind can't hold our pipes open.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// When it was started.
    pub(crate) started: Instant,
    /// Its standard output.
    pub(crate) output: Utf8PathBuf,
    /// Its standard error.
    pub(crate) talk: Utf8PathBuf,
}

impl Running {
    /// Starts it; `name` names the files that take its output, below `logs`.
    pub(crate) fn start(
        program: &Utf8Path,
        arguments: &[&str],
        folder: &Utf8Path,
        logs: &Utf8Path,
        name: &str,
    ) -> Result<Self, String> {
        let (output, talk) = (logs.join(format!("{name}.out")), logs.join(format!("{name}.err")));
        let file = |path: &Utf8Path| File::create(path).map_err(|error| format!("{path}: {error}"));
        let started = now();
        let child = command(program, arguments, folder)
            .stdout(file(&output)?)
            .stderr(file(&talk)?)
            .spawn()
            .map_err(|error| not_started(program, arguments, &error))?;
        Ok(Self { child, started, output, talk })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, String> {
        self.child.try_wait().map_err(|error| error.to_string())
    }

    /// Waits for its end, but not for ever; `None` when the time is over.
    pub(crate) fn wait(&mut self, most: Duration) -> Result<Option<ExitStatus>, String> {
        let deadline = now() + most;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it with SIGKILL; false when it had ended by itself.
    pub(crate) fn kill(&mut self) -> Result<bool, String> {
        self.child.kill().map_err(|error| error.to_string())?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        Ok(status.signal() == Some(SIGKILL))
    }

    /// Asks it to end, as Ctrl-C does, and waits.
    pub(crate) fn interrupt(&mut self) -> Result<(), String> {
        let id = self.id().to_string();
        ask(Utf8Path::new("kill"), &["-INT", &id], Utf8Path::new("/"))?;
        match self.wait(Duration::from_secs(20))? {
            Some(_) => Ok(()),
            None => Err(format!("process {id} does not end on SIGINT")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended ones are not harmed by it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes that work in the folder or name it in their command line.
pub(crate) fn belonging_to(folder: &Utf8Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let belongs = |id: &u32| {
        let inside = std::fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|path| path.starts_with(folder));
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        // A zombie has neither.
        inside || String::from_utf8_lossy(&line).contains(folder.as_str())
    };
    ids.filter(belongs).collect()
}

/// A process' resident memory in megabytes.
pub(crate) fn resident_mb(id: u32) -> Result<f64, String> {
    Ok(status_kilobytes(id, "VmRSS:")? * 1024.0 / 1e6)
}

/// The most memory that a process ever had resident, in MiB.
pub(crate) fn peak_mib(id: u32) -> Result<f64, String> {
    Ok(status_kilobytes(id, "VmHWM:")? / 1024.0)
}

fn status_kilobytes(id: u32, name: &str) -> Result<f64, String> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))
        .map_err(|error| format!("process {id} can't be read: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<f64>().ok());
    kilobytes.ok_or(format!("process {id} tells no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_program_is_told_from_one_that_ended() {
        let logs = Utf8PathBuf::from_path_buf(std::env::temp_dir()).unwrap();
        let start = |script: &str, name: &str| {
            Running::start(Utf8Path::new("sh"), &["-c", script], &logs, &logs, name).unwrap()
        };
        let name = format!("figures-{}", std::process::id());
        assert!(start("exec sleep 60", &name).kill().unwrap());
        let mut short = start("exit 3", &name);
        assert_eq!(short.wait(Duration::from_secs(20)).unwrap().and_then(|status| status.code()), Some(3));
        assert!(!short.kill().unwrap_or(false));
        for path in [&short.output, &short.talk] {
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn our_own_memory_can_be_read() {
        assert!(resident_mb(std::process::id()).unwrap() > 0.5);
    }
}
