//! Appends of one and of sixty-four, verification, and the Merkle frontier. The figures that the project promises are
//! measured by `examples/ledger_figures.rs`.

use std::hint::black_box;

use camino::Utf8PathBuf;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use delivery::{Actor, Event, Timestamp};
use store::merkle::{Frontier, leaf_hash};
use store::{Access, Ledger};

fn events(count: usize) -> Vec<Event> {
    (0..count).map(|number| Event::IncidentResolved { incident: format!("{number:0>128}") }).collect()
}

fn ledger() -> Option<(tempfile::TempDir, Ledger)> {
    let folder = tempfile::tempdir_in(".").ok()?;
    let path = Utf8PathBuf::try_from(folder.path().join("ledger.db")).ok()?;
    let ledger = Ledger::open(&path, Access::ReadWrite).ok()?;
    Some((folder, ledger))
}

fn append(criterion: &mut Criterion) {
    let Some((_folder, ledger)) = ledger() else { return };
    let actor = Actor::Machine("bench".into());
    let mut group = criterion.benchmark_group("append");
    group.sample_size(20);
    for size in [1, 64] {
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter_batched(
                || events(size),
                |events| ledger.append_blocking(&actor, Timestamp::UNIX_EPOCH, events),
                BatchSize::SmallInput,
            );
        });
    }
}

fn verify(criterion: &mut Criterion) {
    let Some((_folder, ledger)) = ledger() else { return };
    let actor = Actor::Machine("bench".into());
    let filled = (0..20)
        .try_for_each(|_| ledger.append_blocking(&actor, Timestamp::UNIX_EPOCH, events(500)).map(drop));
    assert!(filled.is_ok());
    let mut group = criterion.benchmark_group("verify");
    group.sample_size(20).throughput(Throughput::Elements(10_000));
    group.bench_function("10000", |bencher| bencher.iter(|| black_box(ledger.verify())));
}

fn merkle(criterion: &mut Criterion) {
    let leaf = leaf_hash(b"leaf");
    criterion.bench_function("frontier/push 1000", |bencher| {
        bencher.iter(|| std::iter::repeat_n(black_box(leaf), 1_000).collect::<Frontier>().root());
    });
}

criterion_group!(benches, append, verify, merkle);
criterion_main!(benches);
