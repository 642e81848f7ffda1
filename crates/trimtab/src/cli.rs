//! The command line: what can be asked, and the one place where a problem becomes an exit code.
//!
//! Conventions: data goes to standard output, talk to standard error; `--format json` works on every command; exit codes
//! are `delivery::exit::Exit`. A command is one file under `command/`, its doc comments are its manual.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use delivery::Problem;
use delivery::code::Code;
use delivery::exit::Exit;

use crate::command;
use crate::output::{self, Format, Output};

/// Carries every change from commit to production, proves each step, and takes a bad release back by itself.
#[derive(Debug, Parser)]
#[command(name = "trimtab", version, disable_help_subcommand = true, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  trimtab demo                     see a bad release taken back, in two minutes
  trimtab init                     write a trimtab.toml for this repository
  trimtab run test                 run a task and what it needs
  trimtab ship --to production     carry this commit to production
  trimtab why                      what waits, for what, and how to move it";

/// What every command takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// How results are printed on standard output.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// The project's folder, instead of the one that holds trimtab.toml at or above this one.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) project: Option<camino::Utf8PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(command::init::Args),
    Run(command::run::Args),
    Ship(command::ship::Args),
    Status(command::status::Args),
    Why(command::why::Args),
    Approve(command::approve::Args),
    Rollback(command::rollback::Args),
    Guard(command::guard::Args),
    Report(command::report::Args),
    Doctor(command::doctor::Args),
    Explain(command::explain::Args),
    Schema(command::schema::Args),
    Ledger(command::ledger::Args),
    Store(command::store::Args),
    Server(command::server::Args),
    Down(command::down::Args),
    Demo(command::demo::Args),
    Load(command::load::Args),
    Completions(command::completions::Args),
    #[command(hide = true)]
    Edge(command::edge::Args),
}

/// Runs the command that the process was started with.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let output = Output::new(cli.global.format);
    let exit = match dispatch(&cli, output) {
        Ok(exit) => exit,
        Err(problems) => {
            output.problems(&problems);
            problems.first().map_or(Exit::Infrastructure, |problem| problem.code.exit())
        }
    };
    // What was buffered is written now, while a failure can still be told.
    let flushed = std::io::Write::flush(&mut std::io::stdout());
    let lost =
        output::data_lost() || flushed.is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe);
    if lost && exit == Exit::Success {
        let problem = Problem::new(Code::OutputLost, "the answer could not be written to standard output");
        output.problems(&[problem.hint("is the disk full, or standard output closed?")]);
        return ExitCode::from(Exit::Infrastructure as u8);
    }
    ExitCode::from(exit as u8)
}

/// Help, the version, or a command line that can't be understood: text for people, and for programs a problem like any
/// other where they asked for JSON.
fn refuse(error: &clap::Error) -> ExitCode {
    let mut words = std::env::args().skip_while(|word| !word.starts_with("--format"));
    let wants_json = match words.next().as_deref() {
        Some("--format=json") => true,
        Some("--format") => words.next().as_deref() == Some("json"),
        _ => false,
    };
    if error.use_stderr() && wants_json {
        let text = error.render().to_string();
        let sentence = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let problem = Problem::new(Code::RequestInvalid, sentence).hint("see: trimtab --help");
        Output::new(Format::Json).problems(&[problem]);
    } else {
        // A closed pipe is no reason to fail differently.
        let _ = error.print();
    }
    ExitCode::from(error.exit_code() as u8)
}

fn dispatch(cli: &Cli, output: Output) -> command::Result {
    let global = &cli.global;
    match &cli.command {
        Command::Explain(args) => command::explain::run(args, output),
        Command::Schema(args) => command::schema::run(args, output),
        Command::Completions(args) => command::completions::run(args, output),
        Command::Init(args) => command::init::run(args, global, output),
        Command::Doctor(args) => block_on(command::doctor::run(args, global, output)),
        Command::Status(args) => block_on(command::status::run(args, global, output)),
        Command::Why(args) => block_on(command::why::run(args, global, output)),
        Command::Report(args) => command::report::run(args, global, output),
        Command::Ledger(args) => block_on(command::ledger::run(args, global, output)),
        Command::Store(args) => command::store::run(args, global, output),
        Command::Run(args) => block_on(command::run::run(args, global, output)),
        Command::Ship(args) => block_on(command::ship::run(args, global, output)),
        Command::Approve(args) => block_on(command::approve::run(args, global, output)),
        Command::Guard(args) => block_on(command::guard::run(args, global, output)),
        Command::Rollback(args) => block_on(command::rollback::run(args, global, output)),
        Command::Down(args) => block_on(command::down::run(args, global, output)),
        Command::Server(args) => block_on(command::server::run(args, global, output)),
        Command::Demo(args) => block_on(command::demo::run(args, output)),
        Command::Load(args) => block_on(command::load::run(args, output)),
        Command::Edge(args) => block_on(command::edge::run(args)),
    }
}

fn block_on(work: impl Future<Output = command::Result>) -> command::Result {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        vec![Problem::new(Code::PlatformUnavailable, "the runtime can't start").because(&error)]
    })?;
    let result = runtime.block_on(work);
    // A blocking read or a child that won't die must not keep the command from ending.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    result
}
