//! `trimtab ledger verify`: the ledger against itself, and against what was signed over it.

use camino::Utf8PathBuf;
use delivery::code::Code;
use delivery::{Problem, text};
use rollout::follower::Follower;
use serde::Serialize;
use store::{Standing, Verification};

use super::KeyArgs;
use crate::command;
use crate::output::{self, Output, ProblemWire};
use crate::project::{self, Project};
use crate::signing::{self, Signed, Trust};

/// See the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A checkpoint that was kept elsewhere; may be given several times.
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<Utf8PathBuf>,
    #[command(flatten)]
    keys: KeyArgs,
}

#[derive(Debug, Serialize)]
struct Verified {
    version: u32,
    sound: bool,
    records: u64,
    root: String,
    damages: Vec<String>,
    checkpoints: Vec<Kept>,
    problems: Vec<ProblemWire>,
}

/// A checkpoint that the ledger has grown out of.
#[derive(Debug, Serialize)]
struct Kept {
    file: String,
    records: u64,
    key: String,
}

pub(super) fn run(args: &Args, project: &Project, output: Output) -> command::Result {
    let follower = project.reader()?;
    let found = match &follower {
        Some(follower) => Some(follower.ledger().verify().map_err(project::problems)?),
        None => None,
    };
    let mut problems: Vec<Problem> = found.iter().filter_map(damage).collect();
    if let (true, Some(follower)) = (problems.is_empty(), &follower) {
        let older = follower.ledger().older().map_err(project::problems)?;
        problems.extend(older.map(|detail| store::Error::Older { detail }.problem()));
    }
    let mut kept = Vec::new();
    for (name, signed) in checkpoints(args, project, follower.as_ref()) {
        match signed.and_then(|signed| held_against(&name, follower.as_ref(), &signed).map(|()| signed)) {
            Ok(Signed { checkpoint, key }) => {
                kept.push(Kept { file: name, records: checkpoint.size, key: key.short() });
            }
            Err(wrong) => problems.extend(wrong),
        }
    }
    let verified = Verified {
        version: 1,
        sound: problems.is_empty(),
        records: found.as_ref().map_or(0, |found| found.size),
        root: found.as_ref().map(|found| hex::encode(found.root)).unwrap_or_default(),
        damages: found.iter().flat_map(|found| found.damages.iter().map(ToString::to_string)).collect(),
        checkpoints: kept,
        problems: output::wires(&problems),
    };
    say(&verified, found.is_some(), output);
    output.conclude(&verified, problems)
}

fn say(verified: &Verified, recorded: bool, output: Output) {
    verified.damages.iter().for_each(|damage| output.line(damage));
    if !recorded {
        output.line("nothing was ever recorded here");
    } else if verified.sound {
        let records = text::count(verified.records, "record");
        output.line(format!("sound: {records}, Merkle root {}", verified.root));
    }
    for Kept { file, records, key } in &verified.checkpoints {
        let records = text::count(*records, "record");
        output.line(format!("it continues {file}: {records}, signed by {key}"));
    }
}

fn damage(found: &Verification) -> Option<Problem> {
    let damages = text::count(found.damages_total, "damage");
    (!found.is_sound()).then(|| {
        Problem::new(Code::StoreDamaged, format!("the ledger has {damages}"))
            .hint("restore a backup: trimtab ledger restore BACKUP --replace; see trimtab explain TRM-0305")
    })
}

type Named = (String, Result<Signed, Vec<Problem>>);

/// The checkpoints to hold the ledger against: the last one signed here, and those given.
fn checkpoints(args: &Args, project: &Project, follower: Option<&Follower>) -> Vec<Named> {
    let trust = || match follower {
        Some(follower) => args.keys.trust(Some(follower)),
        None => Trust::given(&args.keys.keys),
    };
    let mut found = Vec::new();
    let own = project.layout.checkpoint();
    if own.exists() {
        let named = own.strip_prefix(&project.root).unwrap_or(&own).to_string();
        let signed = match follower {
            Some(follower) => signing::read(&own, &Trust::Recorded(follower.state())),
            None => trust().and_then(|trust| signing::read(&own, &trust)),
        };
        found.push((named, signed));
    }
    let given = args.checkpoints.iter();
    found.extend(given.map(|path| (path.to_string(), trust().and_then(|trust| signing::read(path, &trust)))));
    found
}

fn held_against(name: &str, follower: Option<&Follower>, signed: &Signed) -> Result<(), Vec<Problem>> {
    let kept = &signed.checkpoint;
    if let Some(follower) = follower {
        return signing::held_against(name, follower.ledger(), kept);
    }
    let gone = signing::contradiction(name, kept, &Standing::Shorter { size: 0 });
    gone.map_or(Ok(()), |problem| Err(vec![problem]))
}
