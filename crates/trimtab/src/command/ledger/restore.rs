//! `trimtab ledger restore`: a backup, or its beginning, in the place of the ledger.
//!
//! Invariant: the restored ledger says of itself that it was restored, and gives out no generation that an edge here has seen.

use camino::{Utf8Path, Utf8PathBuf};
use delivery::clock::{Clock as _, SteadyClock};
use delivery::code::Code;
use delivery::event::LostHistory;
use delivery::exit::Exit;
use delivery::layout::Layout;
use delivery::{Actor, Event, Problem, Timestamp, text};
use platform::edge::{self, Edge};
use rollout::follower::Follower;
use serde::Serialize;
use store::ledger::backup::{self, BackupError};
use store::ledger::restore::{Held, Staged, Until, digest_of};
use store::{Access, Error, Ledger};

use crate::cli::Global;
use crate::edges;
use crate::ledger::Whereabouts;
use crate::output::Output;
use crate::project::{self, Project};
use crate::signing::{self, Trust};

/// Puts a backup, or its beginning, in the place of the ledger.
///
///   trimtab ledger restore /mnt/backups/2026-11-27              where there is no ledger
///   trimtab ledger restore /mnt/backups/2026-11-27 --replace    the ledger that is there goes to .trimtab/replaced
///   trimtab ledger restore BACKUP --to 1200                     only its first 1,200 records
///   trimtab ledger restore BACKUP --to 2026-11-27T02:00:00Z     only what was recorded until then
///   trimtab ledger restore --as-it-is                           go on with an older ledger that was put here by hand
///
/// Every byte and every hash of the backup is checked before anything is touched. What serves goes on serving; a rollout that was
/// under way in what is restored is taken back, because what it did since is not on record.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// The folder that `trimtab ledger backup` wrote, or one of .trimtab/backups.
    #[arg(required_unless_present = "as_it_is")]
    backup: Option<Utf8PathBuf>,
    /// The last record that is wanted, or the last moment.
    #[arg(long, value_name = "RECORD|TIME")]
    to: Option<String>,
    /// Take the place of the ledger that is there, which is kept in .trimtab/replaced.
    #[arg(long)]
    replace: bool,
    /// Go on with the ledger that is there, although it is not the newest that was seen here.
    #[arg(long, conflicts_with_all = ["backup", "to", "replace"])]
    as_it_is: bool,
    /// Only check the backup and say what would be restored.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Restored {
    version: u32,
    /// Records that were taken over; the ledger has one more, which says so.
    records: u64,
    root: String,
    last_at: Option<Timestamp>,
    /// Records of the history that was given up, where they are known.
    lost: Option<u64>,
    /// Where the ledger is that was here.
    kept: Option<String>,
    epoch: u64,
    /// People who were erased in the history that was given up, and are erased here again.
    erased: u64,
    /// Where the last signed checkpoint is now, if what was restored does not continue it.
    checkpoint: Option<String>,
}

