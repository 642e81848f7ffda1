//! `cargo xtask deadman`: everything that could take a canary back dies, and the time until it is taken back is measured.
//!
//! Real controllers, edges, guards, services and, on request, a real HAProxy. The control plane is killed at points spread
//! over a rollout, stopped (and woken later), cut off from the edge or the edge from its guard; traffic ends. Then somebody
//! looks: at HAProxy's weights, or at the edge's, until the canary has nothing. Afterwards a controller comes back and must
//! bring the record to the same end. Without a guard, HAProxy must keep the weight: a harness that can't see that proves
//! nothing, and fails.
//!
//! Invariant: what is measured is what the splitter says, never what a controller, a guard or the ledger says.

mod faults;
mod lane;
mod probe;
mod splitter;

use std::collections::BTreeMap;
use std::time::Duration;

use camino::Utf8PathBuf;

use crate::figures::process;
use crate::figures::report::{Figure, Report, quantile};
use crate::figures::{finish, folder};
use crate::lanes;
use crate::place::Place;
use crate::shell::Call;
use crate::words::Words;
use faults::Fault;

/// What may pass after the grant's length until the canary has nothing.
const GRACE: Duration = Duration::from_secs(5);

/// What stands in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Embedded,
    Haproxy,
}

/// What is run.
#[derive(Debug, Clone)]
struct Settings {
    kills: u32,
    lanes: u32,
    seed: u64,
    ttl: Duration,
    kind: Kind,
    guard: bool,
    /// Whether faults other than kills are made too.
    others: bool,
    /// How long rounds are begun; then what there is is reported.
    within: Duration,
    /// What is drilled, instead of a release build.
    binary: Option<Utf8PathBuf>,
}

/// What the lanes need.
#[derive(Debug, Clone)]
struct Options {
    settings: Settings,
    program: Utf8PathBuf,
    folder: Utf8PathBuf,
}

/// What came of a lane.
#[derive(Debug, Default)]
struct Tally {
    /// Kills that hit a rollout under way.
    kills: u32,
    /// Other faults that did.
    others: u32,
    misses: u32,
    /// Faults that struck while the canary had traffic.
    raised: u32,
    /// Seconds from the fault to the last sight of canary traffic, where it had some.
    times: Vec<f64>,
    /// The same where the control plane lived, and only the traffic ended.
    silences: Vec<f64>,
    /// Seconds for which a canary got traffic again when what was stopped was woken.
    woken: Vec<f64>,
    /// Seconds that `trimtab guard rollback` took with everything else dead.
    rollbacks: Vec<f64>,
    stuck: Vec<String>,
    /// The record did not come to the same end.
    unreconciled: Vec<String>,
    /// Requests that users sent, and those that failed, from the fault to stable.
    requests: u64,
    failures: u64,
    /// The same over everything, the recovery of the control plane included.
    all_requests: u64,
    all_failures: u64,
    places: BTreeMap<String, u32>,
    faults: BTreeMap<&'static str, u32>,
    causes: BTreeMap<String, u32>,
}

/// `cargo xtask deadman [--kills N] [--front embedded|haproxy] [--no-guard] [--ttl SECONDS] [--lanes N] [--seed N]
/// [--minutes N] [--binary PATH]`; gives whether every bound holds. Without `--front` it takes both.
pub(crate) fn run(place: &Place, options: &[&str]) -> Result<bool, String> {
    let (settings, both) = settings(options)?;
    let program = if let Some(binary) = &settings.binary {
        place.root.join(binary)
    } else {
        Call::new(place, "cargo", &["build", "--release", "-p", "trimtab"]).run()?;
        place.target.join("release/trimtab")
    };
    let kinds = if both { vec![Kind::Embedded, Kind::Haproxy] } else { vec![settings.kind] };
    let mut holds = true;
    for kind in kinds {
        holds &= drill(place, &program, Settings { kind, ..settings.clone() })?.0;
    }
    Ok(holds)
}

/// Six kills for the test command, against the debug binary: two at the embedded proxy, three at HAProxy, and one without
/// its guard, which must stick; all at the same time. Gives a remark.
pub(crate) fn quick(place: &Place) -> Result<String, String> {
    Call::new(place, "cargo", &["build", "-p", "trimtab"]).run()?;
    let program = place.target.join("debug/trimtab");
    let (settings, _) = settings(&["--ttl", "1"])?;
    let parts = [(Kind::Embedded, 2, true), (Kind::Haproxy, 3, true), (Kind::Haproxy, 1, false)];
    let each = parts.len() as u32;
    let drilled = lanes::run(each, each, |number, _| {
        let (kind, kills, guard) = parts[number as usize];
        let settings = Settings { kind, kills, guard, lanes: kills, others: false, ..settings.clone() };
        drill(place, &program, settings)
    })?;
    let mut worst: f64 = 0.0;
    for ((.., guard), (holds, report, slowest)) in parts.iter().zip(drilled) {
        if !holds {
            return Err(report.broken());
        }
        worst = if *guard { worst.max(slowest) } else { worst };
    }
    Ok(format!("6 kills, at most {worst:.1} s"))
}

