//! `trimtab report`: what the record and the history say about delivery.

use delivery::clock::{Clock as _, SteadyClock};
use delivery::exit::Exit;
use delivery::{Problem, text};
use repo::Repository;
use serde::Serialize;
use store::{Access, Entry, Ledger};
use warehouse::{DoraReport, Facts, Figure, Source, Unit, Window};

use crate::cli::Global;
use crate::output::Output;
use crate::project::{self, Project};

/// Reports on delivery.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(subcommand)]
    report: Report,
}

#[derive(Debug, clap::Subcommand)]
enum Report {
    /// The DORA figures, each with its n, a 95 % interval, and why it is empty where it is.
    ///
    /// From this project's own record where there is one, and from git's version tags in any repository.
    Dora(DoraArgs),
}

#[derive(Debug, clap::Args)]
struct DoraArgs {
    /// Days to look back.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: u32,
    /// Only from git: version tags count as deployments.
    #[arg(long)]
    git: bool,
}

#[derive(Debug, Serialize)]
struct Dora<'a> {
    version: u32,
    reports: &'a [DoraReport],
}

pub(crate) fn run(args: &Args, global: &Global, output: Output) -> super::Result {
    let Report::Dora(args) = &args.report;
    let folder = project::directory(global)?;
    let repository = Repository::discover(&folder).map_err(|error| vec![error.problem()]);
    let recorded = if args.git || !folder.join("trimtab.toml").exists() {
        Vec::new()
    } else {
        from_record(args, &Project::at(folder)?, repository.as_ref().ok())?
    };
    let reports = if recorded.is_empty() { from_git(args, &repository?)? } else { recorded };
    reports.iter().for_each(|report| print(report, output));
    output.json(&Dora { version: 1, reports: &reports });
    Ok(Exit::Success)
}

fn from_git(args: &DoraArgs, repository: &Repository) -> Result<Vec<DoraReport>, Vec<Problem>> {
    let now = SteadyClock::anchored(None).now();
    warehouse::from_git(repository, Window::last_days(args.days, now)).map_err(|error| vec![error.problem()])
}

fn from_record(
    args: &DoraArgs,
    project: &Project,
    repository: Option<&Repository>,
) -> Result<Vec<DoraReport>, Vec<Problem>> {
    let path = project.layout.ledger();
    if !path.exists() {
        return Ok(Vec::new());
    }
    let ledger = Ledger::open(&path, Access::ReadOnly).map_err(project::problems)?;
    let facts = facts(&ledger)?;
    let last = ledger.head().map_err(project::problems)?.last_at;
    let window = Window::last_days(args.days, SteadyClock::anchored(last).now());
    // With the history at hand every commit of a release counts; without, only the one it was built from.
    let head = repository.and_then(|repository| repository.head().ok());
    let graph = repository
        .zip(head.as_ref())
        .and_then(|(repository, head)| repository.graph(std::slice::from_ref(&head.id)).ok());
    let history = graph.as_ref().zip(head.as_ref().map(|head| &head.id));
    Ok(facts.reports(window, history))
}

/// Folds the whole ledger.
pub(crate) fn facts(ledger: &Ledger) -> Result<Facts, Vec<Problem>> {
    const PAGE: usize = 1_024;
    let mut facts = Facts::default();
    let mut after = 0;
    loop {
        let entries = ledger.read(after, PAGE).map_err(project::problems)?;
        for entry in &entries {
            if let Entry::Record(recorded) = entry {
                facts.fold(recorded);
            }
        }
        match entries.last() {
            Some(last) if entries.len() == PAGE => after = last.sequence(),
            _ => return Ok(facts),
        }
    }
}

/// A report as people read it.
pub(crate) fn print(report: &DoraReport, output: Output) {
    let scope = &report.scope;
    let service = if scope.service.is_empty() { "the repository" } else { &scope.service };
    let source = match scope.source {
        Source::Ledger => "as recorded",
        Source::GitTags => "from git's tags",
    };
    let counts = &report.counts;
    output.line(format!(
        "{service} in {}, {source}, {} to {}: {}, {} failed",
        scope.environment,
        report.window.from.strftime("%Y-%m-%d"),
        report.window.until.strftime("%Y-%m-%d"),
        text::count(counts.attempted, "deployment"),
        counts.failed
    ));
    for (name, figure) in report.figures() {
        output.line(format!("  {name:<42} {}", words(figure)));
    }
    report.notes.iter().for_each(|note| output.line(format!("  note: {note}")));
}

fn words(figure: &Figure) -> String {
    let Some(value) = figure.value else {
        return format!("none: {}", figure.why_empty.as_deref().unwrap_or_default());
    };
    let interval = figure.interval.map_or("too few for an interval".into(), |interval| {
        format!("95 % {} to {}", amount(interval.low, figure.unit), amount(interval.high, figure.unit))
    });
    format!("{:<12} n = {}, {interval}", amount(value, figure.unit), figure.n)
}

fn amount(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds if value < 0.0 => format!("{value:.0} s"),
        Unit::Seconds => text::duration((value * 1000.0) as u64),
        Unit::PerDay => format!("{value:.2}/day"),
        Unit::Share => format!("{:.1} %", value * 100.0),
    }
}
