//! `trimtab ledger prove` and `check`: one record that somebody else can trust without having the ledger.

use camino::Utf8PathBuf;
use delivery::code::Code;
use delivery::exit::Exit;
use delivery::{Event, Problem, ReleaseId, RolloutId};
use rollout::follower::Follower;
use serde::Serialize;
use store::{Bundle, Checkpoint, Entry};

use super::{KeyArgs, checkpoint_of, deliver, signer};
use crate::cli::Global;
use crate::command;
use crate::output::Output;
use crate::project::{self, Project};
use crate::signing::{self, Signed};

const PAGE: usize = 1_000;

/// See the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A record by its sequence, as 'trimtab ledger show' prints it; a release, meaning the record that made it; or a
    /// rollout, meaning its end, or its plan while it has none.
    thing: String,
    /// The file to write, instead of record-SEQUENCE.tlog-proof; '-' for standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<Utf8PathBuf>,
}

#[derive(Debug, Serialize)]
struct Proven {
    version: u32,
    sequence: u64,
    event: String,
    records: u64,
    file: Option<String>,
    bundle: String,
}

pub(super) async fn run(args: &Args, project: &Project, output: Output) -> command::Result {
    let (follower, ours) = signer(project).await?;
    let sequence = find(&follower, &args.thing)?;
    let ledger = follower.ledger();
    let proof = ledger.prove_inclusion(sequence).map_err(project::problems)?;
    let origin = checkpoint_of(&follower)?.origin;
    let checkpoint = Checkpoint { origin, size: proof.size, root: proof.root };
    let record = ledger.bodies(sequence - 1, 1).map_err(project::problems)?.pop().unwrap_or_default();
    let note = signing::sign(project, &follower, &ours.key, &checkpoint)?;
    let bundle = Bundle { record, index: sequence - 1, hashes: proof.hashes, checkpoint: note.to_string() };
    // What is handed out has been checked as whoever gets it will check it.
    bundle.holds(&checkpoint).map_err(|error| vec![broken(sequence, error)])?;
    let text = bundle.to_string();
    let file = match &args.out {
        Some(out) if out == "-" => None,
        Some(out) => Some(out.clone()),
        None => Some(Utf8PathBuf::from(format!("record-{sequence}.tlog-proof"))),
    };
    if file.is_some() || !output.is_json() {
        deliver(file.as_ref(), &text)?;
    }
    let event = Content::of(&bundle)?.kind;
    if let Some(file) = &file {
        let records = checkpoint.size;
        output.line(format!("{file} proves record {sequence} ({event}) in a ledger of {records} records"));
    }
    let file = file.map(Utf8PathBuf::into_string);
    output.json(&Proven { version: 1, sequence, event, records: checkpoint.size, file, bundle: text });
    Ok(Exit::Success)
}

/// The sequence of the record that is meant.
fn find(follower: &Follower, thing: &str) -> Result<u64, Vec<Problem>> {
    if let Ok(sequence) = thing.parse() {
        return Ok(sequence);
    }
    let release = ReleaseId::new(thing).ok();
    let rollout = RolloutId::new(thing).ok();
    let (mut after, mut found) = (0, None);
    loop {
        let entries = follower.ledger().read(after, PAGE).map_err(project::problems)?;
        let last = entries.len() < PAGE;
        for entry in entries {
            after = entry.sequence();
            let Entry::Record(recorded) = entry else { continue };
            let meant = match &recorded.event {
                Event::ReleaseCreated { release: made } => release.as_ref() == Some(&made.id),
                Event::RolloutPlanned { plan } => rollout.as_ref() == Some(&plan.id),
                Event::RolloutFinished { rollout: ended, .. } => rollout.as_ref() == Some(ended),
                _ => false,
            };
            found = if meant { Some(recorded.sequence) } else { found };
        }
        if last {
            return found.ok_or_else(|| vec![unknown(thing)]);
        }
    }
}

fn unknown(thing: &str) -> Problem {
    Problem::new(Code::ThingUnknown, format!("no record is meant by {thing:?}"))
        .hint("give a sequence as 'trimtab ledger show' prints it, or the id of a release or a rollout")
}

fn broken(sequence: u64, error: store::merkle::ProofError) -> Problem {
    let message = format!("record {sequence} is not in the ledger that the checkpoint stands for: {error}");
    Problem::new(Code::ProofInvalid, message).hint("don't rely on it; ask for the proof again")
}

/// See the command.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The file that 'trimtab ledger prove' wrote.
    bundle: Utf8PathBuf,
    #[command(flatten)]
    keys: KeyArgs,
}

#[derive(Debug, Serialize)]
struct Checked {
    version: u32,
    sequence: u64,
    records: u64,
    origin: String,
    key: String,
    record: serde_json::Value,
}

/// `trimtab ledger check`.
pub(super) fn check(args: &CheckArgs, global: &Global, output: Output) -> command::Result {
    let path = &args.bundle;
    let follower = args.keys.follower(global)?;
    let trust = args.keys.trust(follower.as_ref())?;
    let bundle = Bundle::parse(&signing::read_file(path)?).map_err(|error| {
        vec![Problem::new(Code::CheckpointUnreadable, format!("{path} is not a proof: {error}"))]
    })?;
    let Signed { checkpoint, key } = signing::believe(path.as_str(), &bundle.checkpoint, &trust)?;
    let sequence = bundle.index.saturating_add(1);
    bundle.holds(&checkpoint).map_err(|error| vec![broken(sequence, error)])?;
    let content = Content::of(&bundle)?;
    output.line(format!(
        "record {sequence} of {} in {} ({}), signed by {}",
        checkpoint.size,
        checkpoint.origin,
        content.kind,
        key.short()
    ));
    output.line(content.pretty());
    let Checkpoint { origin, size: records, .. } = checkpoint;
    output.json(&Checked { version: 1, sequence, records, origin, key: key.short(), record: content.value });
    Ok(Exit::Success)
}

/// A record's content, which may be of a newer format than this Trimtab knows.
struct Content {
    kind: String,
    value: serde_json::Value,
}

impl Content {
    fn of(bundle: &Bundle) -> Result<Self, Vec<Problem>> {
        let unreadable = |error: &dyn std::error::Error| {
            let message = "the record is proven, but it is not one of a Trimtab ledger";
            vec![Problem::new(Code::ProofInvalid, message).because(error)]
        };
        let value: serde_json::Value =
            serde_json::from_slice(&bundle.record).map_err(|error| unreadable(&error))?;
        let kind = value["event"]["kind"].as_str().unwrap_or("unknown").to_owned();
        Ok(Self { kind, value })
    }

    fn pretty(&self) -> String {
        serde_json::to_string_pretty(&self.value).unwrap_or_default()
    }
}
