//! Node: npm, pnpm, yarn and Bun.

use serde_json::Value;

use super::folder::{Folder, ends, health_path};
use super::proposal::{Found, ProposedService, ProposedTask, plain_argv, words};

/// Everything, without what installing and building write: tests read files of any kind.
const INPUTS: [&str; 2] = ["**", "!**/node_modules/**"];

/// npm's own placeholder.
const NO_TEST: &str = "no test specified";

struct Manager {
    name: &'static str,
    because: String,
    /// What pins the packages.
    lock: Option<&'static str>,
    install: Vec<&'static str>,
}

pub(super) fn find(folder: &Folder) -> Option<Found> {
    let package = folder.json("package.json")?;
    let manager = manager(folder, &package);
    let mut found = Found::new(folder, "Node", "package.json");
    found.because(format!("packages: {} ({})", manager.name, manager.because));
    found.claims_below = package.get("workspaces").is_some() || folder.has("pnpm-workspace.yaml");
    if has_packages(&package) {
        found.tasks.push(install(folder, &package, &manager));
    }
    let script =
        |name: &str| package.get("scripts")?.get(name)?.as_str().filter(|line| !line.trim().is_empty());
    for name in ["lint", "typecheck"] {
        if script(name).is_some() {
            found.because(format!("{name}: the script"));
            let task = ProposedTask::new(name, &[manager.name, "run", name]).inputs(&INPUTS);
            let task = task.after("install", &found);
            found.tasks.push(task);
        }
    }
    if let Some(line) = script("test").filter(|line| !line.contains(NO_TEST)) {
        found.because(format!("tests: {}", first_words(line)));
        let task = ProposedTask::new("test", &[manager.name, "run", "test"])
            .inputs(&INPUTS)
            .after("install", &found);
        found.tasks.push(task);
    } else if found.claims_below && manager.name == "npm" {
        found.because("tests: the workspaces' scripts");
        let command = ["npm", "run", "test", "--workspaces", "--if-present"];
        let task = ProposedTask::new("test", &command).inputs(&INPUTS).after("install", &found);
        found.tasks.push(task);
    } else if found.claims_below && manager.name == "pnpm" {
        found.because("tests: the workspaces' scripts");
        let task = ProposedTask::new("test", &["pnpm", "-r", "--if-present", "run", "test"]).inputs(&INPUTS);
        let task = task.after("install", &found);
        found.tasks.push(task);
    } else {
        found.because("no tests found");
    }
    service(folder, &package, &manager, &mut found, script("start"), script("build"));
    Some(found)
}

/// With a lock file, what is installed follows from a few files.
fn install(folder: &Folder, package: &Value, manager: &Manager) -> ProposedTask {
    let task = ProposedTask::new("install", &manager.install);
    let mut task = match manager.lock {
        Some(lock) => {
            task.pinned_by(&["package.json", lock, "pnpm-workspace.yaml", ".npmrc", ".yarnrc.yml"], folder)
        }
        None => task.pinned_by(&[], folder),
    };
    if task.inputs.is_empty() {
        return task;
    }
    if package.get("workspaces").is_some() || folder.has("pnpm-workspace.yaml") {
        task.inputs.extend(words(&["**/package.json", "!**/node_modules/**"]));
    }
    task
}

