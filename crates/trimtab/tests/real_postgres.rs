//! Projects whose ledger is in PostgreSQL, with the real binary and a real server.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test starts the real binary")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use camino::Utf8Path;
use testbed::{PostgresServer, Stop};

const MANIFEST: &str = "version = 1\nproject = \"x\"\n[task.a]\ncommand = [\"true\"]\n";

struct World {
    folder: tempfile::TempDir,
    server: PostgresServer,
}

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap(), server: PostgresServer::start().unwrap() };
        world.manifest(MANIFEST);
        world
    }

    fn root(&self) -> &Utf8Path {
        Utf8Path::from_path(self.folder.path()).unwrap()
    }

    fn manifest(&self, text: &str) {
        std::fs::write(self.root().join("trimtab.toml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trimtab"));
        command.args(arguments).current_dir(self.root()).env_remove("TRIMTAB_LEDGER");
        command
    }

    fn trimtab(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What it prints; it must end well.
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.trimtab(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn error(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_ledger_moves_to_postgresql_and_every_command_finds_it_there() {
    let world = World::new();
    world.said(&["run"]);
    let show = ["ledger", "show", "--format", "json"];
    let before = world.said(&show);
    assert!(error(&world.trimtab(&["store", "migrate"])).contains("--to postgresql:///"));
    let address = world.server.address("");
    let moved = world.said(&["store", "migrate", "--to", &address]);
    assert!(moved.contains("equal, byte for byte: "), "{moved}");
    assert_eq!(world.said(&show), before, "the address is remembered");
    world.said(&["run"]);
    let after = world.said(&show);
    assert!(after.starts_with(&before) && after.len() > before.len());
    world.said(&["ledger", "verify"]);
    for (command, instead) in [("backup", "pg_dump"), ("restore", "pg_restore")] {
        let refused = error(&world.trimtab(&["ledger", command, "folder"]));
        assert!(refused.contains("for a ledger in a file") && refused.contains(instead), "{refused}");
    }
    // What was recorded since is not in the file, so that the file is not taken for the ledger again.
    let again = error(&world.trimtab(&["store", "migrate"]));
    assert!(again.contains("not the beginning of this ledger"), "{again}");
    world.manifest("not a manifest [");
    let status = world.trimtab(&["status"]);
    assert!(!String::from_utf8_lossy(&status.stderr).contains("PostgreSQL"), "{status:?}");
}

#[test]
fn the_manifest_or_a_variable_says_where_the_ledger_is() {
    let world = World::new();
    world.server.sql("CREATE SCHEMA other").unwrap();
    let (one, other) = (world.server.address(""), world.server.address("other"));
    world.manifest(&format!("ledger = \"{one}\"\n{MANIFEST}"));
    world.said(&["run"]);
    let count = |schema: &str| {
        world.server.sql(&format!("SELECT count(*) > 0 FROM {schema}.trimtab_record")).unwrap()
    };
    assert_eq!(count("public"), "t");
    let run = world.command(&["run"]).env("TRIMTAB_LEDGER", &other).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    assert_eq!(count("other"), "t");
    assert!(!world.root().join(".trimtab/ledger.db").exists());
    let demo = world.command(&["demo"]).env("TRIMTAB_LEDGER", &other).output().unwrap();
    assert!(error(&demo).contains("env -u TRIMTAB_LEDGER"), "the demo records in nobody's ledger");
}

#[test]
fn a_password_has_no_place_in_the_manifest() {
    let world = World::new();
    world.manifest(&format!("ledger = \"postgresql://ana:hush@localhost/x\"\n{MANIFEST}"));
    let refused = error(&world.trimtab(&["run"]));
    assert!(refused.contains("holds a password") && refused.contains("pgpass"), "{refused}");
    world.manifest(&format!("ledger = \"postgresql://ana@db.example.org/x?sslmode=yes\"\n{MANIFEST}"));
    let unknown = error(&world.trimtab(&["run"]));
    assert!(unknown.contains("sslmode") && unknown.contains("verify-full"), "{unknown}");
    assert!(unknown.contains("mend the address"), "{unknown}");
}

#[test]
fn a_server_that_is_down_is_an_error_and_not_an_empty_ledger() {
    let mut world = World::new();
    world.manifest(&format!("ledger = \"{}\"\n{MANIFEST}", world.server.address("")));
    world.said(&["run"]);
    world.server.stop(Stop::Fast).unwrap();
    let down = world.trimtab(&["status"]);
    assert_eq!(down.status.code(), Some(5), "{down:?}");
    assert!(error(&down).contains("check that the server runs"));
    world.server.resume().unwrap();
    world.said(&["status"]);
}

#[test]
fn several_dashboards_serve_one_database() {
    let world = World::new();
    world.manifest(&format!("ledger = \"{}\"\n{MANIFEST}", world.server.address("")));
    world.said(&["run"]);
    let start = || {
        let mut command = world.command(&["server", "--listen", "127.0.0.1:0", "--format", "json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("\"url\"")), "it ended");
        (child, lines)
    };
    let mut replicas = [start(), start()];
    world.said(&["run"]);
    world.said(&["ledger", "verify"]);
    for (child, _) in &mut replicas {
        assert!(child.try_wait().unwrap().is_none(), "it goes on");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
