//! Runs a plan.
//!
//! One loop on one thread looks at each ready task once: where a glance shows that its result is known and in place, the task is
//! settled there and then; the others wait for a slot, the longest remaining path first. Leaves out recording, display and
//! signals, which are the caller's. Invariant: the report has every task of the plan once, whatever happens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use camino::Utf8PathBuf;
use delivery::TaskName;
use delivery::clock::{Clock, millis_between};
use delivery::event::TaskOutcome;
use platform::mask::Masker;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cache::{Cache, Effort};
use crate::cancel::{Cancel, CancelLevel};
use crate::environment;
use crate::job::{Given, Job, Prepared, Settled, Work, Workshop, blocking, not_run};
use crate::orphan::Subreaper;
use crate::plan::{Plan, PlannedTask};
use crate::process::Message;
use crate::report::{Progress, RunReport, TaskReport};
use crate::schedule::Schedule;
use crate::tree::{Compiler, Pattern, Tree};

/// Batches of output lines under way; a full channel holds a task's reader, not the run.
const MESSAGES_MAX: usize = 64;

/// Where and how to run.
pub struct RunContext<'a> {
    /// The folder of the manifest, absolute. Tasks' directories and globs are relative to it.
    pub root: Utf8PathBuf,
    /// Where results are kept; made when missing. Several runs may share it.
    pub cache_directory: Utf8PathBuf,
    /// Where this run's logs go, one `<task>.log` each; made when missing.
    pub log_directory: Utf8PathBuf,
    /// Tasks at a time; 0 means as many as there are processors.
    pub concurrency: usize,
    /// Trimtab's own environment.
    pub environment: &'a (dyn Fn(&str) -> Option<String> + Sync),
    /// For durations.
    pub clock: Arc<dyn Clock>,
    /// Run everything, whatever the cache knows. Results are kept all the same.
    pub force: bool,
}

/// Runs the plan. Tells `observe` what happens, in order, on the caller's own thread. Never fails as a whole: what goes wrong is in
/// the report. Dropping the future kills what runs.
pub async fn run(
    plan: &Plan,
    context: &RunContext<'_>,
    cancel: Cancel,
    observe: &mut (dyn FnMut(Progress) + Send),
) -> RunReport {
    let started = context.clock.now();
    let _subreaper = Subreaper::new();
    let shop = Arc::new(workshop(plan, context));
    let slots = match context.concurrency {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        slots => slots,
    };
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let mut desk = Desk {
        plan,
        shop: Arc::clone(&shop),
        clock: Arc::clone(&context.clock),
        cancel,
        sender,
        receiver,
        running: JoinSet::new(),
        places: HashMap::new(),
        schedule: Schedule::new(plan),
        known: (0..plan.tasks.len()).map(|_| None).collect(),
        gives: vec![None; plan.tasks.len()],
        reports: vec![None; plan.tasks.len()],
        observe,
    };
    desk.work(slots).await;
    let tasks: Vec<TaskReport> = desk.reports.into_iter().flatten().collect();
    let close = tokio::task::spawn_blocking(move || shop.cache.close()).await;
    let warnings = close.unwrap_or_else(|error| vec![format!("the cache could not be closed: {error}")]);
    summary(plan, tasks, warnings, slots, millis_between(started, context.clock.now()))
}

fn workshop(plan: &Plan, context: &RunContext<'_>) -> Workshop {
    let cache = Cache::open(&context.cache_directory, &context.root);
    if let Err(error) = std::fs::create_dir_all(&context.log_directory) {
        cache.warn(format!("logs can't be written to {}: {error}", context.log_directory));
    }
    let mut compiler = Compiler::default();
    let mut groups = HashMap::new();
    let jobs: Vec<Job> =
        plan.tasks.iter().map(|planned| job(planned, context, &cache, &mut compiler, &mut groups)).collect();
    let reports = plan
        .reports
        .iter()
        .filter_map(|(directory, glob)| compiler.compile(directory, std::slice::from_ref(glob)).ok());
    let never = reports.flatten().collect();
    let tree = Tree::new(&context.root, jobs.iter().filter_map(|job| job.inputs.as_ref()).flatten(), never);
    let secrets = jobs.iter().flat_map(|job| job.passed.values().flatten());
    Workshop {
        root: context.root.clone(),
        log_directory: context.log_directory.clone(),
        force: context.force,
        base: environment::base(context.environment),
        platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        masker: Masker::new(secrets),
        cache,
        tree,
        jobs,
        listed: Mutex::default(),
        made: Mutex::default(),
    }
}