fn first_words(line: &str) -> String {
    line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn has_packages(package: &Value) -> bool {
    let some =
        |key: &str| package.get(key).and_then(Value::as_object).is_some_and(|packages| !packages.is_empty());
    some("dependencies") || some("devDependencies") || package.get("workspaces").is_some()
}

fn manager(folder: &Folder, package: &Value) -> Manager {
    let declared = package.get("packageManager").and_then(Value::as_str).unwrap_or_default();
    let named = |name: &str| declared.strip_prefix(name).is_some_and(|rest| rest.starts_with('@'));
    let because = |file: Option<&str>| file.map_or_else(|| "packageManager".to_owned(), str::to_owned);
    let lock = |names: &[&'static str]| folder.first(names);
    if named("pnpm") || (declared.is_empty() && lock(&["pnpm-lock.yaml"]).is_some()) {
        let lock = lock(&["pnpm-lock.yaml"]);
        let frozen = lock.map(|_| "--frozen-lockfile");
        return Manager {
            name: "pnpm",
            because: because(lock),
            lock,
            install: ["pnpm", "install"].into_iter().chain(frozen).collect(),
        };
    }
    if named("yarn") || (declared.is_empty() && lock(&["yarn.lock"]).is_some()) {
        let lock = lock(&["yarn.lock"]);
        let modern = folder.has(".yarnrc.yml") || (named("yarn") && !declared.starts_with("yarn@1."));
        let frozen = lock.map(|_| if modern { "--immutable" } else { "--frozen-lockfile" });
        return Manager {
            name: "yarn",
            because: because(lock),
            lock,
            install: ["yarn", "install"].into_iter().chain(frozen).collect(),
        };
    }
    if named("bun") || (declared.is_empty() && lock(&["bun.lock", "bun.lockb"]).is_some()) {
        let lock = lock(&["bun.lock", "bun.lockb"]);
        let frozen = lock.map(|_| "--frozen-lockfile");
        return Manager {
            name: "bun",
            because: because(lock),
            lock,
            install: ["bun", "install"].into_iter().chain(frozen).collect(),
        };
    }
    let Some(file) = lock(&["package-lock.json", "npm-shrinkwrap.json"]) else {
        let because = "no lock file".into();
        return Manager { name: "npm", because, lock: None, install: vec!["npm", "install"] };
    };
    // `npm ci` removes everything first, so it is not quick by itself. npm writes the file in front last of all.
    let line = if file == "package-lock.json" {
        "test node_modules/.package-lock.json -nt package-lock.json || npm ci"
    } else {
        "test node_modules/.package-lock.json -nt npm-shrinkwrap.json || npm ci"
    };
    Manager { name: "npm", because: file.into(), lock: Some(file), install: vec!["sh", "-ec", line] }
}

/// A "start" script that runs node on a file, and that file, or the script before it, is the project's own.
fn service(
    folder: &Folder,
    package: &Value,
    manager: &Manager,
    found: &mut Found,
    start: Option<&str>,
    build: Option<&str>,
) {
    let entry = start.and_then(|line| plain_argv(line.strip_prefix("exec ").unwrap_or(line)));
    let entry = entry.filter(|argv| argv.first().is_some_and(|program| program == "node"));
    let file =
        entry.as_ref().and_then(|argv| argv.iter().skip(1).find(|word| ends(word, &[".js", ".mjs", ".cjs"])));
    let file = file.map(|file| file.trim_start_matches("./").to_owned());
    let text = file.as_deref().and_then(|file| folder.read(file));
    // What the build writes is not there yet, so its source can't be asked; a script that starts it is enough.
    let made = text.is_none() && build.is_some();
    let top = file.as_deref().and_then(|file| file.split_once('/')).map(|(top, _)| format!("{top}/**"));
    let outputs: Vec<String> = top.iter().filter(|_| made).cloned().collect();
    if build.is_some() {
        found.because("build: the script");
        let mut task = ProposedTask::new("build", &[manager.name, "run", "build"]).after("install", found);
        // Without knowing what it writes it can't be skipped.
        if !outputs.is_empty() {
            task = task.inputs(&INPUTS).outputs(outputs.clone());
            task.inputs.extend(outputs.iter().map(|glob| format!("!{glob}")));
        }
        found.tasks.push(task);
    }
    let (Some(argv), Some(file)) = (entry, file) else { return };
    let listens = text.as_deref().is_some_and(|text| text.contains("PORT"));
    if (!listens && (outputs.is_empty() || !made)) || crate::format::Format::Glob.check(&file).is_err() {
        return;
    }
    found.because(format!("service: the script \"start\" ({})", argv.join(" ")));
    let mut artifact = if made {
        outputs.into_iter().chain(["package.json".to_owned()]).collect()
    } else {
        folder.program_globs()
    };
    let needs_packages =
        package.get("dependencies").and_then(Value::as_object).is_some_and(|packages| !packages.is_empty());
    if needs_packages {
        artifact.extend(words(&["node_modules/**"]));
    }
    found.service = Some(ProposedService {
        name: package.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
        artifact,
        start: argv,
        ready: text.as_deref().and_then(health_path).map(str::to_owned),
        comment: if made { "It must listen on the port in PORT.".into() } else { String::new() },
    });
}
