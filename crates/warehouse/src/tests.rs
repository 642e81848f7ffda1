//! The figures against hand-made histories, against laws, and against real git.

mod git;
mod laws;
mod ledger;

use delivery::Timestamp;

use crate::Window;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// 30 days from the tests' beginning of time.
fn month() -> Window {
    Window { from: at(0), until: at(30 * DAY) }
}

fn value(figure: &crate::Figure) -> f64 {
    figure.value.unwrap_or_else(|| panic!("empty: {:?}", figure.why_empty))
}

#[test]
fn a_window_ends_just_after_now() {
    let now = at(DAY);
    let window = Window::last_days(1, now);
    assert!(window.contains(now) && window.contains(at(0)) && !window.contains(at(-1)));
    assert!(!window.contains(at(DAY + 1)));
    assert!((window.days_observed(at(DAY - 60)) - 1.0).abs() < 1e-9, "at least a day");
    assert!((Window::last_days(90, now).days_observed(at(-89 * DAY)) - 90.0).abs() < 1e-6);
}
