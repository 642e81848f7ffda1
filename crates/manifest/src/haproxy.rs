//! Environments with an HAProxy in front: what can't be had there is refused, instead of being ignored.
//!
//! Leaves out whether HAProxy is there and fit (`trimtab doctor` asks it).
//!
//! Invariant: behind HAProxy no latency is judged, because HAProxy counts none; no share is asked for that its weights can't
//! say.

use delivery::code::Code;
use delivery::strategy::Strategy;

use crate::issue::{Issue, Issues};
use crate::model::Haproxy;
use crate::view::View;

/// Above every latency bound: none is judged.
const LATENCY_UNJUDGED_MS: u64 = 86_400_000;
/// The least share above 0 that HAProxy's weights (0 to 256) can say, in hundredths of a percent.
const LEAST_SHARE_BASIS_POINTS: u16 = 39;
/// Settings of the proxy that is not used, with where to do it instead.
const OTHERS: [(&str, &str); 2] = [
    ("trusted-proxies", "let HAProxy's configuration say which forwarding headers count"),
    ("override-header", "write a rule with `use-server` in HAProxy's configuration"),
];
/// Settings of the analysis that need latencies.
const LATENCIES: [&str; 4] = ["latency-ratio-margin", "latency-share-floor", "latency-from", "warm-up"];

/// How the environment's HAProxy is reached, if it has one.
pub(crate) fn front(environment: View<'_>) -> Option<Haproxy> {
    let view = environment.table("haproxy");
    environment.has("haproxy").then(|| Haproxy {
        socket: view.text("socket").unwrap_or_default().into(),
        backend: view.text("backend").unwrap_or_default(),
        stable: view.text("stable").unwrap_or_default(),
        canary: view.text("canary").unwrap_or_default(),
        guard: view.flag("guard").unwrap_or(true),
    })
}

/// Complains about what HAProxy can't do, and takes latencies out of the strategy's questions. There are so many services.
pub(crate) fn check(
    environment: View<'_>,
    words: &str,
    services: usize,
    strategy: &mut Strategy,
    issues: &mut Issues,
) {
    let Some(front) = front(environment) else { return };
    strategy.analysis.latency_from_ms = LATENCY_UNJUDGED_MS;
    let mut refuse = |key: &str, view: View<'_>, reason: String, hint: &str| {
        if let Some(span) = view.key_span(key) {
            let message = format!("`{key}` of {words} has no effect: {reason}");
            let issue = Issue::new(Code::ManifestValue, span, message).label("not used");
            issues.push(issue.hint(hint.to_owned()));
        }
    };
    for (key, hint) in OTHERS {
        refuse(key, environment, "HAProxy is in front".into(), hint);
    }
    for key in LATENCIES {
        let reason = "HAProxy counts no latencies, so only errors are judged".into();
        refuse(key, environment.table("analysis"), reason, "remove it");
    }
    for kind in ["rolling", "canary"] {
        let hint = "let HAProxy do it, with `cookie` or a stick table, and remove `sticky`";
        refuse("sticky", environment.table(kind), "HAProxy decides who stays where".into(), hint);
    }
    let span = environment.key_span("haproxy").unwrap_or_default();
    if front.stable == front.canary {
        let message = format!("`haproxy` of {words} names the servers of both versions alike");
        let issue = Issue::new(Code::ManifestValue, span.clone(), message);
        issues.push(issue.hint("give `stable` and `canary` different beginnings".to_owned()));
    }
    if services > 1 && !front.backend.contains("{service}") {
        let message = format!("`haproxy` of {words} has one backend for {services} services");
        let issue = Issue::new(Code::ManifestValue, span.clone(), message);
        issues.push(issue.hint("write `{service}` into `backend`, such as \"{service}-web\"".to_owned()));
    }
    let small = |points: u16| points > 0 && points < LEAST_SHARE_BASIS_POINTS;
    if let Some(step) = strategy.steps.iter().find(|step| small(step.weight.basis_points())) {
        let message = format!("{words} asks for {}, which HAProxy's weights can't say", step.weight);
        let issue = Issue::new(Code::ManifestValue, span, message);
        issues.push(issue.hint("the least is 0.39; write a larger `weight`".to_owned()));
    }
}
