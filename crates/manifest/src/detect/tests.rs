//! Small projects of each kind: what is recognised, which tasks follow, and that the text parses.

use camino::{Utf8Path, Utf8PathBuf};
use proptest::prelude::*;

use super::{Detection, detect};
use crate::Manifest;

type Files<'f> = &'f [(&'f str, &'f str)];

fn looked_at(files: Files<'_>) -> (Detection, Manifest) {
    let folder = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(folder.path()).unwrap().join("My Shop");
    std::fs::create_dir(&root).unwrap();
    for (name, text) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let detection = detect(&root).unwrap();
    assert_eq!(detection, detect(&root).unwrap(), "not the same twice");
    let manifest = crate::parse(Utf8Path::new("trimtab.toml"), &detection.manifest)
        .unwrap_or_else(|problems| panic!("{}\n{problems:#?}", detection.manifest));
    assert_eq!(manifest.project, "my-shop");
    assert_eq!(manifest.environments.is_empty(), manifest.services.is_empty());
    (detection, manifest)
}

/// Each task as `name: command`, in the order of the names.
fn commands(manifest: &Manifest) -> Vec<String> {
    manifest.tasks.iter().map(|task| format!("{}: {}", task.name, task.command.join(" "))).collect()
}

fn evidence(detection: &Detection) -> Vec<String> {
    detection.evidence.iter().map(|evidence| format!("{}: {}", evidence.what, evidence.because)).collect()
}

fn finds(files: Files<'_>, expected_evidence: &[&str], expected_commands: &[&str]) -> Manifest {
    let (detection, manifest) = looked_at(files);
    assert_eq!(evidence(&detection), expected_evidence, "{}", detection.manifest);
    assert_eq!(commands(&manifest), expected_commands, "{}", detection.manifest);
    manifest
}

#[test]
fn rust() {
    finds(
        &[("Cargo.toml", "[package]\nname = \"a\"\n"), ("src/lib.rs", "")],
        &["Rust: Cargo.toml; tests: cargo test"],
        &["test: cargo test"],
    );
    let workspace = finds(
        &[
            (
                "Cargo.toml",
                "[workspace]\nmembers = [\"crates/*\"]\n[workspace.lints.clippy]\nall = \"warn\"\n",
            ),
            ("Cargo.lock", ""),
            ("rustfmt.toml", ""),
            (".config/nextest.toml", "[profile.ci.junit]\npath = \"junit.xml\"\n"),
            ("crates/a/Cargo.toml", "[package]\nname = \"a\"\n"),
        ],
        &[
            "Rust: Cargo.toml; format: cargo fmt (rustfmt.toml); lint: cargo clippy ([lints] in Cargo.toml); tests: cargo nextest \
           (.config/nextest.toml)",
        ],
        &[
            "format: cargo fmt --all --check",
            "lint: cargo clippy --all-targets --workspace --locked",
            "test: cargo nextest run --workspace --locked --profile ci",
        ],
    );
    assert_eq!(workspace.gates[0].tests_min, 1);
    let main = "fn main() { std::env::var(\"PORT\"); route(\"/healthz\"); }";
    let service = finds(
        &[("Cargo.toml", "[package]\nname = \"web\"\n"), ("src/main.rs", main)],
        &["Rust: Cargo.toml; tests: cargo test; service: src/main.rs reads PORT"],
        &["build: cargo build --release", "test: cargo test"],
    );
    assert_eq!(service.services[0].start, ["./target/release/web"]);
    assert_eq!(service.services[0].ready.path.as_deref(), Some("/healthz"));
}

#[test]
fn go() {
    let manifest = finds(
        &[
            ("go.mod", "module example.com/shop\n"),
            ("cmd/server/main.go", "package main\nos.Getenv(\"PORT\")"),
            ("a_test.go", ""),
        ],
        &["Go: go.mod; tests: go test; service: cmd/server/main.go reads PORT"],
        &["build: go build -o bin/server ./cmd/server", "lint: go vet ./...", "test: go test ./..."],
    );
    assert_eq!(manifest.services[0].name.as_str(), "server");
    assert!(manifest.tasks[2].inputs.contains(&"!bin/**".to_owned()));
    finds(
        &[("go.mod", "module a\n"), (".golangci.yml", "")],
        &["Go: go.mod; lint: golangci-lint (.golangci.yml); no tests found"],
        &["build: go build ./...", "lint: golangci-lint run"],
    );
}

