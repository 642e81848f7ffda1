//! `trimtab ledger backup`: everything that is on record, in a folder of its own.

use camino::Utf8PathBuf;
use delivery::clock::{Clock as _, SteadyClock};
use delivery::code::Code;
use delivery::exit::Exit;
use delivery::layout::Layout;
use delivery::{Problem, text};
use serde::Serialize;
use store::ledger::backup::{self, About};

use crate::cli::Global;
use crate::ledger::Whereabouts;
use crate::output::Output;
use crate::project;

/// Writes a backup while everything goes on.
///
///   trimtab ledger backup /mnt/backups/2026-11-27
///
/// The folder holds the ledger, the envelopes and artifacts that it names, and SHA256SUMS of them. It gets its name when it is
/// whole and on the disk. Left out: private keys and tokens, the task cache, and what runs on this machine.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// A folder that does not exist yet.
    folder: Utf8PathBuf,
}

#[derive(Debug, Serialize)]
struct BackedUp<'a> {
    version: u32,
    folder: &'a str,
    records: u64,
    root: &'a str,
    last_at: Option<delivery::Timestamp>,
    blobs: u64,
    damaged: &'a [String],
}

pub(super) fn run(args: &Args, global: &Global, output: Output) -> crate::command::Result {
    let root = project::directory(global)?;
    let layout = Layout::of_project(&root);
    Whereabouts::find(&layout, manifest::load(&root).ok().as_ref()).require_file(
        "'trimtab ledger backup'",
        "use pg_dump or the server's base backups, and copy .trimtab/blobs; then 'trimtab ledger verify' on what was restored",
    )?;
    let now = SteadyClock::anchored(None).now();
    let about = backup::write(&layout.ledger(), &layout.blobs(), &args.folder, now)
        .map_err(|error| vec![error.problem()])?;
    let About { size, root, last_at, blobs, damaged, .. } = &about;
    output.json(&BackedUp {
        version: 1,
        folder: args.folder.as_str(),
        records: *size,
        root: root.as_str(),
        last_at: *last_at,
        blobs: *blobs,
        damaged,
    });
    let (records, blobs) = (text::count(*size, "record"), text::count(*blobs, "blob"));
    output.line(format!("backed up to {}: {records}, {blobs}, Merkle root {root}", args.folder));
    output.talk(
        "not in it: private keys and tokens (.trimtab/keys), which are made anew where they are missing",
    );
    if damaged.is_empty() {
        return Ok(Exit::Success);
    }
    let message = format!(
        "{} could not be backed up, because they are damaged",
        text::count(damaged.len() as u64, "blob")
    );
    let first = damaged.first().map_or("", String::as_str);
    Err(vec![
        Problem::new(Code::StoreDamaged, message)
            .hint(format!("everything else is in the backup; the first damaged one is {first}")),
    ])
}
