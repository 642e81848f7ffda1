//! `figures bad-build`: how fast a build that fails 10 % of its requests is taken back, and what users notice.
//!
//! The real proxy, ledger and analysis with their defaults: stable fails 0.1 %, 100 requests a second, canary at 5 %. The
//! service itself writes down every request, so what it was sent and when is its own word. Invariant: times are taken from
//! the ledger and from the service, both on this machine's wall clock, never from the order in which we happened to look.

use std::time::Duration;

use camino::Utf8PathBuf;
use delivery::effect::{Effect, Outcome};
use delivery::traffic::Weight;
use delivery::{Event, Timestamp};

use super::evidence::Record;
use super::report::{Figure, Report, quantile};
use super::shop::{Build, PATIENCE, Shop, load_counts};
use crate::lanes;

const MANIFEST: &str = include_str!("shop/bad-build.toml");
const RATE: u32 = 100;
const GOOD_ERRORS: f64 = 0.001;
const BAD_ERRORS: f64 = 0.1;
/// How long the load runs on after the end, so that late requests to the canary would be seen.
const AFTER: Duration = Duration::from_millis(500);

/// What is run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The binary under test.
    pub(crate) program: Utf8PathBuf,
    /// A folder for repositories.
    pub(crate) folder: Utf8PathBuf,
    /// Bad builds.
    pub(crate) runs: u32,
    /// Repositories at work at the same time.
    pub(crate) lanes: u32,
    /// Where the service's random sequences begin.
    pub(crate) seed: u64,
}

/// One bad build's story.
#[derive(Debug, Clone, Default)]
struct Run {
    /// From the first canary request to the acknowledged weight 0, in seconds.
    exposed: f64,
    /// From the recorded verdict to the acknowledged weight 0, in seconds.
    actuation: f64,
    /// Requests that failed from the first canary request on, by whichever build.
    failed: f64,
    /// Canary requests until weight 0.
    canary: f64,
    /// Canary requests that reached the service after the acknowledgement.
    late: f64,
    /// Failures that the load met and the service did not cause.
    foreign: f64,
    /// It was promoted, or taken back for another reason.
    wrong: Option<String>,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<Report, String> {
    let runs = lanes::run(options.runs, options.lanes, |number, runs| lane(options, number, runs))?;
    Ok(report(&runs.concat()))
}

fn report(runs: &[Run]) -> Report {
    let of = |value: fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<f64>>();
    let (exposed, actuation, failed) = (of(|run| run.exposed), of(|run| run.actuation), of(|run| run.failed));
    let wrong: Vec<&String> = runs.iter().filter_map(|run| run.wrong.as_ref()).collect();
    let mut report = Report::new(vec![
        Figure::new("bad-build.runs", runs.len() as f64, "bad builds"),
        Figure::new(
            "bad-build.exposed.p50",
            quantile(&exposed, 0.5),
            "s from first canary request to weight 0",
        )
        .at_most(8.0),
        Figure::new("bad-build.exposed.p99", quantile(&exposed, 0.99), "s").at_most(30.0),
        Figure::new("bad-build.failed.p50", quantile(&failed, 0.5), "failed user requests").at_most(10.0),
        Figure::new("bad-build.failed.max", quantile(&failed, 1.0), "failed user requests"),
        Figure::new("bad-build.canary.p50", quantile(&of(|run| run.canary), 0.5), "canary requests"),
        Figure::new("bad-build.actuation.p50", quantile(&actuation, 0.5), "s from verdict to weight 0"),
        Figure::new("bad-build.actuation.p99", quantile(&actuation, 0.99), "s").at_most(1.0),
        Figure::new("bad-build.late", of(|run| run.late).iter().sum(), "canary requests after weight 0")
            .at_most(0.0),
        Figure::new(
            "bad-build.foreign",
            of(|run| run.foreign).iter().sum(),
            "failures not made by the service",
        ),
        Figure::new("bad-build.wrong", wrong.len() as f64, "ended otherwise").at_most(0.0),
    ]);
    wrong.into_iter().for_each(|words| report.remark(words.clone()));
    let list =
        |values: &[f64]| values.iter().map(|value| format!("{value:.1}")).collect::<Vec<_>>().join(" ");
    report.remark(format!("exposed, s: {}", list(&exposed)));
    report.remark(format!("failed: {}", list(&failed)));
    report
}

fn lane(options: &Options, number: u32, runs: u32) -> Result<Vec<Run>, String> {
    let folder = options.folder.join(format!("lane{number}"));
    let shop = Shop::create(&options.program, &folder, MANIFEST)?;
    let result = work(options, &shop, number, runs);
    let left = shop.down()?;
    let runs = result?;
    if left.is_empty() { Ok(runs) } else { Err(format!("processes {left:?} are left over")) }
}

fn work(options: &Options, shop: &Shop, number: u32, runs: u32) -> Result<Vec<Run>, String> {
    let seed = options.seed.wrapping_mul(1_000_003) + u64::from(number) * 10_007;
    shop.commit(&Build { name: "good".into(), errors: GOOD_ERRORS, seed })?;
    match shop.ship()? {
        Some(0) => {}
        code => return Err(format!("the first deployment ended with {code:?}: see {}", options.folder)),
    }
    (1..=runs).map(|run| bad_build(shop, &format!("bad{run}"), seed + u64::from(run))).collect()
}

fn bad_build(shop: &Shop, name: &str, seed: u64) -> Result<Run, String> {
    shop.commit(&Build { name: name.into(), errors: BAD_ERRORS, seed })?;
    let base = shop.records(0)?.last().map_or(0, |record| record.sequence);
    let seen_before = log(shop)?.len();
    let mut load = shop.load(RATE)?;
    std::thread::sleep(AFTER);
    let code = shop.start(&["ship"], "ship")?.wait(PATIENCE)?.and_then(|status| status.code());
    std::thread::sleep(AFTER);
    load.interrupt()?;
    let (_, failures) = load_counts(&load)?;
    let records = shop.records(base)?;
    let requests = log(shop)?.split_off(seen_before);
    let served = requests.iter().filter(|request| request.failed).count() as u64;
    let mut run = judge(&records, &requests, name);
    run.foreign = failures.saturating_sub(served) as f64;
    if code != Some(6) {
        run.wrong = Some(format!("{name}: ship ended with {code:?}"));
    }
    let exposed = delivery::text::duration((run.exposed * 1000.0) as u64);
    eprintln!("{name}: {exposed}, {} failed of {} canary requests", run.failed, run.canary);
    Ok(run)
}

/// One request, as the service wrote it down when it came in.
#[derive(Debug, Clone, PartialEq)]
struct Request {
    build: String,
    /// Microseconds since 1970.
    at: i64,
    failed: bool,
}

fn log(shop: &Shop) -> Result<Vec<Request>, String> {
    let path = shop.service_log();
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(|error| format!("{path}: {error}"))?,
    };
    text.lines().map(|line| request(line).ok_or_else(|| format!("{path}: {line}"))).collect()
}

