//! `cargo xtask powercut`, `eio` and `diskfull`: what the real binary promises when the power fails, the disk errs, or is full.
//!
//! What they mean and what they were is in `docs/explanation/`; each has a quick form that the test command runs. Leaves out
//! faults of one crate by itself, which are that crate's tests. Invariant: what is recorded is a binary as users get it; only
//! the control's is another.

mod acknowledged;
mod disk;
mod diskfull;
mod documents;
mod edge_state;
mod eio;
mod eio_switch;
mod examine;
mod http;
mod pour;
mod powercut;
mod recording;
mod reference;
mod stage;
mod steps;
mod strace;

use camino::Utf8PathBuf;

use crate::figures::report::Report;
use crate::place::Place;
use crate::shell::Call;
use crate::words::Words;

pub(crate) use diskfull::inside as full;
pub(crate) use stage::run as stage;

/// The feature of the control's binary.
const CONTROL: &str = "store/control-synchronous-normal";

/// How much is done.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Settings {
    images: u32,
    events: u32,
    seed: u64,
    control: bool,
    profile: Profile,
    /// Of a sweep, only every so many points.
    step: u32,
    /// A binary that is there already, such as one from a package.
    binary: Option<Utf8PathBuf>,
}

impl Settings {
    /// Seed 1, no control.
    fn standard(images: u32, events: u32, profile: Profile) -> Self {
        Self { images, events, seed: 1, control: false, profile, step: 1, binary: None }
    }
}

/// Which build is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    Debug,
    Release,
}

/// `cargo xtask powercut [--images N] [--events N] [--seed N] [--control]`; gives whether it holds.
pub(crate) fn powercut(place: &Place, options: &[&str]) -> Result<bool, String> {
    let standard = Settings::standard(10_000, 1_500, Profile::Release);
    let settings = settings(Words::of("powercut", options), standard)?;
    let report = if settings.control { control(place, &settings)? } else { plain(place, &settings)? };
    report.print();
    Ok(report.holds())
}

/// A few images and a control for the test command. Gives a remark.
pub(crate) fn powercut_quick(place: &Place) -> Result<String, String> {
    let quick = Settings::standard(500, 300, Profile::Debug);
    for report in [plain(place, &quick)?, control(place, &Settings { images: 200, ..quick.clone() })?] {
        report.print();
        if !report.holds() {
            return Err(report.broken());
        }
    }
    Ok("500 images, 200 of the control".into())
}

fn plain(place: &Place, settings: &Settings) -> Result<Report, String> {
    let outcome = cut(place, settings, None)?;
    Ok(outcome.report())
}

/// A binary that does not wait for its fsyncs must lose.
fn control(place: &Place, settings: &Settings) -> Result<Report, String> {
    let outcome = cut(place, settings, Some(CONTROL))?;
    Ok(outcome.control())
}

fn cut(place: &Place, settings: &Settings, feature: Option<&str>) -> Result<powercut::Outcome, String> {
    let program = build(place, settings, feature)?;
    let folder = folder(place, "powercut")?;
    let Settings { images, events, seed, .. } = *settings;
    let options = powercut::Options { program, folder: folder.clone(), images, events, seed };
    let outcome = powercut::run(place, &options)?;
    if feature.is_some() || outcome.tally.is_clean() {
        let _ = std::fs::remove_dir_all(&folder);
    }
    Ok(outcome)
}

/// `cargo xtask eio [--sweep N] [--step N]`; gives whether it holds.
pub(crate) fn eio(place: &Place, options: &[&str]) -> Result<bool, String> {
    let standard = Settings::standard(20, 200, Profile::Release);
    let settings = settings(Words::of("eio", options), standard)?;
    let swept = sweep(place, &settings)?;
    swept.print();
    let drilled = drill(place, &settings)?;
    drilled.print();
    Ok(swept.holds() && drilled.holds())
}

/// The kill switch while every fsync fails.
fn drill(place: &Place, settings: &Settings) -> Result<Report, String> {
    let program = build(place, settings, None)?;
    let folder = folder(place, "eio-switch")?;
    let report = eio_switch::run(place, &program, &folder)?;
    if report.holds() {
        let _ = std::fs::remove_dir_all(&folder);
    }
    Ok(report)
}

