//! One task from question to answer: is its result known, and if not, what came of running it.
//!
//! Leaves out order and slots (`run`), processes (`process`) and storage (`cache`). Invariant: a result is kept only if the task
//! succeeded, wrote all declared outputs, and every input had the same content before and after.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blake3::Hash;
use camino::{Utf8Path, Utf8PathBuf};
use delivery::clock::{Clock, millis_between};
use delivery::event::TaskOutcome;
use delivery::{TaskName, text};
use manifest::Task;
use platform::mask::Masker;
use tokio::sync::mpsc;

use crate::cache::entry::{Entry, Output, gives_of_files};
use crate::cache::explain::{CacheExplanation, CacheVerdict, Difference};
use crate::cache::key::{Inputs, Parts, value_hash};
use crate::cache::{Cache, Effort, Lookup, Placement, StateError};
use crate::cancel::Cancel;
use crate::process::{Ending, Execution, Message, Order, execute};
use crate::product::{OutputFile, Stamps, Surplus, Written};
use crate::report::{LACKS_OUTPUT, TaskReport};
use crate::tree::{Pattern, Tree, outputs};
use crate::{environment, program};

/// Longer time limits are cut to this, so that no sum of times overflows.
const TIMEOUT_MAX: Duration = Duration::from_hours(30 * 24);

/// A task with what is worked out once a run.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) task: Task,
    /// `None`: it does not say what its result depends on.
    pub(crate) inputs: Option<Vec<Pattern>>,
    /// Tasks with the same inputs have the same number.
    pub(crate) inputs_group: usize,
    pub(crate) outputs: Vec<Pattern>,
    pub(crate) junit: Vec<Pattern>,
    pub(crate) passed: BTreeMap<String, Option<String>>,
}

impl Job {
    /// The globs of `junit` that none of the reports, relative to the root, matches.
    fn reports_missing(&self, reports: &[String]) -> Vec<String> {
        let globs = self.junit.iter().zip(&self.task.junit);
        globs.filter(|(pattern, _)| pattern.lacks(reports)).map(|(_, glob)| glob.clone()).collect()
    }
}

/// What the jobs of one run share.
#[derive(Debug)]
pub(crate) struct Workshop {
    pub(crate) root: Utf8PathBuf,
    pub(crate) log_directory: Utf8PathBuf,
    pub(crate) force: bool,
    pub(crate) base: BTreeMap<String, String>,
    pub(crate) platform: String,
    pub(crate) cache: Cache,
    pub(crate) tree: Tree,
    pub(crate) jobs: Vec<Job>,
    pub(crate) masker: Masker,
    pub(crate) listed: Mutex<HashMap<usize, (u64, Arc<Listed>)>>,
    /// What tasks of this run wrote or had put back.
    pub(crate) made: Mutex<HashSet<String>>,
}

/// A task's inputs with their hash.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    hash: Option<Hash>,
    inputs: Inputs,
}

impl Listed {
    /// Whether the path is among the inputs.
    pub(crate) fn holds(&self, path: &str) -> bool {
        self.inputs.0.binary_search_by(|(input, _)| input.as_str().cmp(path)).is_ok()
    }
}

/// What a needed task gave: its name, and a hash unless nobody knows.
pub(crate) type Given = (TaskName, Option<Hash>);

/// A settled task.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) report: TaskReport,
    /// What dependents' keys contain of it; `None` when nobody knows.
    pub(crate) gives: Option<Hash>,
}

/// What is to be done about a task.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// Its result was known and is in place.
    Settled(Box<Settled>),
    /// It must run.
    Run(Box<Work>),
    /// A glance does not tell.
    Busy,
}

/// Why a kept result was not put in place.
enum Unplaced {
    /// A glance does not tell.
    Busy,
    Because(Difference),
}

/// A task that must run.
#[derive(Debug)]
pub(crate) struct Work {
    parts: Parts,
    listed: Arc<Listed>,
    /// Whether its result may be kept.
    keep: bool,
    /// Whether the key says all that its result depends on.
    known: bool,
    explanation: CacheExplanation,
    /// When it was found out, in generations of the cache.
    pub(crate) generation: u64,
}

