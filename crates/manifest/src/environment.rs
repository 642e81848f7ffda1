//! Environments: the rules of entering them.
//!
//! Leaves out how a release takes over there (see `strategy`) and where it listens (see `listen`).
//!
//! Invariant: names differ, freezes have a length, KPI rules have a bound.

use std::collections::{BTreeMap, BTreeSet};

use delivery::code::Code;
use delivery::environment::{ApprovalRule, Environment, Freeze, FreezeWindow, Kpi, KpiRule};
use delivery::{EnvironmentName, GateName};

use crate::format::{self, Moment};
use crate::haproxy;
use crate::issue::{Issue, Issues};
use crate::listen::Doors;
use crate::model::Front;
use crate::read::{References, distinct};
use crate::strategy::strategy;
use crate::view::View;

/// All of them, in order.
pub(crate) fn all(root: View<'_>, gates: &References<'_>, issues: &mut Issues) -> Vec<Environment> {
    let mut environments = Vec::new();
    let mut names: BTreeSet<String> = BTreeSet::new();
    let services = root.names("service").len();
    let mut doors = Doors::new(root);
    for (view, words, span) in root.tables("environment") {
        let name = view.text("name");
        if let Some(name) = name.clone()
            && !names.insert(name.clone())
        {
            let message = format!("there are two environments named `{name}`");
            let issue = Issue::new(Code::ManifestValue, view.span("name").unwrap_or(span), message);
            issues.push(issue.label("the second one").hint("rename one of them".to_owned()));
        }
        let listen = doors.open(view, &words, issues);
        let listed = view.texts("gates");
        for (gate, span) in &listed {
            gates.check(gate, span, &words, issues);
        }
        let mut strategy = strategy(view, &words, issues);
        haproxy::check(view, &words, services, &mut strategy, issues);
        let approval = approval(view.table("approval"), view.has("approval"), &words, issues);
        let freezes = freezes(view, &words, issues);
        let kpis = kpis(view, &words, issues);
        let Some(name) = name.and_then(|name| EnvironmentName::new(name).ok()) else { continue };
        environments.push(Environment {
            name,
            listen,
            strategy,
            gates: distinct(&listed, GateName::new),
            approval,
            freezes,
            kpis,
            rollback_objective_ms: view.duration("rollback-within"),
        });
    }
    environments
}

/// How their proxies read requests.
pub(crate) fn fronts(root: View<'_>) -> BTreeMap<EnvironmentName, Front> {
    let front = |view: View<'_>| Front {
        trusted_proxies: view
            .texts("trusted-proxies")
            .iter()
            .filter_map(|(text, _)| text.parse().ok())
            .collect(),
        override_header: view.text("override-header"),
        haproxy: haproxy::front(view),
    };
    let views = root.tables("environment").into_iter().map(|(view, _, _)| view);
    views.filter_map(|view| Some((EnvironmentName::new(view.text("name")?).ok()?, front(view)))).collect()
}

fn approval(view: View<'_>, given: bool, words: &str, issues: &mut Issues) -> ApprovalRule {
    if !given {
        return ApprovalRule::default();
    }
    let approvers = view.strings("approvers");
    let people: BTreeSet<String> = approvers.iter().map(|person| person.to_lowercase()).collect();
    let required = view.whole("required");
    if !people.is_empty() && required > people.len() as u64 {
        let message = format!(
            "`approval` of {words} can never be met: {required} must approve and {} may",
            delivery::text::count(people.len() as u64, "person").replace("persons", "people")
        );
        let span = view.span("required").or_else(|| view.span("approvers")).unwrap_or_default();
        let issue = Issue::new(Code::ManifestValue, span, message);
        issues.push(issue.hint("name more approvers, or ask for fewer".to_owned()));
    }
    // As the ledger records people, so that the rules on record have the digest of those in the file.
    let approvers = approvers.iter().map(|person| delivery::people::identity(person)).collect();
    ApprovalRule { required: u32::try_from(required).unwrap_or(u32::MAX), approvers }
}

fn freezes(view: View<'_>, words: &str, issues: &mut Issues) -> Vec<Freeze> {
    let mut freezes = Vec::new();
    for (freeze, item, _) in view.tables("freeze") {
        let moment = |key| freeze.text(key).and_then(|text| Moment::parse(&text).ok());
        let (Some(from), Some(until)) = (moment("from"), moment("until")) else { continue };
        match format::window(from, until) {
            Ok(window) => freezes.push(window_of(freeze, window)),
            Err(trouble) => {
                let message = format!("{item} of {words}: {}", trouble.message);
                let span = freeze.span("until").unwrap_or_default();
                issues.push(Issue::new(Code::ManifestValue, span, message).hint(trouble.hint));
            }
        }
    }
    freezes
}

fn window_of(freeze: View<'_>, window: FreezeWindow) -> Freeze {
    Freeze { reason: freeze.text("reason").unwrap_or_default(), window }
}

fn kpis(view: View<'_>, words: &str, issues: &mut Issues) -> Vec<KpiRule> {
    let mut rules = Vec::new();
    for (rule, item, span) in view.tables("kpi") {
        let (min, max) = (rule.number_if("min"), rule.number_if("max"));
        if !rule.has("min") && !rule.has("max") {
            let issue = Issue::new(Code::ManifestKeyMissing, span, format!("{item} of {words} has no bound"));
            issues.push(issue.hint("add `min`, `max` or both".to_owned()));
        }
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            let message = format!("{item} of {words} can never be met: `min` is above `max`");
            let issue = Issue::new(Code::ManifestValue, rule.span("min").unwrap_or_default(), message);
            issues.push(issue.hint("exchange them".to_owned()));
        }
        let kpi = match rule.text("measure").as_deref() {
            Some("soak-minutes") => Kpi::SoakMinutes,
            Some("change-failure-percent") => Kpi::ChangeFailurePercent,
            _ => continue,
        };
        rules.push(KpiRule { kpi, min, max });
    }
    rules
}
