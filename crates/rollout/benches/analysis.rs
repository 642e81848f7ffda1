//! What a look costs: the rate process alone, one exact table, and the whole analysis with all latency bounds.

#[path = "../tests/analysis_world/mod.rs"]
mod analysis_world;

use std::hint::black_box;

use analysis_world::{PLAIN, Service, World, percent};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use delivery::Digest;
use delivery::strategy::AnalysisPolicy;
use rollout::analysis::Analysis;
use rollout::analysis::bernoulli::Table;
use rollout::analysis::odds::OddsRatio;
use rollout::analysis::rate::RateRatio;

fn parts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("analysis");
    group.throughput(Throughput::Elements(1));
    let mut rate = RateRatio::harm(1.1);
    group.bench_function("rate: one interval with errors", |bench| {
        bench.iter(|| rate.observe(black_box(1), black_box(2), black_box(0.05)));
    });
    for (name, canary, stable, events) in
        [("3 of 50", 3, 47, 20), ("250 of 500", 250, 250, 200), ("50,000 of 100,000", 50_000, 50_000, 30_000)]
    {
        let mut odds = OddsRatio::harm(1.25);
        group.bench_function(format!("odds: one table, {name}"), |bench| {
            bench.iter(|| {
                if let Some(table) = Table::new(events / 2, canary, events / 2, stable) {
                    odds.observe(black_box(&table));
                }
            });
        });
    }
    group.finish();
}

fn looks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("analysis");
    group.sample_size(20);
    for rps in [100.0, 1_000.0, 20_000.0] {
        let mut world = World::new(Service { rps, errors: 0.01, ..PLAIN }, 1);
        let mut analysis = Analysis::new(&AnalysisPolicy::default(), Digest::of(b"canary"), true);
        analysis.begin_step(percent(50.0), world.now());
        analysis.observe(Some(&world.pass(500, percent(50.0))), world.now());
        let sample = world.pass(500, percent(50.0));
        let at = world.now();
        group.bench_function(format!("a whole look at {rps} requests/s, 50 %"), |bench| {
            bench.iter_batched_ref(
                || analysis.clone(),
                |analysis| analysis.observe(Some(&sample), at),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, parts, looks);
criterion_main!(benches);