pub(super) async fn run(args: &Args, global: &Global, output: Output) -> crate::command::Result {
    let root = project::directory(global)?;
    let layout = Layout::of_project(&root);
    let until = args.to.as_deref().map(until).transpose()?;
    if let (true, Some(backup)) = (args.dry_run, &args.backup) {
        return dry_run(backup, output);
    }
    Whereabouts::find(&layout, manifest::load(&root).ok().as_ref()).require_file(
        "'trimtab ledger restore'",
        "use pg_restore; or restore to the file with the address taken out, and move it: trimtab store migrate",
    )?;
    let there = layout.ledger().exists();
    if args.as_it_is && !is_older(&layout)? {
        output.line("the ledger here has all that was seen here; there is nothing to do");
        return Ok(Exit::Success);
    }
    if there && !args.replace && !args.as_it_is {
        let problem =
            Problem::new(Code::LedgerExists, format!("there is a ledger here already: {}", layout.ledger()));
        return Err(vec![problem.hint(
            "to put the backup in its place, add --replace; what is here is kept in .trimtab/replaced",
        )]);
    }
    project::prepare(&layout)?;
    let epoch = epoch(&layout, output).await?;
    let held = Held::take(&layout.ledger()).map_err(refused)?;
    let lost = held.end().map(|end| LostHistory { size: end.size, root: end.root, last_at: end.last_at });
    let staged = match &args.backup {
        Some(backup) => Staged::of_backup(backup, &layout.ledger(), until),
        None => Staged::of_itself(&held),
    };
    let staged = staged.map_err(refused)?;
    let head = staged.head();
    let lost = lost.filter(|lost| lost.size > head.size || lost.root != digest_of(&head));
    let by = Project::at(root).and_then(|project| project.actor(None));
    let by = by.unwrap_or_else(|_| Actor::Machine("trimtab".into()));
    let event = Event::LedgerRestored { size: head.size, root: digest_of(&head), lost: lost.clone(), epoch };
    let ledger = Ledger::open(&staged.file(), Access::ReadWrite).map_err(project::problems)?;
    let now = SteadyClock::anchored(head.last_at).now();
    let mut events = vec![event];
    events.extend(staged.erased_since(&held).map_err(project::problems)?);
    let erased = events.len() as u64 - 1;
    ledger.append_blocking(&by, now, events).map_err(project::problems)?;
    drop(ledger);
    let damaged = staged.about().map_or(0, |about| about.damaged.len() as u64);
    let kept = staged.put(held, &layout.blobs()).map_err(refused)?;
    // Once for writing: it is whole, and from here on what was seen here.
    let ledger = Ledger::open(&layout.ledger(), Access::ReadWrite).map_err(project::problems)?;
    let checkpoint = set_aside(&layout, ledger, head.size, kept.as_deref())?;
    let restored = Restored {
        version: 1,
        records: head.size,
        root: digest_of(&head).to_string(),
        last_at: head.last_at,
        lost: lost.map(|lost| lost.size),
        kept: kept.map(|path| path.to_string()),
        epoch,
        erased,
        checkpoint: checkpoint.map(|path| path.to_string()),
    };
    tell(&restored, damaged, output);
    Ok(Exit::Success)
}

fn tell(restored: &Restored, damaged: u64, output: Output) {
    output.json(restored);
    let last = restored.last_at.map_or_else(String::new, |at| format!(", the last of {at}"));
    let records = text::count(restored.records, "record");
    output.line(format!("restored {records}{last}, Merkle root {}", restored.root));
    if let Some(lost) = restored.lost {
        let more = lost.saturating_sub(restored.records);
        let what = if more == 0 {
            "a history that differs".into()
        } else {
            format!("{} more", text::count(more, "record"))
        };
        output.line(format!("given up: {what}, up to record {lost}"));
    }
    if let Some(kept) = &restored.kept {
        output.line(format!("the ledger that was here is kept: {kept}"));
    }
    if restored.erased > 0 {
        let count = text::count(restored.erased, "erasure");
        output.line(format!("done again: {count} of people, on record in what was given up"));
    }
    if let Some(checkpoint) = &restored.checkpoint {
        output.line(format!(
            "the last signed checkpoint contradicts what was restored, and is kept: {checkpoint}"
        ));
    }
    if damaged > 0 {
        output.talk(format!("{} were damaged before the backup was made", text::count(damaged, "blob")));
    }
    output.talk("rollouts that were under way are taken back by the next 'trimtab ship' or 'trimtab server'");
}

