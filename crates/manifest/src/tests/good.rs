//! What is read from good files; defaults; the generated schema and page.

use std::collections::BTreeSet;

use camino::Utf8PathBuf;
use delivery::environment::{FreezeWindow, Kpi};
use delivery::strategy::{AnalysisPolicy, OnExpiry, OnInconclusive, Sticky, StrategyKind};
use delivery::{EnvironmentName, ServiceName, TaskName};

use super::{FULL, parse};
use crate::policy_digest;

const HEAD: &str = "version = 1\nproject = \"shop\"\n";

fn environment(text: &str) -> delivery::environment::Environment {
    let text = format!("{HEAD}[[environment]]\nname = \"e\"\nlisten = \"127.0.0.1:0\"\n{text}");
    parse(&text).expect("valid").environments.remove(0)
}

fn weights(text: &str) -> Vec<u16> {
    environment(text).strategy.steps.iter().map(|step| step.weight.basis_points()).collect()
}

#[test]
fn the_full_example_is_read() {
    let manifest = parse(FULL).expect("valid");
    assert_eq!((manifest.project.as_str(), manifest.trunk.as_str()), ("shop", "main"));
    let service = manifest.service(&ServiceName::new("shop").unwrap()).unwrap();
    assert_eq!(service.start, ["node", "dist/server.mjs"]);
    assert_eq!((service.ready.path.as_deref(), service.ready.within_ms), (Some("/healthz"), 10_000));
    assert_eq!((service.stop_ms, service.instances), (10_000, 1));
    assert_eq!(service.environment["LOG"], "info");
    let test = manifest.task(&TaskName::new("test").unwrap()).unwrap();
    assert_eq!((test.timeout_ms, test.cache, test.needs.len()), (300_000, true, 1));
    assert_eq!(manifest.gates[0].tests_min, 1);
    let names: Vec<&str> =
        manifest.environments.iter().map(|environment| environment.name.as_str()).collect();
    assert_eq!(names, ["staging", "production"]);

    let production = manifest.environment(&EnvironmentName::new("production").unwrap()).unwrap();
    assert_eq!(production.rollback_objective_ms, 900_000);
    assert_eq!((production.approval.required, production.approval.approvers.len()), (1, 1));
    let friday = FreezeWindow::Weekly { from_minute: 4 * 1440 + 960, until_minute: 480 };
    assert_eq!(production.freezes[0].window, friday);
    assert!(matches!(production.freezes[1].window, FreezeWindow::Dates { .. }));
    assert_eq!((production.kpis[1].kpi, production.kpis[1].max), (Kpi::ChangeFailurePercent, Some(10.0)));
    let strategy = &production.strategy;
    assert_eq!((strategy.kind, strategy.steps.len()), (StrategyKind::Canary, 3));
    assert_eq!((strategy.steps[0].hold_ms, strategy.steps[0].deadline_ms), (20_000, 600_000));
    assert!(strategy.steps.iter().all(|step| step.analyse));
    assert_eq!(strategy.sticky, Sticky::Cookie("shop_id".into()));
    assert_eq!(strategy.analysis, AnalysisPolicy { latency_share_floor: 0.05, ..AnalysisPolicy::default() });
    assert_eq!(
        (strategy.on_inconclusive, strategy.on_expiry),
        (OnInconclusive::Rollback, OnExpiry::Rollback)
    );
}

#[test]
fn defaults_are_filled_in() {
    let text = format!(
        "{HEAD}[service.a]\nartifact = [\"*\"]\nstart = [\"./a\"]\n[task.t]\ncommand = [\"true\"]\n[task.u]\ncommand = \
         [\"true\"]\njunit = [\"r.xml\"]\n[gate.g]\ntasks = [\"t\"]\n[gate.h]\ntasks = [\"t\", \"u\"]\n"
    );
    let manifest = parse(&text).expect("valid");
    let service = &manifest.services[0];
    assert_eq!((service.directory.as_str(), service.instances, service.stop_ms), (".", 1, 10_000));
    assert_eq!((&service.ready.path, service.ready.within_ms), (&None, 30_000));
    let task = &manifest.tasks[0];
    assert_eq!((task.directory.as_str(), task.timeout_ms, task.cache), (".", 1_800_000, false));
    assert_eq!((manifest.gates[0].tests_min, manifest.gates[1].tests_min), (0, 1));
    assert_eq!((manifest.gates[0].errors_max, manifest.trunk.as_str()), (0, "main"));

    let environment = environment("");
    assert_eq!(environment.strategy.kind, StrategyKind::Direct);
    assert_eq!(environment.strategy.analysis, AnalysisPolicy::default());
    assert_eq!((environment.strategy.grant_ttl_ms, environment.strategy.drain_ms), (15_000, 10_000));
    assert_eq!((environment.rollback_objective_ms, environment.approval.required), (900_000, 0));
}

