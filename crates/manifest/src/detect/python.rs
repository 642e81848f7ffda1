//! Python: pip, uv and Poetry; pytest and unittest.

use super::folder::{Folder, ends};
use super::proposal::{Found, ProposedTask, words};

/// Everything, without what Python and its tools write: tests read files of any kind.
const INPUTS: [&str; 5] =
    ["**", "!**/.venv/**", "!**/__pycache__/**", "!**/.pytest_cache/**", "!**/*.egg-info/**"];

/// What pip has installed, a line a package.
const INSTALLED: &str = ".venv/installed.txt";

/// Why pytest is meant where nothing names it.
const PLAIN_FUNCTIONS: &str = "tests are plain functions";

/// In front of a tool's name.
enum Runner {
    Uv,
    Poetry,
    /// A virtual environment in `.venv`, made by the task `install`.
    Pip,
    /// Nothing to install.
    Plain,
}

pub(super) fn find(folder: &Folder) -> Option<Found> {
    let requirements: Vec<String> = folder
        .files
        .iter()
        .filter(|name| name.starts_with("requirements") && ends(name, &[".txt"]))
        .cloned()
        .collect();
    let marker = folder
        .first(&["pyproject.toml", "setup.py", "setup.cfg", "Pipfile"])
        .or(requirements.first().map(String::as_str))?;
    let project = folder.toml("pyproject.toml").unwrap_or_default();
    let mut found = Found::new(folder, "Python", marker);
    let declared: String = requirements
        .iter()
        .chain([&"pyproject.toml".to_owned(), &"setup.py".to_owned(), &"setup.cfg".to_owned()])
        .filter_map(|name| folder.read(name))
        .collect();
    let pytest = pytest(folder, &project, &declared);
    let ruff = folder
        .first(&["ruff.toml", ".ruff.toml"])
        .or_else(|| tool(&project, "ruff").then_some("[tool.ruff]"));
    let runner = runner(folder, &project, &requirements, pytest.is_some() || ruff.is_some(), &mut found);
    if matches!(runner, Runner::Pip) {
        let extra: Vec<&str> = [(pytest.is_some(), "pytest"), (ruff.is_some(), "ruff")]
            .into_iter()
            .filter(|(used, name)| *used && !declared.contains(name))
            .map(|(_, name)| name)
            .collect();
        found.tasks.push(install(folder, &project, &requirements, &extra));
    }
    if let Some(file) = ruff {
        found.because(format!("lint: ruff ({file})"));
        let mut task = ProposedTask::new("lint", &[]).inputs(&[
            "**/*.py",
            "**/pyproject.toml",
            "**/ruff.toml",
            "**/.ruff.toml",
            "!**/.venv/**",
        ]);
        task.command = runner.command("ruff", &["check", "."]);
        let task = task.after("install", &found);
        found.tasks.push(task);
    }
    tests(folder, &runner, pytest, &mut found);
    Some(found)
}

impl Runner {
    fn command(&self, tool: &str, arguments: &[&str]) -> Vec<String> {
        let module = ["python3", "-m", tool];
        let mut command = match self {
            Self::Uv => words(&["uv", "run", tool]),
            Self::Poetry => words(&["poetry", "run", tool]),
            Self::Pip => words(&[".venv/bin/python", "-m", tool]),
            Self::Plain => words(&module),
        };
        command.extend(words(arguments));
        command
    }
}

fn tool(project: &toml::Table, name: &str) -> bool {
    project.get("tool").and_then(|tools| tools.as_table()).is_some_and(|tools| tools.contains_key(name))
}

fn runner(
    folder: &Folder,
    project: &toml::Table,
    requirements: &[String],
    tools: bool,
    found: &mut Found,
) -> Runner {
    if let Some(file) = folder.first(&["uv.lock"]).or_else(|| tool(project, "uv").then_some("[tool.uv]")) {
        found.because(format!("packages: uv ({file})"));
        return Runner::Uv;
    }
    if let Some(file) =
        folder.first(&["poetry.lock"]).or_else(|| tool(project, "poetry").then_some("[tool.poetry]"))
    {
        found.because(format!("packages: Poetry ({file})"));
        let pinned: &[&str] =
            if folder.has("poetry.lock") { &["pyproject.toml", "poetry.lock"] } else { &[] };
        let install = ProposedTask::new("install", &["poetry", "install", "--no-interaction"]);
        found.tasks.push(install.pinned_by(pinned, folder));
        return Runner::Poetry;
    }
    let packaged =
        folder.has("setup.py") || project.contains_key("project") || project.contains_key("build-system");
    if requirements.is_empty() && !packaged && !tools {
        return Runner::Plain;
    }
    found.because("packages: pip into .venv");
    Runner::Pip
}

