//! `cargo xtask overload`: what a real server does when far more is asked of it than it can do.
//!
//! Takes back real canaries at a real edge while nothing else happens, and again while a storm goes over the server: ten times
//! the events that it can record, thousands of streams of whom a tenth reads slowly and a tenth not at all, requests that
//! never end, bodies that are too large. Then holds what was acknowledged against the ledger. The storm is a program of its
//! own (`server`'s example `storm`) on the same two cores, so what it takes is missing to the server: the figures are what
//! is left of the machine, not what the server could do alone.
//!
//! Invariant: an event counts as lost when it was acknowledged and does not stand in the ledger under the sequence that was told.

mod ask;
mod kept;
mod rollback;

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::figures::process::{self, Running};
use crate::figures::report::{Figure, Report};
use crate::figures::shop::{Build, Shop};
use crate::figures::{finish, folder};
use crate::place::Place;
use crate::shell::Call;
use crate::words::Words;
use ask::{After, Server};
use kept::Kept;
use rollback::{Latencies, take_back};

const MANIFEST: &str = include_str!("../figures/shop/overload.toml");
/// How many times more events are sent than the server takes.
const TIMES: u64 = 10;
/// How long it is measured how many events the server takes.
const CAPACITY: Duration = Duration::from_secs(4);
/// What the server may hold in memory.
const MEMORY_MIB_MAX: f64 = 512.0;
/// How much longer a rollback may take in the storm.
const SLOWER_MAX: f64 = 2.0;
/// How long opening the streams may take.
const DIALLED_WITHIN: Duration = Duration::from_secs(90);

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings {
    /// The storm.
    seconds: u64,
    /// Streams of live updates.
    clients: u32,
    /// Rollbacks before the storm.
    idle: u32,
}

/// `cargo xtask overload [--seconds N] [--clients N] [--idle N]`; gives whether every bound holds.
pub(crate) fn run(place: &Place, options: &[&str]) -> Result<bool, String> {
    let settings = settings(options)?;
    let programs = Programs::build(place, "release", &["--release"])?;
    let folder = folder(place, "overload")?;
    let report = measure(&programs, &folder, settings)?;
    Ok(finish(&report, &folder))
}

/// A short storm over the debug binary for the test command. Gives a remark. A debug binary and a busy machine say nothing of
/// times, so there the latencies are only told.
pub(crate) fn quick(place: &Place) -> Result<String, String> {
    let programs = Programs::build(place, "debug", &[])?;
    let folder = folder(place, "overload-quick")?;
    let mut report = measure(&programs, &folder, Settings { seconds: 8, clients: 500, idle: 2 })?;
    report.unbounded("overload.slower");
    report.unbounded("overload.too-weak");
    if finish(&report, &folder) { Ok("8 s, 500 streams".into()) } else { Err(report.broken()) }
}

fn settings(options: &[&str]) -> Result<Settings, String> {
    let mut settings = Settings { seconds: 120, clients: 10_000, idle: 30 };
    let mut words = Words::of("overload", options);
    while let Some(name) = words.name() {
        match name {
            "--seconds" => settings.seconds = u64::from(words.number()?),
            "--clients" => settings.clients = words.number()?,
            "--idle" => settings.idle = words.number()?,
            _ => return Err(words.unknown()),
        }
    }
    Ok(settings)
}

struct Programs {
    trimtab: Utf8PathBuf,
    storm: Utf8PathBuf,
}

impl Programs {
    fn build(place: &Place, profile: &str, flags: &[&str]) -> Result<Self, String> {
        let build = |what: &[&str]| Call::new(place, "cargo", &[&["build"], what].concat()).run();
        build(&[&["-p", "trimtab"], flags].concat())?;
        build(&[&["-p", "server", "--example", "storm"], flags].concat())?;
        let built = place.target.join(profile);
        Ok(Self { trimtab: built.join("trimtab"), storm: built.join("examples/storm") })
    }
}

/// What a storm told of itself.
struct Told(Value);

impl Told {
    fn count(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or(f64::NAN)
    }
}

fn measure(programs: &Programs, folder: &Utf8Path, settings: Settings) -> Result<Report, String> {
    let shop = Shop::create(&programs.trimtab, folder, MANIFEST)?;
    let result = measured(&shop, programs, folder, settings);
    // Whatever happened, nothing of ours is left running.
    let left = shop.down()?;
    let mut report = result?;
    report.add(Figure::new("overload.stuck", left.len() as f64, "processes left over").at_most(0.0));
    Ok(report)
}