impl Workshop {
    /// Asks the cache, and puts outputs back if it knows the result.
    pub(crate) fn prepare(&self, at: usize, given: &[Given], effort: Effort, clock: &dyn Clock) -> Prepared {
        let started = clock.now();
        let generation = self.cache.generation();
        let job = &self.jobs[at];
        let listed = match self.list(job, effort) {
            Ok(listed) => listed,
            Err(StateError::Busy) => return Prepared::Busy,
            Err(StateError::Unreadable(what)) => {
                self.cache.warn(format!("{} runs without the cache: {what}", job.task.name));
                return self.uncached(job, given, Difference::InputUnreadable(what));
            }
        };
        let parts = self.parts(job, &listed, given);
        if let Some((need, _)) = given.iter().find(|(_, gives)| gives.is_none()) {
            let reason = Difference::NeedUnknown(need.to_string());
            return self.uncached(job, given, reason);
        }
        let known = job.inputs.is_some();
        let work = |keep, explanation| {
            let (parts, listed) = (parts.clone(), Arc::clone(&listed));
            Prepared::Run(Box::new(Work { parts, listed, keep, known, explanation, generation }))
        };
        if !job.task.cache {
            return work(false, CacheExplanation::off(Difference::TurnedOff));
        }
        if self.force {
            return work(true, CacheExplanation::off(Difference::Forced));
        }
        let key = parts.key();
        let entry = match self.cache.lookup(&job.task.name, &key) {
            Lookup::Found(entry) => entry,
            Lookup::Absent => {
                let reasons = self.cache.explain_miss(&job.task.name, &parts, &listed.inputs);
                return work(true, CacheExplanation::miss(reasons));
            }
            Lookup::Damaged(what) => {
                return work(true, CacheExplanation::miss(vec![Difference::EntryDamaged(what)]));
            }
        };
        match self.put_in_place(job, &listed, &key, &entry, effort) {
            Ok(missing) => Prepared::Settled(Box::new(self.hit(job, &key, &entry, missing, started, clock))),
            Err(Unplaced::Busy) => Prepared::Busy,
            Err(Unplaced::Because(reason)) => work(true, CacheExplanation::miss(vec![reason])),
        }
    }

    /// Makes the output globs hold exactly what is kept; says how many outputs were put back.
    fn put_in_place(
        &self,
        job: &Job,
        listed: &Listed,
        key: &Hash,
        entry: &Entry,
        effort: Effort,
    ) -> Result<usize, Unplaced> {
        let foreign = |path| Unplaced::Because(Difference::OutputForeign(path));
        let damaged = |what| Unplaced::Because(Difference::EntryDamaged(what));
        let unknown = |error| match error {
            StateError::Busy => Unplaced::Busy,
            StateError::Unreadable(what) => Unplaced::Because(Difference::OutputUnreadable(what)),
        };
        let missing = match self.cache.placement(entry, effort).map_err(unknown)? {
            Placement::Missing(missing) => missing,
            Placement::Foreign(path) => return Err(foreign(path)),
        };
        let Surplus { own, foreign } = self.surplus(job, listed, &entry.outputs, effort).map_err(unknown)?;
        if let Some(path) = foreign {
            return Err(Unplaced::Because(Difference::OutputUnknown(path)));
        }
        if effort == Effort::Glance && !(missing.is_empty() && own.is_empty()) {
            return Err(Unplaced::Busy);
        }
        self.clear(job, &own).map_err(|what| Unplaced::Because(Difference::OutputUnreadable(what)))?;
        self.cache.restore(key, &missing).map_err(damaged)?;
        if !missing.is_empty() {
            self.touched(job);
        }
        self.cache.adopt(&job.task.name, *key, entry);
        self.made_by(entry.outputs.iter().map(|output| output.path.clone()));
        Ok(missing.len())
    }

