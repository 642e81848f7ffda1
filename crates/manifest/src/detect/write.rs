//! Writes the proposed manifest.
//!
//! Invariant: names are valid and unique, strings are escaped, so the text parses without problems.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use delivery::{ServiceName, TaskName};

use super::Evidence;
use super::proposal::{Found, ProposedService, ProposedTask};
use crate::format::slug;
use crate::hints::toml_string;

/// The whole text.
pub(super) fn manifest(project: &str, trunk: &str, found: &[Found], evidence: &[Evidence]) -> String {
    let project = Some(slug(project)).filter(|name| !name.is_empty()).unwrap_or_else(|| "project".into());
    let mut text = String::from(
        "# What is run, checked and delivered here. Every key: docs/reference/manifest.md of Trimtab.\n",
    );
    for Evidence { what, because } in evidence {
        line(&mut text, &format!("# {}", one_line(&format!("{what}: {because}"))));
    }
    line(&mut text, "version = 1");
    line(&mut text, &format!("project = {}", toml_string(&project)));
    if trunk != "main" {
        line(&mut text, &format!("trunk = {}", toml_string(trunk)));
    }
    let tasks = named_tasks(found);
    for (name, found, task) in &tasks {
        write_task(&mut text, name, found, task, &tasks);
    }
    let checks: Vec<String> =
        tasks.iter().filter(|(_, _, task)| task.is_check()).map(|(name, _, _)| name.clone()).collect();
    if tasks.is_empty() {
        line(&mut text, "\n# Nothing to run was recognised. A task looks like this:");
        line(&mut text, "# [task.test]\n# command = [\"make\", \"test\"]\n# inputs = [\"src/**\"]");
    }
    if !checks.is_empty() {
        line(&mut text, "\n# What must hold of a change.");
        line(&mut text, &format!("[gate.checks]\ntasks = {}", list(&checks)));
    }
    // An environment has one front door, so the first service only; the others are for a person to add.
    if let Some((one, service)) = found.iter().find_map(|found| Some((found, found.service.as_ref()?))) {
        write_service(&mut text, one, service, &project);
        write_environments(&mut text, !checks.is_empty());
    }
    text
}

type Named<'f> = (String, &'f Found, &'f ProposedTask);

/// Every task with a name that is unique over the project: its folder in front.
fn named_tasks(found: &[Found]) -> Vec<Named<'_>> {
    let mut taken = BTreeSet::new();
    let mut tasks = Vec::new();
    for one in found {
        for task in &one.tasks {
            let folder: Vec<String> = one.path.components().map(|part| slug(part.as_str())).collect();
            let wanted = if folder.is_empty() {
                task.name.clone()
            } else {
                format!("{}/{}", folder.join("/"), task.name)
            };
            let wanted = if TaskName::new(wanted.as_str()).is_ok() {
                wanted
            } else {
                format!("project/{}", task.name)
            };
            let mut name = wanted.clone();
            let mut number = 2;
            while !taken.insert(name.clone()) {
                name = format!("{}-{number}", wanted.get(..wanted.len().min(56)).unwrap_or("task"));
                number += 1;
            }
            tasks.push((name, one, task));
        }
    }
    tasks
}

fn write_task(text: &mut String, name: &str, found: &Found, task: &ProposedTask, all: &[Named<'_>]) {
    text.push('\n');
    if !task.comment.is_empty() {
        line(text, &format!("# {}", task.comment));
    }
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let key = if plain { name.to_owned() } else { toml_string(name) };
    line(text, &format!("[task.{key}]"));
    line(text, &format!("command = {}", list(&task.command)));
    directory(text, found);
    for (key, values) in [("inputs", &task.inputs), ("outputs", &task.outputs)] {
        if !values.is_empty() {
            line(text, &format!("{key} = {}", list(values)));
        }
    }
    if task.always && !task.inputs.is_empty() {
        line(text, "cache = false");
    }
    // Local names become the names of this folder's tasks.
    let names: BTreeMap<&str, &String> = all
        .iter()
        .filter(|(_, other, _)| std::ptr::eq(*other, found))
        .map(|(name, _, task)| (task.name.as_str(), name))
        .collect();
    let needs: Vec<String> =
        task.needs.iter().filter_map(|need| names.get(need.as_str()).map(|name| (*name).clone())).collect();
    for (key, values) in [("needs", &needs), ("junit", &task.junit)] {
        if !values.is_empty() {
            line(text, &format!("{key} = {}", list(values)));
        }
    }
}

fn write_service(text: &mut String, found: &Found, service: &ProposedService, project: &str) {
    let last = found.path.file_name().unwrap_or_default();
    let candidates = [slug(&service.name), slug(last), project.to_owned()];
    let fits = |name: &&String| ServiceName::new(name.as_str()).is_ok();
    let name = candidates.iter().find(fits).map_or("service", String::as_str);
    line(
        text,
        "\n# What is deployed. It listens on the port in PORT; {port} in an argument is replaced by it.",
    );
    if !service.comment.is_empty() {
        line(text, &format!("# {}", service.comment));
    }
    line(text, &format!("[service.{name}]"));
    directory(text, found);
    line(text, &format!("artifact = {}", list(&service.artifact)));
    line(text, &format!("start = {}", list(&service.start)));
    if let Some(path) = &service.ready {
        line(text, &format!("ready = {{ path = {} }}", toml_string(path)));
    }
}

fn write_environments(text: &mut String, gate: bool) {
    let gates = if gate { "gates = [\"checks\"]\n" } else { "" };
    let _ = write!(
        text,
        "\n# Where it goes, in this order.\n[[environment]]\nname = \"staging\"\nlisten = \"127.0.0.1:8081\"\n{gates}\
         strategy = \"direct\"\n\n[[environment]]\nname = \"production\"\nlisten = \"127.0.0.1:8080\"\n{gates}\
         # In growing shares, each kept only on evidence from real requests; without traffic the release is taken back.\n\
         strategy = \"canary\"\n\
         # approval = {{ required = 1 }}  # someone who is not the author\n"
    );
}

fn directory(text: &mut String, found: &Found) {
    if !found.path.as_str().is_empty() {
        line(text, &format!("directory = {}", toml_string(found.path.as_str())));
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn list(values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| toml_string(value)).collect();
    format!("[{}]", quoted.join(", "))
}

/// Safe in a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

impl ProposedTask {
    /// Whether it judges the change, rather than preparing something.
    fn is_check(&self) -> bool {
        let local = self.name.rsplit(':').next().unwrap_or_default();
        !matches!(local, "install" | "configure")
    }
}