fn job(
    planned: &PlannedTask,
    context: &RunContext<'_>,
    cache: &Cache,
    compiler: &mut Compiler,
    groups: &mut HashMap<(Utf8PathBuf, Vec<String>), usize>,
) -> Job {
    let task = planned.task.clone();
    let mut compile = |globs: &[String]| -> Vec<Pattern> {
        compiler.compile(&task.directory, globs).unwrap_or_else(|error| {
            cache.warn(format!("a glob of {} can't be understood: {error}", task.name));
            Vec::new()
        })
    };
    let outputs = compile(&task.outputs);
    let junit = compile(&task.junit);
    let globs = input_globs(&task);
    let inputs = globs.as_ref().map(|globs| compile(globs));
    let next = groups.len();
    let inputs_group = *groups.entry((task.directory.clone(), globs.unwrap_or_default())).or_insert(next);
    let passed = environment::passed(&task, context.environment);
    Job { task, inputs, inputs_group, outputs, junit, passed }
}

/// What the task's result depends on. A task that is cached without saying depends on the whole directory tree. A program that
/// is named by a relative path is an input, too.
fn input_globs(task: &manifest::Task) -> Option<Vec<String>> {
    let mut globs = task.inputs.clone();
    if globs.is_empty() {
        if !task.cache {
            return None;
        }
        let up = task.directory.components().filter(|part| part.as_str() != ".").count();
        globs.push(format!("{}**", "../".repeat(up)));
    }
    if let Some(program) = task.command.first()
        && program.contains('/')
        && !program.starts_with('/')
        && !program.contains(['*', '?', '[', '{', '\\'])
    {
        globs.push(program.clone());
    }
    Some(globs)
}

/// The state of one run.
struct Desk<'a> {
    plan: &'a Plan,
    shop: Arc<Workshop>,
    clock: Arc<dyn Clock>,
    cancel: Cancel,
    sender: mpsc::Sender<Message>,
    receiver: mpsc::Receiver<Message>,
    running: JoinSet<Settled>,
    /// Which task a running job is about.
    places: HashMap<tokio::task::Id, usize>,
    schedule: Schedule,
    /// What a glance found about a waiting task; `None` if it did not tell.
    known: Vec<Option<Box<Work>>>,
    gives: Vec<Option<blake3::Hash>>,
    reports: Vec<Option<TaskReport>>,
    observe: &'a mut (dyn FnMut(Progress) + Send),
}