    fn hit(
        &self,
        job: &Job,
        key: &Hash,
        entry: &Entry,
        missing: usize,
        started: delivery::Timestamp,
        clock: &dyn Clock,
    ) -> Settled {
        let file = |output: &Output| OutputFile::new(&output.path, output.state);
        let report = TaskReport {
            task: job.task.name.clone(),
            outcome: TaskOutcome::Success,
            cached: true,
            key: key.to_hex().to_string(),
            duration_ms: millis_between(started, clock.now()),
            detail: hit_detail(entry, missing),
            log: self.cache.log_path(key),
            explanation: CacheExplanation::hit(),
            reports_missing: job.reports_missing(&entry.reports),
            reports: entry.reports.iter().map(|path| self.root.join(path)).collect(),
            outputs: Arc::new(entry.outputs.iter().map(file).collect()),
            output_tail: Vec::new(),
        };
        Settled { report, gives: Some(entry.gives()) }
    }

    /// A task that runs because its key can't be worked out.
    fn uncached(&self, job: &Job, given: &[Given], reason: Difference) -> Prepared {
        let listed = Arc::new(Listed::default());
        let parts = self.parts(job, &listed, given);
        let explanation = CacheExplanation::off(reason);
        let generation = self.cache.generation();
        Prepared::Run(Box::new(Work { parts, listed, keep: false, known: false, explanation, generation }))
    }

    fn list(&self, job: &Job, effort: Effort) -> Result<Arc<Listed>, StateError> {
        let Some(patterns) = &job.inputs else { return Ok(Arc::default()) };
        let generation = self.cache.generation();
        let remembered = |listed: &Mutex<HashMap<usize, (u64, Arc<Listed>)>>| {
            let listed = listed.lock().unwrap_or_else(PoisonError::into_inner);
            listed
                .get(&job.inputs_group)
                .filter(|(then, _)| *then == generation)
                .map(|(_, listed)| Arc::clone(listed))
        };
        if let Some(listed) = remembered(&self.listed) {
            return Ok(listed);
        }
        let meant = self.tree.inputs(patterns).map_err(|error| StateError::Unreadable(error.to_string()))?;
        for glob in meant.empty.iter().filter_map(|at| job.task.inputs.get(*at)) {
            self.cache.warn(format!("the input {glob} of {} means no file", job.task.name));
        }
        let inputs = Inputs(self.cache.states(meant.paths, effort)?);
        let listed = Arc::new(Listed { hash: Some(blake3::hash(&inputs.encode())), inputs });
        let mut all = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(job.inputs_group, (generation, Arc::clone(&listed)));
        Ok(listed)
    }

    fn parts(&self, job: &Job, listed: &Listed, given: &[Given]) -> Parts {
        let task = &job.task;
        let mut needs: Vec<(String, Hash)> =
            given.iter().filter_map(|(need, gives)| Some((need.to_string(), (*gives)?))).collect();
        needs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let hashed = |(name, value): (&String, &String)| (name.clone(), value_hash(name, value));
        let passed = |(name, value): (&String, &Option<String>)| {
            (name.clone(), value.as_ref().map(|value| value_hash(name, value)))
        };
        Parts {
            command: task.command.clone(),
            directory: task.directory.to_string(),
            environment: task.environment.iter().map(hashed).collect(),
            passed: job.passed.iter().map(passed).collect(),
            inputs: listed.hash,
            outputs: task.outputs.clone(),
            junit: task.junit.clone(),
            needs,
            platform: self.platform.clone(),
        }
    }

    /// Runs the task.
    pub(crate) async fn run(
        self: Arc<Self>,
        at: usize,
        work: Box<Work>,
        cancel: Cancel,
        clock: Arc<dyn Clock>,
        messages: mpsc::Sender<Message>,
    ) -> Settled {
        let job = &self.jobs[at];
        let log = self.log_directory.join(log_name(&job.task.name));
        let started = clock.now();
        let order = match self.order(at, log.clone()) {
            Ok(order) => order,
            Err(reason) => return self.not_started(at, *work, log, reason),
        };
        if let Err(reason) = self.begin(job, &work) {
            return self.not_started(at, *work, log, reason);
        }
        let before = Before { reports: self.report_stamps(job), outputs: self.stamps(job) };
        match execute(&order, cancel, &messages).await {
            Err(error) => self.not_started(at, *work, log, start_error(&order.program, &error)),
            Ok(execution) => {
                let duration_ms = millis_between(started, clock.now());
                let shop = Arc::clone(&self);
                let finish = move || shop.finish(at, *work, execution, duration_ms, log, &before);
                blocking(finish).await
            }
        }
    }