fn request(line: &str) -> Option<Request> {
    let mut words = line.split(' ');
    let (build, at, status) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    Some(Request { build: build.to_owned(), at, failed: status == "500" })
}

fn judge(records: &[Record], requests: &[Request], name: &str) -> Run {
    let mut run = Run::default();
    let own: Vec<&Request> = requests.iter().filter(|request| request.build == name).collect();
    let (Some(first), Some((decided, withdrawn))) = (own.first(), milestones(records)) else {
        run.wrong = Some(format!("{name} had no traffic, or was not taken back for harm"));
        return run;
    };
    let end = withdrawn.as_microsecond();
    run.exposed = (end - first.at) as f64 / 1e6;
    run.actuation = (end - decided.as_microsecond()) as f64 / 1e6;
    let meanwhile = requests.iter().filter(|request| request.at >= first.at);
    run.failed = meanwhile.filter(|request| request.failed && request.at <= end).count() as f64;
    run.canary = own.iter().filter(|request| request.at <= end).count() as f64;
    run.late = own.len() as f64 - run.canary;
    run
}

/// When harm was recorded, and when weight 0 was acknowledged.
fn milestones(records: &[Record]) -> Option<(Timestamp, Timestamp)> {
    use delivery::rollout::RollbackCause::Harm;
    let harm = |event: &Event| matches!(event, Event::RollbackRequested { cause: Harm { .. }, .. });
    let decided = records.iter().find(|record| harm(&record.event))?.at;
    let lowers = |event: &Event| match event {
        Event::EffectRequested { command } => match &command.effect {
            Effect::SetWeight { weight, .. } if *weight == Weight::ZERO => Some(command.sequence),
            _ => None,
        },
        _ => None,
    };
    let number = records.iter().find_map(|record| lowers(&record.event))?;
    let done = |event: &Event| {
        matches!(event, Event::EffectFinished { sequence, outcome: Outcome::Applied { .. }, .. }
            if *sequence == number)
    };
    Some((decided, records.iter().find(|record| done(&record.event))?.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_services_log_is_read() {
        let read = request("bad1 1700000000000123 500").unwrap();
        assert_eq!(read, Request { build: "bad1".into(), at: 1_700_000_000_000_123, failed: true });
        assert_eq!(request("bad1 soon 500"), None);
    }

    #[test]
    fn a_build_that_was_never_taken_back_is_wrong() {
        let requests = [request("bad1 5 500").unwrap()];
        assert!(judge(&[], &requests, "bad1").wrong.is_some());
    }
}
