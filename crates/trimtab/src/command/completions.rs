//! `trimtab completions`: completion scripts for shells.

use clap::CommandFactory as _;
use delivery::exit::Exit;

use crate::output::Output;

/// Prints a completion script for your shell.
///
///   trimtab completions bash > ~/.local/share/bash-completion/completions/trimtab
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

#[expect(clippy::unnecessary_wraps, reason = "every command has the same shape")]
pub(crate) fn run(args: &Args, _output: Output) -> super::Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::cli::Cli::command(), "trimtab", &mut script);
    Output::raw(&String::from_utf8_lossy(&script));
    Ok(Exit::Success)
}
