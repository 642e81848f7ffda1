//! The figures of the sequential analysis: how often it is wrong, and how long it takes.
//!
//! `cargo run --release -p rollout --example analysis_figures` prints them as Markdown tables, the same ones each time:
//! everything is drawn from fixed seeds. They are kept in `docs/explanation/analysis.md`.

#[path = "../tests/analysis_world/mod.rs"]
mod analysis_world;

use analysis_world::{Course, Latency, PLAIN, Service, poisson, roll_out};
use delivery::strategy::AnalysisPolicy;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rollout::analysis::allowance::Counts;
use rollout::analysis::rate::RateRatio;

/// The steps of a canary in percent.
const STEPS: [f64; 3] = [5.0, 25.0, 50.0];
/// Seconds between looks.
const LOOK: f64 = 0.5;
/// Seconds that a step may last.
const DEADLINE: f64 = 600.0;

/// Total requests a second, canary share, stable's error rate, ratio; reference median and 90th percentile in seconds.
const REFERENCE: [(f64, f64, f64, f64, f64, f64); 11] = [
    (100.0, 0.01, 0.001, 100.0, 16.1, 49.0),
    (100.0, 0.05, 0.001, 100.0, 5.3, 11.1),
    (100.0, 0.05, 0.001, 10.0, 75.2, 182.0),
    (100.0, 0.05, 0.001, 5.0, 270.0, 631.0),
    (100.0, 0.10, 0.001, 2.0, 1685.0, 3545.0),
    (100.0, 0.50, 0.001, 2.0, 625.0, 1372.0),
    (100.0, 0.10, 0.01, 2.0, 160.0, 345.0),
    (100.0, 0.10, 0.01, 1.5, 645.0, 1248.0),
    (1000.0, 0.05, 0.001, 2.0, 319.0, 675.0),
    (1000.0, 0.05, 0.001, 10.0, 7.9, 19.0),
    (10.0, 0.10, 0.01, 10.0, 43.0, 107.0),
];

/// The value below which this part of the values lies.
fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1) as f64;
    values.get((last * part).round() as usize).copied().unwrap_or(f64::NAN)
}

fn main() {
    rates();
    bad_build();
    latencies();
    good_releases();
    long_watch();
    between();
}

/// Seconds until the error-rate process alone reaches 1/0.01, looked at every half second; at most four hours. Joins
/// intervals to blocks of four canary requests as the analysis does.
fn rate_delay(row: (f64, f64, f64, f64, f64, f64), seed: u64) -> f64 {
    let (rps, share, base, ratio, ..) = row;
    let mut random = SmallRng::seed_from_u64(seed);
    let mut process = RateRatio::harm(1.0);
    let (canary, stable) = (rps * share * LOOK, rps * (1.0 - share) * LOOK);
    let (mut seconds, mut from, mut block) = (0.0, 0.0, Counts::default());
    while seconds < 14_400.0 {
        seconds += LOOK;
        let bad = poisson(&mut random, canary * base * ratio);
        let stable_bad = poisson(&mut random, stable * base);
        block.canary_events += bad;
        block.canary += bad + poisson(&mut random, canary * (1.0 - base * ratio));
        block.stable_events += stable_bad;
        block.stable += stable_bad + poisson(&mut random, stable * (1.0 - base));
        if block.canary < 4 && seconds - from <= 10.0 {
            continue;
        }
        if block.canary_events + block.stable_events > 0 {
            let share = block.canary as f64 / (block.canary + block.stable) as f64;
            process.observe(block.canary_events, block.stable_events, share);
            if process.log_e() >= 100.0_f64.ln() {
                break;
            }
        }
        (from, block) = (seconds, Counts::default());
    }
    seconds
}

