//! Makes the manifest's values from a parsed file, and looks at the rules between keys on the way.
//!
//! Leaves out single keys (see `check`) and the strategies (see `strategy`).
//!
//! Invariant: when no issue was found, by the checker or here, the value returned keeps all that `model` promises.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use delivery::code::Code;
use delivery::text::nearest;
use delivery::{GateName, ServiceName, TaskName};
use toml::de::DeTable;

use crate::format::directory;
use crate::graph;
use crate::issue::{Issue, Issues, PROBLEMS_MAX, Span};
use crate::keys::MANIFEST;
use crate::model::{Gate, Manifest, Readiness, Service, Task};
use crate::shape::quoted;
use crate::view::View;
use crate::{environment, model, outputs};

/// How the file as a whole is called in messages.
pub(crate) const ROOT: &str = "the manifest";

/// Reads everything.
pub(crate) fn manifest(table: &DeTable<'_>, issues: &mut Issues) -> Manifest {
    let root = View::new(&MANIFEST, table);
    let task_names = References::new("task", root.names("task"));
    let gate_names = References::new("gate", root.names("gate"));
    let tasks = tasks(root, &task_names, issues);
    let gates = gates(root, &task_names, &tasks, issues);
    Manifest {
        project: root.text("project").unwrap_or_default(),
        services: services(root, issues),
        gates,
        environments: environment::all(root, &gate_names, issues),
        fronts: environment::fronts(root),
        trunk: root.text("trunk").unwrap_or_default(),
        ledger: root.text("ledger"),
        tasks,
    }
}

/// The names that may be referred to.
pub(crate) struct References<'t> {
    noun: &'static str,
    names: BTreeSet<&'t str>,
}

impl<'t> References<'t> {
    pub(crate) fn new(noun: &'static str, names: Vec<&'t str>) -> Self {
        Self { noun, names: names.into_iter().collect() }
    }

    /// Whether the name is defined; else an issue.
    pub(crate) fn check(&self, name: &str, span: &Span, subject: &str, issues: &mut Issues) {
        if self.names.contains(name) {
            return;
        }
        let message = format!("{subject} names the {} `{name}`, which is not defined", self.noun);
        // Looking for the nearest of very many names for very many references would take minutes.
        let most = if issues.len() < 2 * PROBLEMS_MAX { 2_000 } else { 0 };
        let candidates = self.names.iter().copied().take(most);
        let hint = match nearest(name, candidates) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if self.names.is_empty() => format!("define it: [{}.{name}]", self.noun),
            None if self.names.len() <= 12 => {
                let names: Vec<&str> = self.names.iter().copied().collect();
                format!("defined are {}", quoted(&names).replace(" or ", " and "))
            }
            None => format!("define it: [{}.{name}]", self.noun),
        };
        let issue = Issue::new(Code::ManifestReference, span.clone(), message);
        issues.push(issue.label(format!("no such {}", self.noun)).hint(hint));
    }
}

fn path(view: View<'_>) -> Utf8PathBuf {
    let text = view.text("directory").unwrap_or_default();
    directory(&text).unwrap_or_else(|_| Utf8PathBuf::from("."))
}

fn services(root: View<'_>, issues: &mut Issues) -> Vec<Service> {
    let mut services = Vec::new();
    for (name, view, _) in root.named("service") {
        let environment = view.variables("environment");
        let pass = view.texts("pass");
        let named = pass.iter().any(|(variable, _)| variable == "PORT");
        if environment.contains_key("PORT") || named {
            let key = if named { "pass" } else { "environment" };
            let message = format!("service `{name}` gives itself PORT, which is set for each instance");
            let issue = Issue::new(Code::ManifestValue, view.span(key).unwrap_or_default(), message);
            issues
                .push(issue.hint("remove it; the environment's `listen` is where users come in".to_owned()));
        }
        let ready = view.table("ready");
        let Ok(name) = ServiceName::new(name) else { continue };
        services.push(Service {
            name,
            directory: path(view),
            artifact: view.strings("artifact"),
            start: view.strings("start"),
            environment,
            pass: pass.into_iter().map(|(variable, _)| variable).collect(),
            ready: Readiness { path: ready.text("path"), within_ms: ready.duration("within") },
            instances: u32::try_from(view.whole("instances")).unwrap_or(u32::MAX),
            stop_ms: view.duration("stop-within"),
        });
    }
    services
}