#[test]
fn node() {
    let package = r#"{ "name": "@acme/shop", "scripts": { "test": "node --test", "lint": "eslint .", "start": "node server.mjs" } }"#;
    let manifest = finds(
        &[
            ("package.json", package),
            ("server.mjs", "listen(process.env.PORT); if (url === '/healthz') {}"),
            ("src/a.mjs", ""),
        ],
        &[
            "Node: package.json; packages: npm (no lock file); lint: the script; tests: node --test; service: the script \
           \"start\" (node server.mjs)",
        ],
        &["lint: npm run lint", "test: npm run test"],
    );
    let service = &manifest.services[0];
    assert_eq!((service.name.as_str(), service.ready.path.as_deref()), ("acme-shop", Some("/healthz")));
    assert_eq!(service.artifact, ["package.json", "server.mjs", "src/**"]);

    let built = r#"{ "packageManager": "pnpm@9.0.0", "dependencies": { "a": "1" }, "scripts": { "test": "echo \"Error: no test specified\" && exit 1", "build": "tsc", "start": "node dist/main.js" } }"#;
    let manifest = finds(
        &[("package.json", built), ("pnpm-lock.yaml", "")],
        &[
            "Node: package.json; packages: pnpm (pnpm-lock.yaml); no tests found; build: the script; service: the script \
           \"start\" (node dist/main.js)",
        ],
        &["build: pnpm run build", "install: pnpm install --frozen-lockfile"],
    );
    assert_eq!(manifest.services[0].artifact, ["dist/**", "package.json", "node_modules/**"]);
    assert_eq!(manifest.tasks[0].needs[0].as_str(), "install");

    let locked =
        r#"{ "dependencies": { "a": "1" }, "workspaces": ["web"], "scripts": { "test": "node --test" } }"#;
    let manifest = finds(
        &[("package.json", locked), ("package-lock.json", "{}")],
        &["Node: package.json; packages: npm (package-lock.json); tests: node --test"],
        &[
            "install: sh -ec test node_modules/.package-lock.json -nt package-lock.json || npm ci",
            "test: npm run test",
        ],
    );
    let install = &manifest.tasks[0];
    assert_eq!(
        install.inputs,
        ["package.json", "package-lock.json", "**/package.json", "!**/node_modules/**"]
    );
    assert!(!install.cache && manifest.tasks[1].cache);

    let yarn = r#"{ "devDependencies": { "jest": "1" }, "scripts": { "test": "jest", "start": "react-scripts start" } }"#;
    finds(
        &[("package.json", yarn), ("yarn.lock", "")],
        &["Node: package.json; packages: yarn (yarn.lock); tests: jest"],
        &["install: yarn install --frozen-lockfile", "test: yarn run test"],
    );
}

#[test]
fn python() {
    let manifest = finds(
        &[
            ("pyproject.toml", "[project]\nname = \"a\"\n[tool.pytest.ini_options]\n[tool.ruff]\n"),
            ("uv.lock", ""),
        ],
        &[
            "Python: pyproject.toml; packages: uv (uv.lock); lint: ruff ([tool.ruff]); tests: pytest ([tool.pytest] in pyproject.toml)",
        ],
        &["lint: uv run ruff check .", "test: uv run pytest --junitxml=reports/pytest.xml"],
    );
    assert_eq!(manifest.gates[0].tests_min, 1);
    finds(
        &[("requirements.txt", "flask\npytest\n"), ("tests/test_a.py", "")],
        &["Python: requirements.txt; packages: pip into .venv; tests: pytest (it is required)"],
        &[
            "install: sh -ec test -x .venv/bin/python || python3 -m venv .venv; .venv/bin/python -m pip install --quiet -r requirements.txt; .venv/bin/python -m pip freeze --exclude-editable > .venv/installed.txt",
            "test: .venv/bin/python -m pytest --junitxml=reports/pytest.xml",
        ],
    );
    finds(
        &[("pyproject.toml", "[tool.poetry]\nname = \"a\"\n"), ("tests/test_a.py", "")],
        &["Python: pyproject.toml; packages: Poetry ([tool.poetry]); tests: unittest (tests/test_a.py)"],
        &[
            "install: poetry install --no-interaction",
            "test: poetry run python -m unittest discover -s tests",
        ],
    );
    finds(
        &[("setup.cfg", "[metadata]\n"), ("test_a.py", "")],
        &["Python: setup.cfg; tests: unittest (test_a.py)"],
        &["test: python3 -m unittest discover"],
    );
    finds(
        &[
            ("uv.lock", ""),
            ("pyproject.toml", "[project]\nname = \"a\"\n"),
            ("tests/test_a.py", "def test_a(): pass\n"),
        ],
        &["Python: pyproject.toml; packages: uv (uv.lock); tests: pytest (tests are plain functions)"],
        &["test: uv run --with pytest pytest --junitxml=reports/pytest.xml"],
    );
    let pinned = finds(
        &[("pyproject.toml", "[tool.poetry]\nname = \"a\"\n"), ("poetry.lock", "")],
        &["Python: pyproject.toml; packages: Poetry (poetry.lock); no tests found"],
        &["install: poetry install --no-interaction"],
    );
    assert_eq!((pinned.tasks[0].inputs.len(), pinned.tasks[0].cache), (2, false));
}

