//! `why` is total: whatever the history, what waits has a blocker and an action, and an action that is a command names one
//! that exists.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::time::Duration;

use delivery::artifact::Artifact;
use delivery::change::{Commit, Person};
use delivery::clock::Seed;
use delivery::effect::{Command, Outcome, Readiness, RevisionSpec};
use delivery::environment::{ApprovalRule, Environment, Freeze, FreezeWindow, Kpi, KpiRule};
use delivery::event::TaskOutcome;
use delivery::evidence::{Evidence, Finding};
use delivery::finding::GateVerdict;
use delivery::release::Release;
use delivery::rollout::{RollbackCause, RolloutOutcome};
use delivery::strategy::{AnalysisPolicy, OnExpiry, OnInconclusive, Step, Sticky, Strategy, StrategyKind};
use delivery::traffic::Weight;
use delivery::{
    Actor, CommitId, Digest, EnvironmentName, Event, GateName, Recorded, ReleaseId, RevisionId, RolloutId,
    RunId, ServiceName, TaskName, Timestamp,
};
use proptest::prelude::*;
use rollout::planner::{self, Next};
use rollout::planning;
use rollout::state::State;
use rollout::why::{Circumstances, Why, why};

/// The names of all commands and, by command, of its options, as the binary's source has them.
fn commands() -> BTreeMap<String, String> {
    let binary = camino::Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../trimtab/src");
    let source = std::fs::read_to_string(binary.join("cli.rs")).unwrap();
    let (_, rest) = source.split_once("enum Command {").unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    let names =
        body.lines().filter_map(|line| line.trim().split_once('(')).map(|(name, _)| name.to_lowercase());
    let commands: BTreeMap<String, String> = names
        .filter(|name| !name.starts_with('#'))
        .map(|name| {
            let options = std::fs::read_to_string(binary.join(format!("command/{name}.rs"))).unwrap();
            (name, options)
        })
        .collect();
    assert!(commands.len() > 10 && commands.contains_key("ship"), "{:?}", commands.keys());
    commands
}

/// The commands that an action names, each with its words.
fn named(action: &str) -> Vec<Vec<&str>> {
    let after = action.split("trimtab ").skip(1);
    after.map(|text| text.split([',', ';']).next().unwrap().split_whitespace().collect()).collect()
}

fn check_action(action: &str, commands: &BTreeMap<String, String>) {
    for words in named(action) {
        let command = words.first().unwrap_or_else(|| panic!("no command in {action:?}"));
        let source = commands.get(*command).unwrap_or_else(|| panic!("no command {command:?}: {action:?}"));
        for option in words.iter().filter_map(|word| word.strip_prefix("--")) {
            let field = format!("    {}:", option.replace('-', "_"));
            assert!(source.contains(&field), "{command} has no --{option}: {action:?}");
        }
    }
}

fn check(answers: &[Why], commands: &BTreeMap<String, String>) {
    for why in answers {
        assert!(!why.blockers.is_empty() && why.blockers.len() == why.actions.len(), "{why:?}");
        assert!(!why.subject.is_empty() && !why.names.is_empty(), "{why:?}");
        for text in why.blockers.iter().chain(&why.actions) {
            assert!(!text.trim().is_empty() && !text.contains("  "), "{why:?}");
        }
        for action in &why.actions {
            check_action(action, commands);
            let moves = ["trimtab ", "nothing to do", "wait "].iter().any(|word| action.contains(word));
            assert!(moves, "an action is a command or says what happens by itself: {action:?}");
        }
    }
}

/// Draws numbers from a list; zero when it is used up.
struct Draws(std::vec::IntoIter<u8>);

impl Draws {
    fn below(&mut self, limit: u8) -> u8 {
        self.0.next().unwrap_or(0) % limit
    }
}

