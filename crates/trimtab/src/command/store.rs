//! `trimtab store`: where the ledger is kept.

use delivery::Problem;
use delivery::code::Code;
use delivery::exit::Exit;
use delivery::text;
use serde::Serialize;
use store::MigrateError;

use crate::cli::Global;
use crate::ledger::{self, Whereabouts};
use crate::output::Output;
use crate::project::Project;

/// Moves the ledger to another place.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Copies the ledger from the state folder into PostgreSQL, compares every byte, and uses it from then on.
    ///
    ///   trimtab store migrate
    ///   trimtab store migrate --to postgresql:///trimtab
    ///
    /// End `trimtab server` first. A copy that was interrupted goes on where it stopped. The file stays where it is, and is
    /// not used any more.
    #[command(verbatim_doc_comment)]
    Migrate {
        /// The database's address; what the manifest's `ledger` or TRIMTAB_LEDGER says when it is left out.
        #[arg(long)]
        to: Option<String>,
    },
}

#[derive(Debug, Serialize)]
struct Migrated {
    version: u32,
    records: u64,
    copied: u64,
    root: String,
    to: String,
}

pub(crate) fn run(args: &Args, global: &Global, output: Output) -> super::Result {
    let Action::Migrate { to } = &args.action;
    let project = Project::open(global)?;
    let target = match to {
        Some(address) => Whereabouts::at(&project.layout, address),
        None => project.ledger.clone(),
    };
    let place = target.place().map_err(ledger::problems)?;
    if matches!(place, store::Place::File(_)) {
        let problem = Problem::new(Code::RequestInvalid, "no database is named to move the ledger to");
        return Err(vec![problem.hint("name one: trimtab store migrate --to postgresql:///trimtab")]);
    }
    let file = store::Place::File(project.layout.ledger());
    let mut told = 0;
    let moved = store::migrate(&file, &place, &mut |done, size| {
        // Ten lines, however many records there are.
        if done * 10 / size > told {
            told = done * 10 / size;
            output.talk(format!("{done} of {} are there", text::count(size, "record")));
        }
    })
    .map_err(|error| vec![problem(&error)])?;
    target.remember().map_err(|error| {
        vec![Problem::new(Code::StoreReadOnly, "the new place can't be kept in .trimtab").because(&error)]
    })?;
    let (root, name) = (hex::encode(moved.root), target.name());
    output.json(&Migrated {
        version: 1,
        records: moved.size,
        copied: moved.copied,
        root: root.clone(),
        to: name.clone(),
    });
    output.line(format!("copied {} to {name}", text::count(moved.copied, "record")));
    output.line(format!("equal, byte for byte: {}, Merkle root {root}", text::count(moved.size, "record")));
    if project.manifest.ledger.is_none() {
        output.talk("tell everybody else: put it into trimtab.toml as ledger = \"postgresql://...\"");
    }
    Ok(Exit::Success)
}

fn problem(error: &MigrateError) -> Problem {
    match error {
        MigrateError::Store(error) => error.problem(),
        MigrateError::Unsound { .. } => Problem::new(Code::StoreDamaged, error.to_string())
            .hint("see what is damaged with TRIMTAB_LEDGER unset: trimtab ledger verify"),
        MigrateError::Different { .. } => Problem::new(Code::StoreUnavailable, error.to_string())
            .hint("name an empty database or schema; nothing was changed in this one"),
        MigrateError::Unequal { .. } | MigrateError::People => {
            Problem::new(Code::StoreDamaged, error.to_string())
                .hint("the file is untouched and still in use; empty the target and try again")
        }
    }
}
