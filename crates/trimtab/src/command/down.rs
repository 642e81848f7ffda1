//! `trimtab down`: stops what runs on this host.

use delivery::exit::Exit;
use platform::edge::{Edge, EdgeConfig};
use platform::guard::Guard;
use serde::Serialize;

use crate::cli::Global;
use crate::edges;
use crate::output::Output;
use crate::project::Project;

/// Stops what runs on this host: proxies and services. The record stays: `trimtab server` starts all of it again, `trimtab
/// ship` what the commit's release serves.
///
///   trimtab down
///   trimtab down --environment staging
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Only this environment.
    #[arg(long, short)]
    environment: Option<String>,
    /// Only say what would be stopped.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Stopped {
    version: u32,
    stopped: Vec<String>,
}

/// Ends the guard beside an edge that has ended. One that still holds a grant or owes a drain goes on.
async fn end_guard(config: &EdgeConfig) {
    if let Some(socket) = config.haproxy.as_ref().and_then(|front| front.guard.as_ref()) {
        // Not running is what was asked for.
        let _ = Guard::at(socket).shutdown().await;
    }
}

pub(crate) async fn run(args: &Args, global: &Global, output: Output) -> super::Result {
    let project = Project::open(global)?;
    if let Some(name) = &args.environment {
        project.environment(name)?;
    }
    let mut stopped = Vec::new();
    for config in edges::all(&project) {
        if args.environment.as_ref().is_some_and(|name| config.environment.as_str() != name) {
            continue;
        }
        // Not running is what was asked for.
        let Ok(edge) = Edge::connect(&config).await else { continue };
        let place = format!("{} in {}", config.service, config.environment);
        if args.dry_run {
            output.line(format!("would stop {place}"));
        } else {
            edge.shutdown().await.map_err(|error| vec![error.problem()])?;
            end_guard(&config).await;
            output.line(format!("stopped {place}"));
        }
        stopped.push(place);
    }
    if stopped.is_empty() {
        output.line("nothing runs");
    }
    output.json(&Stopped { version: 1, stopped });
    Ok(Exit::Success)
}
