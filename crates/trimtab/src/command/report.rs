//! `trimtab report`: what the record and the history say about delivery.

use delivery::clock::{Clock as _, SteadyClock};
use delivery::exit::Exit;
use delivery::{CommitId, Problem, text};
use repo::{Graph, Repository};
use serde::Serialize;
use store::{Entry, Ledger};
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
    let Some(ledger) = project.ledger.open_to_read().map_err(project::problems)? else {
        return Ok(Vec::new());
    };
    let facts = facts(&ledger)?;
    let last = ledger.head().map_err(project::problems)?.last_at;
    let window = Window::last_days(args.days, SteadyClock::anchored(last).now());
    let history = match repository {
        Some(repository) => history(repository, &project.manifest.trunk, &facts).map_err(|e| e.to_string()),
        None => Err("there is no repository here".to_owned()),
    };
    let mut reports =
        facts.reports(window, history.as_ref().ok().map(|history| (&history.graph, &history.trunk)));
    let note = match history {
        Ok(history) => history.note,
        Err(reason) => Some(format!("{reason}: each release counts with the commit it was built from only")),
    };
    reports.iter_mut().for_each(|report| report.notes.extend(note.clone()));
    Ok(reports)
}

/// What the repository adds to the record.
struct History {
    graph: Graph,
    trunk: CommitId,
    note: Option<String>,
}

/// The history of all that was released and of the trunk, so that no figure depends on what is checked out. In a shallow clone
/// nobody could tell what is missing.
fn history(repository: &Repository, trunk: &str, facts: &Facts) -> Result<History, repo::Error> {
    repository.require_whole()?;
    let head = repository.head()?.id;
    let tip = repository.tip(trunk)?;
    let note = tip.is_none().then(|| {
        format!(
            "there is no branch {trunk}, the manifest's trunk: the merge clock follows what is checked out"
        )
    });
    let trunk = tip.unwrap_or_else(|| head.clone());
    let mut tips = facts.commits();
    tips.extend([head, trunk.clone()]);
    let graph = repository.graph(&tips.into_iter().collect::<Vec<_>>())?;
    Ok(History { graph, trunk, note })
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
    let mut told = None;
    for (name, figure) in report.figures() {
        let reason = figure.why_empty.as_deref();
        let repeated = reason.is_some() && reason == told;
        let words = if repeated { "none, as above".to_owned() } else { words(figure) };
        output.line(format!("  {name:<42} {words}"));
        told = reason;
    }
    report.notes.iter().for_each(|note| output.line(format!("  note: {note}")));
}

fn words(figure: &Figure) -> String {
    let Some(value) = figure.value else {
        return format!("none: {}", figure.why_empty.as_deref().unwrap_or_default());
    };
    // The ends of the interval in the same words as the value.
    let amount = |part: f64| match figure.unit {
        Unit::Seconds if part < 0.0 => format!("{part:.0} s"),
        Unit::Seconds => text::duration((part * 1000.0) as u64),
        Unit::PerDay => rate(part, value),
        Unit::Share => format!("{:.1} %", part * 100.0),
    };
    let interval = figure.interval.map_or("too few for an interval".into(), |interval| {
        format!("95 % {} to {}", amount(interval.low), amount(interval.high))
    });
    format!("{:<12} n = {}, {interval}", amount(value), figure.n)
}

/// A rate for each day, in the unit that suits `like`, with two significant digits or more: what happens seldom is not shown
/// as never.
fn rate(per_day: f64, like: f64) -> String {
    let (days, unit) = match like {
        like if like >= 1.0 => (1.0, "day"),
        like if like * 7.0 >= 1.0 => (7.0, "week"),
        _ => (30.0, "month"),
    };
    let rate = per_day * days;
    let decimals = if rate > 0.0 { (1.0 - rate.log10().floor()).clamp(0.0, 9.0) as usize } else { 0 };
    format!("{rate:.decimals$}/{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_seldom_is_not_shown_as_never() {
        for (value, wanted) in [
            (12.34, "12/day"),
            (1.0, "1.0/day"),
            (0.5, "3.5/week"),
            (1.0 / 30.0, "1.0/month"),
            (2.0 / 3650.0, "0.016/month"),
            (0.0, "0/month"),
        ] {
            assert_eq!(rate(value, value), wanted);
        }
        assert_eq!(rate(0.004, 1.5), "0.0040/day");
    }
}