fn environment(name: &str, draws: &mut Draws) -> Environment {
    let analyse = draws.below(4) > 0;
    let step = |percent| Step {
        weight: Weight::from_percent(percent).unwrap(),
        hold_ms: 2_000,
        deadline_ms: 10_000,
        analyse,
    };
    let kpi = match draws.below(5) {
        0 => vec![KpiRule { kpi: Kpi::SoakMinutes, min: Some(5.0), max: None }],
        1 => vec![KpiRule { kpi: Kpi::SoakMinutes, min: None, max: Some(1.0) }],
        2 => vec![KpiRule { kpi: Kpi::ChangeFailurePercent, min: None, max: Some(10.0) }],
        _ => Vec::new(),
    };
    let window = FreezeWindow::Weekly { from_minute: 100, until_minute: 50 };
    let approvers = [&[][..], &["ana@example.com"], &["erin@example.com"]][draws.below(3) as usize];
    Environment {
        name: EnvironmentName::new(name).unwrap(),
        listen: "127.0.0.1:8080".into(),
        strategy: Strategy {
            kind: StrategyKind::Canary,
            steps: vec![step(5.0), step(50.0)],
            analysis: AnalysisPolicy::default(),
            on_inconclusive: [OnInconclusive::Rollback, OnInconclusive::Hold][draws.below(2) as usize],
            on_expiry: OnExpiry::Rollback,
            grant_ttl_ms: 5_000,
            sticky: Sticky::None,
            drain_ms: 1_000,
        },
        gates: (0..draws.below(2)).map(|_| GateName::new("tests").unwrap()).collect(),
        approval: ApprovalRule {
            required: u32::from(draws.below(3)),
            approvers: approvers.iter().map(|approver| (*approver).to_owned()).collect(),
        },
        freezes: (0..draws.below(2))
            .map(|_| Freeze { reason: "freeze".into(), window: window.clone() })
            .collect(),
        kpis: kpi,
        rollback_objective_ms: 900_000,
    }
}

/// A new id each time, readable: the count in base 32.
struct Numbers(u64);

impl Seed for Numbers {
    fn fill(&mut self, buffer: &mut [u8]) {
        self.0 += 1;
        let mut rest = self.0;
        for byte in buffer.iter_mut().rev() {
            *byte = (rest % 32) as u8;
            rest /= 32;
        }
    }
}

struct Bench {
    state: State,
    seed: Numbers,
    now: Timestamp,
    environments: Vec<(Environment, Digest)>,
}

impl Bench {
    fn new(draws: &mut Draws) -> Self {
        let pair = |name, draws: &mut Draws| (environment(name, draws), Digest::of(name.as_bytes()));
        let environments = vec![pair("staging", draws), pair("production", draws)];
        let now = "2026-03-02T12:00:00Z".parse().unwrap();
        Self { state: State::default(), seed: Numbers(0), now, environments }
    }

    fn record_as(&mut self, actor: Actor, event: Event) {
        let sequence = self.state.size + 1;
        self.state.apply(&Recorded { sequence, at: self.now, actor, event });
    }

    fn record(&mut self, event: Event) {
        self.record_as(Actor::Machine("test".into()), event);
    }

    fn run(&mut self, draws: &mut Draws) -> RunId {
        let run = RunId::mint(&mut self.seed);
        let task = TaskName::new("test").unwrap();
        let tasks = vec![task.clone()];
        self.record(Event::RunStarted { run: run.clone(), commit: None, dirty: false, tasks });
        let outcome = [TaskOutcome::Success, TaskOutcome::Failure][draws.below(2) as usize];
        if draws.below(3) > 0 {
            self.record(Event::TaskFinished {
                run: run.clone(),
                task,
                attempt: 1,
                outcome,
                cached: false,
                key: String::new(),
                duration_ms: 1,
                detail: "exit status 1".into(),
            });
        }
        if draws.below(3) > 0 {
            let (gate, passed) = (GateName::new("tests").unwrap(), draws.below(2) == 0);
            let verdict = GateVerdict { gate, passed, reasons: vec!["so".into()], tests: 1, errors: 0 };
            self.record(Event::GateJudged { run: run.clone(), verdict });
        }
        if draws.below(3) > 0 {
            self.record(Event::RunFinished { run: run.clone(), outcome, duration_ms: 1 });
        }
        run
    }

    fn release(&mut self, draws: &mut Draws) {
        let run = self.run(draws);
        let person = |email: &str| Person { name: "E".into(), email: email.into() };
        let release = Release {
            id: ReleaseId::mint(&mut self.seed),
            version: "1.0.0".into(),
            commit: Commit {
                id: CommitId::new("a".repeat(40)).unwrap(),
                author: person("erin@example.com"),
                committer: person("erin@example.com"),
                co_authors: Vec::new(),
                authored_at: self.now,
                committed_at: self.now,
                subject: "feat: x".into(),
            },
            artifact: Artifact {
                service: ServiceName::new(["shop", "cart"][draws.below(2) as usize]).unwrap(),
                digest: Digest::of(b"artifact"),
                files: 1,
                bytes: 1,
            },
            authors: Vec::new(),
            changelog: Vec::new(),
            run,
            provenance: Digest::of(b"envelope"),
        };
        self.record(Event::ReleaseCreated { release: Box::new(release) });
    }