fn rates() {
    println!(
        "\n### Errors, the rate process alone (alpha 0.01, margin 1; 2,000 runs a row, 500 of the slow ones; seconds)\n"
    );
    println!(
        "| requests/s, share, error rate, ratio | reference median (p90) | median (p90) | of reference |"
    );
    println!("|---|---|---|---|");
    for row in REFERENCE {
        // The quick rows can be had more exactly.
        let runs = if row.4 < 200.0 { 2_000 } else { 500 };
        let mut delays: Vec<f64> = (0..runs).map(|seed| rate_delay(row, seed)).collect();
        let (median, ninety) = (quantile(&mut delays, 0.5), quantile(&mut delays, 0.9));
        let (rps, share, base, ratio, reference, reference_ninety) = row;
        println!(
            "| {rps}, {} %, {} %, x{ratio} | {reference} ({reference_ninety}) | {median:.1} ({ninety:.1}) | {:.2} ({:.2}) |",
            share * 100.0,
            base * 100.0,
            median / reference,
            ninety / reference_ninety,
        );
    }
}

fn watch(service: Service, policy: &AnalysisPolicy, seconds: f64, runs: u64) -> Vec<Course> {
    (0..runs).map(|seed| roll_out(service, policy, &[5.0], seconds, false, seed)).collect()
}

fn delays(courses: &[Course]) -> Vec<f64> {
    courses
        .iter()
        .filter(|course| course.rolled_back())
        .filter_map(|course| course.seconds.first().copied())
        .collect()
}

fn bad_build() {
    println!("\n### A bad build: 0.1 % -> 10 % errors, 100 requests/s, 5 % canary, defaults, 2,000 runs\n");
    let courses = watch(Service { error_ratio: 100.0, ..PLAIN }, &AnalysisPolicy::default(), 600.0, 2_000);
    let mut seconds = delays(&courses);
    let mut failed: Vec<f64> = courses.iter().map(|course| course.last.canary_errors as f64).collect();
    println!("| detected | median | p90 | p99 | failed canary requests: mean | median | p99 |");
    println!("|---|---|---|---|---|---|---|");
    println!(
        "| {} | {} s | {} s | {} s | {:.1} | {} | {} |",
        seconds.len(),
        quantile(&mut seconds, 0.5),
        quantile(&mut seconds, 0.9),
        quantile(&mut seconds, 0.99),
        failed.iter().sum::<f64>() / failed.len() as f64,
        quantile(&mut failed, 0.5),
        quantile(&mut failed, 0.99),
    );
}

fn latencies() {
    println!(
        "\n### Slower builds: log-normal (median 20 ms, sigma 0.6), 100 requests/s, 5 % canary, 200 runs a cell\n"
    );
    println!("| latency | margin 1.25 (default): median, p90 | margin 1: median, p90 |");
    println!("|---|---|---|");
    for ratio in [1.1, 1.2, 1.5, 2.0] {
        print!("| x{ratio} |");
        for margin in [1.25, 1.0] {
            let policy = AnalysisPolicy { latency_ratio_margin: margin, ..AnalysisPolicy::default() };
            let service = Service { latency_ratio: ratio, ..PLAIN };
            let mut found = delays(&watch(service, &policy, 900.0, 200));
            let missed = 200 - found.len();
            print!(" {} s, {} s", quantile(&mut found, 0.5), quantile(&mut found, 0.9));
            print!("{} |", if missed > 0 { format!(" ({missed} not within 15 min)") } else { String::new() });
        }
        println!();
    }
}

fn good_release(name: &str, service: Service, steps: &[f64], runs: u64) {
    let policy = AnalysisPolicy::default();
    let (mut promoted, mut taken_back, mut not_covered) = (0, 0, 0);
    let mut seconds: Vec<Vec<f64>> = vec![Vec::new(); steps.len()];
    for seed in 0..runs {
        let course = roll_out(service, &policy, steps, DEADLINE, true, seed);
        promoted += u64::from(course.promoted(steps.len()));
        taken_back += u64::from(course.rolled_back());
        let (low, high) = (course.last.ratio_low.unwrap_or(0.0), course.last.ratio_high.unwrap_or(f64::MAX));
        not_covered += u64::from(low > 1.0 || high < 1.0);
        for (all, one) in seconds.iter_mut().zip(&course.seconds) {
            all.push(*one);
        }
    }
    let part = |count: u64| format!("{:.2} %", 100.0 * count as f64 / runs as f64);
    print!("| {name} | {runs} | {} | {} | {} |", part(taken_back), part(promoted), part(not_covered));
    let cells: Vec<String> = steps
        .iter()
        .zip(&mut seconds)
        .map(|(step, all)| format!("{step} %: {} ({})", quantile(all, 0.5), quantile(all, 0.95)))
        .collect();
    println!(" {} |", cells.join(", "));
}

