//! `trimtab ledger checkpoint`, `key` and `compare`: signed statements of what the ledger is.

use camino::Utf8PathBuf;
use delivery::code::Code;
use delivery::exit::Exit;
use delivery::{Problem, text};
use serde::Serialize;

use super::{KeyArgs, checkpoint_of, deliver, reader, signer};
use crate::cli::Global;
use crate::command;
use crate::output::Output;
use crate::project::Project;
use crate::signing::{self, Signed};

/// See the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to write, instead of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<Utf8PathBuf>,
}

#[derive(Debug, Serialize)]
struct Told {
    version: u32,
    origin: String,
    records: u64,
    root: String,
    /// The signed note.
    checkpoint: String,
}

pub(super) async fn run(args: &Args, project: &Project, output: Output) -> command::Result {
    let (follower, ours) = signer(project).await?;
    let checkpoint = checkpoint_of(&follower)?;
    let note = signing::sign(project, &follower, &ours.key, &checkpoint)?.to_string();
    if args.out.is_some() || !output.is_json() {
        deliver(args.out.as_ref(), &note)?;
    }
    if let Some(out) = &args.out {
        output.line(format!("{out} stands for {}", text::count(checkpoint.size, "record")));
    }
    let (origin, root) = (checkpoint.origin, hex::encode(checkpoint.root));
    output.json(&Told { version: 1, origin, records: checkpoint.size, root, checkpoint: note });
    Ok(Exit::Success)
}

#[derive(Debug, Serialize)]
struct Known {
    version: u32,
    origin: String,
    keys: Vec<String>,
}

/// `trimtab ledger key`.
pub(super) fn keys(project: &Project, output: Output) -> command::Result {
    let follower = reader(project)?;
    let origin = checkpoint_of(&follower)?.origin;
    let keys: Vec<String> =
        signing::recorded_keys(follower.state(), &origin).iter().map(ToString::to_string).collect();
    if keys.is_empty() {
        let problem = Problem::new(Code::ThingUnknown, "the ledger has no signing key yet");
        return Err(vec![problem.hint("'trimtab ledger checkpoint' or the first 'trimtab ship' makes one")]);
    }
    keys.iter().for_each(|key| output.line(key));
    output.json(&Known { version: 1, origin, keys });
    Ok(Exit::Success)
}

/// See the command.
#[derive(Debug, clap::Args)]
pub(super) struct CompareArgs {
    /// A checkpoint.
    first: Utf8PathBuf,
    /// Another one.
    second: Utf8PathBuf,
    #[command(flatten)]
    keys: KeyArgs,
}

#[derive(Debug, Serialize)]
struct Compared {
    version: u32,
    origin: String,
    first: u64,
    second: u64,
    agree: bool,
}

/// `trimtab ledger compare`.
pub(super) fn compare(args: &CompareArgs, global: &Global, output: Output) -> command::Result {
    let follower = args.keys.follower(global)?;
    let trust = args.keys.trust(follower.as_ref())?;
    let (first, second) = (signing::read(&args.first, &trust)?, signing::read(&args.second, &trust)?);
    if let Some(problem) = disagreement(args, &first, &second) {
        return Err(vec![problem]);
    }
    let (older, newer) = (&first.checkpoint, &second.checkpoint);
    if older.size != newer.size {
        let Some(follower) = &follower else { return Err(vec![incomparable(args)]) };
        for (path, signed) in [(&args.first, &first), (&args.second, &second)] {
            signing::held_against(path.as_str(), follower.ledger(), &signed.checkpoint)?;
        }
    }
    let sizes = if older.size == newer.size {
        text::count(older.size, "record")
    } else {
        format!("{} and {} records, and the ledger here continues both", older.size, newer.size)
    };
    output.line(format!("{} and {} agree: {sizes}", args.first, args.second));
    let (origin, first, second) = (older.origin.clone(), older.size, newer.size);
    output.json(&Compared { version: 1, origin, first, second, agree: true });
    Ok(Exit::Success)
}

fn disagreement(args: &CompareArgs, first: &Signed, second: &Signed) -> Option<Problem> {
    let (one, two) = (&first.checkpoint, &second.checkpoint);
    if one.origin != two.origin {
        let message = format!(
            "{} is of the ledger {}, {} of {}: they can't be compared",
            args.first, one.origin, args.second, two.origin
        );
        return Some(
            Problem::new(Code::CheckpointUnreadable, message).hint("give two checkpoints of one ledger"),
        );
    }
    (one.size == two.size && one.root != two.root).then(|| {
        let by = if first.key == second.key {
            format!("both signed by {}", first.key.short())
        } else {
            format!("signed by {} and {}", first.key.short(), second.key.short())
        };
        let message = format!(
            "{} and {} are a fork of {}: both have {} records, but different roots, {by}",
            args.first, args.second, one.origin, one.size
        );
        Problem::new(Code::LedgerForked, message)
            .hint("keep both files, they are the evidence; then: trimtab explain TRM-0322")
    })
}

fn incomparable(args: &CompareArgs) -> Problem {
    let message = format!(
        "{} and {} have different numbers of records: only the ledger itself can show that one grew out of the other",
        args.first, args.second
    );
    Problem::new(Code::CheckpointUnreadable, message)
        .hint("run it in the project without --key, or compare checkpoints of one size")
}
