//! `trimtab ledger erase`: takes a person's address out of the ledger, and leaves every record as it is.
//!
//! Afterwards it looks for the address in every file of the state folder, byte by byte, and says where it still is: what a
//! person wrote into a comment, or what was recorded before addresses were kept apart, can't be taken out.

use std::fs::File;
use std::io::Read as _;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::clock::Clock as _;
use delivery::exit::Exit;
use delivery::people::identity;
use delivery::{Event, Problem};
use serde::Serialize;
use store::Revealed;

use super::reader;
use super::reveal::unknown;
use crate::command;
use crate::output::Output;
use crate::project::{self, Project};

/// Bytes of a file that are looked through at once.
const WINDOW_BYTES: usize = 1 << 20;
/// Files that are named; the rest are counted.
const NAMED_MAX: usize = 20;

/// See the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The person, by e-mail address.
    person: String,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Who erases, by e-mail address, instead of git's user.email.
    #[arg(long = "as", value_name = "EMAIL")]
    identity: Option<String>,
}

#[derive(Debug, Serialize)]
struct Erased {
    version: u32,
    pseudonym: String,
    recorded: bool,
    /// Files that still hold the address, relative to the project's folder.
    left: Vec<String>,
}

pub(super) async fn run(args: &Args, project: &Project, output: Output) -> command::Result {
    let email = identity(&args.person);
    let person = reader(project)?.ledger().person(&email).map_err(project::problems)?;
    let Revealed { pseudonym, email, .. } = person.ok_or_else(|| vec![unknown(&args.person)])?;
    if args.dry_run {
        output.line(format!("{email} would be erased; records would say {pseudonym}"));
        output.json(&Erased { version: 1, pseudonym, recorded: false, left: Vec::new() });
        return Ok(Exit::Success);
    }
    erase(args, project, &pseudonym).await?;
    // Every connection is closed by now, so SQLite has emptied its log, unless another process has the ledger open.
    let left = holders(project, &email);
    output.line(format!("{email} is erased; records say {pseudonym}"));
    match left.len() {
        0 => output.line("no file here holds the address any longer"),
        count => {
            output.line(format!("the address is still in {}:", delivery::text::count(count as u64, "file")));
            left.iter().take(NAMED_MAX).for_each(|file| output.line(format!("  {file}")));
            output.talk(
                "the ledger's own files: what somebody wrote (a comment, a commit's subject), or records from before addresses were kept \
                 apart; the -wal file goes when the last process that has the ledger open ends; what is in .trimtab/backups and \
                 .trimtab/replaced is yours to delete",
            );
        }
    }
    if project.ledger.on_server() {
        output.talk("the database server's log and backups may hold the address until they are gone");
    }
    output.json(&Erased { version: 1, pseudonym, recorded: true, left });
    Ok(Exit::Success)
}

async fn erase(args: &Args, project: &Project, pseudonym: &str) -> Result<(), Vec<Problem>> {
    let follower = project.follower()?;
    let actor = project.actor(args.identity.as_deref())?;
    let now = project::clock(&follower).now();
    let event = Event::PersonErased { person: pseudonym.to_owned() };
    follower.ledger().append(&actor, now, vec![event]).await.map(drop).map_err(project::problems)
}

/// The files of the state folder that hold the text, in either case of its letters.
fn holders(project: &Project, text: &str) -> Vec<String> {
    let mut pending = vec![project.layout.root().to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = pending.pop() {
        let Ok(entries) = folder.read_dir_utf8() else { continue };
        for entry in entries.flatten() {
            let path = entry.path().to_owned();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(path),
                Ok(kind) if kind.is_file() && holds(&path, text) => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    let relative = |path: Utf8PathBuf| path.strip_prefix(&project.root).map(Utf8Path::to_string);
    found.into_iter().filter_map(|path| relative(path).ok()).collect()
}

/// Whether the file holds the text, which is in lower case. Bounded memory: windows overlap by the text's length.
fn holds(path: &Utf8Path, text: &str) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    let mut window = Vec::with_capacity(WINDOW_BYTES + text.len());
    loop {
        let kept = window.len().min(text.len().saturating_sub(1));
        window.drain(..window.len() - kept);
        match file.by_ref().take(WINDOW_BYTES as u64).read_to_end(&mut window) {
            Ok(0) | Err(_) => return false,
            Ok(_) => {
                // Only ASCII letters have a case here; other characters are compared as they are.
                let lower = window.to_ascii_lowercase();
                if lower.windows(text.len().max(1)).any(|part| part == text.as_bytes()) {
                    return true;
                }
            }
        }
    }
}