impl Desk<'_> {
    async fn work(&mut self, slots: usize) {
        loop {
            let cancelled = self.cancel.level() > CancelLevel::Run;
            if !cancelled {
                self.look();
                while self.running.len() < slots {
                    let Some(at) = self.schedule.next_to_run() else { break };
                    self.start(at);
                }
            }
            if self.running.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                Some(message) = self.receiver.recv() => self.tell(message),
                Some(joined) = self.running.join_next_with_id() => self.joined(joined),
                _ = self.cancel.above(CancelLevel::Run), if !cancelled => {}
            }
        }
        for at in self.schedule.abandon() {
            let name = self.name(at);
            let detail = "not started, because the run was cancelled".to_owned();
            let report = match self.known[at].take() {
                Some(work) => work.not_run(name, TaskOutcome::Cancelled, detail),
                None => not_run(name, TaskOutcome::Cancelled, detail),
            };
            self.finished(at, report);
        }
    }

    fn name(&self, at: usize) -> TaskName {
        self.plan.tasks[at].task.name.clone()
    }

    fn given(&self, at: usize) -> Vec<Given> {
        self.plan.tasks[at].needs.iter().map(|need| (self.name(*need), self.gives[*need])).collect()
    }

    /// Settles all ready tasks whose results are known and in place.
    fn look(&mut self) {
        while let Some(at) = self.schedule.next_fresh() {
            match self.shop.prepare(at, &self.given(at), Effort::Glance, &*self.clock) {
                Prepared::Settled(settled) => self.settle(at, *settled),
                Prepared::Run(work) => {
                    self.known[at] = Some(work);
                    self.schedule.must_run(at);
                }
                Prepared::Busy => self.schedule.must_run(at),
            }
        }
    }

    fn start(&mut self, at: usize) {
        let shop = Arc::clone(&self.shop);
        let (clock, cancel, messages) = (Arc::clone(&self.clock), self.cancel.clone(), self.sender.clone());
        let (given, generation) = (self.given(at), shop.cache.generation());
        // What the glance found holds unless a task ended since, which may have written inputs.
        let known = self.known[at].take().filter(|work| work.generation == generation);
        let job = async move {
            let prepared = if let Some(work) = known {
                Prepared::Run(work)
            } else {
                let (shop, clock) = (Arc::clone(&shop), Arc::clone(&clock));
                blocking(move || shop.prepare(at, &given, Effort::Full, &*clock)).await
            };
            match prepared {
                Prepared::Settled(settled) => *settled,
                Prepared::Run(work) => shop.run(at, work, cancel, clock, messages).await,
                Prepared::Busy => unreachable!("only a glance is ever too short"),
            }
        };
        let handle = self.running.spawn(job);
        self.places.insert(handle.id(), at);
    }

    fn joined(&mut self, joined: Result<(tokio::task::Id, Settled), tokio::task::JoinError>) {
        // All that the job said comes before its end.
        while let Ok(message) = self.receiver.try_recv() {
            self.tell(message);
        }
        match joined {
            Ok((id, settled)) => {
                if let Some(at) = self.places.remove(&id) {
                    self.settle(at, settled);
                }
            }
            Err(error) => {
                if let Some(at) = self.places.remove(&error.id()) {
                    let detail = format!("an internal error: {error}");
                    let report = not_run(self.name(at), TaskOutcome::NotStarted, detail);
                    self.settle(at, Settled { report, gives: None });
                }
            }
        }
    }

    fn settle(&mut self, at: usize, settled: Settled) {
        let Settled { report, gives } = settled;
        let success = report.outcome == TaskOutcome::Success;
        self.finished(at, report);
        self.gives[at] = gives;
        if success {
            self.schedule.succeeded(self.plan, at);
            return;
        }
        for (lost, need) in self.schedule.failed(self.plan, at) {
            let detail = self.lost_detail(at, need);
            let report = not_run(self.name(lost), TaskOutcome::Skipped, detail);
            self.finished(lost, report);
        }
    }

    /// Why a task is skipped: `need` is what it needs, `root` what failed.
    fn lost_detail(&self, root: usize, need: usize) -> String {
        let ended = match self.reports[root].as_ref().map(|report| report.outcome) {
            Some(TaskOutcome::TimedOut) => "timed out",
            Some(TaskOutcome::Cancelled) => "was cancelled",
            Some(TaskOutcome::NotStarted) => "could not be started",
            _ => "failed",
        };
        let (root_name, need_name) = (self.name(root), self.name(need));
        if root == need {
            format!("it needs {need_name}, which {ended}")
        } else {
            format!("it needs {need_name}, which was skipped because {root_name} {ended}")
        }
    }

    fn finished(&mut self, at: usize, report: TaskReport) {
        (self.observe)(Progress::Finished(Box::new(report.clone())));
        self.reports[at] = Some(report);
    }

    fn tell(&mut self, message: Message) {
        match message {
            Message::Started(at) => {
                let task = self.name(at);
                (self.observe)(Progress::Started { task });
            }
            Message::Lines(at, lines) => {
                let task = self.name(at);
                for line in lines {
                    (self.observe)(Progress::Output { task: task.clone(), line });
                }
            }
        }
    }
}

fn summary(
    plan: &Plan,
    tasks: Vec<TaskReport>,
    warnings: Vec<String>,
    slots: usize,
    duration_ms: u64,
) -> RunReport {
    let work_ms = tasks.iter().map(|task| task.duration_ms).sum();
    let mut chain = vec![0_u64; tasks.len()];
    for (at, task) in tasks.iter().enumerate() {
        let before = plan.tasks[at].needs.iter().map(|need| chain[*need]).max().unwrap_or(0);
        chain[at] = before + task.duration_ms;
    }
    let critical_path_ms = chain.into_iter().max().unwrap_or(0);
    let bound = (work_ms as f64 / slots as f64).max(critical_path_ms as f64);
    let efficiency = if duration_ms == 0 { 1.0 } else { (bound / duration_ms as f64).min(1.0) };
    RunReport { tasks, duration_ms, critical_path_ms, work_ms, efficiency, warnings }
}
