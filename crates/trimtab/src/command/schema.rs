//! `trimtab schema`: the manifest's JSON Schema.

use delivery::exit::Exit;

use crate::output::Output;

/// Prints the JSON Schema of trimtab.toml.
///
/// Point your editor at it for completion and checks:
///   trimtab schema > trimtab.schema.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {}

#[expect(clippy::unnecessary_wraps, reason = "every command has the same shape")]
pub(crate) fn run(_args: &Args, _output: Output) -> super::Result {
    let text = serde_json::to_string_pretty(&manifest::schema()).unwrap_or_default();
    Output::raw(&format!("{text}\n"));
    Ok(Exit::Success)
}