fn good_releases() {
    println!("\n### Good releases: like arms, looked at every 500 ms, 10 minutes a step, defaults\n");
    println!(
        "| service | rollouts | taken back | promoted | interval misses 1 | seconds to safe: median (p95) |"
    );
    println!("|---|---|---|---|---|---|");
    good_release("100/s, 0.1 % errors, log-normal", PLAIN, &STEPS, 2_000);
    good_release("1 % errors", Service { errors: 0.01, ..PLAIN }, &STEPS, 1_000);
    good_release("10 % errors", Service { errors: 0.1, ..PLAIN }, &STEPS, 300);
    good_release("1 % errors, drift +-80 %", Service { errors: 0.01, drift: 0.8, ..PLAIN }, &STEPS, 500);
    good_release("shares 1, 5, 25, 50 %", PLAIN, &[1.0, 5.0, 25.0, 50.0], 300);
    good_release("10/s", Service { rps: 10.0, ..PLAIN }, &STEPS, 300);
    good_release("1,000/s", Service { rps: 1_000.0, ..PLAIN }, &STEPS, 500);
    let bimodal = Latency::Bimodal(5.0, 120.0);
    good_release("bimodal latency", Service { latency: bimodal, ..PLAIN }, &STEPS, 500);
    let pareto = Latency::Pareto(8.0, 1.3);
    good_release("Pareto latency", Service { latency: pareto, ..PLAIN }, &STEPS, 500);
}

fn long_watch() {
    println!("\n### Like arms, watched for 30 minutes without promotion: 3,600 looks each, 5 % canary\n");
    println!("| service | rollouts | taken back |");
    println!("|---|---|---|");
    let drifting = Service { errors: 0.01, drift: 0.8, ..PLAIN };
    let pareto = Service { latency: Latency::Pareto(8.0, 1.3), ..PLAIN };
    for (name, service) in
        [("as above", PLAIN), ("1 % errors, drift +-80 %", drifting), ("Pareto latency", pareto)]
    {
        for (margins, policy) in [
            ("default margins", AnalysisPolicy::default()),
            (
                "margins 1",
                AnalysisPolicy {
                    error_ratio_margin: 1.0,
                    latency_ratio_margin: 1.0,
                    ..AnalysisPolicy::default()
                },
            ),
        ] {
            let taken_back = delays(&watch(service, &policy, 1_800.0, 150)).len();
            println!("| {name}, {margins} | 150 | {taken_back} |");
        }
    }
}

fn between() {
    println!("\n### Builds in between: 100 requests/s, 5 -> 25 -> 50 %, defaults, 300 rollouts each\n");
    println!("| build | taken back | promoted | undecided | mean seconds |");
    println!("|---|---|---|---|---|");
    let errors = |errors, error_ratio| Service { errors, error_ratio, ..PLAIN };
    let slow = |latency_ratio| Service { latency_ratio, ..PLAIN };
    for (name, service) in [
        ("0.1 % errors x3", errors(0.001, 3.0)),
        ("0.1 % errors x5", errors(0.001, 5.0)),
        ("0.1 % errors x10", errors(0.001, 10.0)),
        ("0.1 % errors x20", errors(0.001, 20.0)),
        ("1 % errors x2", errors(0.01, 2.0)),
        ("1 % errors x3", errors(0.01, 3.0)),
        ("latency x1.1", slow(1.1)),
        ("latency x1.2", slow(1.2)),
        ("latency x1.5", slow(1.5)),
    ] {
        let (mut taken_back, mut promoted, mut seconds) = (0, 0, 0.0);
        for seed in 0..300 {
            let course = roll_out(service, &AnalysisPolicy::default(), &STEPS, DEADLINE, true, seed);
            taken_back += u32::from(course.rolled_back());
            promoted += u32::from(course.promoted(STEPS.len()));
            seconds += course.seconds.iter().sum::<f64>();
        }
        let undecided = 300 - taken_back - promoted;
        println!("| {name} | {taken_back} | {promoted} | {undecided} | {:.0} |", seconds / 300.0);
    }
}
