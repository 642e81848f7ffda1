//! Prints what git alone says of delivery: `cargo run --release -p warehouse --example dora -- DIRECTORY DAYS`.

use camino::Utf8Path;
use delivery::Clock;
use delivery::clock::SteadyClock;
use repo::Repository;
use warehouse::{Window, from_git};

fn main() -> Result<(), repo::Error> {
    let arguments: Vec<String> = std::env::args().collect();
    let directory = arguments.get(1).map_or(".", String::as_str);
    let days = arguments.get(2).and_then(|days| days.parse().ok()).unwrap_or(90);
    let repository = Repository::discover(Utf8Path::new(directory))?;
    let window = Window::last_days(days, SteadyClock::anchored(None).now());
    for report in from_git(&repository, window)? {
        println!("{:?}: {:?}", report.scope.service, report.counts);
        for (name, figure) in report.figures() {
            println!(
                "  {name}: {:?} n={} {:?} {:?}",
                figure.value, figure.n, figure.interval, figure.why_empty
            );
        }
    }
    Ok(())
}