    /// Takes away what earlier results left among the outputs, so that the task begins as in a fresh clone. Without the cache
    /// nothing could give it back, so there it stays.
    fn begin(&self, job: &Job, work: &Work) -> Result<(), String> {
        if !work.keep {
            return Ok(());
        }
        match self.surplus(job, &work.listed, &[], Effort::Full) {
            Ok(surplus) => self.clear(job, &surplus.own),
            Err(StateError::Busy | StateError::Unreadable(_)) => Ok(()),
        }
    }

    fn order(&self, at: usize, log: Utf8PathBuf) -> Result<Order, String> {
        let Job { task, passed, .. } = &self.jobs[at];
        let variables = environment::of_task(&self.base, task, passed);
        let directory =
            if task.directory == "." { self.root.clone() } else { self.root.join(&task.directory) };
        let real = |path: &Utf8Path| path.canonicalize_utf8().ok();
        if let (Some(directory), Some(root)) = (real(&directory), real(&self.root))
            && !directory.starts_with(&root)
        {
            return Err(format!("{} leads out of the project, to {directory}", task.directory));
        }
        let name = task.command.first().ok_or("the command is empty")?;
        let program = program::find(name, &directory, variables.get("PATH").map(String::as_str))?;
        Ok(Order {
            index: at,
            task: task.name.clone(),
            program,
            command: task.command.clone(),
            directory,
            environment: variables,
            timeout: Duration::from_millis(task.timeout_ms).min(TIMEOUT_MAX),
            log,
            masker: self.masker.clone(),
        })
    }

    fn not_started(&self, at: usize, work: Work, log: Utf8PathBuf, reason: String) -> Settled {
        let report = TaskReport {
            task: self.jobs[at].task.name.clone(),
            outcome: TaskOutcome::NotStarted,
            cached: false,
            key: work.key_text(),
            duration_ms: 0,
            detail: reason,
            log,
            explanation: work.explanation,
            reports: Vec::new(),
            reports_missing: Vec::new(),
            outputs: Arc::default(),
            output_tail: Vec::new(),
        };
        Settled { report, gives: None }
    }

    /// Judges how it ended, finds what it wrote, and keeps it.
    fn finish(
        &self,
        at: usize,
        mut work: Work,
        execution: Execution,
        duration_ms: u64,
        log: Utf8PathBuf,
        before: &Before,
    ) -> Settled {
        let job = &self.jobs[at];
        self.tree.touch(&job.outputs);
        if work.keep {
            // Whether inputs came or went meanwhile.
            self.tree.touch(job.inputs.as_deref().unwrap_or_default());
        }
        self.cache.advance();
        let (mut outcome, mut detail) = judge(execution.ending, job.task.timeout_ms);
        let mut notes = execution.notes;
        if let Some(trouble) = &execution.captured.trouble {
            self.cache.warn(format!("the log of {} is not complete: {trouble}", job.task.name));
        }
        let (fresh, stale) = self.fresh_reports(job, &before.reports);
        if stale > 0 {
            notes.push(format!("{} older than this run not read", text::count(stale, "report")));
        }
        let mut gives = None;
        let mut files = Vec::new();
        if outcome == TaskOutcome::Success {
            match self.written(job, &work.listed, &before.outputs, &fresh) {
                Ok(Written { missing: Some(glob), .. }) => {
                    outcome = TaskOutcome::Failure;
                    detail = format!("{LACKS_OUTPUT} {glob}");
                }
                Ok(mut written) => {
                    if let Some(path) = written.foreign.take() {
                        notes.push(format!("{path} lies among its outputs, but it did not write that"));
                    }
                    gives = self.keep(job, &mut work, &written, duration_ms, &log, &fresh);
                    files = written.files.iter().map(|(path, state)| OutputFile::new(path, *state)).collect();
                }
                Err(reason) => work.not_kept(Difference::NotKept(reason)),
            }
        }
        if outcome == TaskOutcome::Success {
            self.cache.learn_duration(&job.task.name, duration_ms);
        }
        for note in notes {
            detail.push_str("; ");
            detail.push_str(&note);
        }
        let report = TaskReport {
            task: job.task.name.clone(),
            outcome,
            cached: false,
            key: work.key_text(),
            duration_ms,
            detail,
            log,
            explanation: work.explanation,
            reports_missing: job.reports_missing(&fresh),
            reports: fresh.iter().map(|path| self.root.join(path)).collect(),
            outputs: Arc::new(files),
            output_tail: execution.captured.tail,
        };
        Settled { report, gives }
    }