#[test]
fn java_and_dotnet() {
    let maven = finds(
        &[("pom.xml", ""), ("mvnw", ""), ("module/pom.xml", "")],
        &["Java: pom.xml; tests: Maven (./mvnw)"],
        &["test: ./mvnw -B -ntp test"],
    );
    assert_eq!(maven.tasks[0].junit, ["**/target/surefire-reports/*.xml"]);
    finds(
        &[("build.gradle.kts", ""), ("settings.gradle.kts", "")],
        &["Java: settings.gradle.kts; tests: Gradle (gradle)"],
        &["test: gradle --no-daemon test"],
    );
    finds(
        &[
            ("Shop.sln", ""),
            ("src/Shop/Shop.csproj", ""),
            ("tests/T/T.csproj", "<PackageReference Include=\"Microsoft.NET.Test.Sdk\"/>"),
        ],
        &[".NET: Shop.sln; tests: dotnet test (tests/T/T.csproj)"],
        &["test: dotnet test"],
    );
    finds(&[("A.csproj", "")], &[".NET: A.csproj; no tests found"], &["build: dotnet build"]);
}

#[test]
fn ruby_and_php() {
    finds(
        &[("Gemfile", "gem 'rspec_junit_formatter'"), (".rspec", ""), (".rubocop.yml", "")],
        &["Ruby: Gemfile; lint: RuboCop (.rubocop.yml); tests: RSpec (.rspec)"],
        &[
            "install: bundle install",
            "lint: bundle exec rubocop",
            "test: bundle exec rspec --format progress --format RspecJunitFormatter --out reports/rspec.xml",
        ],
    );
    finds(
        &[("composer.json", "{}"), ("phpunit.xml.dist", ""), ("phpstan.neon", "")],
        &["PHP: composer.json; lint: PHPStan (phpstan.neon); tests: PHPUnit (phpunit.xml.dist)"],
        &[
            "install: composer install --no-interaction",
            "lint: vendor/bin/phpstan analyse --no-progress",
            "test: vendor/bin/phpunit --log-junit reports/phpunit.xml",
        ],
    );
}

#[test]
fn cpp() {
    finds(
        &[("CMakeLists.txt", "project(a)\nenable_testing()\n"), ("lib/CMakeLists.txt", "")],
        &["C/C++: CMakeLists.txt; tests: CTest (enable_testing)"],
        &[
            "build: cmake --build build",
            "configure: cmake -S . -B build",
            "test: ctest --test-dir build --output-on-failure --output-junit ctest.xml",
        ],
    );
    finds(
        &[("Makefile", "CC := cc\ncheck: all\n\t./t\n"), ("a.c", "")],
        &["C/C++: Makefile; tests: make check"],
        &["build: make", "test: make check"],
    );
    // A Makefile beside another language only calls its tools.
    finds(
        &[("Makefile", "test:\n"), ("go.mod", "module a"), ("a_test.go", "")],
        &["Go: go.mod; tests: go test"],
        &["lint: go vet ./...", "test: go test ./..."],
    );
}