/// One shell line: a virtual environment, then everything that is declared.
fn install(folder: &Folder, project: &toml::Table, requirements: &[String], extra: &[&str]) -> ProposedTask {
    let mut line =
        "test -x .venv/bin/python || python3 -m venv .venv; .venv/bin/python -m pip install --quiet"
            .to_owned();
    for file in requirements
        .iter()
        .filter(|file| file.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)))
    {
        line.push_str(" -r ");
        line.push_str(file);
    }
    if folder.has("setup.py") || project.contains_key("project") || project.contains_key("build-system") {
        let optional =
            project.get("project").and_then(|project| project.get("optional-dependencies")?.as_table());
        let groups: Vec<&str> = ["dev", "test", "tests", "testing"]
            .into_iter()
            .filter(|group| optional.is_some_and(|optional| optional.contains_key(*group)))
            .collect();
        line.push_str(" -e '.");
        if !groups.is_empty() {
            line.extend(["[", &groups.join(","), "]"]);
        }
        line.push('\'');
    }
    for name in extra {
        line.push(' ');
        line.push_str(name);
    }
    // Versions are seldom pinned, so the tasks behind it ask what is installed, and run again when that has changed.
    line.push_str("; .venv/bin/python -m pip freeze --exclude-editable > ");
    line.push_str(INSTALLED);
    ProposedTask::new("install", &["sh", "-ec", &line])
        .outputs(words(&[INSTALLED]))
        .comment("Always runs; it is quick when nothing has changed.")
}

/// Why pytest is meant, if it is.
fn pytest(folder: &Folder, project: &toml::Table, declared: &str) -> Option<&'static str> {
    let section = |file: &str, section: &str| folder.read(file).is_some_and(|text| text.contains(section));
    if tool(project, "pytest") {
        Some("[tool.pytest] in pyproject.toml")
    } else if folder.has("pytest.ini") {
        Some("pytest.ini")
    } else if section("setup.cfg", "[tool:pytest]") {
        Some("setup.cfg")
    } else if section("tox.ini", "[pytest]") {
        Some("tox.ini")
    } else if folder.any_beneath(|path| path.ends_with("conftest.py")).is_some() {
        Some("conftest.py")
    } else if declared.contains("pytest") {
        Some("it is required")
    } else {
        // Tests that are plain functions are no tests to unittest, which would find none and be content.
        let file = folder.any_beneath(is_test).and_then(|path| folder.read(path))?;
        let plain =
            file.lines().any(|line| line.starts_with("def test_") || line.starts_with("import pytest"));
        (plain && !file.contains("unittest")).then_some(PLAIN_FUNCTIONS)
    }
}

fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.starts_with("test") && ends(name, &[".py"])
}

fn tests(folder: &Folder, runner: &Runner, pytest: Option<&str>, found: &mut Found) {
    if let Some(reason) = pytest {
        found.because(format!("tests: pytest ({reason})"));
        let mut task = ProposedTask::new("test", &[]).inputs(&INPUTS);
        task.command = runner.command("pytest", &["--junitxml=reports/pytest.xml"]);
        if matches!(runner, Runner::Uv) && reason == PLAIN_FUNCTIONS {
            task.command =
                words(&["uv", "run", "--with", "pytest", "pytest", "--junitxml=reports/pytest.xml"]);
        }
        let task = task.junit("reports/pytest.xml").after("install", found);
        found.tasks.push(task);
        return;
    }
    let Some(file) = folder.any_beneath(is_test) else {
        found.because("no tests found");
        return;
    };
    found.because(format!("tests: unittest ({file})"));
    // A test folder that is no package is not found from above.
    let top = file.split('/').next().filter(|_| file.matches('/').count() == 1);
    let package =
        top.is_some_and(|top| folder.any_beneath(|path| path == format!("{top}/__init__.py")).is_some());
    let mut arguments = vec!["-m", "unittest", "discover"];
    if let (Some(top), false) = (top, package) {
        arguments.extend(["-s", top]);
    }
    let mut task = ProposedTask::new("test", &[]).inputs(&INPUTS);
    task.command = match runner {
        Runner::Uv => words(&["uv", "run", "python"]),
        Runner::Poetry => words(&["poetry", "run", "python"]),
        Runner::Pip => words(&[".venv/bin/python"]),
        Runner::Plain => words(&["python3"]),
    };
    task.command.extend(words(&arguments));
    let task = task.after("install", found);
    found.tasks.push(task);
}
