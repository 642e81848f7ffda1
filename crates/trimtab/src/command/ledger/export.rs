//! `trimtab ledger export`: the ledger as files of c2sp.org/tlog-tiles.
//!
//! Files that are there are written again with the same bytes, and the checkpoint comes last: whoever reads it finds
//! everything that it stands for.

use camino::{Utf8Path, Utf8PathBuf};
use delivery::code::Code;
use delivery::exit::Exit;
use delivery::{Problem, text};
use serde::Serialize;
use store::tiles::Tiles;
use store::{Checkpoint, Ledger};

use super::{checkpoint_of, signer};
use crate::command;
use crate::output::Output;
use crate::project::{self, Project};
use crate::signing;

/// Records that are read at once.
const PAGE: usize = 1_024;

/// See the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder to write into; made when it is missing.
    folder: Utf8PathBuf,
}

#[derive(Debug, Serialize)]
struct Exported {
    version: u32,
    folder: String,
    origin: String,
    records: u64,
    files: u64,
}

pub(super) async fn run(args: &Args, project: &Project, output: Output) -> command::Result {
    let (follower, ours) = signer(project).await?;
    let ledger = follower.ledger();
    let checkpoint = checkpoint_of(&follower)?;
    let note = signing::sign(project, &follower, &ours.key, &checkpoint)?;
    let files = write_tiles(ledger, &checkpoint, &args.folder)?;
    signing::write_file(&args.folder.join("checkpoint"), note.to_string().as_bytes())?;
    let files = files + 1;
    let (records, folder) = (checkpoint.size, args.folder.to_string());
    output.line(format!(
        "{folder} holds {} in {}, as {}",
        text::count(records, "record"),
        text::count(files, "file"),
        checkpoint.origin
    ));
    output.json(&Exported { version: 1, folder, origin: checkpoint.origin, records, files });
    Ok(Exit::Success)
}

/// Writes everything below the checkpoint; gives the number of files.
fn write_tiles(ledger: &Ledger, checkpoint: &Checkpoint, folder: &Utf8Path) -> Result<u64, Vec<Problem>> {
    let mut files = 0;
    let mut tiles = Tiles::new(|path: &str, bytes: &[u8]| {
        let path = folder.join(path);
        let inner = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(inner).map_err(|error| {
            vec![Problem::new(Code::OutputLost, format!("{inner} can't be made")).because(&error)]
        })?;
        files += 1;
        signing::write_file(&path, bytes)
    });
    let mut done = 0;
    while done < checkpoint.size {
        let page = PAGE.min((checkpoint.size - done) as usize);
        let bodies = ledger.bodies(done, page).map_err(project::problems)?;
        done += bodies.len() as u64;
        bodies.iter().try_for_each(|body| tiles.push(body))?;
    }
    let tree = tiles.finish()?;
    if tree.root() == checkpoint.root {
        return Ok(files);
    }
    let detail = "its records don't lead to its root".to_owned();
    Err(project::problems(store::Error::Damaged { detail }))
}
