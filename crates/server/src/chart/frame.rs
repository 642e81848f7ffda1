//! The drawing area: scales, axes, lines and bands.

use std::fmt::Write as _;

/// How large a chart is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size {
    width: f64,
    height_factor: f64,
    ticks: f64,
}

impl Size {
    /// For a telephone.
    pub(super) const NARROW: Self = Self { width: 320.0, height_factor: 1.0, ticks: 4.0 };
    /// For a tablet.
    pub(super) const MEDIUM: Self = Self { width: 700.0, height_factor: 1.1, ticks: 7.0 };
    /// For a desk's screen.
    pub(super) const WIDE: Self = Self { width: 1_110.0, height_factor: 1.2, ticks: 10.0 };
}

const LEFT: f64 = 44.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 22.0;

/// A chart under construction. `x` is seconds from 0, `y` what the chart measures.
pub(super) struct Frame {
    width: f64,
    height: f64,
    x_max: f64,
    y_min: f64,
    y_max: f64,
    body: String,
    /// Drawn last, so that no line covers them.
    labels: String,
}

impl Frame {
    /// An empty chart with its time axis.
    pub(super) fn new(size: Size, height: f64, x_max: f64, y: (f64, f64)) -> Self {
        let x_max = if x_max.is_finite() { x_max.max(1.0) } else { 1.0 };
        let (y_min, y_max) = if y.0.is_finite() && y.1.is_finite() && y.1 > y.0 { y } else { (0.0, 1.0) };
        let height = (height * size.height_factor).round();
        let mut frame = Self {
            width: size.width,
            height,
            x_max,
            y_min,
            y_max,
            body: String::new(),
            labels: String::new(),
        };
        frame.time_axis(size.ticks);
        frame
    }