    /// Keeps the result if that is allowed, and says what it gives to dependents.
    fn keep(
        &self,
        job: &Job,
        work: &mut Work,
        written: &Written,
        duration_ms: u64,
        log: &Utf8Path,
        fresh: &[String],
    ) -> Option<Hash> {
        if let Some(glob) = &written.left {
            let what = format!("its output {glob} lay there before and was left as it was");
            work.not_kept(Difference::NotKept(what));
            return None;
        }
        let files = written.files.iter().filter(|(path, _)| !fresh.contains(path));
        let gives = if job.task.outputs.is_empty() {
            work.known.then(|| work.parts.key())
        } else {
            Some(gives_of_files(files.map(|(path, state)| (path.as_str(), *state))))
        };
        if !work.keep {
            return gives;
        }
        match self.list(job, Effort::Full) {
            Ok(listed) if listed.hash == work.listed.hash && !self.inputs_moved(job, work) => {}
            _ => {
                work.not_kept(Difference::InputChangedMeanwhile);
                // With outputs their content still says what it gave; without, nobody knows.
                return gives.filter(|_| !job.task.outputs.is_empty());
            }
        }
        let kept: Result<Vec<_>, String> =
            written.files.iter().map(|(path, state)| self.cache.keep(path, *state)).collect();
        let saved = kept.and_then(|outputs| {
            let parts = work.parts.clone();
            let entry = Entry { parts, duration_ms, outputs, reports: fresh.to_vec() };
            self.cache
                .save(&job.task.name, &entry, &work.listed.inputs, log)
                .map_err(|error| error.to_string())
        });
        if let Err(reason) = saved {
            self.cache.warn(format!("the result of {} was not kept: {reason}", job.task.name));
            work.not_kept(Difference::NotKept(reason));
        }
        gives
    }

    /// Whether an input was written since the task was looked at, be it with the same content: what the task read is not known
    /// then. Its own outputs among them it wrote itself.
    fn inputs_moved(&self, job: &Job, work: &Work) -> bool {
        let inputs = work.listed.inputs.0.iter().map(|(path, _)| path);
        let foreign = inputs.filter(|path| !job.outputs.iter().any(|pattern| pattern.matches(path)));
        self.cache.moved_since(foreign, work.generation)
    }

    fn report_paths(&self, job: &Job) -> Vec<String> {
        if job.junit.is_empty() {
            return Vec::new();
        }
        match outputs(&self.root, &job.junit) {
            Ok((paths, _)) => paths,
            Err(error) => {
                self.cache.warn(format!("the reports of {} can't be listed: {error}", job.task.name));
                Vec::new()
            }
        }
    }

    fn report_stamps(&self, job: &Job) -> HashMap<String, Stamp> {
        let stamped = |path: String| Some((stamp(&self.root.join(&path))?, path));
        self.report_paths(job).into_iter().filter_map(stamped).map(|(stamp, path)| (path, stamp)).collect()
    }

