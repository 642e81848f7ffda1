//! Strategies: every kind becomes a list of steps.
//!
//! Leaves out what a planner does with them.
//!
//! Invariant: at least one step; weights are above zero and never fall; a step's deadline is not before its hold ends.

use delivery::code::Code;
use delivery::strategy::{AnalysisPolicy, OnExpiry, OnInconclusive, Step, Sticky, Strategy, StrategyKind};
use delivery::traffic::Weight;

use crate::format::shortest;
use crate::issue::{Issue, Issues};
use crate::view::View;

/// A canary's weights in percent where none are given.
const CANARY_PERCENT: [f64; 3] = [5.0, 25.0, 50.0];

/// A step's deadline in milliseconds where none is given and the hold is not longer.
const DEADLINE_MS: u64 = 600_000;

const KINDS: [(&str, StrategyKind); 4] = [
    ("direct", StrategyKind::Direct),
    ("rolling", StrategyKind::Rolling),
    ("blue-green", StrategyKind::BlueGreen),
    ("canary", StrategyKind::Canary),
];

/// The strategy of an environment.
pub(crate) fn strategy(environment: View<'_>, words: &str, issues: &mut Issues) -> Strategy {
    let chosen = environment.text("strategy").unwrap_or_default();
    let kind = KINDS.iter().find(|(name, _)| *name == chosen).map_or(StrategyKind::Direct, |(_, kind)| *kind);
    idle_settings(environment, &chosen, kind, words, issues);
    let (view, steps) = match kind {
        StrategyKind::Direct => {
            let steps =
                vec![Step { weight: Weight::FULL, hold_ms: 0, deadline_ms: DEADLINE_MS, analyse: false }];
            (environment.table("direct"), steps)
        }
        StrategyKind::Rolling => {
            let view = environment.table("rolling");
            (view, equal_shares(view.whole("steps"), view.duration("hold")))
        }
        StrategyKind::BlueGreen => {
            let view = environment.table("blue-green");
            (view, vec![analysed(view, Weight::FULL, &format!("`blue-green` of {words}"), issues)])
        }
        StrategyKind::Canary => {
            let view = environment.table("canary");
            (view, canary_steps(view, words, issues))
        }
    };
    let keeps = kind != StrategyKind::Direct;
    let grant_ttl_ms = if keeps { view.duration("grant") } else { 15_000 };
    Strategy {
        kind,
        steps,
        analysis: analysis(environment.table("analysis"), words, issues),
        on_inconclusive: on_inconclusive(kind, view),
        on_expiry: if keeps && view.text("on-expiry").as_deref() == Some("hold") {
            OnExpiry::Hold
        } else {
            OnExpiry::Rollback
        },
        grant_ttl_ms,
        sticky: match kind {
            StrategyKind::Rolling | StrategyKind::Canary => sticky(view, words, issues),
            StrategyKind::Direct | StrategyKind::BlueGreen => Sticky::None,
        },
        drain_ms: view.duration("drain"),
    }
}

/// Settings of a strategy that is not the chosen one would be silently ignored, so they are refused.
fn idle_settings(environment: View<'_>, chosen: &str, kind: StrategyKind, words: &str, issues: &mut Issues) {
    if environment.span("strategy").is_some() && !environment.has_valid_choice("strategy") {
        return;
    }
    for (name, _) in KINDS.iter().filter(|(_, other)| *other != kind) {
        if let Some(span) = environment.key_span(name) {
            let message = format!("`{name}` of {words} has no effect: the strategy is \"{chosen}\"");
            let hint = format!("write strategy = \"{name}\", or remove `{name}`");
            issues.push(Issue::new(Code::ManifestValue, span, message).label("not used").hint(hint));
        }
    }
    if let Some(span) = environment.key_span("analysis")
        && matches!(kind, StrategyKind::Direct | StrategyKind::Rolling)
    {
        let message = format!("`analysis` of {words} has no effect: strategy \"{chosen}\" does not analyse");
        let hint = "write strategy = \"canary\" or \"blue-green\", or remove `analysis`".to_owned();
        issues.push(Issue::new(Code::ManifestValue, span, message).label("not used").hint(hint));
    }
}

fn equal_shares(count: u64, hold_ms: u64) -> Vec<Step> {
    let count = count.max(1);
    let share =
        |index: u64| Weight::from_percent(index as f64 * 100.0 / count as f64).unwrap_or(Weight::FULL);
    let deadline_ms = default_deadline(hold_ms);
    (1..=count).map(|index| Step { weight: share(index), hold_ms, deadline_ms, analyse: false }).collect()
}

