//! A temporary repository with a manifest made in code, and a way to run it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use camino::{Utf8Path, Utf8PathBuf};
use delivery::TaskName;
use delivery::clock::SteadyClock;
use manifest::{Manifest, Task};
use pipeline::{Cancel, Progress, RunContext, RunReport, TaskReport, plan, run};

/// See the module.
pub(crate) struct World {
    _folder: tempfile::TempDir,
    /// The repository.
    pub(crate) root: Utf8PathBuf,
    /// The cache.
    pub(crate) cache: Utf8PathBuf,
    /// The tasks.
    pub(crate) tasks: Vec<Task>,
    /// Trimtab's own environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Tasks at a time.
    pub(crate) concurrency: usize,
    /// Run everything.
    pub(crate) force: bool,
    /// What the last run said.
    pub(crate) progress: Arc<Mutex<Vec<Progress>>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().canonicalize().unwrap()).unwrap();
        let environment = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("SECRET_OF_OURS", "not for tasks")];
        Self {
            _folder: folder,
            cache: root.join(".trimtab/cache"),
            root,
            tasks: Vec::new(),
            environment: environment.map(|(name, value)| (name.into(), value.into())).into(),
            concurrency: 2,
            force: false,
            progress: Arc::default(),
        }
    }

    /// A world with one task that runs a shell script.
    pub(crate) fn of(name: &str, script: &str) -> Self {
        let mut world = Self::new();
        world.task(name, script);
        world
    }

    /// Adds a task that runs a shell script and is not cached.
    pub(crate) fn task(&mut self, name: &str, script: &str) -> &mut Task {
        self.tasks.push(Task {
            name: TaskName::new(name).unwrap(),
            command: vec!["sh".into(), "-c".into(), script.into()],
            directory: ".".into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            needs: Vec::new(),
            environment: BTreeMap::new(),
            pass: Vec::new(),
            timeout_ms: 60_000,
            junit: Vec::new(),
            cache: false,
        });
        self.tasks.last_mut().unwrap()
    }

    /// Adds a cached task with these inputs and outputs.
    pub(crate) fn cached(
        &mut self,
        name: &str,
        script: &str,
        inputs: &[&str],
        outputs: &[&str],
    ) -> &mut Task {
        let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        let (inputs, outputs) = (owned(inputs), owned(outputs));
        let task = self.task(name, script);
        task.cache = true;
        task.inputs = inputs;
        task.outputs = outputs;
        task
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap()
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Runs all.
    pub(crate) async fn run(&self) -> RunReport {
        self.run_until(Cancel::never()).await
    }

    /// Runs all until cancelled.
    pub(crate) async fn run_until(&self, cancel: Cancel) -> RunReport {
        let mut tasks = self.tasks.clone();
        tasks.sort_by(|a, b| a.name.cmp(&b.name));
        let manifest = Manifest {
            project: "test".into(),
            services: Vec::new(),
            tasks,
            gates: Vec::new(),
            environments: Vec::new(),
            fronts: std::collections::BTreeMap::new(),
            trunk: "main".into(),
            ledger: None,
        };
        let plan = plan(&manifest, &[], &pipeline::history(&self.cache)).unwrap();
        let lookup = |name: &str| self.environment.get(name).cloned();
        let context = RunContext {
            root: self.root.clone(),
            cache_directory: self.cache.clone(),
            log_directory: self.root.join(".trimtab/logs"),
            concurrency: self.concurrency,
            environment: &lookup,
            clock: Arc::new(SteadyClock::anchored(None)),
            force: self.force,
        };
        self.progress.lock().unwrap().clear();
        let progress = Arc::clone(&self.progress);
        let report = run(&plan, &context, cancel, &mut |said| progress.lock().unwrap().push(said)).await;
        assert_eq!(report.tasks.len(), plan.tasks.len(), "every task is reported once");
        report
    }
}

/// The report of one task.
pub(crate) fn of<'r>(report: &'r RunReport, name: &str) -> &'r TaskReport {
    report.tasks.iter().find(|task| task.task.as_str() == name).unwrap()
}

/// Why it ran, or did not.
pub(crate) fn why(report: &RunReport, name: &str) -> String {
    of(report, name).explanation.to_string()
}

/// Whether a process with this pid lives (a zombie does not).
pub(crate) fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}

/// A file's text, once it is there.
pub(crate) async fn appears(path: &Utf8Path) -> String {
    for _ in 0..500 {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
    panic!("{path} did not appear");
}