    /// Plans what a person might: rules are not asked here, so that every state is met.
    fn plan(&mut self, draws: &mut Draws) {
        let count = self.state.releases.len();
        if count == 0 {
            return;
        }
        let pick = |draws: &mut Draws, state: &State| {
            state.releases[draws.below(count.min(200) as u8) as usize].release.clone()
        };
        let release = pick(draws, &self.state);
        let (environment, policy) = self.environments[draws.below(2) as usize].clone();
        if self.state.rollout_active(&release.artifact.service, &environment.name).is_some() {
            return;
        }
        let reverts = (draws.below(4) == 0).then(|| pick(draws, &self.state).id);
        let revision = RevisionSpec {
            id: RevisionId::mint(&mut self.seed),
            service: release.artifact.service.clone(),
            digest: release.artifact.digest.clone(),
            directory: "/nowhere".into(),
            command: vec!["shop".into()],
            environment: BTreeMap::new(),
            pass: Vec::new(),
            ready: Readiness { path: None, within_ms: 1_000 },
            instances: 1,
            stop_ms: 1_000,
        };
        let plan =
            planning::plan(&self.state, &release, &environment, policy, revision, reverts, &mut self.seed);
        assert_eq!(planning::lint(&plan), Vec::<&str>::new());
        self.record(Event::RolloutPlanned { plan: Box::new(plan) });
    }

    fn step(&mut self, id: &RolloutId, draws: &mut Draws) {
        let rollout = &self.state.rollouts[id];
        match planner::next(rollout, self.now) {
            Next::Done(_) => {}
            Next::Finish(outcome) => self.record(Event::RolloutFinished { rollout: id.clone(), outcome }),
            Next::Withdraw(cause) => self.record(Event::RollbackRequested { rollout: id.clone(), cause }),
            Next::Wait(until) => self.now = self.now.max(until),
            Next::Look => {
                let findings = [
                    Finding::Safe,
                    Finding::Continue,
                    Finding::Harm,
                    Finding::NoSignal,
                    Finding::RatioMismatch,
                ];
                let evidence = Evidence {
                    finding: findings[draws.below(5) as usize],
                    log_e_harm: 0.0,
                    log_e_safe: 0.0,
                    signal: "errors".into(),
                    ratio_low: None,
                    ratio_high: None,
                    canary_requests: 10,
                    canary_errors: 0,
                    stable_requests: 90,
                    stable_errors: 0,
                    slower: None,
                    digest: rollout.plan.revision.digest.clone(),
                };
                let step = rollout.position.unwrap().step as u32;
                let (rollout, looked_at) = (id.clone(), self.now);
                self.record(Event::RolloutJudged { rollout, step, looked_at, sample: None, evidence });
            }
            Next::Apply { sequence, effect } => {
                if rollout.sequence != sequence {
                    let command = Command { rollout: id.clone(), sequence, epoch: 1, effect };
                    self.record(Event::EffectRequested { command });
                }
                let outcome = match draws.below(6) {
                    0 => return,
                    1 => Outcome::Refused { detail: "no".into() },
                    _ => Outcome::Applied { detail: "done".into() },
                };
                self.record(Event::EffectFinished { rollout: id.clone(), sequence, outcome });
            }
        }
    }

    fn approve(&mut self, draws: &mut Draws) {
        let Some(release) = self.state.releases.last().map(|record| record.release.clone()) else { return };
        let (environment, policy) = self.environments[draws.below(2) as usize].clone();
        let by = ["ana@example.com", "erin@example.com", "ben@example.com"][draws.below(3) as usize];
        let event = Event::ApprovalGranted {
            release: release.id,
            digest: release.artifact.digest,
            environment: environment.name,
            policy: [policy, Digest::of(b"other")][draws.below(2) as usize].clone(),
            comment: String::new(),
        };
        self.record_as(Actor::Human(by.into()), event);
    }

