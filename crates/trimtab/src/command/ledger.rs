//! `trimtab ledger`: the record itself.

use delivery::code::Code;
use delivery::exit::Exit;
use delivery::{Problem, text};
use serde::Serialize;
use store::{Entry, Ledger};

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

pub(crate) fn run(args: &Args, global: &Global, output: Output) -> super::Result {
    let project = Project::open(global)?;
    let Some(ledger) = project.ledger.open_to_read().map_err(project::problems)? else {
        output.line("nothing was ever recorded here");
        output.json(&Verified {
            version: 1,
            sound: true,
            records: 0,
            root: String::new(),
            damages: Vec::new(),
        });
        return Ok(Exit::Success);
    };
    match args.action {
        Action::Verify => verify(&ledger, output),
        Action::Show { after } => show(&ledger, after, output),
    }
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
            .hint("restore it from a backup; trimtab explain TRM-0305"),
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