fn default_deadline(hold_ms: u64) -> u64 {
    DEADLINE_MS.max(hold_ms.saturating_mul(2))
}

/// A step with `hold` and `deadline` from the table.
fn analysed(view: View<'_>, weight: Weight, words: &str, issues: &mut Issues) -> Step {
    let hold_ms = view.duration("hold");
    let deadline_ms = view.duration_if("deadline").unwrap_or_else(|| default_deadline(hold_ms));
    if deadline_ms < hold_ms {
        let message =
            format!("{words} can never pass: its deadline is before its hold of {} ends", shortest(hold_ms));
        let span = view.span("deadline").unwrap_or_default();
        let hint = format!("write a deadline above \"{}\"", shortest(hold_ms));
        issues.push(Issue::new(Code::ManifestValue, span, message).hint(hint));
    }
    Step { weight, hold_ms, deadline_ms, analyse: true }
}

fn canary_steps(view: View<'_>, words: &str, issues: &mut Issues) -> Vec<Step> {
    if !view.has("steps") {
        let weights = CANARY_PERCENT.iter().filter_map(|percent| Weight::from_percent(*percent));
        let default = |weight| Step { weight, hold_ms: 20_000, deadline_ms: DEADLINE_MS, analyse: true };
        return weights.map(default).collect();
    }
    let mut steps: Vec<Step> = Vec::new();
    let mut highest = 0.0_f64;
    for (step, item, _) in view.tables("steps") {
        let item = format!("{item} of `canary` of {words}");
        let Some(percent) = step.number_if("weight") else { continue };
        if percent < highest {
            let message = format!("{item} has less weight than the step before: {percent} after {highest}");
            let issue = Issue::new(Code::ManifestValue, step.span("weight").unwrap_or_default(), message);
            issues
                .push(issue.label("weights never fall").hint("put the steps in ascending order".to_owned()));
        }
        highest = highest.max(percent);
        let weight = Weight::from_percent(percent).unwrap_or(Weight::FULL);
        steps.push(analysed(step, weight, &item, issues));
    }
    steps
}

fn on_inconclusive(kind: StrategyKind, view: View<'_>) -> OnInconclusive {
    let asks = matches!(kind, StrategyKind::BlueGreen | StrategyKind::Canary);
    if asks && view.text("on-inconclusive").as_deref() == Some("hold") {
        OnInconclusive::Hold
    } else {
        OnInconclusive::Rollback
    }
}

fn sticky(view: View<'_>, words: &str, issues: &mut Issues) -> Sticky {
    let sticky = view.table("sticky");
    let given = ["cookie", "header", "address"].iter().filter(|key| sticky.has(key)).count();
    if view.has("sticky") && given != 1 {
        let message = format!("`sticky` of {words} names {given} ways; it must be exactly one");
        let issue = Issue::new(Code::ManifestValue, view.span("sticky").unwrap_or_default(), message);
        issues.push(
            issue.hint("write { cookie = \"NAME\" }, { header = \"NAME\" } or { address = true }".to_owned()),
        );
    }
    if let Some(name) = sticky.text("cookie") {
        Sticky::Cookie(name)
    } else if let Some(name) = sticky.text("header") {
        Sticky::Header(name)
    } else if sticky.flag("address") == Some(true) {
        Sticky::Address
    } else {
        Sticky::None
    }
}

fn analysis(view: View<'_>, words: &str, issues: &mut Issues) -> AnalysisPolicy {
    let (interval_ms, silence_ms) = (view.duration("interval"), view.duration("silence"));
    if silence_ms < interval_ms {
        let message = format!("`analysis` of {words}: `silence` is shorter than `interval`");
        let span = view.span("silence").or_else(|| view.span("interval")).unwrap_or_default();
        let hint = format!("write a silence of at least \"{}\"", shortest(interval_ms));
        issues.push(Issue::new(Code::ManifestValue, span, message).hint(hint));
    }
    AnalysisPolicy {
        alpha: view.number("alpha"),
        beta: view.number("beta"),
        error_ratio_margin: view.number("error-ratio-margin"),
        error_rate_floor: view.number("error-rate-floor"),
        safe_ratio: view.number("safe-ratio"),
        latency_ratio_margin: view.number("latency-ratio-margin"),
        latency_share_floor: view.number("latency-share-floor"),
        latency_from_ms: view.duration("latency-from"),
        warm_up_ms: view.duration("warm-up"),
        interval_ms,
        silence_ms,
    }
}