    fn act(&mut self, draws: &mut Draws) {
        let ids: Vec<RolloutId> =
            self.state.rollouts_active().iter().map(|rollout| rollout.plan.id.clone()).collect();
        match (draws.below(16), ids.first()) {
            (0, _) => {
                self.run(draws);
            }
            (1 | 2, _) => self.release(draws),
            (3 | 4, _) => self.plan(draws),
            (5, _) => self.approve(draws),
            (6, _) => {
                let wait = Duration::from_secs(u64::from(draws.below(30)) * 100);
                self.now = self.now.saturating_add(wait).unwrap();
            }
            (7, Some(id)) => {
                let cause = RollbackCause::Requested { by: "ana".into(), reason: "test".into() };
                self.record(Event::RollbackRequested { rollout: id.clone(), cause });
            }
            (8, Some(id)) => {
                let step = u32::from(draws.below(2));
                let event = Event::RolloutResumed { rollout: id.clone(), step, reason: "fine".into() };
                self.record_as(Actor::Human("ana@example.com".into()), event);
            }
            (_, None) => {}
            (_, Some(_)) => {
                let id = ids[draws.below(ids.len() as u8) as usize].clone();
                self.step(&id, draws);
            }
        }
    }

    fn answers(&self, driven: bool) -> Vec<Why> {
        let circumstances =
            Circumstances { environments: &self.environments, driven: &|_, _| driven, now: self.now };
        why(&self.state, &circumstances)
    }

    /// Everything that waits by a second, simpler count.
    fn waiting(&self) -> Vec<String> {
        let mut waiting: Vec<String> =
            self.state.rollouts_active().iter().map(|rollout| rollout.plan.id.to_string()).collect();
        for service in ["shop", "cart"].map(|name| ServiceName::new(name).unwrap()) {
            let Some(release) = self.state.release_latest(&service) else { continue };
            let arrived = |(environment, _): &(Environment, Digest)| {
                let slot = self.state.slot(&service, &environment.name);
                slot.is_some_and(|slot| slot.current.as_ref() == Some(&release.id))
            };
            if !self.environments.last().is_some_and(arrived)
                && !self.state.has_served(&release.id, &self.environments[1].0.name)
            {
                waiting.push(release.id.to_string());
            }
        }
        waiting
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn whatever_waits_has_a_blocker_and_an_action_that_exists(
        draws in proptest::collection::vec(any::<u8>(), 20..400),
        driven in any::<bool>(),
    ) {
        let commands = commands();
        let mut draws = Draws(draws.into_iter());
        let mut bench = Bench::new(&mut draws);
        bench.release(&mut draws);
        while draws.0.len() > 0 {
            bench.act(&mut draws);
            let answers = bench.answers(driven);
            check(&answers, &commands);
            for name in bench.waiting() {
                let told = answers.iter().any(|why| why.names.contains(&name));
                prop_assert!(told, "{name} waits, and nobody says why: {answers:?}");
            }
        }
    }
}

#[test]
fn every_action_of_a_failed_run_exists() {
    let mut draws = Draws(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].into_iter());
    let mut bench = Bench::new(&mut draws);
    bench.run(&mut Draws(vec![1, 1, 1, 1, 1].into_iter()));
    let answers = bench.answers(false);
    check(&answers, &commands());
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].blockers.len(), 2, "{answers:?}");
}

/// A rollout of which only the platform's answer to the promotion is missing can't be taken back, so nobody is told to.
#[test]
fn a_promotion_under_way_is_not_offered_a_rollback() {
    let mut draws = Draws(vec![1; 8].into_iter());
    let mut bench = Bench::new(&mut draws);
    bench.release(&mut draws);
    bench.plan(&mut draws);
    let id = bench.state.rollouts_active()[0].plan.id.clone();
    let mut applied = Draws(vec![2; 1_000].into_iter());
    for _ in 0..50 {
        if let Next::Apply { sequence, effect: effect @ delivery::effect::Effect::Promote { .. } } =
            planner::next(&bench.state.rollouts[&id], bench.now)
        {
            let command = Command { rollout: id.clone(), sequence, epoch: 1, effect };
            bench.record(Event::EffectRequested { command });
            break;
        }
        bench.step(&id, &mut applied);
    }
    assert!(bench.state.rollouts[&id].promoting(), "{:?}", bench.state.rollouts[&id].outcome);
    for driven in [true, false] {
        let answers = bench.answers(driven);
        let why = answers.iter().find(|why| why.names.contains(&id.to_string())).unwrap();
        for action in &why.actions {
            assert!(!action.contains(&format!("rollback {id}")), "{action}");
        }
    }
    assert_eq!(bench.state.rollouts[&id].outcome, None::<RolloutOutcome>);
}
