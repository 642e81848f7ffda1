//! Rust: Cargo.

use super::folder::{Folder, health_path};
use super::proposal::{Found, ProposedService, ProposedTask};

/// Everything, without what Cargo writes: tests read files of any kind.
const INPUTS: [&str; 2] = ["**", "!**/target/**"];

pub(super) fn find(folder: &Folder) -> Option<Found> {
    let cargo = folder.toml("Cargo.toml")?;
    let mut found = Found::new(folder, "Rust", "Cargo.toml");
    let workspace = cargo.contains_key("workspace");
    // A package that is no workspace does not speak for a package beneath it.
    found.claims_below = workspace;
    let locked = folder.has("Cargo.lock").then_some("--locked");
    let all = workspace.then_some("--workspace");
    let command =
        |words: &[&'static str]| -> Vec<&str> { words.iter().copied().chain(all).chain(locked).collect() };

    if let Some(file) = folder.first(&["rustfmt.toml", ".rustfmt.toml"]) {
        found.because(format!("format: cargo fmt ({file})"));
        let words = ["cargo", "fmt", "--all", "--check"];
        found.tasks.push(ProposedTask::new("format", &words).inputs(&[
            "**/*.rs",
            "**/Cargo.toml",
            file,
            "!**/target/**",
        ]));
    }
    let lints = cargo.contains_key("lints") || table(&cargo, &["workspace", "lints"]).is_some();
    if let Some(file) =
        folder.first(&["clippy.toml", ".clippy.toml"]).or(lints.then_some("[lints] in Cargo.toml"))
    {
        found.because(format!("lint: cargo clippy ({file})"));
        found
            .tasks
            .push(ProposedTask::new("lint", &command(&["cargo", "clippy", "--all-targets"])).inputs(&INPUTS));
    }
    test(folder, &mut found, &command);
    service(folder, &cargo, &mut found, locked);
    Some(found)
}

fn test(folder: &Folder, found: &mut Found, command: &dyn Fn(&[&'static str]) -> Vec<&'static str>) {
    // Its text is behind a hidden folder, which the walk leaves out; reading it by name is enough.
    let Some(nextest) = folder.toml(".config/nextest.toml") else {
        found.because("tests: cargo test");
        found.tasks.push(ProposedTask::new("test", &command(&["cargo", "test"])).inputs(&INPUTS));
        return;
    };
    found.because("tests: cargo nextest (.config/nextest.toml)");
    let report = |profile: &str| -> Option<String> {
        let junit = table(&nextest, &["profile", profile, "junit"])?;
        Some(format!("target/nextest/{profile}/{}", junit.get("path")?.as_str()?))
    };
    let fits = |path: &String| crate::format::Format::Selection.check(path).is_ok();
    let mut task = ProposedTask::new("test", &command(&["cargo", "nextest", "run"])).inputs(&INPUTS);
    if let Some(path) = report("default").filter(fits) {
        task = task.junit(&path);
    } else if let Some(path) = report("ci").filter(fits) {
        task.command.extend(["--profile".to_owned(), "ci".to_owned()]);
        task = task.junit(&path);
    }
    found.tasks.push(task);
}

fn table<'t>(root: &'t toml::Table, path: &[&str]) -> Option<&'t toml::Table> {
    path.iter().try_fold(root, |table, name| table.get(*name)?.as_table())
}

/// A package with one program, whose source speaks of `PORT`.
fn service(folder: &Folder, cargo: &toml::Table, found: &mut Found, locked: Option<&str>) {
    let Some(name) = table(cargo, &["package"]).and_then(|package| package.get("name")?.as_str()) else {
        return;
    };
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if cargo.contains_key("bin") || !plain {
        return;
    }
    let Some(main) = folder.read("src/main.rs").filter(|text| text.contains("\"PORT\"")) else { return };
    found.because("service: src/main.rs reads PORT");
    let program = format!("target/release/{name}");
    let command: Vec<&str> = ["cargo", "build", "--release"].into_iter().chain(locked).collect();
    found.tasks.push(ProposedTask::new("build", &command).inputs(&INPUTS).outputs(vec![program.clone()]));
    found.service = Some(ProposedService {
        name: name.to_owned(),
        artifact: vec![program.clone()],
        start: vec![format!("./{program}")],
        ready: health_path(&main).map(str::to_owned),
        comment: String::new(),
    });
}