fn tasks(root: View<'_>, names: &References<'_>, issues: &mut Issues) -> Vec<Task> {
    let named = root.named("task");
    let positions: BTreeMap<&str, usize> =
        named.iter().enumerate().map(|(index, (name, _, _))| (*name, index)).collect();
    let mut tasks = Vec::with_capacity(named.len());
    let mut edges: Vec<Vec<(usize, Span)>> = Vec::with_capacity(named.len());
    for (name, view, _) in &named {
        let needs = view.texts("needs");
        for (need, span) in &needs {
            names.check(need, span, &format!("task `{name}`"), issues);
        }
        let known =
            needs.iter().filter_map(|(need, span)| Some((*positions.get(need.as_str())?, span.clone())));
        edges.push(known.collect());
        if let Ok(name) = TaskName::new(*name) {
            tasks.push(task(name, *view, &needs));
        }
    }
    let names: Vec<&str> = named.iter().map(|(name, _, _)| *name).collect();
    circles(&names, &edges, issues);
    let needs: Vec<Vec<usize>> =
        edges.iter().map(|edges| edges.iter().map(|(need, _)| *need).collect()).collect();
    let views = named.iter().map(|(_, view, _)| *view);
    outputs::check(&names, views, &needs, issues);
    tasks
}

fn task(name: TaskName, view: View<'_>, needs: &[(String, Span)]) -> Task {
    let inputs = view.strings("inputs");
    Task {
        name,
        command: view.strings("command"),
        directory: path(view),
        needs: distinct(needs, TaskName::new),
        environment: view.variables("environment"),
        pass: view.strings("pass"),
        timeout_ms: view.duration("timeout"),
        junit: view.strings("junit"),
        cache: view.flag("cache").unwrap_or(!inputs.is_empty()),
        outputs: view.strings("outputs"),
        inputs,
    }
}

/// The names, each once, in the order of the text.
pub(crate) fn distinct<N: PartialEq, E>(
    texts: &[(String, Span)],
    make: impl Fn(String) -> Result<N, E>,
) -> Vec<N> {
    let mut seen = BTreeSet::new();
    let first = texts.iter().filter(|(text, _)| seen.insert(text.as_str()));
    first.filter_map(|(text, _)| make(text.clone()).ok()).collect()
}

/// Names in one circle that are written out; the rest are counted.
const CIRCLE_NAMES_MAX: usize = 24;

fn circles(names: &[&str], edges: &[Vec<(usize, Span)>], issues: &mut Issues) {
    for circle in graph::circles(edges) {
        let name = |index: &usize| names.get(*index).copied().unwrap_or_default();
        let first = circle.nodes.first().map(name).unwrap_or_default();
        let message = if circle.nodes.len() == 1 {
            format!("task `{first}` needs itself")
        } else {
            let mut words: Vec<String> =
                circle.nodes.iter().take(CIRCLE_NAMES_MAX).map(|index| name(index).to_owned()).collect();
            let more = circle.nodes.len() - words.len();
            if more > 0 {
                words.push(format!("({more} more)"));
            }
            format!("tasks need each other in a circle: {} -> {first}", words.join(" -> "))
        };
        let issue = Issue::new(Code::ManifestCycle, circle.closing, message);
        issues
            .push(issue.label("this closes the circle").hint("remove one of these from `needs`".to_owned()));
    }
}

fn gates(root: View<'_>, names: &References<'_>, tasks: &[model::Task], issues: &mut Issues) -> Vec<Gate> {
    let reporting: BTreeSet<&str> =
        tasks.iter().filter(|task| !task.junit.is_empty()).map(|task| task.name.as_str()).collect();
    let mut gates = Vec::new();
    for (name, view, _) in root.named("gate") {
        let listed = view.texts("tasks");
        for (task, span) in &listed {
            names.check(task, span, &format!("gate `{name}`"), issues);
        }
        let reports = listed.iter().any(|(task, _)| reporting.contains(task.as_str()));
        let tests_min = view.whole_if("tests-min").unwrap_or(u64::from(reports));
        if tests_min > 0 && !reports && !listed.is_empty() {
            let message = format!("gate `{name}` can never pass: none of its tasks declares `junit`");
            let issue = Issue::new(Code::ManifestValue, view.span("tests-min").unwrap_or_default(), message);
            issues.push(
                issue.hint("add junit = [\"reports/*.xml\"] to the task that runs the tests".to_owned()),
            );
        }
        let Ok(name) = GateName::new(name) else { continue };
        let tasks = distinct(&listed, TaskName::new);
        gates.push(Gate { name, tasks, tests_min, errors_max: view.whole("errors-max") });
    }
    gates
}
