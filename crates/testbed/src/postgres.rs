//! A PostgreSQL server that listens on a unix socket in its own folder and trusts whoever may open that; if a test asks for it, on
//! a loopback port too, with TLS or without.
//!
//! PostgreSQL does not run as root, so root runs it as the user `postgres`. Invariant: its settings are those that matter for
//! durability as PostgreSQL ships them (`fsync`, `synchronous_commit`, `full_page_writes` on), unless a test says otherwise.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

/// Where Debian keeps what it does not put into the path.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Part of the socket's name only, unless it listens on loopback; each server has a folder of its own.
const PORT: u16 = 5_432;
const READY_TRIES: u32 = 600;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Clients are cut off, and everything is put in order.
    Fast,
    /// As in a crash: the next start recovers from the log.
    Immediate,
}

/// A server. Dropping it ends it and removes its folder.
#[derive(Debug)]
pub struct PostgresServer {
    folder: TempDir,
    programs: Utf8PathBuf,
    user: Option<u32>,
    port: u16,
    settings: Vec<String>,
    child: Option<Child>,
}

/// What a server shows of itself to whoever connects with TLS, as PEM.
#[derive(Debug, Clone, Copy)]
pub struct ServerCertificate<'a> {
    /// Its certificate.
    pub certificate: &'a str,
    /// The key that goes with it.
    pub key: &'a str,
}

impl PostgresServer {
    /// Makes a database cluster and starts it. The error says what to do about it.
    pub fn start() -> Result<Self, String> {
        Self::start_with(&[])
    }

    /// [`Self::start`] with settings, such as `fsync=off`.
    pub fn start_with(settings: &[&str]) -> Result<Self, String> {
        let mut server = Self::made(PORT, settings)?;
        server.resume()?;
        Ok(server)
    }

    /// A server that also listens on 127.0.0.1, on a free port; with TLS when it gets a certificate.
    pub fn start_on_loopback(shown: Option<ServerCertificate<'_>>) -> Result<Self, String> {
        let words = |error: std::io::Error| error.to_string();
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map_err(words)?;
        let mut server = Self::made(free.port(), &["listen_addresses=127.0.0.1"])?;
        if let Some(ServerCertificate { certificate, key }) = shown {
            for (name, text) in [("server.crt", certificate), ("server.key", key)] {
                let path = server.data().join(name);
                std::fs::write(&path, text).map_err(words)?;
                std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(words)?;
                chown(&path, server.user, None).map_err(words)?;
            }
            server.settings.push("ssl=on".to_owned());
        }
        server.resume()?;
        Ok(server)
    }

    fn made(port: u16, settings: &[&str]) -> Result<Self, String> {
        let programs = programs()?;
        let folder = TempDir::with_prefix("pg").map_err(|error| format!("no temporary folder: {error}"))?;
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let server = Self { folder, programs, user: user()?, port, settings, child: None };
        server.make()?;
        Ok(server)
    }

    /// The port that it listens on, which is a part of its socket's name too.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder with the socket.
    pub fn folder(&self) -> &Utf8Path {
        Utf8Path::from_path(self.folder.path()).unwrap_or(Utf8Path::new("/"))
    }

    /// The socket itself.
    pub fn socket(&self) -> Utf8PathBuf {
        self.folder().join(format!(".s.PGSQL.{}", self.port))
    }

    /// The address of its database, for the tables of one schema. An empty name is the public one.
    pub fn address(&self, schema: &str) -> String {
        Self::address_at(self.folder(), schema)
    }

    /// [`Self::address`] of a socket in another folder, such as a proxy's.
    pub fn address_at(folder: &Utf8Path, schema: &str) -> String {
        let folder = folder.as_str().replace('/', "%2F");
        let options =
            if schema.is_empty() { String::new() } else { format!("?options=-csearch_path%3D{schema}") };
        format!("postgresql://trimtab@{folder}:{PORT}/postgres{options}")
    }

