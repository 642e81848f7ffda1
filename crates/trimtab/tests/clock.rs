//! A wall clock that was set back an hour: the ledger's time goes on from where it stopped, and nothing waits for the hour.

#![expect(clippy::disallowed_methods, reason = "a test starts the real binary")]

use std::process::Command;

use camino::Utf8Path;
use delivery::{Actor, Clock as _, Event};
use store::{Access, Entry, Ledger};

#[test]
fn a_clock_that_jumped_back_neither_stops_nor_reorders() {
    let folder = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(folder.path()).unwrap();
    std::fs::write(
        root.join("trimtab.toml"),
        "version = 1\nproject = \"x\"\n[task.a]\ncommand = [\"true\"]\n",
    )
    .unwrap();
    let path = root.join(".trimtab/ledger.db");
    let now = delivery::clock::SteadyClock::anchored(None).now();
    let later = now.saturating_add(std::time::Duration::from_hours(1)).unwrap();
    let ledger = Ledger::open(&path, Access::ReadWrite).unwrap();
    let event = Event::IncidentResolved { incident: "from the future".into() };
    ledger.append_blocking(&Actor::Machine("test".into()), later, vec![event]).unwrap();

    let trimtab = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_trimtab")).args(arguments).current_dir(root).output().unwrap()
    };
    let run = trimtab(&["run"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(trimtab(&["ledger", "verify"]).status.success());
    let times: Vec<_> = ledger
        .read(0, 100)
        .unwrap()
        .into_iter()
        .map(|entry| match entry {
            Entry::Record(recorded) => recorded.at,
            Entry::Quarantined { reason, .. } => panic!("{reason}"),
        })
        .collect();
    assert!(times.len() > 3 && times.is_sorted(), "{times:?}");
    let passed = times.last().unwrap().duration_since(later);
    assert!(
        passed.unsigned_abs() < std::time::Duration::from_mins(1),
        "time goes on at its own pace: {passed:?}"
    );
    let doctor = trimtab(&["doctor"]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("ahead of this machine's clock"));
}