fn drill(
    place: &Place,
    program: &camino::Utf8Path,
    settings: Settings,
) -> Result<(bool, Report, f64), String> {
    if settings.kind == Kind::Haproxy && place.program(&["haproxy"]).is_none() {
        return Err("haproxy is missing: install it (`apt-get install haproxy`), or run `cargo xtask test`, which does"
            .into());
    }
    let folder = folder(
        place,
        match (settings.kind, settings.guard) {
            (Kind::Embedded, _) => "embedded",
            (Kind::Haproxy, true) => "haproxy",
            (Kind::Haproxy, false) => "unguarded",
        },
    )?;
    // A copy: the original may be built anew meanwhile.
    let copy = folder.join("trimtab");
    std::fs::copy(program, &copy).map_err(|error| format!("{program}: {error}"))?;
    let options = Options { settings, program: copy, folder: folder.clone() };
    let started = process::now();
    let sum = drilled(&options)?;
    let report = sum.report(&options.settings, started.elapsed());
    Ok((finish(&report, &folder), report, sum.times.iter().copied().fold(0.0, f64::max)))
}

fn drilled(options: &Options) -> Result<Tally, String> {
    let Settings { kills, lanes, .. } = options.settings;
    let mut sum = Tally::default();
    lanes::run(kills, lanes, |number, kills| lane::run(options, number, kills))?
        .into_iter()
        .for_each(|tally| sum.add(tally));
    Ok(sum)
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.kills += other.kills;
        self.others += other.others;
        self.misses += other.misses;
        self.raised += other.raised;
        self.requests += other.requests;
        self.failures += other.failures;
        self.all_requests += other.all_requests;
        self.all_failures += other.all_failures;
        self.times.extend(other.times);
        self.silences.extend(other.silences);
        self.woken.extend(other.woken);
        self.rollbacks.extend(other.rollbacks);
        self.stuck.extend(other.stuck);
        self.unreconciled.extend(other.unreconciled);
        other.places.into_iter().for_each(|(place, n)| *self.places.entry(place).or_default() += n);
        other.faults.into_iter().for_each(|(fault, n)| *self.faults.entry(fault).or_default() += n);
        other.causes.into_iter().for_each(|(cause, n)| *self.causes.entry(cause).or_default() += n);
    }

    fn report(&self, settings: &Settings, took: Duration) -> Report {
        let bound = (settings.ttl + GRACE).as_secs_f64();
        let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        let mut figures = vec![
            Figure::new("deadman.kills", f64::from(self.kills), "kills during a rollout"),
            Figure::new("deadman.others", f64::from(self.others), "other faults during a rollout"),
            Figure::new("deadman.raised", f64::from(self.raised), "struck while the canary had traffic"),
        ];
        let stuck = Figure::new("deadman.stuck", self.stuck.len() as f64, "canaries that kept their traffic");
        if settings.guard {
            figures.extend([
                stuck.at_most(0.0),
                Figure::new("deadman.stable.p50", quantile(&self.times, 0.5), "s from the fault to stable"),
                Figure::new("deadman.stable.p99", quantile(&self.times, 0.99), "s"),
                Figure::new("deadman.stable.max", most(&self.times), "s, grant + 5").at_most(bound),
                Figure::new("deadman.woken.max", most(&self.woken), "s of canary traffic after waking")
                    .at_most(1.0),
                Figure::new("deadman.rollback.max", most(&self.rollbacks), "s for `guard rollback`")
                    .at_most(5.0),
                Figure::new("deadman.unreconciled", self.unreconciled.len() as f64, "records of another end")
                    .at_most(0.0),
            ]);
            if !self.silences.is_empty() {
                let bound = (lane::DEADLINE + GRACE).as_secs_f64();
                let figure = Figure::new("deadman.silence.max", most(&self.silences), "s, deadline + 5");
                figures.push(figure.at_most(bound));
            }
        } else {
            // At least one, or this harness would not see a guard that does nothing.
            figures.push(stuck);
            let blind = f64::from(u8::from(self.stuck.is_empty()));
            figures.push(
                Figure::new("deadman.blind", blind, "1 when nothing stuck without a guard").at_most(0.0),
            );
        }
        figures.extend([
            Figure::new("deadman.requests", self.requests as f64, "requests from the fault to stable"),
            Figure::new("deadman.failures", self.failures as f64, "of them failed"),
            Figure::new("deadman.all.requests", self.all_requests as f64, "requests over everything"),
            Figure::new("deadman.all.failures", self.all_failures as f64, "of them failed"),
            Figure::new("deadman.time", took.as_secs_f64(), "s"),
        ]);
        let mut report = Report::new(figures);
        let front = match (settings.kind, settings.guard) {
            (Kind::Embedded, _) => "the embedded proxy",
            (Kind::Haproxy, true) => "HAProxy with a guard",
            (Kind::Haproxy, false) => "HAProxy without a guard",
        };
        report.remark(format!("front: {front}; grant: {} s", settings.ttl.as_secs()));
        self.stuck
            .iter()
            .filter(|_| settings.guard)
            .for_each(|words| report.remark(format!("stuck: {words}")));
        self.unreconciled.iter().for_each(|words| report.remark(format!("unreconciled: {words}")));
        report.remark(format!("faults: {}", list(&self.faults)));
        report.remark(format!("last record before the fault: {}", list(&self.places)));
        report.remark(format!("rollouts ended: {}", list(&self.causes)));
        report.remark(format!("{} strikes came before or after the rollout", self.misses));
        report
    }
}