#[test]
fn strategies_become_steps() {
    assert_eq!(weights("strategy = \"direct\""), [10_000]);
    assert_eq!(weights("strategy = \"rolling\""), [2_500, 5_000, 7_500, 10_000]);
    assert_eq!(weights("strategy = \"rolling\"\nrolling = { steps = 3 }"), [3_333, 6_667, 10_000]);
    assert_eq!(weights("strategy = \"blue-green\""), [10_000]);
    assert_eq!(weights("strategy = \"canary\""), [500, 2_500, 5_000]);
    assert_eq!(
        weights("strategy = \"canary\"\ncanary = { steps = [{ weight = 0.5 }, { weight = 0.5 }] }"),
        [50, 50]
    );
    let direct = environment("strategy = \"direct\"\ndirect = { drain = \"0s\" }").strategy;
    assert!(!direct.steps[0].analyse && direct.drain_ms == 0);
    let bake = environment("strategy = \"blue-green\"\nblue-green = { hold = \"1h\" }").strategy;
    assert!(bake.steps[0].analyse);
    assert_eq!((bake.steps[0].hold_ms, bake.steps[0].deadline_ms), (3_600_000, 7_200_000));
    let canary = environment(
        "strategy = \"canary\"\ncanary = { sticky = { address = true }, on-inconclusive = \"hold\", on-expiry = \"hold\" }",
    );
    assert_eq!(canary.strategy.sticky, Sticky::Address);
    assert_eq!(canary.strategy.on_inconclusive, OnInconclusive::Hold);
    assert_eq!(canary.strategy.on_expiry, OnExpiry::Hold);
    // The steps written out mean the same as the default.
    let written = environment(
        "strategy = \"canary\"\ncanary = { steps = [{weight = 5}, {weight = 25}, {weight = 50}] }",
    );
    assert_eq!(written.strategy, environment("strategy = \"canary\"").strategy);
}

#[test]
fn spellings_that_mean_the_same() {
    let text = format!(
        "\u{feff}{HEAD}\ntask.a.command = [\"x\"]\n\n[task.'web/test:unit']\r\ncommand = ['y']\r\ninputs = ['**', '!**/*.md']\r\ndirectory = './web/'\r\nneeds = ['a', 'a']\n"
    );
    let manifest = parse(&text).expect("valid");
    assert_eq!(manifest.tasks[1].directory, Utf8PathBuf::from("web"));
    assert_eq!(manifest.tasks[1].needs.len(), 1);
    let freeze =
        "freeze = [{ reason = \"x\", from = 2026-12-20T00:00:00Z, until = 2027-01-03T00:00:00+01:00 }]";
    let quoted = "freeze = [{ reason = \"x\", from = \"2026-12-20T00:00Z\", until = \"2027-01-02T23:00Z\" }]";
    assert_eq!(environment(freeze), environment(quoted));
}

#[test]
fn each_service_listens_where_it_says_whatever_else_there_is() {
    let service = |name: &str| format!("[service.{name}]\nartifact = [\"*\"]\nstart = [\"x\"]\n");
    let text = |services: &str, listen: &str| {
        let environment = format!("[[environment]]\nname = \"e\"\nlisten = {listen}\n");
        parse(&format!("{HEAD}{services}{environment}")).expect("valid").environments.remove(0).listen
    };
    let web = ServiceName::new("web").unwrap();
    let one = text(&service("web"), "\"localhost:8080\"");
    assert_eq!(one.of(&web), Some("127.0.0.1:8080"));
    let both = service("web") + &service("api");
    let each = text(&both, "{ web = \"127.0.0.1:8080\", api = \"127.0.0.1:0\" }");
    assert_eq!(each.of(&web), Some("127.0.0.1:8080"));
    assert_eq!(each.of(&ServiceName::new("other").unwrap()), None);
}