    /// The reports that this run wrote, and how many lie there from before: those would tell of another run.
    fn fresh_reports(&self, job: &Job, before: &HashMap<String, Stamp>) -> (Vec<String>, u64) {
        let all = self.report_paths(job);
        let total = all.len();
        let is_fresh = |path: &String| {
            stamp(&self.root.join(path)).is_some_and(|now| before.get(path).is_none_or(|then| *then != now))
        };
        let fresh: Vec<String> = all.into_iter().filter(is_fresh).collect();
        let stale = (total - fresh.len()) as u64;
        (fresh, stale)
    }
}

/// What tells whether a report was written anew: inode, size, change time.
type Stamp = (u64, u64, i64, i64);

fn stamp(path: &Utf8Path) -> Option<Stamp> {
    let meta = path.metadata().ok()?;
    Some((meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec()))
}

/// What lay there before a task ran.
struct Before {
    reports: HashMap<String, Stamp>,
    outputs: Stamps,
}

impl Work {
    /// Empty when the key does not say everything.
    fn key_text(&self) -> String {
        if self.known { self.parts.key().to_hex().to_string() } else { String::new() }
    }

    fn not_kept(&mut self, reason: Difference) {
        self.explanation.reasons.push(reason);
    }

    /// A report for a task that was to run but did not.
    pub(crate) fn not_run(self, task: TaskName, outcome: TaskOutcome, detail: String) -> TaskReport {
        let key = self.key_text();
        TaskReport { key, explanation: self.explanation, ..not_run(task, outcome, detail) }
    }
}

/// Runs slow work on a thread of its own; a panic there goes on here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime is being shut down, and this future with it.
        Err(Err(_)) => std::future::pending().await,
    }
}

/// A report for a task that nobody looked at.
pub(crate) fn not_run(task: TaskName, outcome: TaskOutcome, detail: String) -> TaskReport {
    TaskReport {
        task,
        outcome,
        cached: false,
        key: String::new(),
        duration_ms: 0,
        detail,
        log: Utf8PathBuf::new(),
        explanation: CacheExplanation {
            verdict: CacheVerdict::Off,
            reasons: vec![Difference::NotRun],
            more: 0,
        },
        reports: Vec::new(),
        reports_missing: Vec::new(),
        outputs: Arc::default(),
        output_tail: Vec::new(),
    }
}

fn hit_detail(entry: &Entry, restored: usize) -> String {
    let took = text::duration(entry.duration_ms);
    match restored {
        0 => format!("unchanged; it took {took} when it ran"),
        n => format!("unchanged, {} put back; it took {took} when it ran", text::count(n as u64, "output")),
    }
}

fn judge(ending: Ending, timeout_ms: u64) -> (TaskOutcome, String) {
    match ending {
        Ending::TimedOut => {
            (TaskOutcome::TimedOut, format!("stopped at its time limit of {}", text::duration(timeout_ms)))
        }
        Ending::Cancelled => (TaskOutcome::Cancelled, "stopped, because the run was cancelled".to_owned()),
        Ending::Exited(status) => match (status.code(), status.signal()) {
            (Some(0), _) => (TaskOutcome::Success, "exit code 0".to_owned()),
            (Some(code), _) => (TaskOutcome::Failure, format!("exit code {code}")),
            (None, Some(9)) => {
                (TaskOutcome::Failure, "killed by signal 9 (SIGKILL), perhaps for want of memory".to_owned())
            }
            (None, signal) => {
                (TaskOutcome::Failure, format!("ended by {}", signal_name(signal.unwrap_or(0))))
            }
        },
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal} ({name})")
}

fn start_error(program: &Utf8Path, error: &std::io::Error) -> String {
    // ENOEXEC has no kind of its own.
    if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) {
        return format!(
            "{program} can't be started: it is neither a binary for this machine nor has a #! line"
        );
    }
    format!("{program} can't be started: {error}")
}

/// Task names may hold `/` and `:`; `+` and `=` are not in their alphabet, so no two tasks share a file.
fn log_name(task: &TaskName) -> String {
    format!("{}.log", task.as_str().replace('/', "+").replace(':', "="))
}
