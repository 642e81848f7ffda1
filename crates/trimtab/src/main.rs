//! Trimtab: carries every change from commit to production, and takes a bad one back by itself.
//!
//! The binary. Only wires: arguments in, one command run, an exit code out. See `ARCHITECTURE.md` for the house.

mod carry;
mod cli;
mod command;
mod demo;
mod edges;
mod environment;
mod interrupt;
mod ledger;
mod load;
mod operations;
mod output;
mod project;
mod promote;
mod release;
mod secret;
mod signing;
mod timeline;

fn main() -> std::process::ExitCode {
    cli::main()
}