/// Takes the last signed checkpoint out of the way, if the restored ledger has not grown out of it: the next one would be
/// refused for its sake. Who has a copy of it can still see that history was given up.
fn set_aside(
    layout: &Layout,
    ledger: Ledger,
    records: u64,
    kept: Option<&Utf8Path>,
) -> Result<Option<Utf8PathBuf>, Vec<Problem>> {
    let path = layout.checkpoint();
    if !path.exists() {
        return Ok(None);
    }
    let follower = Follower::open(ledger).map_err(project::problems)?;
    // A key that only the history knew that was given up is none that is trusted from here on.
    let continued = signing::read(&path, &Trust::Recorded(follower.state()))
        .and_then(|signed| signing::held_against(path.as_str(), follower.ledger(), &signed.checkpoint));
    if continued.is_ok() {
        return Ok(None);
    }
    let replaced = layout.root().join("replaced");
    let folder = kept.and_then(Utf8Path::parent).unwrap_or(&replaced);
    let to = folder.join(format!("checkpoint-before-{records}-records"));
    std::fs::create_dir_all(folder).and_then(|()| std::fs::rename(&path, &to)).map_err(|error| {
        vec![Problem::new(Code::OutputLost, format!("{path} can't be put aside")).because(&error)]
    })?;
    Ok(Some(to))
}

fn dry_run(backup: &Utf8Path, output: Output) -> crate::command::Result {
    let about = backup::check(backup).map_err(refused)?;
    let records = text::count(about.size, "record");
    let last = about.last_at.map_or_else(String::new, |at| format!(", the last of {at}"));
    output.line(format!(
        "the backup is whole: {records}{last}, schema {}, Merkle root {}",
        about.schema, about.root
    ));
    output.json(&about);
    Ok(Exit::Success)
}

fn until(text: &str) -> Result<Until, Vec<Problem>> {
    if let Ok(sequence) = text.parse() {
        return Ok(Until::Sequence(sequence));
    }
    text.parse().map(Until::Time).map_err(|_| {
        let problem = Problem::new(Code::RequestInvalid, format!("{text:?} is neither a record nor a time"));
        vec![
            problem.hint("such as --to 1200, or --to 2026-11-27T02:00:00Z; 'trimtab ledger show' lists both"),
        ]
    })
}

/// Whether the ledger here lacks what was seen here.
fn is_older(layout: &Layout) -> Result<bool, Vec<Problem>> {
    let ledger = Ledger::open(&layout.ledger(), Access::ReadOnly).map_err(project::problems)?;
    Ok(ledger.older().map_err(project::problems)?.is_some())
}

fn refused(error: BackupError) -> Vec<Problem> {
    match error {
        BackupError::Ledger(Error::Locked { .. }) => {
            let problem = Problem::new(Code::StoreLocked, "another process has the ledger open");
            vec![
                problem.hint(
                    "end 'trimtab server' and whatever ships or runs here; what serves goes on serving",
                ),
            ]
        }
        other => vec![other.problem()],
    }
}

/// The highest generation that anything here has seen: the ledger that is there, as far as it can be read, and every edge. A
/// restored ledger must go on above it, or its controllers would be turned away.
async fn epoch(layout: &Layout, output: Output) -> Result<u64, Vec<Problem>> {
    let ledger = Ledger::open(&layout.ledger(), Access::ReadOnly).and_then(Follower::open);
    let mut highest = ledger.map_or(0, |follower| follower.state().epoch_max);
    let Ok(folders) = layout.edges().read_dir_utf8() else { return Ok(highest) };
    for folder in folders.flatten() {
        let stored = edge::epoch_seen(folder.path()).map_err(|error| vec![error.problem()])?;
        highest = highest.max(stored.unwrap_or(0));
        // What an edge has seen it stores before it answers; one whose disk failed knows more than its file.
        let Some(config) = edges::started_with(folder.path()) else { continue };
        match Edge::connect(&config).await {
            Ok(running) => match running.status().await {
                Ok(status) => highest = highest.max(status.epoch),
                Err(error) => output.problems(&[error.problem()]),
            },
            Err(edge::Error::NotRunning { .. }) => {}
            Err(error) => output.problems(&[error.problem()]),
        }
    }
    Ok(highest)
}
