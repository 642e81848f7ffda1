//! `figures small`: starting time, memory and size of the binary; then the figures that crates take of themselves.
//!
//! Leaves out what needs a quiet machine to mean anything, such as the proxy's latency. Invariant: what is measured is the
//! binary that users get.

use std::time::Duration;

use camino::Utf8Path;

use super::process;
use super::report::{Figure, Report, quantile};
use super::shop::{Build, Shop};
use crate::place::Place;
use crate::shell::Call;

const STARTS: usize = 30;
const IDLE: Duration = Duration::from_secs(10);
/// The manifest of the bad builds has the defaults.
const MANIFEST: &str = include_str!("shop/bad-build.toml");

/// Takes them.
pub(crate) fn run(program: &Utf8Path, folder: &Utf8Path) -> Result<Report, String> {
    let starts: Result<Vec<f64>, String> = (0..STARTS).map(|_| start(program)).collect();
    let bytes = std::fs::metadata(program).map_err(|error| format!("{program}: {error}"))?.len();
    let shop = Shop::create(program, folder, MANIFEST)?;
    let memory = memory(&shop);
    shop.down()?;
    let (server, edge) = memory?;
    Ok(Report::new(vec![
        Figure::new("version.p50", quantile(&starts?, 0.5), "ms for `trimtab --version`, of 30")
            .at_most(20.0),
        Figure::new("server.memory", server, "MB resident, idle for 10 s").at_most(60.0),
        Figure::new("edge.memory", edge, "MB resident"),
        Figure::new("binary.size", bytes as f64 / 1e6, "MB"),
    ]))
}

/// Lets the crates take their own figures, and shows them. Takes about ten minutes.
pub(crate) fn delegate(place: &Place) -> Result<(), String> {
    for (package, example) in [("store", "ledger_figures"), ("rollout", "analysis_figures")] {
        eprintln!("\n== {example}");
        Call::new(place, "cargo", &["run", "--quiet", "--release", "-p", package, "--example", example])
            .run()?;
    }
    Ok(())
}

/// Milliseconds of one start.
fn start(program: &Utf8Path) -> Result<f64, String> {
    let before = process::now();
    let answer = process::ask(program, &["--version"], Utf8Path::new("/"))?;
    let took = before.elapsed().as_secs_f64() * 1000.0;
    if answer.code == Some(0) { Ok(took) } else { Err(format!("`{program} --version` failed")) }
}

/// Megabytes of an idle server, and of an edge that serves one build.
fn memory(shop: &Shop) -> Result<(f64, f64), String> {
    shop.commit(&Build { name: "good".into(), errors: 0.0, seed: 1 })?;
    if shop.ship()? != Some(0) {
        return Err("the deployment failed".into());
    }
    let server = shop.start(&["server", "--listen", "127.0.0.1:0"], "server")?;
    std::thread::sleep(IDLE);
    let edge = shop.edge().ok_or("the edge does not answer")?;
    Ok((process::resident_mb(server.id())?, process::resident_mb(edge.id)?))
}
