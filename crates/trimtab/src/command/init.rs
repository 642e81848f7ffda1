//! `trimtab init`: looks at a repository and writes its manifest.

use std::io::Write as _;

use camino::Utf8Path;
use delivery::Problem;
use delivery::code::Code;
use delivery::exit::Exit;
use serde::Serialize;

use crate::cli::Global;
use crate::environment;
use crate::output::Output;

/// Looks at this repository, says what it recognised and why, and writes one trimtab.toml.
///
/// Never overwrites, never asks, runs nothing.
///
///   trimtab init
///   trimtab init --dry-run      shows what would be written
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Only show what would be written.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Initialised {
    version: u32,
    path: String,
    written: bool,
    evidence: Vec<Recognised>,
    manifest: String,
}

#[derive(Debug, Serialize)]
struct Recognised {
    what: String,
    because: String,
}

pub(crate) fn run(args: &Args, global: &Global, output: Output) -> super::Result {
    let folder = match &global.project {
        Some(folder) => folder.clone(),
        None => environment::current_directory().map_err(|error| {
            vec![Problem::new(Code::ManifestUnreadable, "this folder can't be used").because(&error)]
        })?,
    };
    let path = folder.join("trimtab.toml");
    if path.exists() && !args.dry_run {
        let problem =
            Problem::new(Code::ManifestExists, format!("{path} is there already, and init never overwrites"));
        return Err(vec![
            problem.hint("compare with: trimtab init --dry-run; check it with: trimtab doctor"),
        ]);
    }
    let detection = manifest::detect::detect(&folder).map_err(|error| vec![error.problem()])?;
    for evidence in &detection.evidence {
        output.talk(format!("{}: {}", evidence.what, evidence.because));
    }
    if detection.evidence.is_empty() {
        output.talk("nothing recognised; the manifest is a start to fill in");
    }
    if args.dry_run {
        let present = std::fs::read_to_string(&path).unwrap_or_default();
        output.line(difference(&path, &present, &detection.manifest).trim_end());
    } else {
        write_new(&path, &detection.manifest)?;
        output.talk(format!("wrote {path}; next: trimtab run"));
    }
    let evidence = detection.evidence.iter();
    output.json(&Initialised {
        version: 1,
        path: path.to_string(),
        written: !args.dry_run,
        evidence: evidence.map(|e| Recognised { what: e.what.clone(), because: e.because.clone() }).collect(),
        manifest: detection.manifest.clone(),
    });
    Ok(Exit::Success)
}

/// Fails when the file exists, even if it came to exist this instant.
fn write_new(path: &Utf8Path, text: &str) -> Result<(), Vec<Problem>> {
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        // Half a manifest would keep the next init from writing a whole one. One that was there before stays.
        if error.kind() != std::io::ErrorKind::AlreadyExists {
            let _ = std::fs::remove_file(path);
        }
        let full = error.kind() == std::io::ErrorKind::StorageFull;
        let code = if full { Code::StoreFull } else { Code::ManifestUnreadable };
        vec![Problem::new(code, format!("{path} can't be written")).because(&error)]
    })
}

/// A unified-looking difference of the whole file: what is there goes, what would be written comes.
fn difference(path: &Utf8Path, present: &str, proposed: &str) -> String {
    let from = if present.is_empty() { "/dev/null" } else { path.as_str() };
    let mut text = format!("--- {from}\n+++ {path}\n");
    let (old, new): (Vec<&str>, Vec<&str>) = (present.lines().collect(), proposed.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let gone = old[head..old.len() - tail].iter().map(|line| format!("-{line}\n"));
    let come = new[head..new.len() - tail].iter().map(|line| format!("+{line}\n"));
    text.extend(gone.chain(come));
    text
}
