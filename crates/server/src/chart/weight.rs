//! The canary's share of traffic over time.

use delivery::traffic::Weight;

use super::frame::Frame;
use super::{Figure, Story, each};
use crate::words;

pub(super) fn figure(story: &Story<'_>) -> Figure {
    let points: Vec<(f64, f64)> =
        story.weights.iter().map(|(at, weight)| (story.seconds(*at), weight.share() * 100.0)).collect();
    let highest = points.iter().fold(0.0_f64, |highest, (_, y)| highest.max(*y));
    // Small canaries are drawn large: the axis ends at a round number above the highest weight.
    let top = [10.0, 25.0, 50.0, 100.0].into_iter().find(|top| highest <= *top).unwrap_or(100.0);
    let drawings = each(|size| {
        let mut frame = Frame::new(size, 110.0, story.length(), (0.0, top));
        for share in [0.0, 0.5, 1.0] {
            frame.grid(share * top, &format!("{} %", words::trimmed(share * top, 1)));
        }
        frame.steps("canary", &points, story.length());
        story.mark(&mut frame, true);
        frame.finish()
    });
    Figure {
        id: "weight",
        title: "Canary’s share of traffic",
        summary: summary(story),
        drawings,
        legend: Vec::new(),
    }
}

fn summary(story: &Story<'_>) -> String {
    let highest = story.weights.iter().map(|(_, weight)| *weight).max().unwrap_or(Weight::ZERO);
    let last = story.weights.last().map_or(Weight::ZERO, |(_, weight)| *weight);
    format!("It is {} now; the highest was {}.", words::weight(last), words::weight(highest))
}
