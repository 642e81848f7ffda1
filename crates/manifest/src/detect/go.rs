//! Go modules.

use super::folder::{Folder, health_path};
use super::proposal::{Found, ProposedService, ProposedTask};

const INPUTS: [&str; 1] = ["**"];

pub(super) fn find(folder: &Folder) -> Option<Found> {
    let module = folder.read("go.mod")?;
    let mut found = Found::new(folder, "Go", "go.mod");
    // `./...` ends where another module begins, so each module speaks for itself.
    found.claims_below = false;
    let configured = [".golangci.yml", ".golangci.yaml", ".golangci.toml", ".golangci.json"];
    if let Some(file) = folder.first(&configured) {
        found.because(format!("lint: golangci-lint ({file})"));
        found.tasks.push(ProposedTask::new("lint", &["golangci-lint", "run"]).inputs(&INPUTS));
    } else {
        found.tasks.push(
            ProposedTask::new("lint", &["go", "vet", "./..."]).inputs(&["**/*.go", "go.mod", "go.sum"]),
        );
    }
    if folder.any_beneath(|path| path.ends_with("_test.go")).is_some() {
        found.because("tests: go test");
        found.tasks.push(ProposedTask::new("test", &["go", "test", "./..."]).inputs(&INPUTS));
    } else {
        found.because("no tests found");
        found.tasks.push(ProposedTask::new("build", &["go", "build", "./..."]).inputs(&INPUTS));
    }
    service(folder, &module, &mut found);
    Some(found)
}

/// One program, in the module's folder or as the only one in `cmd`, whose main.go speaks of `PORT`.
fn service(folder: &Folder, module: &str, found: &mut Found) {
    let mains: Vec<&String> = folder
        .beneath
        .iter()
        .filter(|path| {
            *path == "main.go"
                || (path.starts_with("cmd/") && path.matches('/').count() == 2 && path.ends_with("/main.go"))
        })
        .collect();
    let [main] = mains.as_slice() else { return };
    let Some(text) = folder.read(main) else { return };
    if !text.contains("\"PORT\"") || !text.contains("package main") {
        return;
    }
    let package = main.strip_suffix("/main.go");
    let line = module.lines().find_map(|line| line.strip_prefix("module ")).unwrap_or_default();
    let last = package.unwrap_or(line.trim()).rsplit('/').next().unwrap_or_default();
    let name = crate::format::slug(last);
    if name.is_empty() {
        return;
    }
    found.because(format!("service: {main} reads PORT"));
    let program = format!("bin/{name}");
    let source = package.map_or_else(|| ".".to_owned(), |package| format!("./{package}"));
    found.tasks.retain(|task| task.name != "build");
    // The program that is built is no input of its tests, even where git is not told to ignore it.
    for task in found.tasks.iter_mut().filter(|task| task.inputs == INPUTS) {
        task.inputs.push("!bin/**".into());
    }
    let task =
        ProposedTask::new("build", &["go", "build", "-o", &program, &source]).inputs(&["**", "!bin/**"]);
    found.tasks.push(task.outputs(vec![program.clone()]));
    found.service = Some(ProposedService {
        name,
        artifact: vec![program.clone()],
        start: vec![format!("./{program}")],
        ready: health_path(&text).map(str::to_owned),
        comment: String::new(),
    });
}
