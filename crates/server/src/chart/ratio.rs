//! The canary's error rate over stable's: the band that holds the truth with the confidence that the rollout asks for, at
//! all looks together.

use super::frame::Frame;
use super::{Figure, Story, each};
use crate::view::rollout::LookView;
use crate::words;

/// What is drawn lies between a hundredth and a hundredfold; the ends of the axis stand for all beyond.
const LIMIT: f64 = 2.0;

pub(super) fn figure(story: &Story<'_>) -> Figure {
    let looks = story.looks;
    let band: Vec<(f64, f64, f64)> = looks
        .iter()
        .map(|look| {
            (story.seconds(look.at), position(look.ratio_low, -LIMIT), position(look.ratio_high, LIMIT))
        })
        .collect();
    // Where there is no bound, or none on the axis, there is no edge: the band just goes on.
    let edge = |x: f64, y: f64| (x, if y.abs() < LIMIT { y } else { f64::NAN });
    let low: Vec<_> = band.iter().map(|(x, low, _)| edge(*x, *low)).collect();
    let high: Vec<_> = band.iter().map(|(x, _, high)| edge(*x, *high)).collect();
    let margin = position(Some(story.thresholds.error_ratio_margin), 0.0);
    let drawings = each(|size| {
        let mut frame = Frame::new(size, 150.0, story.length(), (-LIMIT, LIMIT));
        for (value, label) in [(-2.0, "÷ 100"), (-1.0, "÷ 10"), (0.0, "same"), (1.0, "× 10"), (2.0, "× 100")]
        {
            frame.grid(value, label);
        }
        frame.band("ratio", &band);
        frame.edge("edge", &low);
        frame.edge("edge", &high);
        let label = format!("harm above × {}", words::ratio(story.thresholds.error_ratio_margin));
        frame.threshold("margin", margin, &label);
        story.mark(&mut frame, false);
        frame.finish()
    });
    Figure {
        id: "ratio",
        title: "Canary’s error rate over stable’s",
        summary: summary(story.looks.last()),
        drawings,
        legend: vec![("ratio", "where the truth lies, at all looks together")],
    }
}

/// The decimal logarithm, within the axis; what isn't known lies at its end.
fn position(ratio: Option<f64>, unknown: f64) -> f64 {
    match ratio {
        Some(ratio) if ratio > 0.0 => ratio.log10().clamp(-LIMIT, LIMIT),
        Some(ratio) if ratio <= 0.0 => -LIMIT,
        _ => unknown,
    }
}

fn summary(last: Option<&LookView>) -> String {
    let Some(last) = last else { return "There was no look yet.".into() };
    match (last.ratio_low.filter(|low| *low > 0.0), last.ratio_high.filter(|high| high.is_finite())) {
        (None, None) => "Nothing is known yet: too little was seen to bound the ratio.".into(),
        (None, Some(high)) => format!("The ratio is at most {}.", words::ratio(high)),
        (Some(low), None) => {
            format!("The ratio is at least {}; too little was seen to bound it above.", words::ratio(low))
        }
        (Some(low), Some(high)) => {
            format!("The ratio lies between {} and {}.", words::ratio(low), words::ratio(high))
        }
    }
}
