//! The evidence of harm and of safety, each against the threshold at which it is enough.
//!
//! The axis is logarithmic: an e-value of 10 means that what was seen is ten times likelier if the claim holds. Below 1/10
//! nothing is drawn apart, because less than no evidence is still no evidence.

use super::frame::Frame;
use super::{Figure, Story, each};
use crate::words;

const LOG_10: f64 = std::f64::consts::LN_10;

pub(super) fn figure(story: &Story<'_>) -> Figure {
    let looks = story.looks;
    let harm: Vec<_> = looks.iter().map(|look| (story.seconds(look.at), look.log_e_harm)).collect();
    let safe: Vec<_> = looks.iter().map(|look| (story.seconds(look.at), look.log_e_safe)).collect();
    let thresholds = story.thresholds;
    let (harm_at, safe_at) = (finite(thresholds.log_e_harm), finite(thresholds.log_e_safe));
    let highest = harm
        .iter()
        .chain(&safe)
        .map(|(_, y)| *y)
        .filter(|y| y.is_finite())
        .fold(harm_at.max(safe_at), f64::max)
        .min(harm_at.max(safe_at) * 2.5);
    let (low, high) = (-LOG_10, highest * 1.12 + 0.3);
    let drawings = each(|size| {
        let mut frame = Frame::new(size, 190.0, story.length(), (low, high));
        let mut power = -1;
        while f64::from(power) * LOG_10 <= high {
            frame.grid(f64::from(power) * LOG_10, &power_label(power));
            power += 1;
        }
        frame.threshold("harm", harm_at, &format!("taken back at {}", words::e_value(harm_at)));
        frame.threshold("safe", safe_at, &format!("may go on at {}", words::e_value(safe_at)));
        frame.line("safe", &safe);
        frame.line("harm", &harm);
        story.mark(&mut frame, false);
        frame.finish()
    });
    Figure {
        id: "evidence",
        title: "Evidence, as e-values",
        summary: summary(story, harm_at, safe_at),
        drawings,
        legend: vec![
            ("harm", "worse than stable, over the whole rollout"),
            ("safe", "within the margins, in this step"),
        ],
    }
}

fn power_label(power: i32) -> String {
    match power {
        -1 => "0.1".into(),
        0 => "1".into(),
        1 => "10".into(),
        2 => "100".into(),
        3 => "1,000".into(),
        4 => "10⁴".into(),
        5 => "10⁵".into(),
        6 => "10⁶".into(),
        _ => String::new(),
    }
}

fn finite(threshold: f64) -> f64 {
    if threshold.is_finite() { threshold.clamp(0.1, 30.0) } else { 1.0 }
}

fn summary(story: &Story<'_>, harm_at: f64, safe_at: f64) -> String {
    let Some(last) = story.looks.last() else { return "There was no look yet.".into() };
    format!(
        "At the last look the e-value of harm was {} (enough at {}) and that of safety {} (enough at {}).",
        words::e_value(last.log_e_harm),
        words::e_value(harm_at),
        words::e_value(last.log_e_safe),
        words::e_value(safe_at),
    )
}
