//! Charts as SVG, drawn here so that pages need no script for them.
//!
//! No colours and no inline style: shapes carry classes, the style sheet gives them their looks in both themes, and the
//! policy for content stays strict. Each chart is drawn for three widths of page, so that its text stays legible.
//! Invariant: whatever the numbers (NaN, infinite, one point, none), the SVG is well-formed and its coordinates finite.

mod evidence;
mod frame;
mod ratio;
#[cfg(test)]
mod tests;
mod weight;

use delivery::Timestamp;
use delivery::traffic::Weight;

use crate::view::rollout::{LookView, ThresholdsView};
use frame::Size;

/// What a rollout's charts are drawn from.
pub(crate) struct Story<'a> {
    /// Where the time axis begins and ends.
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) looks: &'a [LookView],
    pub(crate) thresholds: &'a ThresholdsView,
    /// When which weight was acknowledged, oldest first.
    pub(crate) weights: &'a [(Timestamp, Weight)],
    /// When taking it back was decided.
    pub(crate) decided: Option<Timestamp>,
}

/// A chart with what it says in words.
pub(crate) struct Figure {
    /// For addresses within the page.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// What is to be seen, for who can't see it and for who wonders.
    pub(crate) summary: String,
    /// HTML, for each width of page, with its class.
    pub(crate) drawings: [(&'static str, String); 3],
    /// What the lines are: class and words.
    pub(crate) legend: Vec<(&'static str, &'static str)>,
}

impl Story<'_> {
    /// Seconds since the axis began.
    fn seconds(&self, at: Timestamp) -> f64 {
        at.duration_since(self.from).as_secs_f64()
    }

    fn length(&self) -> f64 {
        self.seconds(self.until).max(1.0)
    }

    /// Marks the decision, with a word where asked.
    fn mark(&self, frame: &mut frame::Frame, named: bool) {
        if let Some(at) = self.decided {
            frame.moment("decided", self.seconds(at), if named { "taken back" } else { "" });
        }
    }
}

/// The charts of a rollout, in reading order; none before there is anything to draw.
pub(crate) fn figures(story: &Story<'_>) -> Vec<Figure> {
    let mut figures = Vec::new();
    if !story.weights.is_empty() {
        figures.push(weight::figure(story));
    }
    if !story.looks.is_empty() {
        figures.push(evidence::figure(story));
        figures.push(ratio::figure(story));
    }
    figures
}

/// Draws for all kinds of pages.
fn each(draw: impl Fn(Size) -> String) -> [(&'static str, String); 3] {
    [("narrow", Size::NARROW), ("medium", Size::MEDIUM), ("wide", Size::WIDE)]
        .map(|(class, size)| (class, draw(size)))
}
