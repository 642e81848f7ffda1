//! `trimtab ledger show`: the records as they are.

use delivery::exit::Exit;
use serde::Serialize;
use store::Entry;

use crate::command;
use crate::output::Output;
use crate::project::{self, Project};

/// See the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only records after this sequence.
    #[arg(long, default_value_t = 0)]
    after: u64,
}

#[derive(Debug, Serialize)]
struct Shown {
    sequence: u64,
    at: delivery::Timestamp,
    actor: String,
    event: delivery::Event,
}

const PAGE: usize = 1_000;

pub(super) fn run(args: &Args, project: &Project, output: Output) -> command::Result {
    let Some(ledger) = project.ledger.open_to_read().map_err(project::problems)? else {
        output.line("nothing was ever recorded here");
        return Ok(Exit::Success);
    };
    let mut after = args.after;
    loop {
        let entries = ledger.read(after, PAGE).map_err(project::problems)?;
        let last = entries.len() < PAGE;
        for entry in entries {
            after = entry.sequence();
            show(entry, output);
        }
        if last {
            return Ok(Exit::Success);
        }
    }
}

fn show(entry: Entry, output: Output) {
    match entry {
        Entry::Record(recorded) => {
            let (sequence, at, actor) = (recorded.sequence, recorded.at, recorded.actor.to_string());
            output.line(format!("{sequence:>6}  {at}  {:<22} {actor}", recorded.event.kind()));
            output.json(&Shown { sequence, at, actor, event: recorded.event });
        }
        Entry::Quarantined { sequence, reason } => {
            output.line(format!("{sequence:>6}  quarantined: {reason}"));
        }
    }
}