#[test]
fn several_in_one_repository() {
    let manifest = finds(
        &[
            ("api/go.mod", "module api"),
            ("api/a_test.go", ""),
            ("Web App/package.json", r#"{ "scripts": { "test": "vitest" } }"#),
            ("Web App/node_modules/x/package.json", r#"{ "scripts": { "test": "no" } }"#),
            ("tests/fixtures/package.json", r#"{ "scripts": { "test": "no" } }"#),
            ("services/billing/pom.xml", ""),
            ("a/b/c/d/Cargo.toml", "[package]\n"),
            ("README.md", ""),
        ],
        &[
            "Node (Web App): package.json; packages: npm (no lock file); tests: vitest",
            "Go (api): go.mod; tests: go test",
            "Java (services/billing): pom.xml; tests: Maven (mvn)",
        ],
        &[
            "api/lint: go vet ./...",
            "api/test: go test ./...",
            "services/billing/test: mvn -B -ntp test",
            "web-app/test: npm run test",
        ],
    );
    assert_eq!(manifest.tasks[3].directory, Utf8PathBuf::from("Web App"));
    finds(
        &[("Cargo.toml", "[workspace]"), ("package.json", r#"{ "scripts": { "test": "x" } }"#)],
        &[
            "Rust: Cargo.toml; tests: cargo test",
            "Node: package.json; packages: npm (no lock file); tests: x",
        ],
        &["node:test: npm run test", "rust:test: cargo test --workspace"],
    );
}

#[test]
fn procfile_and_dockerfile() {
    let python: Files<'_> =
        &[("setup.cfg", ""), ("app.py", ""), ("Procfile", "web: gunicorn --bind 0.0.0.0:$PORT app\n")];
    let (_, manifest) = looked_at(python);
    assert_eq!(manifest.services[0].start, ["gunicorn", "--bind", "0.0.0.0:{port}", "app"]);
    assert_eq!(manifest.services[0].artifact, ["Procfile", "app.py", "setup.cfg"]);
    let shell: Files<'_> = &[("setup.cfg", ""), ("Procfile", "web: A=1 x --flag=\"$PORT\"\n")];
    let (_, manifest) = looked_at(shell);
    assert_eq!(manifest.services[0].start, ["sh", "-c", "exec A=1 x --flag=\"$PORT\""]);
    let docker = |text| looked_at(&[("setup.cfg", ""), ("Dockerfile", text)]).1.services;
    let services = docker("FROM x\nENV PORT=80\nEXPOSE 80\nCMD [\"python3\", \"app.py\"]\n");
    assert_eq!(services[0].start, ["python3", "app.py"]);
    assert!(docker("FROM x\nEXPOSE 80\nCMD [\"python3\", \"app.py\"]\n").is_empty());
    assert!(docker("FROM x\nENV PORT=80\nEXPOSE 80\nCMD [\"/app/x\"]\n").is_empty());
    assert!(docker("FROM x\nENV PORT=80\nEXPOSE 80\nCMD python3 app.py\n").is_empty());
}

#[test]
fn documents_only_and_nothing() {
    finds(&[("README.md", "# hello")], &["Documentation: README.md; no source code was recognised"], &[]);
    finds(&[("guide/a.md", "")], &["Documentation: guide/a.md; no source code was recognised"], &[]);
    finds(&[("data.bin", "")], &[], &[]);
    let missing = detect(Utf8Path::new("/nowhere/at/all")).expect_err("missing").problem();
    assert!(missing.hint.is_some() && !missing.causes.is_empty());
}

#[test]
fn the_trunk_is_read_from_git() {
    let master: Files<'_> =
        &[(".git/HEAD", "ref: refs/heads/topic\n"), (".git/packed-refs", "0123 refs/heads/master\n")];
    assert_eq!(looked_at(master).1.trunk, "master");
    let remote: Files<'_> = &[(".git/refs/remotes/origin/HEAD", "ref: refs/remotes/origin/develop\n")];
    assert_eq!(looked_at(remote).1.trunk, "develop");
    assert_eq!(looked_at(&[(".git/HEAD", "ref: refs/heads/topic\n")]).1.trunk, "main");
}

#[test]
fn strange_files_are_survived() {
    let large = "x".repeat(300 << 10);
    let (detection, _) = looked_at(&[
        ("package.json", &large),
        ("go.mod", "\u{feff}"),
        ("Cargo.toml", "= = ="),
        ("a*b/go.mod", "module x"),
    ]);
    assert_eq!(evidence(&detection), ["Go: go.mod; no tests found"]);
    #[cfg(unix)]
    {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("loop")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("go.mod")).unwrap();
        assert!(detect(Utf8Path::from_path(folder.path()).unwrap()).unwrap().evidence.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever the files say, the proposal parses; `looked_at` asserts it.
    #[test]
    fn proposals_parse(
        folder in "[a-zA-Z \"'.,;=#\\u{e4}-]{1,12}[a-z]",
        start in "(node )?[ -~]{0,20}",
        name in "\\PC{0,12}",
        web in "\\PC{0,20}",
    ) {
        let package = serde_json::json!({ "name": name, "scripts": { "start": start, "test": start, "build": start } });
        let cargo = format!("package = {{ name = {} }}\n", crate::hints::toml_string(&name));
        looked_at(&[
            (&format!("{folder}/package.json"), &package.to_string()),
            (&format!("{folder}/Procfile"), &format!("web: {web}\n")),
            (&format!("{folder}/inner/Cargo.toml"), &cargo),
            (&format!("{folder}/inner/src/main.rs"), "\"PORT\""),
            (&format!("{folder}/inner/go.mod"), &format!("module {name}\n")),
            (&format!("{folder}/inner/main.go"), "package main \"PORT\""),
        ]);
    }
}