#[test]
fn an_output_may_be_written_by_one_after_the_other() {
    let task = |name: &str, rest: &str| {
        format!("[task.{name}]\ncommand = [\"x\"]\noutputs = [\"dist/**\"]\n{rest}\n")
    };
    let (first, last) = (task("a", ""), task("c", "needs = [\"b\"]"));
    let between = "[task.b]\ncommand = [\"x\"]\nneeds = [\"a\"]\noutputs = [\"distant\", \"!dist/**\"]\n";
    assert!(parse(&format!("{HEAD}{first}{between}{last}")).is_ok());
}

#[test]
fn tasks_only_and_nothing_but_the_head_are_valid() {
    assert!(parse(HEAD).is_ok());
    assert!(parse(&format!("{HEAD}[task.a]\ncommand = [\"a\"]\n")).is_ok());
}

#[test]
fn the_policy_digest_binds_the_rules_and_the_target() {
    let base = environment("strategy = \"canary\"");
    let digest = policy_digest(&base);
    let mut moved = base.clone();
    moved.listen = "127.0.0.1:9".into();
    assert_ne!(policy_digest(&moved), digest, "another port is another target");
    let others = [
        "",
        "strategy = \"canary\"\nanalysis = { alpha = 0.02 }",
        "strategy = \"canary\"\napproval = { required = 1 }",
        "strategy = \"canary\"\nrollback-within = \"1m\"",
        "strategy = \"canary\"\nkpi = [{ measure = \"soak-minutes\", min = 1 }]",
        "strategy = \"canary\"\nfreeze = [{ reason = \"x\", from = \"Fri 16:00\", until = \"Mon 08:00\" }]",
    ];
    let digests: BTreeSet<_> = others.iter().map(|text| policy_digest(&environment(text))).collect();
    assert!(digests.len() == others.len() && !digests.contains(&digest));
}

#[test]
fn ten_thousand_tasks_are_quick() {
    use std::fmt::Write as _;
    let mut text = HEAD.to_owned();
    for index in 0..10_000 {
        let _ = writeln!(text, "[task.t{index}]\ncommand = [\"x\"]\ninputs = [\"s/{index}/**\"]");
        if index > 0 {
            let _ = writeln!(text, "needs = [\"t{}\"]", index - 1);
        }
    }
    assert!((text.len() as u64) < delivery::limits::MANIFEST_BYTES_MAX);
    #[expect(clippy::disallowed_methods, reason = "this test measures")]
    let start = std::time::Instant::now();
    let toml = toml::de::DeTable::parse(&text).map(|_| start.elapsed()).expect("valid");
    let manifest = parse(&text).expect("valid");
    let took = start.elapsed().checked_sub(toml).expect("later");
    eprintln!("10,000 tasks, {} bytes: {took:?}, of which TOML alone {toml:?}", text.len());
    assert_eq!(manifest.tasks.len(), 10_000);
    // Generous, for a machine that does other things too; the figure aimed at is 200 ms.
    assert!(took < std::time::Duration::from_secs(3), "{took:?}");

    let circle = text.replacen("[task.t0]", "[task.t0]\nneeds = [\"t9999\"]", 1);
    let problems = parse(&circle).expect_err("a circle");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("more) -> t0"), "{}", problems[0].message);
}

/// Compares with the committed file, or writes it when TRIMTAB_UPDATE is set.
fn committed(name: &str, text: &str) {
    let path = Utf8PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name);
    if std::env::var_os("TRIMTAB_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "{path} is out of date: run the test with TRIMTAB_UPDATE=1");
}

#[test]
fn the_schema_is_committed() {
    committed("trimtab.schema.json", &format!("{:#}\n", crate::schema()));
}

#[test]
fn the_page_is_committed() {
    committed("manifest.md", &crate::reference());
}

#[test]
fn the_page_s_example_is_valid() {
    let page = crate::reference();
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    parse(example).expect("valid");
}