/// All that was seen.
struct Seen {
    idle: Latencies,
    stormy: Latencies,
    after: Latencies,
    /// Events a second without a storm.
    capacity: f64,
    begun: Told,
    ended: Told,
    peak_mib: f64,
    answers: After,
    kept: Kept,
    sound: bool,
    seconds: f64,
}

fn measured(
    shop: &Shop,
    programs: &Programs,
    folder: &Utf8Path,
    settings: Settings,
) -> Result<Report, String> {
    shop.commit(&Build { name: "first".into(), errors: 0.0, seed: 0 })?;
    if shop.ship()? != Some(0) {
        return Err(format!("the first deployment failed: see {folder}"));
    }
    let mut server = Server::start(shop, folder)?;
    let mut builds = 0;
    let mut rollbacks = |server: &Server, enough: &mut dyn FnMut(u32) -> bool| {
        let mut latencies = Latencies::default();
        while !enough(latencies.count()) {
            builds += 1;
            latencies.add(take_back(shop, server, builds)?);
        }
        Ok::<_, String>(latencies)
    };
    let idle = rollbacks(&server, &mut |done| done >= settings.idle)?;
    let mut full = Storm::start(programs, &server, folder, "capacity", [0, CAPACITY.as_secs(), 0])?;
    let capacity = full.ended()?.count("acknowledged") / CAPACITY.as_secs_f64();
    let rate = (capacity * TIMES as f64) as u64;
    let sizes = [u64::from(settings.clients), settings.seconds, rate];
    let mut storm = Storm::start(programs, &server, folder, "storm", sizes)?;
    let begun = storm.begun()?;
    let until = process::now() + Duration::from_secs(settings.seconds);
    let stormy = rollbacks(&server, &mut |_| process::now() >= until)?;
    let ended = storm.ended()?;
    let after = rollbacks(&server, &mut |done| done >= settings.idle.div_ceil(10))?;
    let peak_mib = process::peak_mib(server.id())?;
    let answers = server.answers_after(shop)?;
    server.stop()?;
    let kept = kept::compare(shop, folder, &[&full.acknowledged, &storm.acknowledged])?;
    let (sound, seconds) = (shop.sound()?, settings.seconds as f64);
    Ok(Seen { idle, stormy, after, capacity, begun, ended, peak_mib, answers, kept, sound, seconds }.report())
}

impl Seen {
    fn report(&self) -> Report {
        let mut report = Report::default();
        self.rollbacks()
            .into_iter()
            .chain(self.events())
            .chain(self.service())
            .for_each(|figure| report.add(figure));
        report.remark(format!(
            "{} rollbacks before the storm, {} within, {} after; {} events on record, {} of them acknowledged",
            self.idle.count(),
            self.stormy.count(),
            self.after.count(),
            self.kept.recorded,
            self.kept.acknowledged
        ));
        let told = |name: &str| self.ended.count(name);
        report.remark(format!(
            "{} streams: {} events and {} gaps told, {} ended by the server; {} slow connections ended, {} bodies too large refused",
            told("streams"),
            told("notices"),
            told("gaps"),
            told("streams_ended"),
            told("drips_ended"),
            told("swamps_refused")
        ));
        report.remark("server, controllers, edge and the storm share this machine's cores".into());
        report
    }

    fn rollbacks(&self) -> Vec<Figure> {
        let (idle, stormy) = (&self.idle, &self.stormy);
        let slower = stormy.quantile(0.99) / idle.quantile(0.99);
        let refused = idle.refused + stormy.refused + self.after.refused;
        vec![
            Figure::new("overload.idle-p50", idle.quantile(0.5), "ms, rollback until weight 0"),
            Figure::new("overload.idle-p99", idle.quantile(0.99), "ms"),
            Figure::new("overload.storm-p50", stormy.quantile(0.5), "ms"),
            Figure::new("overload.storm-p99", stormy.quantile(0.99), "ms"),
            Figure::new("overload.slower", slower, "times, p99").at_most(SLOWER_MAX),
            Figure::new("overload.after-p50", self.after.quantile(0.5), "ms"),
            Figure::new("overload.rollbacks-refused", f64::from(refused), "rollbacks").at_most(0.0),
        ]
    }

