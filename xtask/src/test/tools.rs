//! Finds the tools that the checks need and installs the missing ones, saying so.
//!
//! Rust's components come from rustup, nextest from crates.io, programs from apt, browser libraries from npm (into our
//! cache, never into the checkout). Invariant: after `Ok` the tool is there and answers.

use camino::Utf8PathBuf;

use crate::place::Place;
use crate::shell::Call;

/// The version of cargo-nextest that is installed when there is none.
const NEXTEST_VERSION: &str = "0.9.143";
/// The browser test's libraries, pinned.
const NPM_PACKAGES: [(&str, &str); 2] = [("playwright-core", "1.65.1"), ("axe-core", "4.14.1")];

/// A component of the Rust toolchain: `cargo SUBCOMMAND` must answer.
pub(super) fn component(place: &Place, subcommand: &str, component: &str) -> Result<(), String> {
    let there = || Call::new(place, "cargo", &[subcommand, "--version"]).works();
    if there() {
        return Ok(());
    }
    let plea = format!("`cargo {subcommand}` is missing: install the component {component} of Rust");
    if place.program(&["rustup"]).is_none() {
        return Err(format!("{plea} (there is no rustup to add it with)"));
    }
    eprintln!("`cargo {subcommand}` is missing: adding {component} with rustup");
    Call::new(place, "rustup", &["component", "add", component])
        .run()
        .map_err(|why| format!("{plea} ({why})"))?;
    if there() { Ok(()) } else { Err(format!("{plea} (rustup ended well, but it is still missing)")) }
}

/// cargo-nextest.
pub(super) fn nextest(place: &Place) -> Result<(), String> {
    let there = || Call::new(place, "cargo", &["nextest", "--version"]).works();
    if there() {
        return Ok(());
    }
    eprintln!(
        "cargo-nextest is missing: building {NEXTEST_VERSION} from crates.io, once; this takes some minutes"
    );
    Call::new(place, "cargo", &["install", "cargo-nextest", "--locked", "--version", NEXTEST_VERSION])
        .run()?;
    if there() {
        Ok(())
    } else {
        Err("cargo-nextest was installed, but `cargo nextest` does not answer".into())
    }
}

/// git, which the tests drive for real.
pub(super) fn git(place: &Place) -> Result<(), String> {
    program(place, &["git"], "git").map(drop)
}

/// HAProxy, which canaries are split with for real.
pub(super) fn haproxy(place: &Place) -> Result<Utf8PathBuf, String> {
    program(place, &["haproxy"], "haproxy")
}

/// strace, beneath which the power-cut and EIO steps record.
pub(super) fn strace(place: &Place) -> Result<(), String> {
    program(place, &["strace"], "strace").map(drop)
}

/// A PostgreSQL server, which tests start by themselves. Debian keeps its programs out of the path.
pub(super) fn postgres(place: &Place) -> Result<(), String> {
    let there = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        versions.map(|version| version.path().join("bin/postgres")).any(|program| program.exists())
            || place.program(&["postgres"]).is_some()
    };
    if there() {
        return Ok(());
    }
    eprintln!("postgresql is missing: installing it with apt-get");
    apt(place, "postgresql")
        .map_err(|why| format!("postgresql is missing and could not be installed ({why}): install it"))?;
    if there() { Ok(()) } else { Err("apt-get ended well, but there is still no PostgreSQL server".into()) }
}

/// Chromium's program.
pub(super) fn chromium(place: &Place) -> Result<Utf8PathBuf, String> {
    program(place, &["chromium", "chromium-browser", "google-chrome"], "chromium")
}

/// The folder whose `node_modules` holds the browser test's libraries. Needs node and npm, which are not installed for you.
pub(super) fn npm_packages(place: &Place) -> Result<Utf8PathBuf, String> {
    for name in ["node", "npm"] {
        if place.program(&[name]).is_none() {
            return Err(format!("{name} is missing: the browser test needs Node.js 18 or later with npm"));
        }
    }
    let wanted: Vec<String> =
        NPM_PACKAGES.iter().map(|(name, version)| format!("{name}@{version}")).collect();
    let folder = place.cache.join("browser").join(wanted.join("+"));
    let there = || {
        NPM_PACKAGES
            .iter()
            .all(|(name, _)| folder.join("node_modules").join(name).join("package.json").is_file())
    };
    if there() {
        return Ok(folder);
    }
    eprintln!("installing {} from npm into {folder}", wanted.join(" "));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{folder}: {error}"))?;
    let mut arguments =
        vec!["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
    arguments.extend(wanted.iter().map(String::as_str));
    Call::bare(&folder, "npm", &arguments).run()?;
    if there() { Ok(folder) } else { Err(format!("npm ended well, but {folder} does not hold the packages")) }
}

/// A program under one of its names; installed with apt where that can be done without asking.
fn program(place: &Place, names: &[&str], package: &str) -> Result<Utf8PathBuf, String> {
    if let Some(found) = place.program(names) {
        return Ok(found);
    }
    eprintln!("{package} is missing: installing it with apt-get");
    apt(place, package)
        .map_err(|why| format!("{package} is missing and could not be installed ({why}): install it"))?;
    place.program(names).ok_or_else(|| format!("apt-get ended well, but there is still no {package}"))
}

fn apt(place: &Place, package: &str) -> Result<(), String> {
    let root = Call::bare(&place.root, "id", &["-u"]).output()?.trim() == "0";
    let prefix: &[&str] = if root {
        &[]
    } else if Call::bare(&place.root, "sudo", &["-n", "true"]).works() {
        &["sudo", "-n"]
    } else {
        return Err("this needs root or sudo without a password".into());
    };
    let install: &[&str] = &["apt-get", "install", "--yes", "--no-install-recommends", package];
    let updated = elevated(place, prefix, &["apt-get", "update"]);
    elevated(place, prefix, install)
        .map_err(|why| updated.err().map_or(why.clone(), |first| format!("{first}; {why}")))
}

fn elevated(place: &Place, prefix: &[&str], line: &[&str]) -> Result<(), String> {
    let whole = [prefix, line].concat();
    Call::bare(&place.root, whole[0], &whole[1..]).with("DEBIAN_FRONTEND", "noninteractive").run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_installed_again() {
        let place = Place::find().unwrap();
        assert!(program(&place, &["no-such-program", "sh"], "none").is_ok());
    }

    #[test]
    fn a_missing_component_is_said_aloud() {
        let place = Place { path: Vec::new(), ..Place::find().unwrap() };
        let message = component(&place, "no-such-subcommand", "no-such-component").unwrap_err();
        assert!(message.contains("install the component no-such-component"), "{message}");
        assert_eq!(
            npm_packages(&place).unwrap_err(),
            "node is missing: the browser test needs Node.js 18 or later with npm"
        );
    }
}
