//! Several processes, and processes that die. A test here that is started with `TRIMTAB_STORE_CHILD` set plays the other
//! process: it is the same test binary, run again for that one test.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use store::{Access, Error, Lease, LeaseError, Ledger};

use crate::{Folder, Random, actor, at, event, records};

const ROLE: &str = "TRIMTAB_STORE_CHILD";
const NOBODY: u32 = 65_534;

/// The folder to work in, when this process is the child.
#[expect(clippy::disallowed_methods, reason = "how the parent tells the child what to do")]
fn child_folder() -> Option<Utf8PathBuf> {
    std::env::var(ROLE).ok().map(Into::into)
}

#[expect(clippy::disallowed_methods, reason = "the test is about several processes")]
fn again(program: &std::path::Path, test: &str, folder: &Utf8Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

fn spawn(test: &str, folder: &Utf8Path) -> Child {
    again(&std::env::current_exe().unwrap(), test, folder).spawn().unwrap()
}

/// Appends for ever, one or a few at a time, and says so after each acknowledgement.
fn append_until_killed(folder: &Utf8Path) {
    let ledger = Ledger::open(&folder.join("ledger.db"), Access::ReadWrite).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let ledger = &ledger;
            scope.spawn(move || {
                for number in 0_u64.. {
                    let names = (0..=number % 3)
                        .map(|part| format!("{} {thread} {number} {part}", std::process::id()));
                    let events = names.map(|name| event(&name)).collect();
                    for record in ledger.append_blocking(&actor(), at(0), events).unwrap() {
                        let delivery::Event::IncidentResolved { incident } = &record.event else { continue };
                        println!("acknowledged {} {incident}", record.sequence);
                    }
                }
            });
        }
    });
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    if let Some(folder) = child_folder() {
        return append_until_killed(&folder);
    }
    let folder = Folder::new();
    let mut random = Random(41);
    let mut acknowledged = HashMap::new();
    for _ in 0..12 {
        let mut child =
            spawn("processes::nothing_acknowledged_is_lost_when_the_process_is_killed", folder.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = 1 + random.below(60);
        // All that was said before the kill counts, also what is still in the pipe.
        while let Some(Ok(line)) = lines.next() {
            if let Some((sequence, name)) =
                line.strip_prefix("acknowledged ").and_then(|rest| rest.split_once(' '))
            {
                acknowledged.insert(sequence.parse::<u64>().unwrap(), name.to_owned());
                if left == 1 {
                    child.kill().unwrap();
                }
                left = left.saturating_sub(1);
            }
        }
        assert!(!child.wait().unwrap().success());
        let ledger = folder.open();
        let verification = ledger.verify().unwrap();
        assert!(verification.is_sound(), "{:?}", verification.damages);
        let kept: HashMap<_, _> =
            records(&ledger).into_iter().map(|record| (record.sequence, record.event)).collect();
        for (sequence, name) in &acknowledged {
            assert_eq!(kept.get(sequence), Some(&event(name)), "record {sequence} was acknowledged");
        }
    }
    assert!(acknowledged.len() >= 12);
}

fn append_forty(file: &Utf8Path, who: &str) {
    let ledger = Ledger::open(file, Access::ReadWrite).unwrap();
    for number in 0..40 {
        let events = vec![event(&format!("{who} {number} a")), event(&format!("{who} {number} b"))];
        ledger.append_blocking(&actor(), at(number), events).unwrap();
    }
}

#[test]
fn a_ledger_that_is_just_being_made_is_not_taken_for_another_programs() {
    for _ in 0..40 {
        let folder = Folder::new();
        let file = folder.file();
        let together = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    together.wait();
                    Ledger::open(&file, Access::ReadWrite).unwrap();
                });
            }
        });
    }
}

#[test]
fn processes_append_to_one_ledger() {
    if let Some(folder) = child_folder() {
        return append_forty(&folder.join("ledger.db"), &std::process::id().to_string());
    }
    // Several times, because what can go wrong goes wrong while the file is being made.
    for _ in 0..6 {
        append_together();
    }
}

fn append_together() {
    let folder = Folder::new();
    let mut children: Vec<_> =
        (0..3).map(|_| spawn("processes::processes_append_to_one_ledger", folder.path())).collect();
    std::thread::scope(|scope| {
        for who in ["first handle", "second handle"] {
            let file = folder.file();
            scope.spawn(move || append_forty(&file, who));
        }
    });
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let ledger = folder.open_to_read();
    assert!(ledger.verify().unwrap().is_sound());
    let names: Vec<_> = records(&ledger)
        .into_iter()
        .map(|record| match record.event {
            delivery::Event::IncidentResolved { incident } => incident,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names.len(), 5 * 80);
    let mut next: HashMap<String, u32> = HashMap::new();
    for pair in names.chunks(2) {
        let (who, number) = pair[0].strip_suffix(" a").unwrap().rsplit_once(' ').unwrap();
        assert_eq!(pair[1], format!("{who} {number} b"), "a batch is in one piece");
        let expected = next.entry(who.to_owned()).or_default();
        assert_eq!(number.parse(), Ok(*expected), "one caller's order is kept");
        *expected += 1;
    }
    assert_eq!(next.len(), 5);
}

#[test]
fn a_lease_ends_with_its_process() {
    if let Some(folder) = child_folder() {
        let _lease = Lease::acquire(&folder, "ship", "the child").unwrap();
        println!("acknowledged");
        loop {
            std::thread::park();
        }
    }
    let folder = Folder::new();
    let mut child = spawn("processes::a_lease_ends_with_its_process", folder.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("acknowledged")));
    match Lease::acquire(folder.path(), "ship", "the parent") {
        Err(LeaseError::Held { holder }) => assert_eq!(holder, "the child"),
        other => panic!("{other:?}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(Lease::acquire(folder.path(), "ship", "the parent").is_ok());
}

fn use_read_only(folder: &Utf8Path) {
    let file = folder.join("ledger.db");
    assert_eq!(Ledger::open(&file, Access::ReadWrite).unwrap_err(), Error::ReadOnly { path: file.clone() });
    let fresh = folder.join("fresh.db");
    assert_eq!(Ledger::open(&fresh, Access::ReadWrite).unwrap_err(), Error::ReadOnly { path: fresh.clone() });
    let ledger = Ledger::open(&file, Access::ReadOnly).unwrap();
    assert_eq!(records(&ledger).len(), 30);
    assert!(ledger.verify().unwrap().is_sound());
    println!("acknowledged");
}

#[test]
fn a_read_only_place_can_be_read() {
    if let Some(folder) = child_folder() {
        return use_read_only(&folder);
    }
    let folder = Folder::with_records(30);
    let shut =
        |path: &Utf8Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    shut(&folder.file(), 0o444);
    shut(folder.path(), 0o555);
    if rustix::process::geteuid().is_root() {
        // Permissions don't bind root: another user runs the same test, from a place where they may.
        let tools = Folder::new();
        shut(tools.path(), 0o755);
        let program = tools.path().join("test");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        shut(&program, 0o755);
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        chown(folder.file(), Some(NOBODY), Some(NOBODY)).unwrap();
        let mut command =
            again(program.as_std_path(), "processes::a_read_only_place_can_be_read", folder.path());
        let output = command.uid(NOBODY).gid(NOBODY).current_dir("/").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("acknowledged"), "{text}");
    } else {
        use_read_only(folder.path());
    }
    shut(folder.path(), 0o755);
}