/// Every twentieth point for the test command. Gives a remark.
pub(crate) fn eio_quick(place: &Place) -> Result<String, String> {
    let quick = Settings { step: 20, ..Settings::standard(10, 121, Profile::Debug) };
    for report in [sweep(place, &quick)?, drill(place, &quick)?] {
        report.print();
        if !report.holds() {
            return Err(report.broken());
        }
    }
    Ok("7 points and the kill switch".into())
}

fn sweep(place: &Place, settings: &Settings) -> Result<Report, String> {
    let program = build(place, settings, None)?;
    let folder = folder(place, "eio")?;
    let (images, seed) = (settings.images, settings.seed);
    let options = eio::Options {
        program,
        folder: folder.clone(),
        points: (1, settings.events, settings.step),
        images,
        seed,
    };
    let report = eio::run(place, &options)?;
    if report.holds() {
        let _ = std::fs::remove_dir_all(&folder);
    }
    Ok(report)
}

/// `cargo xtask diskfull [--rounds N]`; gives whether it holds.
pub(crate) fn diskfull(place: &Place, options: &[&str]) -> Result<bool, String> {
    let standard = Settings::standard(0, 5, Profile::Release);
    let settings = settings(Words::of("diskfull", options), standard)?;
    let folder = folder(place, "diskfull")?;
    let program = build(place, &settings, None)?;
    let holds = diskfull::run(place, &program, &folder, settings.events)?;
    let _ = std::fs::remove_dir_all(&folder);
    Ok(holds)
}

/// Each case once for the test command. Gives a remark.
pub(crate) fn diskfull_quick(place: &Place) -> Result<String, String> {
    diskfull(place, &["--debug", "--rounds", "1"]).map(|_| "3 cases".into())
}

fn settings(mut words: Words<'_>, mut settings: Settings) -> Result<Settings, String> {
    while let Some(name) = words.name() {
        match name {
            "--images" => settings.images = words.number()?,
            "--events" | "--sweep" | "--rounds" => settings.events = words.number()?,
            "--step" => settings.step = words.number()?,
            "--seed" => settings.seed = u64::from(words.number()?),
            "--binary" => {
                let file = words.value()?;
                settings.binary = Some(
                    Utf8PathBuf::from(file)
                        .canonicalize_utf8()
                        .map_err(|error| format!("{file}: {error}"))?,
                );
            }
            "--control" => settings.control = true,
            "--debug" => settings.profile = Profile::Debug,
            _ => return Err(words.unknown()),
        }
    }
    Ok(settings)
}

/// Builds the binary, unless one was given; with a feature for the control. That one is put beside, so that nobody takes it for the other.
fn build(place: &Place, settings: &Settings, feature: Option<&str>) -> Result<Utf8PathBuf, String> {
    if let Some(binary) = &settings.binary {
        return Ok(binary.clone());
    }
    let profile = settings.profile;
    let (folder, flag): (_, &[&str]) = match profile {
        Profile::Debug => ("debug", &[]),
        Profile::Release => ("release", &["--release"]),
    };
    let features: Vec<&str> = feature.iter().flat_map(|name| ["--features", name]).collect();
    let arguments = [["build", "-p", "trimtab"].as_slice(), flag, &features].concat();
    Call::new(place, "cargo", &arguments).run()?;
    let built = place.target.join(folder).join("trimtab");
    if feature.is_none() {
        return Ok(built);
    }
    let aside = place.target.join(folder).join("trimtab-control");
    std::fs::copy(&built, &aside).map_err(|error| format!("{aside}: {error}"))?;
    Call::new(place, "cargo", &[["build", "-p", "trimtab"].as_slice(), flag].concat()).run()?;
    Ok(aside)
}

/// A new folder beside the build results: on a real disk, and not in the checkout.
fn folder(place: &Place, part: &str) -> Result<Utf8PathBuf, String> {
    let folder = place.target.join("chaos").join(format!("{part}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{folder}: {error}"))?;
    folder.canonicalize_utf8().map_err(|error| format!("{folder}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_mistakes_are_named() {
        let standard = Settings::standard(1, 1, Profile::Debug);
        let read = |words: &[&str]| settings(Words::of("powercut", words), standard.clone());
        assert_eq!(
            read(&["--images", "3", "--control"]).unwrap(),
            Settings { images: 3, control: true, ..standard.clone() }
        );
        assert_eq!(read(&["--images"]).unwrap_err(), "--images needs a value");
        assert_eq!(read(&["--speed"]).unwrap_err(), "powercut knows no --speed");
    }
}