    fn events(&self) -> Vec<Figure> {
        let each_second = |name: &str| self.ended.count(name) / self.seconds;
        // The storm shares the cores: where it could not send what it should, nothing is shown by what came of it.
        let weak = self.capacity * TIMES as f64 / each_second("offered");
        let none = |name, told: &str, unit| Figure::new(name, self.ended.count(told), unit).at_most(0.0);
        vec![
            Figure::new("overload.capacity", self.capacity, "events/s without a storm"),
            Figure::new("overload.offered", each_second("offered"), "events/s"),
            Figure::new("overload.too-weak", weak, "times fewer events than meant").at_most(1.0),
            Figure::new("overload.acknowledged", each_second("acknowledged"), "events/s"),
            Figure::new("overload.lost", self.kept.lost as f64, "acknowledged events").at_most(0.0),
            Figure::new("overload.duplicates", self.kept.duplicates as f64, "events").at_most(0.0),
            Figure::new("overload.refused", self.ended.count("refused"), "requests with 429 or 503"),
            none("overload.refused-without-wait", "refused_without_wait", "requests"),
            none("overload.answered-otherwise", "other", "requests"),
            none("overload.not-answered", "broken", "requests"),
        ]
    }

    fn service(&self) -> Vec<Figure> {
        let refused = self.begun.count("streams_refused");
        vec![
            Figure::new("overload.peak-memory", self.peak_mib, "MiB").at_most(MEMORY_MIB_MAX),
            Figure::new("overload.streams", self.begun.count("streams"), "streams"),
            Figure::new("overload.streams-refused", refused, "streams").at_most(0.0),
            Figure::new("overload.holes", self.ended.count("holes"), "events missed untold").at_most(0.0),
            Figure::new("overload.unsound", f64::from(u8::from(!self.sound)), "ledgers").at_most(0.0),
            Figure::new("overload.silent", f64::from(self.answers.failed), "requests after it").at_most(0.0),
        ]
    }
}

/// The program that makes the storm.
struct Storm {
    running: Running,
    /// `SEQUENCE ID` of each event that was acknowledged.
    acknowledged: Utf8PathBuf,
}

impl Storm {
    /// With so many streams, seconds and events a second.
    fn start(
        programs: &Programs,
        server: &Server,
        folder: &Utf8Path,
        name: &str,
        sizes: [u64; 3],
    ) -> Result<Self, String> {
        let acknowledged = folder.join(format!("{name}.acknowledged"));
        let [streams, seconds, rate] = sizes.map(|size| size.to_string());
        // As many sockets as the system lets it have.
        // Real storms come from other machines. This one shares the cores, so it takes what the others leave; whether it still
        // sends what it should is measured.
        let line = "ulimit -n $(ulimit -H -n); exec nice -n 10 \"$@\"";
        let arguments = [
            "-c",
            line,
            "sh",
            programs.storm.as_str(),
            &server.address,
            &server.report_token,
            &streams,
            &seconds,
            &rate,
            acknowledged.as_str(),
        ];
        let running = Running::start(Utf8Path::new("sh"), &arguments, folder, folder, name)?;
        Ok(Self { running, acknowledged })
    }

    fn told(&self, what: &str) -> Result<Option<Told>, String> {
        let path = &self.running.output;
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let values = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(values.into_iter().find(|value| value["storm"] == what).map(Told))
    }

    /// Waits until all streams were asked for.
    fn begun(&mut self) -> Result<Told, String> {
        let deadline = process::now() + DIALLED_WITHIN;
        while process::now() < deadline {
            if let Some(told) = self.told("begun")? {
                return Ok(told);
            }
            if self.running.ended()?.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("the storm does not begin: see {}", self.running.talk))
    }

    /// Waits for its end.
    fn ended(&mut self) -> Result<Told, String> {
        self.running.wait(Duration::from_mins(30))?;
        self.told("ended")?
            .ok_or_else(|| format!("the storm did not end as it should: see {}", self.running.talk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_mistakes_are_named() {
        assert_eq!(settings(&["--clients", "3"]).unwrap().clients, 3);
        assert_eq!(settings(&["--seconds"]).unwrap_err(), "--seconds needs a value");
        assert_eq!(settings(&["--speed", "3"]).unwrap_err(), "overload knows no --speed");
    }
}
