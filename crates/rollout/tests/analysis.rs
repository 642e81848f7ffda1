//! The sequential analysis: published numbers, laws that must hold for every input, and rollouts drawn from a seed.

mod analysis_world;

use rollout::analysis::allowance::{Allowance, Counts};
use rollout::analysis::bernoulli::Table;
use rollout::analysis::multinomial;
use rollout::analysis::odds::OddsRatio;
use rollout::analysis::rate::RateRatio;

fn close(left: f64, right: f64, tolerance: f64) {
    assert!((left - right).abs() <= tolerance, "{left} is not {right}");
}

#[test]
fn the_grid_mixture_holds_its_published_numbers() {
    for (canary, stable, share, margin, expected) in [
        (15, 95, 0.05, 1.0, 4.255_408),
        (5, 95, 0.05, 1.0, -2.010_694),
        (3, 0, 0.05, 1.0, 6.484_787),
        (150, 900, 0.1, 1.0, 6.698_220),
        (150, 900, 0.1, 1.25, -0.856_338),
    ] {
        let mut process = RateRatio::harm(margin);
        process.observe(canary, stable, share);
        close(process.log_e(), expected, 1e-6);
    }
}

#[test]
fn the_multinomial_test_holds_its_published_numbers() {
    for (counts, shares, expected) in [
        ([900, 150], [0.9, 0.1], 7.459_466),
        ([95, 15], [0.95, 0.05], 2.935_777),
        ([900, 100], [0.9, 0.1], -1.206_605),
    ] {
        close(multinomial::log_e(counts, shares, multinomial::CONCENTRATION), expected, 1e-6);
    }
}

/// `ln Z` by the definition, every term from the log-factorials.
fn by_definition(canary: u64, events: u64, stable: u64, ratio: f64) -> f64 {
    let choose = |n: u64, x: u64| {
        libm::lgamma(n as f64 + 1.0) - libm::lgamma(x as f64 + 1.0) - libm::lgamma((n - x) as f64 + 1.0)
    };
    let terms = (events.saturating_sub(stable)..=events.min(canary))
        .map(|x| choose(canary, x) + choose(stable, events - x) + x as f64 * ratio.ln());
    rollout::analysis::grid::log_sum_exp(terms.collect::<Vec<_>>().into_iter())
}

#[test]
fn every_way_to_sum_a_table_agrees_with_the_definition() {
    for (canary, stable, events) in [
        (3, 47, 20),
        (64, 640, 600),
        (70, 640, 300),
        (500, 500, 400),
        (1_000, 1, 500),
        (1, 1_000, 500),
        (2_000, 2_000, 2_000),
        (3_000, 9_000, 11_000),
        (5_000, 95_000, 40_000),
        (40_000, 40_000, 79_000),
        (40_000, 50_000, 20_000),
    ] {
        let canary_events = events * canary / (canary + stable);
        let table = Table::new(canary_events, canary, events - canary_events, stable).unwrap();
        let base = by_definition(canary, events, stable, 1.0) - table.log_partition(1.0);
        for ratio in [0.02, 0.4, 0.9, 1.3, 2.0, 10.0, 62.5, 1_000.0] {
            let expected = by_definition(canary, events, stable, ratio);
            let error = (table.log_partition(ratio) + base - expected).abs();
            assert!(
                error < 2e-6 * expected.abs().max(1.0).min(10.0),
                "{canary} {stable} {events} {ratio}: {error:e}"
            );
        }
    }
}
