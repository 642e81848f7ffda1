//! Measures the ledger's promises on this machine: durable events a second in batches, a single append, verification of a
//! million events. `cargo run --release -p store --example ledger_figures [EVENTS] [FOLDER]`; the folder should be on the
//! disk that is meant, not on a memory file system.

use std::error::Error;
use std::time::Instant;

use camino::Utf8PathBuf;
use delivery::{Actor, Event, Timestamp};
use store::{Access, Ledger};

type Outcome = Result<(), Box<dyn Error>>;

const SINGLES: usize = 500;
const CALLERS: usize = 64;

fn actor() -> Actor {
    Actor::Machine("figures".into())
}

/// About the size of a typical record: 250 bytes.
fn event(number: usize) -> Event {
    Event::IncidentResolved { incident: format!("{number:0>128}") }
}

#[expect(clippy::disallowed_methods, reason = "this program measures")]
fn now() -> Instant {
    Instant::now()
}

fn single(ledger: &Ledger) -> Outcome {
    let mut times = Vec::with_capacity(SINGLES);
    for number in 0..SINGLES {
        let start = now();
        ledger.append_blocking(&actor(), Timestamp::UNIX_EPOCH, vec![event(number)])?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "single append:            p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms (n = {SINGLES}; target p50 <= 8 ms)",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

fn batches(ledger: &Ledger, size: usize, count: usize) -> Outcome {
    let start = now();
    for batch in 0..count {
        let events = (0..size).map(|number| event(batch * size + number)).collect();
        ledger.append_blocking(&actor(), Timestamp::UNIX_EPOCH, events)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "batches of {size:>3}, 1 caller:  {:.0} durable events/s ({count} commits; target >= 5000)",
        (size * count) as f64 / seconds
    );
    Ok(())
}

async fn callers(ledger: &Ledger, each: usize) -> Outcome {
    let start = now();
    let tasks: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                for number in 0..each {
                    let events = vec![event(caller * each + number)];
                    ledger.append(&actor(), Timestamp::UNIX_EPOCH, events).await?;
                }
                Ok::<_, store::Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "1 event, {CALLERS} callers:      {:.0} durable events/s (group commit)",
        (CALLERS * each) as f64 / seconds
    );
    Ok(())
}

fn verify(ledger: &Ledger, events: usize) -> Outcome {
    let start = now();
    while (ledger.head()?.size as usize) < events {
        ledger.append_blocking(&actor(), Timestamp::UNIX_EPOCH, (0..512).map(event).collect())?;
    }
    println!("filled up to {} events in {:.1} s", ledger.head()?.size, start.elapsed().as_secs_f64());
    let start = now();
    let found = ledger.verify()?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "verify {} events:    {seconds:.2} s, {:.0} events/s, sound: {} (target 1,000,000 <= 10 s)",
        found.size,
        found.size as f64 / seconds,
        found.is_sound()
    );
    let start = now();
    let (mut after, mut count) = (0, 0);
    loop {
        let page = ledger.read(after, 10_000)?;
        let Some(last) = page.last() else { break };
        after = last.sequence();
        count += page.len();
    }
    println!("read {count} events:      {:.2} s", start.elapsed().as_secs_f64());
    let start = now();
    ledger.prove_inclusion(found.size / 3)?;
    println!("prove inclusion:          {:.2} s", start.elapsed().as_secs_f64());
    let path = ledger.path().to_owned();
    let start = now();
    let second = Ledger::open(&path, Access::ReadWrite)?;
    println!("open for writing:         {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
    drop(second);
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let events = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let parent = arguments.next().map_or_else(|| Utf8PathBuf::from("."), Utf8PathBuf::from);
    let folder = tempfile::tempdir_in(parent)?;
    let path = Utf8PathBuf::try_from(folder.path().join("ledger.db"))?;
    let ledger = Ledger::open(&path, Access::ReadWrite)?;
    single(&ledger)?;
    batches(&ledger, 64, 200)?;
    batches(&ledger, 512, 50)?;
    callers(&ledger, 100).await?;
    verify(&ledger, events)
}
