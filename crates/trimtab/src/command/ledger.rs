//! `trimtab ledger`: the record itself, and what can be shown about it to others.

mod backup;
mod checkpoint;
mod erase;
mod export;
mod prove;
mod restore;
mod reveal;
mod show;
mod verify;

use camino::Utf8PathBuf;
use delivery::clock::Clock as _;
use delivery::code::Code;
use delivery::{Actor, Problem};
use rollout::follower::Follower;
use store::Checkpoint;

use crate::cli::Global;
use crate::output::Output;
use crate::project::{self, Project};
use crate::signing::{self, Ours};

/// Checks or shows the ledger, or proves to others what is in it.
///
///   trimtab ledger verify                            is it what was written, all of it?
///   trimtab ledger checkpoint --out kept.txt         a signed statement of what it is now
///   trimtab ledger verify --checkpoint kept.txt      has it grown out of that?
///   trimtab ledger prove rel-7k3m9x2p                one record with its proof, for an auditor
///   trimtab ledger check record-17.tlog-proof --key KEY
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Recomputes every hash, checks that nothing is missing, changed or out of order, and that the ledger has grown out of
    /// the last checkpoint signed here and out of those that are given.
    Verify(verify::Args),
    /// Prints the records, oldest first; with --format json one record a line.
    Show(show::Args),
    /// Signs what the ledger is now: its name, its size, its root (c2sp.org/tlog-checkpoint).
    Checkpoint(checkpoint::Args),
    /// Prints the ledger's public keys as verifiers want them (c2sp.org/signed-note).
    Key,
    /// Compares two checkpoints. Of one size with different roots they are a fork: two histories of one ledger.
    Compare(checkpoint::CompareArgs),
    /// Writes a record with the proof that it is in the ledger (c2sp.org/tlog-proof@v1).
    Prove(prove::Args),
    /// Checks a record with its proof, anywhere and offline.
    Check(prove::CheckArgs),
    /// Writes the ledger as files that any web server can serve (c2sp.org/tlog-tiles).
    Export(export::Args),
    /// Prints who is behind a pseudonym, with the salt that proves it to somebody who has only a proof.
    Reveal(reveal::Args),
    /// Erases a person's e-mail address from the ledger. Every record stays as it is, and so do the root and all proofs.
    Erase(erase::Args),
    /// Writes a backup while everything goes on: the ledger, the envelopes and artifacts that it names, and their digests.
    Backup(backup::Args),
    /// Puts a backup, or its beginning, in the place of the ledger.
    Restore(restore::Args),
}

pub(crate) async fn run(args: &Args, global: &Global, output: Output) -> super::Result {
    match &args.action {
        Action::Verify(args) => verify::run(args, &Project::open(global)?, output),
        Action::Show(args) => show::run(args, &Project::open(global)?, output),
        Action::Checkpoint(args) => checkpoint::run(args, &Project::open(global)?, output).await,
        Action::Key => checkpoint::keys(&Project::open(global)?, output),
        Action::Compare(args) => checkpoint::compare(args, global, output),
        Action::Prove(args) => prove::run(args, &Project::open(global)?, output).await,
        Action::Check(args) => prove::check(args, global, output),
        Action::Reveal(args) => reveal::run(args, &Project::open(global)?, output),
        Action::Erase(args) => erase::run(args, &Project::open(global)?, output).await,
        Action::Backup(args) => backup::run(args, global, output),
        Action::Restore(args) => restore::run(args, global, output).await,
        Action::Export(args) => export::run(args, &Project::open(global)?, output).await,
    }
}

/// The project's ledger for reading; a problem where nothing was ever recorded.
fn reader(project: &Project) -> Result<Follower, Vec<Problem>> {
    project.reader()?.ok_or_else(nothing)
}

fn nothing() -> Vec<Problem> {
    let problem = Problem::new(Code::StoreUnavailable, "nothing was ever recorded here");
    vec![problem.hint("run a command that records something first, such as 'trimtab run'")]
}

/// What the ledger is now.
fn checkpoint_of(follower: &Follower) -> Result<Checkpoint, Vec<Problem>> {
    follower.ledger().checkpoint().map_err(project::problems)?.ok_or_else(nothing)
}

/// The project's ledger and the key that signs for it.
async fn signer(project: &Project) -> Result<(Follower, Ours), Vec<Problem>> {
    drop(reader(project)?);
    let mut follower = project.follower()?;
    let now = project::clock(&follower).now();
    let ours = signing::key(project, &mut follower, &Actor::Machine("trimtab".into()), now).await?;
    Ok((follower, ours))
}

/// Where checkpoints and keys come from, when a command needs no project: the keys given, or those of the ledger here.
#[derive(Debug, clap::Args)]
struct KeyArgs {
    /// The key to trust, NAME+HASH+KEY, or a file that holds it; as 'trimtab ledger key' prints it. Without one: the keys
    /// that the ledger here has recorded.
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
}

impl KeyArgs {
    /// The ledger here, where its keys are needed.
    fn follower(&self, global: &Global) -> Result<Option<Follower>, Vec<Problem>> {
        if !self.keys.is_empty() {
            return Ok(None);
        }
        let project = Project::open(global).map_err(|wrong| {
            let hint = "without a project, name the key to trust: --key NAME+HASH+KEY";
            let absent = |problem: &Problem| problem.code == Code::ManifestMissing;
            wrong.into_iter().map(|it| if absent(&it) { it.hint(hint) } else { it }).collect::<Vec<_>>()
        })?;
        reader(&project).map(Some)
    }

    /// Whose signatures count.
    fn trust<'a>(&self, follower: Option<&'a Follower>) -> Result<signing::Trust<'a>, Vec<Problem>> {
        match follower {
            Some(follower) if self.keys.is_empty() => Ok(signing::Trust::Recorded(follower.state())),
            _ => signing::Trust::given(&self.keys),
        }
    }
}

/// A file to write, or standard output.
fn deliver(out: Option<&Utf8PathBuf>, text: &str) -> Result<(), Vec<Problem>> {
    if let Some(path) = out {
        return signing::write_file(path, text.as_bytes());
    }
    Output::raw(text);
    Ok(())
}