    fn x(&self, seconds: f64) -> f64 {
        let share = if seconds.is_nan() { 0.0 } else { (seconds / self.x_max).clamp(0.0, 1.0) };
        LEFT + share * (self.width - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let value = if value.is_nan() { self.y_min } else { value.clamp(self.y_min, self.y_max) };
        let share = (value - self.y_min) / (self.y_max - self.y_min);
        self.height - BOTTOM - share * (self.height - TOP - BOTTOM)
    }

    fn add(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a String can't fail.
        let _ = self.body.write_fmt(arguments);
    }

    fn label(&mut self, arguments: std::fmt::Arguments<'_>) {
        let _ = self.labels.write_fmt(arguments);
    }

    fn time_axis(&mut self, ticks: f64) {
        let step = nice_seconds(self.x_max / ticks);
        let base = self.height - BOTTOM;
        let (left, right) = (LEFT, self.width - RIGHT);
        self.add(format_args!(r#"<path class="axis" d="M{left:.1} {base:.1}H{right:.1}"/>"#));
        let mut at = 0.0;
        while at <= self.x_max + 1e-9 {
            let (x, y) = (self.x(at), base + 15.0);
            let anchor = if at == 0.0 {
                "start"
            } else if x > right - 14.0 {
                "end"
            } else {
                "middle"
            };
            let label = seconds(at);
            self.add(format_args!(r#"<path class="tick" d="M{x:.1} {base:.1}v4"/>"#));
            self.add(format_args!(
                r#"<text class="tick" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{label}</text>"#
            ));
            at += step;
        }
    }

    /// A horizontal grid line with its value at the left.
    pub(super) fn grid(&mut self, value: f64, label: &str) {
        let (y, left, right) = (self.y(value), LEFT, self.width - RIGHT);
        self.add(format_args!(r#"<path class="grid" d="M{left:.1} {y:.1}H{right:.1}"/>"#));
        let (x, y) = (LEFT - 6.0, y + 3.5);
        let label = escape(label);
        self.add(format_args!(
            r#"<text class="tick" x="{x:.1}" y="{y:.1}" text-anchor="end">{label}</text>"#
        ));
    }

    /// A horizontal line that something is held against, with its name above it, at the left: lines begin low.
    pub(super) fn threshold(&mut self, class: &str, value: f64, label: &str) {
        let (y, left, right) = (self.y(value), LEFT, self.width - RIGHT);
        self.add(format_args!(r#"<path class="threshold {class}" d="M{left:.1} {y:.1}H{right:.1}"/>"#));
        let (x, y) = (left + 6.0, if y < TOP + 12.0 { y + 12.0 } else { y - 4.0 });
        let label = escape(label);
        self.label(format_args!(
            r#"<text class="label {class}" x="{x:.1}" y="{y:.1}" text-anchor="start">{label}</text>"#
        ));
    }

    /// A vertical line at a moment, with a word at its top.
    pub(super) fn moment(&mut self, class: &str, seconds: f64, label: &str) {
        let (x, top, base) = (self.x(seconds), TOP - 4.0, self.height - BOTTOM);
        self.add(format_args!(r#"<path class="moment {class}" d="M{x:.1} {top:.1}V{base:.1}"/>"#));
        let end = x > self.width * 0.7;
        let (x, anchor) = if end { (x - 4.0, "end") } else { (x + 4.0, "start") };
        let (y, label) = (TOP + 10.0, escape(label));
        self.label(format_args!(
            r#"<text class="label {class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{label}</text>"#
        ));
    }

    /// A line through the points, with a dot at its end.
    pub(super) fn line(&mut self, class: &str, points: &[(f64, f64)]) {
        self.edge(class, points);
        self.dot(class, points);
    }

    /// A line through the points. Where a value isn't a number the line has a gap.
    pub(super) fn edge(&mut self, class: &str, points: &[(f64, f64)]) {
        let mut path = String::new();
        for run in points.split(|(_, y)| y.is_nan()) {
            for (index, (x, y)) in run.iter().enumerate() {
                let command = if index == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{command}{:.1} {:.1}", self.x(*x), self.y(*y));
            }
        }
        if path.is_empty() {
            return;
        }
        self.add(format_args!(r#"<path class="line {class}" d="{path}"/>"#));
    }

    /// A line that keeps its value until the next point, down to the end of the axis, with the area below it.
    pub(super) fn steps(&mut self, class: &str, points: &[(f64, f64)], until: f64) {
        let Some((first, _)) = points.first() else { return };
        let mut path = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let (x, y) = (self.x(*x), self.y(*y));
            let _ = if index == 0 { write!(path, "M{x:.1} {y:.1}") } else { write!(path, "H{x:.1}V{y:.1}") };
        }
        let (end, base, start) = (self.x(until), self.height - BOTTOM, self.x(*first));
        let _ = write!(path, "H{end:.1}");
        self.add(format_args!(r#"<path class="area {class}" d="{path}V{base:.1}H{start:.1}Z"/>"#));
        self.add(format_args!(r#"<path class="line {class}" d="{path}"/>"#));
        let last = points.last().map_or(0.0, |(_, y)| *y);
        self.dot(class, &[(until, last)]);
    }

    /// The area between two lines: (seconds, low, high).
    pub(super) fn band(&mut self, class: &str, points: &[(f64, f64, f64)]) {
        if points.is_empty() {
            return;
        }
        let mut path = String::new();
        for (index, (x, _, high)) in points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", self.x(*x), self.y(*high));
        }
        for (x, low, _) in points.iter().rev() {
            let _ = write!(path, "L{:.1} {:.1}", self.x(*x), self.y(*low));
        }
        self.add(format_args!(r#"<path class="band {class}" d="{path}Z"/>"#));
    }

    fn dot(&mut self, class: &str, points: &[(f64, f64)]) {
        if let Some((x, y)) = points.last().filter(|(_, y)| !y.is_nan()) {
            let (x, y) = (self.x(*x), self.y(*y));
            self.add(format_args!(r#"<circle class="dot {class}" cx="{x:.1}" cy="{y:.1}" r="3"/>"#));
        }
    }

    /// The SVG. Its title and description are the figure's caption, so it is hidden from readers of text.
    pub(super) fn finish(self) -> String {
        let Self { width, height, body, labels, .. } = self;
        format!(
            r#"<svg class="chart" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true" focusable="false">{body}{labels}</svg>"#
        )
    }
}

/// The smallest of the steps that people count time in which is not below this.
fn nice_seconds(least: f64) -> f64 {
    const NICE: [f64; 17] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0,
        14_400.0, 43_200.0, 86_400.0,
    ];
    let days = (least / 86_400.0).ceil().max(1.0) * 86_400.0;
    NICE.iter().copied().find(|step| *step >= least).unwrap_or(days)
}

/// `0 s`, `45 s`, `2 min`, `1:30 min`, `3 h`.
fn seconds(at: f64) -> String {
    let whole = at.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 if whole.is_multiple_of(60) => format!("{} min", whole / 60),
        60..3_600 => format!("{}:{:02}", whole / 60, whole % 60),
        3_600..172_800 if whole.is_multiple_of(3_600) => format!("{} h", whole / 3_600),
        3_600..172_800 => format!("{}:{:02} h", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d", whole / 86_400),
    }
}

/// Text within SVG.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
