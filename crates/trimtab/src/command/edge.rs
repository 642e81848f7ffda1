//! `trimtab edge`: the process that serves one service in one environment. Started by others, never by people.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::Problem;
use delivery::code::Code;
use delivery::exit::Exit;

use crate::environment;

/// Serves one service in one environment (started by trimtab itself).
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Its configuration, written by who starts it.
    #[arg(long)]
    config: Utf8PathBuf,
}

pub(crate) async fn run(args: &Args) -> super::Result {
    let config = std::fs::read(&args.config)
        .map_err(std::io::Error::other)
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(std::io::Error::other))
        .map_err(|error| {
            vec![
                Problem::new(Code::PlatformUnavailable, format!("{} can't be read", args.config))
                    .because(&error),
            ]
        })?;
    // Whatever was checked by who sent the command, nothing is started whose files are not what was signed.
    let digest_of =
        Arc::new(|folder: &Utf8Path| store::artifact::check(folder).map_err(|error| error.to_string()));
    platform::edge::run_verified(config, &environment::variable, digest_of)
        .await
        .map_err(|error| vec![error.problem()])?;
    Ok(Exit::Success)
}
