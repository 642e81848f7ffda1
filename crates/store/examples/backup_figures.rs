//! Measures backup, restore and migration of a large ledger on this machine.
//! `cargo run --release -p store --example backup_figures [EVENTS] [FOLDER]`; the folder should be on the disk that is meant.
//! Fails when the restore of a million events takes longer than is promised.

use std::error::Error;
use std::time::Instant;

use camino::Utf8PathBuf;
use delivery::{Actor, Event, Timestamp};
use store::ledger::backup;
use store::ledger::restore::{Held, Staged, Until};
use store::{Access, Ledger, Schema};

type Outcome = Result<(), Box<dyn Error>>;

/// What is promised for the restore of a million events, in seconds.
const RESTORE_SECONDS_MAX: f64 = 60.0;

/// A made-up schema after the newest: a row beside each record.
const MORE: &str = "CREATE TABLE beside (sequence INTEGER PRIMARY KEY, text TEXT) STRICT;
                    INSERT INTO beside SELECT sequence, 'x' FROM record;";

#[expect(clippy::disallowed_methods, reason = "this program measures")]
fn timed<T>(
    what: &str,
    work: impl FnOnce() -> Result<T, Box<dyn Error>>,
) -> Result<(T, f64), Box<dyn Error>> {
    let start = Instant::now();
    let value = work()?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{what:<34} {seconds:.2} s");
    Ok((value, seconds))
}

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let events: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let parent = arguments.next().map_or_else(|| Utf8PathBuf::from("."), Utf8PathBuf::from);
    let folder = tempfile::tempdir_in(parent)?;
    let root = Utf8PathBuf::try_from(folder.path().to_owned())?;
    let path = root.join("ledger.db");
    let actor = Actor::Machine("figures".into());
    timed("fill", || {
        let ledger = Ledger::open(&path, Access::ReadWrite)?;
        for first in (0..events).step_by(512) {
            let event = |number| Event::IncidentResolved { incident: format!("{number:0>128}") };
            let batch = (first..events.min(first + 512)).map(event).collect();
            ledger.append_blocking(&actor, Timestamp::UNIX_EPOCH, batch)?;
        }
        Ok(())
    })?;
    println!("{events} events, {} MiB", std::fs::metadata(&path)?.len() >> 20);
    let (to, blobs) = (root.join("backup"), root.join("blobs"));
    timed("back up (copied, verified, synced)", || {
        Ok(backup::write(&path, &blobs, &to, Timestamp::UNIX_EPOCH)?)
    })?;
    timed("check it", || Ok(backup::check(&to)?))?;
    let restore = |name: &str, until| {
        let target = root.join(name).join("ledger.db");
        std::fs::create_dir(root.join(name))?;
        let held = Held::take(&target)?;
        Staged::of_backup(&to, &target, until)?.put(held, &root.join(name).join("blobs"))?;
        Ok(Ledger::open(&target, Access::ReadWrite)?.head()?.size)
    };
    let (size, seconds) = timed("restore, to the first append", || restore("whole", None))?;
    if size != events || seconds > RESTORE_SECONDS_MAX * (events as f64 / 1e6).max(1.0) {
        return Err(format!("{size} events in {seconds:.2} s; promised are {RESTORE_SECONDS_MAX} s").into());
    }
    timed("restore to the half of it", || restore("half", Some(Until::Sequence(events / 2))))?;
    let migrations = [Schema::RELEASED.migrations(), &[MORE]].concat();
    timed("migrate, with a copy kept", || {
        Ok(Ledger::open_as(&path, Access::ReadWrite, Schema::of(Vec::leak(migrations)))?)
    })?;
    Ok(())
}
