//! The house's own tools: `cargo xtask test`, `tidy`, `codegen`.
//!
//! Leaves out everything that a user of Trimtab could want: that belongs in the binary. Invariant: nothing here is needed
//! to build or run Trimtab, and a missing component is an error that is said aloud, never a silent skip.

mod chaos;
mod codegen;
mod command;
mod deadman;
mod figures;
mod lanes;
mod overload;
mod place;
mod shell;
mod sim;
mod tamper;
mod test;
mod tidy;
mod tree;
mod upgrade;
mod words;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    command::run(&arguments)
}
