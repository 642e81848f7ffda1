//! `trimtab ledger`: the record itself.

mod backup;
mod restore;

use delivery::code::Code;
use delivery::exit::Exit;
use delivery::{Problem, text};
use serde::Serialize;
use store::{Access, Entry, Ledger};

use crate::cli::Global;
use crate::output::Output;
use crate::project::{self, Project};

/// Checks or shows the ledger.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Recomputes every hash and checks that nothing is missing, changed or out of order.
    Verify,
    /// Prints the records, oldest first; with --format json one record a line.
    Show {
        /// Only records after this sequence.
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// Writes a backup while everything goes on: the ledger, the envelopes and artifacts that it names, and their digests.
    Backup(backup::Args),
    /// Puts a backup, or its beginning, in the place of the ledger.
    Restore(restore::Args),
}

#[derive(Debug, Serialize)]
struct Verified {
    version: u32,
    sound: bool,
    records: u64,
    root: String,
    damages: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Shown {
    sequence: u64,
    at: delivery::Timestamp,
    actor: String,
    event: delivery::Event,
}

pub(crate) async fn run(args: &Args, global: &Global, output: Output) -> super::Result {
    match &args.action {
        Action::Verify => with_ledger(global, output, verify),
        Action::Show { after } => with_ledger(global, output, |ledger, output| show(ledger, *after, output)),
        Action::Backup(args) => backup::run(args, global, output),
        Action::Restore(args) => restore::run(args, global, output).await,
    }
}

fn with_ledger(
    global: &Global,
    output: Output,
    work: impl FnOnce(&Ledger, Output) -> super::Result,
) -> super::Result {
    let project = Project::open(global)?;
    if !project.layout.ledger().exists() {
        output.line("nothing was ever recorded here");
        output.json(&Verified {
            version: 1,
            sound: true,
            records: 0,
            root: String::new(),
            damages: Vec::new(),
        });
        return Ok(Exit::Success);
    }
    let ledger = Ledger::open(&project.layout.ledger(), Access::ReadOnly).map_err(project::problems)?;
    work(&ledger, output)
}

fn verify(ledger: &Ledger, output: Output) -> super::Result {
    let verification = ledger.verify().map_err(project::problems)?;
    let verified = Verified {
        version: 1,
        sound: verification.is_sound(),
        records: verification.size,
        root: hex::encode(verification.root),
        damages: verification.damages.iter().map(ToString::to_string).collect(),
    };
    output.json(&verified);
    let older = ledger.older().map_err(project::problems)?;
    if let (true, Some(detail)) = (verified.sound, older) {
        return Err(vec![store::Error::Older { detail }.problem()]);
    }
    if verified.sound {
        output.line(format!(
            "sound: {}, Merkle root {}",
            text::count(verified.records, "record"),
            verified.root
        ));
        return Ok(Exit::Success);
    }
    verified.damages.iter().for_each(|damage| output.line(damage));
    let found = text::count(verified.damages.len() as u64, "damage");
    Err(vec![
        Problem::new(Code::StoreDamaged, format!("the ledger has {found}"))
            .hint("restore a backup: trimtab ledger restore BACKUP --replace; see trimtab explain TRM-0305"),
    ])
}

fn show(ledger: &Ledger, mut after: u64, output: Output) -> super::Result {
    const PAGE: usize = 1_000;
    loop {
        let entries = ledger.read(after, PAGE).map_err(project::problems)?;
        let last = entries.len() < PAGE;
        for entry in entries {
            match entry {
                Entry::Record(recorded) => {
                    after = recorded.sequence;
                    output.line(format!(
                        "{:>6}  {}  {:<22} {}",
                        recorded.sequence,
                        recorded.at,
                        recorded.event.kind(),
                        recorded.actor
                    ));
                    let (sequence, at, actor) = (recorded.sequence, recorded.at, recorded.actor.to_string());
                    output.json(&Shown { sequence, at, actor, event: recorded.event });
                }
                Entry::Quarantined { sequence, reason } => {
                    after = sequence;
                    output.line(format!("{sequence:>6}  quarantined: {reason}"));
                }
            }
        }
        if last {
            return Ok(Exit::Success);
        }
    }
}
