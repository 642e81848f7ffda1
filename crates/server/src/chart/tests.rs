//! Whatever the numbers, a chart is well-formed.

use delivery::Timestamp;
use delivery::evidence::Finding;
use delivery::traffic::Weight;

use super::frame::escape;
use super::{Story, figures};
use crate::view::rollout::{LookView, ThresholdsView};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).unwrap()
}

fn look(second: i64, number: f64) -> LookView {
    LookView {
        at: at(second),
        step: 1,
        finding: Finding::Continue,
        signal: "errors".into(),
        log_e_harm: number,
        log_e_safe: -number,
        ratio_low: Some(number),
        ratio_high: Some(number),
    }
}

fn drawn(looks: &[LookView], weights: &[(Timestamp, Weight)], threshold: f64, until: i64) -> String {
    let thresholds =
        ThresholdsView { log_e_harm: threshold, log_e_safe: threshold, error_ratio_margin: threshold };
    let story = Story {
        from: at(0),
        until: at(until),
        looks,
        thresholds: &thresholds,
        weights,
        decided: Some(at(2)),
    };
    figures(&story).into_iter().flat_map(|figure| figure.drawings).map(|(_, svg)| svg).collect()
}

#[test]
fn coordinates_are_finite_whatever_the_numbers() {
    let hostile = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        -0.0,
        1e-320,
        700.0,
    ];
    for number in hostile {
        for threshold in hostile {
            for until in [-5, 0, 1, i64::from(i32::MAX)] {
                let looks = [look(0, number), look(3, 1.0), look(2, number)];
                let svg = drawn(&looks, &[(at(1), Weight::FULL), (at(1), Weight::ZERO)], threshold, until);
                assert!(svg.contains("<svg"), "something is drawn");
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{number} {threshold} {until}: {svg}");
                assert!(svg.len() < 100_000, "{} bytes", svg.len());
                assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
            }
        }
    }
}

#[test]
fn where_there_is_no_bound_there_is_no_edge() {
    let ratio = |low: Option<f64>, high: Option<f64>| {
        let looks = [0, 1].map(|second| LookView { ratio_low: low, ratio_high: high, ..look(second, 1.0) });
        let thresholds = ThresholdsView { log_e_harm: 4.6, log_e_safe: 3.0, error_ratio_margin: 1.1 };
        let story = Story {
            from: at(0),
            until: at(10),
            looks: &looks,
            thresholds: &thresholds,
            weights: &[],
            decided: None,
        };
        let figure = figures(&story).pop().unwrap();
        (figure.drawings[0].1.matches(r#"class="line edge""#).count(), figure.summary)
    };
    let (edges, summary) = ratio(None, None);
    assert_eq!(edges, 0);
    assert!(summary.starts_with("Nothing is known yet"), "{summary}");
    assert_eq!(ratio(Some(0.5), None).0, 1);
    assert_eq!(ratio(None, Some(3.0)), (1, "The ratio is at most 3.".into()));
    assert_eq!(ratio(Some(0.5), Some(3.0)), (2, "The ratio lies between 0.5 and 3.".into()));
    // A bound that the axis does not reach is no edge at its end.
    assert_eq!(ratio(Some(0.001), Some(3_000.0)).0, 0);
}

#[test]
fn nothing_is_drawn_of_nothing() {
    assert_eq!(drawn(&[], &[], 4.6, 10), "");
}

#[test]
fn a_chart_has_no_inline_style_and_no_script() {
    let svg = drawn(&[look(0, 0.5), look(1, 2.0)], &[(at(0), Weight::FULL)], 4.6, 5);
    assert!(!svg.contains("style=") && !svg.contains("<script") && !svg.contains("onload"), "{svg}");
}

#[test]
fn a_small_chart_looks_like_this() {
    let weight = Weight::from_percent(10.0).unwrap();
    let story = Story {
        from: at(0),
        until: at(10),
        looks: &[],
        thresholds: &ThresholdsView { log_e_harm: 4.6, log_e_safe: 3.0, error_ratio_margin: 1.1 },
        weights: &[(at(2), weight), (at(8), Weight::ZERO)],
        decided: None,
    };
    let figures = figures(&story);
    assert_eq!(figures.len(), 1);
    assert_eq!(figures[0].summary, "It is 0 % now; the highest was 10 %.");
    let area = figures[0].drawings[0].1.split(r#"class="area canary" d=""#).nth(1).unwrap();
    insta::assert_snapshot!(area.split('"').next().unwrap(), @"M96.8 14.0H255.2V88.0H308.0V88.0H96.8Z");
}

#[test]
fn text_is_escaped() {
    assert_eq!(escape("<b>\"&'"), "&lt;b&gt;&quot;&amp;&#39;");
}