fn list(counts: &BTreeMap<impl std::fmt::Display, u32>) -> String {
    counts.iter().map(|(what, n)| format!("{n} {what}")).collect::<Vec<_>>().join(", ")
}

/// The settings, and whether both fronts are meant.
fn settings(options: &[&str]) -> Result<(Settings, bool), String> {
    let mut settings = Settings {
        kills: 200,
        lanes: 2,
        seed: 1,
        ttl: Duration::from_secs(2),
        kind: Kind::Haproxy,
        guard: true,
        others: true,
        within: Duration::from_hours(24),
        binary: None,
    };
    let mut both = true;
    let mut words = Words::of("deadman", options);
    while let Some(name) = words.name() {
        match name {
            "--no-guard" => {
                (settings.guard, settings.kind, settings.others, both) = (false, Kind::Haproxy, false, false);
            }
            "--kills" => settings.kills = words.number()?,
            "--lanes" => settings.lanes = words.number()?,
            "--seed" => settings.seed = u64::from(words.number()?),
            "--ttl" => settings.ttl = Duration::from_secs(u64::from(words.number()?.max(1))),
            "--binary" => settings.binary = Some(Utf8PathBuf::from(words.value()?)),
            "--minutes" => settings.within = Duration::from_mins(u64::from(words.number()?)),
            "--front" => {
                settings.kind = match words.value()? {
                    "embedded" => Kind::Embedded,
                    "haproxy" => Kind::Haproxy,
                    other => return Err(format!("there is no front {other:?}; known: embedded, haproxy")),
                };
                both = false;
            }
            _ => return Err(words.unknown()),
        }
    }
    if !settings.guard && settings.kind == Kind::Embedded {
        return Err("the embedded proxy's guard can't be taken out of it".into());
    }
    Ok((settings, both))
}

/// Which faults a round may make: kills, and what every fifth round takes instead.
fn menu(settings: &Settings) -> (Vec<Fault>, Vec<Fault>) {
    match (settings.kind, settings.guard) {
        (Kind::Embedded, _) => {
            (vec![Fault::Kill], vec![Fault::Stop, Fault::Partition, Fault::Mute, Fault::Silence])
        }
        (Kind::Haproxy, true) => (
            vec![Fault::KillBoth, Fault::Kill],
            vec![
                Fault::StopBoth,
                Fault::Partition,
                Fault::Mute,
                Fault::PartitionGuard,
                Fault::Stop,
                Fault::Silence,
                Fault::KillGuard,
            ],
        ),
        (Kind::Haproxy, false) => (vec![Fault::KillBoth], Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_mistakes_are_named() {
        let (settings, both) =
            super::settings(&["--kills", "6", "--front", "embedded", "--ttl", "3"]).unwrap();
        assert_eq!(
            (settings.kills, settings.kind, settings.ttl.as_secs(), both),
            (6, Kind::Embedded, 3, false)
        );
        assert!(super::settings(&[]).unwrap().1);
        let refusal = |options: &[&str]| super::settings(options).unwrap_err();
        assert_eq!(refusal(&["--kills"]), "--kills needs a value");
        assert_eq!(refusal(&["--front", "nginx"]), "there is no front \"nginx\"; known: embedded, haproxy");
        assert_eq!(
            refusal(&["--no-guard", "--front", "embedded"]),
            "the embedded proxy's guard can't be taken out of it"
        );
    }

    #[test]
    fn without_a_guard_it_is_a_failure_when_nothing_sticks() {
        let settings = Settings { guard: false, ..super::settings(&[]).unwrap().0 };
        assert!(!Tally::default().report(&settings, Duration::ZERO).holds());
        let seen = Tally { stuck: vec!["one".into()], ..Tally::default() };
        assert!(seen.report(&settings, Duration::ZERO).holds());
        let guarded = Settings { guard: true, ..settings };
        assert!(!seen.report(&guarded, Duration::ZERO).holds());
    }
}
