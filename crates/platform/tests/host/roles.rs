//! What this program is when the tests start it as another process: the edge's daemon, a service, or a child that outlives
//! its parent. The role comes in a variable, because the test harness owns the arguments.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

pub(crate) const ROLE: &str = "PLATFORM_TEST_ROLE";
pub(crate) const CONFIG: &str = "PLATFORM_TEST_CONFIG";
pub(crate) const MODE: &str = "MODE";

/// The command that runs [`be`] in a new process of this program.
pub(crate) fn own_command() -> Vec<String> {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    [&program, "roles::be", "--exact", "--nocapture", "--quiet"]
        .iter()
        .map(|word| (*word).to_string())
        .collect()
}

/// Run by the harness in the tests' own process, it only checks that no role was given by accident.
#[test]
#[expect(clippy::disallowed_methods, reason = "the role is this process' argument")]
fn be() {
    match std::env::var(ROLE).as_deref() {
        Ok("edge") => edge(),
        Ok("service") => service(),
        Ok("outliving") => {
            // Leaves its parent's group and session, as a daemon would.
            rustix::process::setsid().unwrap();
            std::thread::sleep(Duration::from_mins(10));
        }
        Ok(other) => panic!("there is no role {other}"),
        Err(error) => assert_eq!(error, &std::env::VarError::NotPresent),
    }
}

#[expect(clippy::disallowed_methods, reason = "the role's arguments")]
fn edge() {
    let text = std::fs::read(std::env::var(CONFIG).unwrap()).unwrap();
    let config = serde_json::from_slice(&text).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
    // Stands for the artifact's digest: that of one file in it.
    let digest_of = std::sync::Arc::new(|folder: &camino::Utf8Path| {
        let content = std::fs::read(folder.join("content")).map_err(|error| error.to_string())?;
        Ok(delivery::Digest::of(&content))
    });
    let environment = |name: &str| std::env::var(name).ok();
    let result = runtime.block_on(platform::edge::run_verified(config, &environment, digest_of));
    if let Err(error) = result {
        eprintln!("{}", error.problem());
        leave(5);
    }
    leave(0);
}

#[expect(clippy::exit, reason = "a process of its own, not the harness")]
fn leave(code: i32) -> ! {
    std::process::exit(code)
}

#[expect(clippy::disallowed_methods, reason = "the role's arguments")]
fn service() {
    let mode = std::env::var(MODE).unwrap_or_default();
    match mode.as_str() {
        "crash" => {
            eprintln!("boom: no database");
            leave(3);
        }
        "never-ready" => {
            println!("thinking");
            std::thread::sleep(Duration::from_mins(10));
        }
        "elsewhere" => {
            std::fs::write("port", std::env::var("PORT").unwrap()).unwrap();
            std::thread::sleep(Duration::from_mins(10));
        }
        "ignore-term" => ignore_term(),
        "outlive" => {
            start_outliving(false);
            start_outliving(true);
        }
        "flood" => flood(),
        "secret" => {
            use base64::Engine as _;
            let secret = std::env::var("API_TOKEN").unwrap();
            println!("token {secret} end");
            eprintln!(
                "basic {} end",
                base64::engine::general_purpose::STANDARD.encode(format!("me:{secret}"))
            );
        }
        _ => {}
    }
    let listener = TcpListener::bind(("127.0.0.1", std::env::var("PORT").unwrap().parse().unwrap())).unwrap();
    println!("listening");
    for stream in listener.incoming().flatten() {
        let mode = mode.clone();
        std::thread::spawn(move || serve(stream, &mode));
    }
}

#[expect(clippy::disallowed_methods, reason = "the role's arguments")]
fn serve(mut stream: TcpStream, mode: &str) {
    let mut head = Vec::new();
    let mut byte = [0_u8];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or("/");
    if path == "/crash" {
        eprintln!("fatal: asked to crash");
        leave(9);
    }
    if path == "/slow" {
        std::thread::sleep(Duration::from_millis(700));
    }
    let status = if mode == "fail" && path == "/" { "500 Broken" } else { "200 OK" };
    let body = std::env::var("VERSION").unwrap_or_default();
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    // The client may be gone.
    let _ = stream.write_all(answer.as_bytes());
}

fn ignore_term() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
            while term.recv().await.is_some() {
                println!("no thanks");
            }
        });
    });
    // The handler must be in place before the service is ready.
    std::thread::sleep(Duration::from_millis(200));
}

/// A child in its own session. With `scrub` it does not even inherit the environment.
#[expect(clippy::disallowed_methods, reason = "the tests' own processes")]
#[expect(clippy::zombie_processes, reason = "a service that does not wait for its children is the point")]
fn start_outliving(scrub: bool) {
    let command = own_command();
    let mut child = Command::new(&command[0]);
    child.args(&command[1..]).stdin(Stdio::null());
    if scrub {
        child.env_clear();
    }
    child.env(ROLE, "outliving").spawn().unwrap();
}

/// Ten times what a revision's log may hold.
fn flood() {
    let bytes = delivery::limits::REVISION_LOG_BYTES_MAX * 10;
    let line = format!("{}\n", "flood ".repeat(170));
    let mut output = std::io::stdout().lock();
    for _ in 0..bytes / line.len() as u64 {
        output.write_all(line.as_bytes()).unwrap();
    }
    output.write_all(b"the flood is over\n").unwrap();
    output.flush().unwrap();
}