    /// Starts it again after [`Self::stop`], and waits until it answers.
    pub fn resume(&mut self) -> Result<(), String> {
        let log = std::fs::File::create(self.folder().join("log")).map_err(|error| error.to_string())?;
        let mut command = self.command("postgres");
        command.args([
            "-D",
            self.data().as_str(),
            "-k",
            self.folder().as_str(),
            "-p",
            &self.port.to_string(),
        ]);
        command.args(["-c", "listen_addresses=", "-c", "max_connections=200"]);
        self.settings.iter().for_each(|setting| {
            command.args(["-c", setting]);
        });
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().map_err(|error| format!("postgres does not start: {error}"))?);
        for _ in 0..READY_TRIES {
            if UnixStream::connect(self.socket()).is_ok() && self.sql("SELECT 1").is_ok() {
                return Ok(());
            }
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                let log = std::fs::read_to_string(self.folder().join("log")).unwrap_or_default();
                return Err(format!("postgres has ended with {status}: {log}"));
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
        Err("postgres does not answer".to_owned())
    }

    /// Ends it and waits for that.
    pub fn stop(&mut self, how: Stop) -> Result<(), String> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let mode = match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        let mut command = self.command("pg_ctl");
        command.args(["-D", self.data().as_str(), "-m", mode, "stop"]);
        let stopped = output(&mut command);
        if stopped.is_err() {
            let _ = child.kill();
        }
        child.wait().map_err(|error| error.to_string())?;
        stopped.map(drop)
    }

    /// Runs statements with psql and returns what it prints, one row a line.
    pub fn sql(&self, statements: &str) -> Result<String, String> {
        let mut command = self.command("psql");
        command.args([
            "-h",
            self.folder().as_str(),
            "-p",
            &self.port.to_string(),
            "-U",
            "trimtab",
            "-d",
            "postgres",
        ]);
        command.args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-c", statements]);
        output(&mut command).map(|text| text.trim_end().to_owned())
    }

    fn data(&self) -> Utf8PathBuf {
        self.folder().join("data")
    }

    fn make(&self) -> Result<(), String> {
        let words = |error: std::io::Error| error.to_string();
        std::fs::set_permissions(self.folder(), Permissions::from_mode(0o711)).map_err(words)?;
        if let Some(user) = self.user {
            chown(self.folder(), Some(user), None).map_err(words)?;
        }
        let mut command = self.command("initdb");
        command.args(["-D", self.data().as_str(), "-U", "trimtab", "-A", "trust", "-E", "UTF8"]);
        command.args(["--locale=C", "--no-sync"]);
        output(&mut command).map(drop)
    }

    fn command(&self, program: &str) -> Command {
        #[expect(clippy::disallowed_methods, reason = "this module starts the servers of tests")]
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder()).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        if let Some(user) = self.user {
            command.uid(user);
        }
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        let _ = self.stop(Stop::Immediate);
    }
}

fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if status.success() { Ok(text(stdout)) } else { Err(format!("{name}: {}", text(stderr).trim())) }
}

/// The folder of PostgreSQL's programs, the newest version's.
fn programs() -> Result<Utf8PathBuf, String> {
    let mut versions: Vec<(u32, Utf8PathBuf)> = Utf8Path::new(DEBIAN)
        .read_dir_utf8()
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    let path = path();
    let path = std::env::split_paths(&path).filter_map(|folder| Utf8PathBuf::from_path_buf(folder).ok());
    let mut places = versions.into_iter().rev().map(|(_, folder)| folder).chain(path);
    let whole = |folder: &Utf8PathBuf| {
        ["initdb", "postgres", "pg_ctl", "psql"].iter().all(|program| folder.join(program).exists())
    };
    places.find(whole).ok_or_else(|| {
        "there is no PostgreSQL server here: install it, as with: apt-get install postgresql".into()
    })
}

#[expect(clippy::disallowed_methods, reason = "where programs are is the environment's word")]
fn path() -> String {
    std::env::var("PATH").unwrap_or_default()
}

/// Whom root runs PostgreSQL as; `None` for everybody else.
fn user() -> Result<Option<u32>, String> {
    let id = |arguments: &[&str]| {
        #[expect(clippy::disallowed_methods, reason = "this module starts the servers of tests")]
        let mut command = Command::new("id");
        output(command.args(arguments)).map(|text| text.trim().parse::<u32>().ok())
    };
    if id(&["-u"])? != Some(0) {
        return Ok(None);
    }
    let user = id(&["-u", "postgres"])?;
    user.map(Some).ok_or_else(|| "root can't run PostgreSQL, and there is no user postgres".to_owned())
}