/// Every key: an unknown neighbour is refused, the key itself is not, its default and example fit its shape.
#[test]
fn the_schema_has_the_keys_that_are_accepted() {
    fn walk(schema: &serde_json::Value, path: &str, seen: &mut BTreeSet<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            assert_eq!(schema["additionalProperties"], serde_json::json!(false), "{path}");
            for (name, inner) in properties {
                seen.insert(format!("{path}/{name}"));
                walk(inner, &format!("{path}/{name}"), seen);
            }
        }
        for below in ["items", "additionalProperties"] {
            if schema[below].is_object() {
                walk(&schema[below], path, seen);
            }
        }
    }
    let mut keys = BTreeSet::new();
    walk(&crate::schema(), "", &mut keys);
    assert!(keys.contains("/environment/canary/steps/weight"));
    for key in &keys {
        let refused = |name: &str| {
            let mut path: Vec<&str> = key.trim_start_matches('/').split('/').collect();
            *path.last_mut().unwrap() = name;
            let text = nested(&path);
            let problems = parse(&text).err().unwrap_or_default();
            problems.iter().any(|problem| problem.message.contains(&format!("unknown key `{name}`")))
        };
        assert!(!refused(key.rsplit('/').next().unwrap()), "{key} is refused");
        assert!(refused("xyzzy"), "a neighbour of {key} is accepted");
    }
}

/// A file that gives the key at this path some value, with the named tables and lists above it.
fn nested(path: &[&str]) -> String {
    fn inner(path: &[&str]) -> String {
        match path {
            [name] => format!("{{ {name} = 1 }}"),
            [name, rest @ ..] if ["service", "task", "gate"].contains(name) => {
                format!("{{ {name} = {{ n = {} }} }}", inner(rest))
            }
            [name, rest @ ..] if ["environment", "freeze", "kpi", "steps"].contains(name) => {
                format!("{{ {name} = [{}] }}", inner(rest))
            }
            [name, rest @ ..] => format!("{{ {name} = {} }}", inner(rest)),
            [] => "{}".into(),
        }
    }
    let table = inner(path);
    let root = table.strip_prefix("{ ").and_then(|text| text.strip_suffix(" }")).unwrap_or_default();
    let head = if path[0] == "version" { "" } else { "version = 1\n" };
    format!("{head}{root}\n")
}

#[test]
fn defaults_and_examples_fit_their_keys() {
    use crate::shape::{Shape, TableShape};
    fn walk(shape: &'static TableShape) {
        for key in shape.keys {
            for text in [key.default, key.example].into_iter().filter(|text| !text.is_empty()) {
                let text = format!("{} = {text}", key.name);
                let table = toml::de::DeTable::parse(&text).unwrap();
                let mut checker = crate::check::Checker::new(&text);
                checker.table(shape, "it", table.get_ref(), &(0..0));
                let problems = checker.issues.into_problems("x".into(), &text);
                let wrong: Vec<_> =
                    problems.iter().filter(|p| p.code != delivery::code::Code::ManifestKeyMissing).collect();
                assert!(wrong.is_empty(), "{text}: {wrong:?}");
            }
            match &key.shape {
                Shape::Table(inner) | Shape::Tables(inner, _) | Shape::Named(inner, ..) => walk(inner),
                _ => {}
            }
        }
    }
    walk(&crate::keys::MANIFEST);
}

#[test]
fn behind_haproxy_no_latency_is_judged() {
    let text = "version = 1\nproject = \"shop\"\n[service.a]\nartifact = [\"*\"]\nstart = [\"x\"]\n\
        [[environment]]\nname = \"e\"\nlisten = \"127.0.0.1:8080\"\nstrategy = \"canary\"\n\
        haproxy = { socket = \"/run/h.sock\" }\n";
    let manifest = parse(text).unwrap();
    let environment = &manifest.environments[0];
    let last_bound_us = delivery::traffic::LATENCY_BOUNDS_US.last().unwrap();
    assert!(environment.strategy.analysis.latency_from_ms > last_bound_us / 1_000);
    let haproxy = manifest.fronts[&environment.name].haproxy.clone().unwrap();
    assert_eq!(
        (haproxy.backend.as_str(), haproxy.stable.as_str(), haproxy.guard),
        ("{service}", "stable", true)
    );
}
