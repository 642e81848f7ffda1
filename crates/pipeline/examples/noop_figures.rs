//! Times cold, no-op, change-one and restore runs of a layered graph: `cargo run --release -p pipeline --example noop_figures -- 1000`.
//!
//! The graph is the one that build tools are commonly compared on: ten layers, each task needs three of the layer before, one
//! small source file each. `glob` as a second argument gives each task a package of its own and a glob instead of a path.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::TaskName;
use delivery::clock::{Clock, SteadyClock};
use manifest::{Manifest, Task};
use pipeline::{Cancel, Plan, RunContext, RunReport, history, plan, run};

type Failure = Box<dyn std::error::Error>;

fn task(at: usize, tasks: usize, glob: bool) -> Result<Task, Failure> {
    let width = (tasks / 10).max(1);
    let layer = at / width;
    let need = |k: usize| (layer - 1) * width + (at * 7 + k * 13 + k * k) % width;
    let mut needs: Vec<usize> = if layer == 0 { Vec::new() } else { (0..3).map(need).collect() };
    needs.sort_unstable();
    needs.dedup();
    let (directory, input) = if glob { (format!("packages/t{at}"), "src/**") } else { (".".into(), "") };
    let input = if glob { input.to_owned() } else { format!("src/{at}") };
    let output = if glob { "out/o".to_owned() } else { format!("out/{at}") };
    let source = if glob { "src/in.txt".to_owned() } else { input.clone() };
    let path = |need: &usize| if glob { format!("../t{need}/out/o") } else { format!("out/{need}") };
    let mut command = vec!["cp".to_owned(), source, output.clone()];
    if !needs.is_empty() {
        let script = format!(
            "cat {} {} | cksum > {output}",
            command[1],
            needs.iter().map(path).collect::<Vec<_>>().join(" ")
        );
        command = vec!["sh".into(), "-c".into(), script];
    }
    Ok(Task {
        name: TaskName::new(format!("t{at:05}"))?,
        command,
        directory: directory.into(),
        inputs: vec![input],
        outputs: vec![output],
        needs: needs.iter().map(|need| TaskName::new(format!("t{need:05}"))).collect::<Result<_, _>>()?,
        environment: BTreeMap::new(),
        pass: Vec::new(),
        timeout_ms: 60_000,
        junit: Vec::new(),
        cache: true,
    })
}

fn sources(root: &Utf8Path, tasks: usize, glob: bool) -> std::io::Result<()> {
    std::fs::create_dir_all(root.join("src"))?;
    std::fs::create_dir_all(root.join("out"))?;
    std::fs::write(root.join(".gitignore"), "out\n")?;
    for at in 0..tasks {
        if glob {
            let package = root.join(format!("packages/t{at}"));
            std::fs::create_dir_all(package.join("src"))?;
            std::fs::create_dir_all(package.join("out"))?;
            std::fs::write(package.join("src/in.txt"), format!("source {at}\n"))?;
        } else {
            std::fs::write(root.join(format!("src/{at}")), format!("source {at}\n"))?;
        }
    }
    Ok(())
}

async fn once(manifest: &Manifest, root: &Utf8Path) -> Result<(RunReport, u64), Failure> {
    let clock = SteadyClock::anchored(None);
    let cache_directory = root.join(".trimtab/cache");
    let plan: Plan = plan(manifest, &[], &history(&cache_directory))?;
    let context = RunContext {
        root: root.to_owned(),
        cache_directory,
        log_directory: root.join(".trimtab/logs"),
        concurrency: 2,
        environment: &|name| (name == "PATH").then(|| "/usr/bin:/bin".to_owned()),
        clock: Arc::new(SteadyClock::anchored(None)),
        force: false,
    };
    let started = clock.now();
    let report = run(&plan, &context, Cancel::never(), &mut |_| {}).await;
    let micros = clock.now().as_microsecond() - started.as_microsecond();
    Ok((report, micros.unsigned_abs()))
}

fn tell(what: &str, report: &RunReport, micros: u64) {
    let ms = micros as f64 / 1000.0;
    println!(
        "{what:<12}{ms:>10.1} ms  {:>6} from the cache  {:?}  {:?}",
        report.cached(),
        report.outcome(),
        report.warnings
    );
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let tasks = arguments.get(1).map_or(Ok(1_000), |text| text.parse())?;
    let glob = arguments.get(2).is_some_and(|word| word == "glob");
    let folder = tempfile::tempdir()?;
    let root = Utf8PathBuf::try_from(folder.path().to_owned())?;
    sources(&root, tasks, glob)?;
    let manifest = Manifest {
        project: "figures".into(),
        services: Vec::new(),
        tasks: (0..tasks).map(|at| task(at, tasks, glob)).collect::<Result<_, _>>()?,
        gates: Vec::new(),
        environments: Vec::new(),
        fronts: std::collections::BTreeMap::new(),
        trunk: "main".into(),
        ledger: None,
    };
    let (report, micros) = once(&manifest, &root).await?;
    tell("cold", &report, micros);
    let mut noops = Vec::new();
    for _ in 0..22 {
        let (report, micros) = once(&manifest, &root).await?;
        noops.push((micros, report));
    }
    // The first ones still hash what was written just before.
    noops.drain(..2);
    noops.sort_by_key(|(micros, _)| *micros);
    let (micros, report) = &noops[noops.len() / 2];
    tell("no-op", report, *micros);
    let last =
        if glob { format!("packages/t{}/src/in.txt", tasks - 1) } else { format!("src/{}", tasks - 1) };
    std::fs::write(root.join(last), "changed\n")?;
    let (report, micros) = once(&manifest, &root).await?;
    tell("change one", &report, micros);
    for at in 0..tasks {
        std::fs::remove_file(root.join(if glob {
            format!("packages/t{at}/out/o")
        } else {
            format!("out/{at}")
        }))?;
    }
    let (report, micros) = once(&manifest, &root).await?;
    tell("restore", &report, micros);
    Ok(())
}
