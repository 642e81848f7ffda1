//! What lets a release into an environment, and what keeps it out.

#![expect(clippy::unwrap_used, reason = "a test may")]

use delivery::artifact::Artifact;
use delivery::change::{Commit, Person};
use delivery::clock::Seed;
use delivery::code::Code;
use delivery::effect::{Command, Effect, Outcome, Readiness, RevisionSpec};
use delivery::environment::{ApprovalRule, Environment, Freeze, FreezeWindow, Kpi, KpiRule};
use delivery::finding::GateVerdict;
use delivery::release::Release;
use delivery::rollout::{RollbackCause, RolloutOutcome, RolloutPlan};
use delivery::strategy::{AnalysisPolicy, OnExpiry, OnInconclusive, Step, Sticky, Strategy, StrategyKind};
use delivery::traffic::Weight;
use delivery::{
    Actor, CommitId, Digest, EnvironmentName, Event, GateName, Recorded, ReleaseId, RevisionId, RolloutId,
    RunId, ServiceName, Timestamp,
};
use proptest::prelude::*;
use rollout::planning;
use rollout::promotion::{self, Blocker};
use rollout::state::State;
use rollout::why::{Circumstances, why};
use std::time::Duration;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn environment(name: &str) -> Environment {
    let step = Step { weight: Weight::FULL, hold_ms: 0, deadline_ms: 1_000, analyse: false };
    Environment {
        name: EnvironmentName::new(name).unwrap(),
        listen: "127.0.0.1:0".into(),
        strategy: Strategy {
            kind: StrategyKind::Direct,
            steps: vec![step],
            analysis: AnalysisPolicy::default(),
            on_inconclusive: OnInconclusive::Rollback,
            on_expiry: OnExpiry::Rollback,
            grant_ttl_ms: 5_000,
            sticky: Sticky::None,
            drain_ms: 1_000,
        },
        gates: Vec::new(),
        approval: ApprovalRule::default(),
        freezes: Vec::new(),
        kpis: Vec::new(),
        rollback_objective_ms: 900_000,
    }
}

fn person(email: &str) -> Person {
    Person { name: "Somebody".into(), email: email.into() }
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

/// A small project: a ledger in memory and the promotion order.
struct Bench {
    state: State,
    seed: Numbers,
    now: Timestamp,
    environments: Vec<Environment>,
    policy: Digest,
}

impl Bench {
    fn new(environments: Vec<Environment>) -> Self {
        let now = at("2026-03-02T12:00:00Z");
        let (state, seed) = (State::default(), Numbers(0));
        Self { state, seed, now, environments, policy: Digest::of(b"policy") }
    }

    fn record_as(&mut self, actor: Actor, event: Event) {
        let sequence = self.state.size + 1;
        self.state.apply(&Recorded { sequence, at: self.now, actor, event });
    }

    fn record(&mut self, event: Event) {
        self.record_as(Actor::Machine("test".into()), event);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time).unwrap();
    }

    /// A release that erin wrote, carl committed, with cora as co-author and avi in an earlier commit.
    fn release(&mut self) -> Release {
        let release = self.draft();
        self.record(Event::ReleaseCreated { release: Box::new(release.clone()) });
        release
    }

    /// A release that is one person's alone.
    fn release_by(&mut self, email: &str) -> Release {
        let mut release = self.draft();
        release.commit.author = person(email);
        release.commit.committer = person(email);
        release.commit.co_authors.clear();
        release.authors = vec![person(email)];
        self.record(Event::ReleaseCreated { release: Box::new(release.clone()) });
        release
    }

    fn draft(&mut self) -> Release {
        let run = RunId::mint(&mut self.seed);
        self.record(Event::RunStarted { run: run.clone(), commit: None, dirty: false, tasks: Vec::new() });
        Release {
            id: ReleaseId::mint(&mut self.seed),
            version: format!("1.{}.0", self.state.releases.len()),
            commit: Commit {
                id: CommitId::new("a".repeat(40)).unwrap(),
                author: person("erin@example.com"),
                committer: person("carl@example.com"),
                co_authors: vec![person("cora@example.com")],
                authored_at: self.now,
                committed_at: self.now,
                subject: "feat: x".into(),
            },
            artifact: Artifact {
                service: ServiceName::new("shop").unwrap(),
                digest: Digest::of(format!("{}", self.state.releases.len()).as_bytes()),
                files: 1,
                bytes: 1,
            },
            authors: vec![person("avi@example.com")],
            changelog: Vec::new(),
            run,
            provenance: Digest::of(b"envelope"),
        }
    }

    fn judge(&mut self, release: &Release, gate: &str, passed: bool) {
        let gate = GateName::new(gate).unwrap();
        let verdict = GateVerdict { gate, passed, reasons: vec!["because".into()], tests: 1, errors: 0 };
        self.record(Event::GateJudged { run: release.run.clone(), verdict });
    }

    fn granted(&self, release: &Release, environment: &str) -> Event {
        Event::ApprovalGranted {
            release: release.id.clone(),
            digest: release.artifact.digest.clone(),
            environment: EnvironmentName::new(environment).unwrap(),
            policy: self.policy.clone(),
            comment: String::new(),
        }
    }

    fn approve(&mut self, release: &Release, by: &str) {
        let event = self.granted(release, "production");
        self.record_as(Actor::Human(by.into()), event);
    }

    fn plan(&mut self, release: &Release, name: &str, reverts: Option<&Release>) -> RolloutId {
        let environment = self.environments.iter().find(|e| e.name.as_str() == name).unwrap().clone();
        let id = RolloutId::mint(&mut self.seed);
        let service = release.artifact.service.clone();
        let stable = self.state.slot(&service, &environment.name).and_then(|slot| slot.stable.clone());
        let plan = RolloutPlan {
            parent: None,
            release: release.id.clone(),
            version: release.version.clone(),
            stable,
            reverts: reverts.map(|release| release.id.clone()),
            policy: self.policy.clone(),
            revision: RevisionSpec {
                id: RevisionId::of_rollout(&id),
                service,
                digest: release.artifact.digest.clone(),
                directory: "/nowhere".into(),
                command: vec!["shop".into()],
                environment: std::collections::BTreeMap::new(),
                pass: Vec::new(),
                ready: Readiness { path: None, within_ms: 1_000 },
                instances: 1,
                stop_ms: 1_000,
            },
            environment,
            id: id.clone(),
        };
        self.record(Event::RolloutPlanned { plan: Box::new(plan) });
        id
    }

    fn end(&mut self, rollout: &RolloutId, outcome: RolloutOutcome) {
        if outcome == RolloutOutcome::RolledBack {
            let cause = RollbackCause::Harm { signal: "errors".into() };
            self.record(Event::RollbackRequested { rollout: rollout.clone(), cause });
        }
        self.record(Event::RolloutFinished { rollout: rollout.clone(), outcome });
    }

    fn carry(&mut self, release: &Release, name: &str, outcome: RolloutOutcome) -> RolloutId {
        let id = self.plan(release, name, None);
        self.end(&id, outcome);
        id
    }

    fn revert(&mut self, good: &Release, bad: &Release, name: &str) {
        let id = self.plan(good, name, Some(bad));
        self.end(&id, RolloutOutcome::Completed);
    }

    fn serve(&mut self, release: &Release, name: &str) {
        self.carry(release, name, RolloutOutcome::Completed);
    }

    fn blockers(&self, release: &Release, name: &str) -> Vec<Blocker> {
        let environment = self.environments.iter().find(|e| e.name.as_str() == name).unwrap();
        promotion::blockers(&self.state, release, environment, &self.environments, &self.policy, self.now)
    }

    fn codes(&self, release: &Release, name: &str) -> Vec<Code> {
        self.blockers(release, name).iter().map(Blocker::code).collect()
    }
}

fn guarded(required: u32, approvers: &[&str]) -> Vec<Environment> {
    let mut production = environment("production");
    let approvers = approvers.iter().map(|approver| (*approver).to_owned()).collect();
    production.approval = ApprovalRule { required, approvers };
    vec![production]
}

#[test]
fn an_approval_counts_for_exactly_what_it_names() {
    let mut bench = Bench::new(guarded(1, &[]));
    let (release, other) = (bench.release(), bench.release());
    let right = bench.granted(&release, "production");
    let wrong = |change: fn(&mut Release, &mut EnvironmentName, &mut Digest), bench: &Bench| {
        let (mut about, mut policy) = (release.clone(), bench.policy.clone());
        let mut environment = EnvironmentName::new("production").unwrap();
        change(&mut about, &mut environment, &mut policy);
        let (release, digest, comment) = (about.id, about.artifact.digest, String::new());
        Event::ApprovalGranted { release, digest, environment, policy, comment }
    };
    let changes: [fn(&mut Release, &mut EnvironmentName, &mut Digest); 4] = [
        |release, _, _| release.id = ReleaseId::new("rel-00000000").unwrap(),
        |release, _, _| release.artifact.digest = Digest::of(b"swapped"),
        |_, environment, _| *environment = EnvironmentName::new("staging").unwrap(),
        |_, _, policy| *policy = Digest::of(b"stricter"),
    ];
    for change in changes {
        let event = wrong(change, &bench);
        bench.record_as(Actor::Human("ana@example.com".into()), event);
        assert_eq!(bench.codes(&release, "production"), [Code::ApprovalMissing]);
    }
    bench.record_as(Actor::Human("ana@example.com".into()), right);
    assert_eq!(bench.codes(&release, "production"), []);
    assert_eq!(bench.codes(&other, "production"), [Code::ApprovalMissing]);
    // The rules change after the approval: it is void, and that is said.
    bench.policy = Digest::of(b"new rules");
    let blockers = bench.blockers(&release, "production");
    assert!(matches!(&blockers[..], [Blocker::ApprovalMissing { void: true, .. }]), "{blockers:?}");
    assert!(blockers[0].sentence().contains("void"));
}

#[test]
fn nobody_with_a_hand_in_it_approves_it_however_they_spell_themselves() {
    let mut bench = Bench::new(guarded(1, &[]));
    let release = bench.release();
    for name in ["erin", "carl", "cora", "avi"] {
        for email in [
            format!("{name}@example.com"),
            format!("{}@EXAMPLE.com", name.to_uppercase()),
            format!(" {name}@example.com "),
            format!("{name}@example.com\n"),
        ] {
            let actor = Actor::Human(email.clone());
            let answer = promotion::may_approve(&bench.state, &release, &bench.environments[0], &actor);
            assert_eq!(answer, Err(Code::ApprovalByAuthor), "{email:?}");
            bench.approve(&release, &email);
            assert_eq!(bench.codes(&release, "production"), [Code::ApprovalMissing], "{email:?}");
        }
    }
}

#[test]
fn who_wrote_what_enters_with_the_release_does_not_approve_it() {
    let mut environments = vec![environment("staging")];
    environments.extend(guarded(1, &[]));
    let mut bench = Bench::new(environments);
    let counts = |bench: &mut Bench, release: &Release, by: &str| {
        bench.approve(release, by);
        !bench.codes(release, "production").contains(&Code::ApprovalMissing)
    };
    // carl's change is released, but never goes further than staging; dora's typo carries it into production.
    let carls = bench.release_by("carl@example.com");
    bench.serve(&carls, "staging");
    let doras = bench.release_by("dora@example.com");
    bench.serve(&doras, "staging");
    assert!(
        !counts(&mut bench, &doras, "carl@example.com"),
        "nothing serves in production: all is new there"
    );
    let blockers = bench.blockers(&doras, "production");
    assert!(blockers[0].sentence().contains("carl@example.com, dora@example.com wrote it"), "{blockers:?}");
    assert!(counts(&mut bench, &doras, "ana@example.com"));
    bench.serve(&doras, "production");
    let carls = bench.release_by("carl@example.com");
    let doras = bench.release_by("dora@example.com");
    bench.serve(&doras, "staging");
    assert!(!counts(&mut bench, &doras, "carl@example.com"), "carl's second change did not serve there");
    bench.serve(&carls, "production");
    assert!(counts(&mut bench, &doras, "carl@example.com"), "what serves there already is not entering");
    // What is older than the serving release may have gone round production, too.
    bench.serve(&doras, "production");
    let older = bench.release_by("erin@example.com");
    bench.release_by("dora@example.com");
    let newest = bench.release_by("dora@example.com");
    bench.serve(&newest, "production");
    assert!(!counts(&mut bench, &older, "carl@example.com"), "its line never served as it is");
}

#[test]
fn machines_and_nobody_never_count() {
    let mut bench = Bench::new(guarded(1, &[]));
    let release = bench.release();
    for actor in [
        Actor::Machine("ana@example.com".into()),
        Actor::Machine("trimtab".into()),
        Actor::Human(String::new()),
        Actor::Human("  ".into()),
    ] {
        assert!(
            promotion::may_approve(&bench.state, &release, &bench.environments[0], &actor).is_err(),
            "{actor:?}"
        );
        let event = bench.granted(&release, "production");
        bench.record_as(actor, event);
        assert_eq!(bench.codes(&release, "production"), [Code::ApprovalMissing]);
    }
}

#[test]
fn only_listed_people_count_and_each_once() {
    let mut bench = Bench::new(guarded(2, &["Ana@example.com", "ben@example.com", "dan@example.com"]));
    let release = bench.release();
    let missing = |bench: &Bench| match &bench.blockers(&release, "production")[..] {
        [] => 0,
        [Blocker::ApprovalMissing { missing, .. }] => *missing,
        other => panic!("{other:?}"),
    };
    bench.approve(&release, "zoe@example.com");
    assert_eq!(missing(&bench), 2, "not listed");
    for spelling in ["ana@example.com", "ANA@example.com", " ana@example.com", "ana@example.com"] {
        bench.approve(&release, spelling);
        assert_eq!(missing(&bench), 1, "one person is one approval: {spelling:?}");
    }
    bench.approve(&release, "ben@example.com");
    assert_eq!(missing(&bench), 0);
}

#[test]
fn when_too_few_may_approve_the_action_says_to_name_more() {
    let mut bench = Bench::new(guarded(2, &["erin@example.com", "ana@example.com"]));
    let release = bench.release();
    let blockers = bench.blockers(&release, "production");
    let action = blockers[0].action(&release, &bench.environments[0].name);
    assert!(action.contains("1 more approver") && action.contains("trimtab.toml"), "{action}");
    bench.approve(&release, "ana@example.com");
    let blockers = bench.blockers(&release, "production");
    let action = blockers[0].action(&release, &bench.environments[0].name);
    assert!(action.contains("1 more approver"), "nobody is left who may: {action}");
}

#[test]
fn gates_must_have_judged_the_run_that_built_it() {
    let mut production = environment("production");
    production.gates = ["tests", "lint"].map(|gate| GateName::new(gate).unwrap()).to_vec();
    let mut bench = Bench::new(vec![production]);
    let (release, other) = (bench.release(), bench.release());
    bench.judge(&other, "tests", true);
    bench.judge(&other, "lint", true);
    let blockers = bench.blockers(&release, "production");
    let missing = |blocker: &Blocker| matches!(blocker, Blocker::GateMissing { .. });
    assert!(blockers.len() == 2 && blockers.iter().all(missing), "another run's verdict is no verdict");
    bench.judge(&release, "tests", false);
    bench.judge(&release, "lint", true);
    let blockers = bench.blockers(&release, "production");
    assert!(matches!(&blockers[..], [Blocker::GateFailed { .. }]), "{blockers:?}");
    bench.judge(&release, "tests", true);
    assert_eq!(bench.codes(&release, "production"), [], "the last verdict of the run counts");
    bench.judge(&release, "lint", false);
    assert_eq!(bench.codes(&release, "production"), [Code::GateFailed]);
}

#[test]
fn the_newest_run_that_made_the_same_release_counts() {
    let mut production = environment("production");
    production.gates = vec![GateName::new("tests").unwrap()];
    let mut bench = Bench::new(vec![production]);
    let release = bench.release();
    let ran = |bench: &mut Bench, commit: &str, digest: &Digest, passed: bool| {
        let run = RunId::mint(&mut bench.seed);
        let commit = Some(CommitId::new(commit.repeat(40)).unwrap());
        bench.record(Event::RunStarted { run: run.clone(), commit, dirty: false, tasks: Vec::new() });
        let again = Release { run: run.clone(), ..release.clone() };
        bench.judge(&again, "tests", passed);
        assert!(bench.state.run(&run).is_some_and(|run| run.artifacts.is_empty()), "not packaged yet");
        let artifact = Artifact { digest: digest.clone(), ..release.artifact.clone() };
        bench.record(Event::ArtifactPackaged { run, artifact });
    };
    let (same, other) = (release.artifact.digest.clone(), Digest::of(b"other"));
    ran(&mut bench, "a", &other, true);
    ran(&mut bench, "b", &same, true);
    assert_eq!(bench.codes(&release, "production"), [Code::GateFailed], "other files, or another commit");
    ran(&mut bench, "a", &same, true);
    assert_eq!(bench.codes(&release, "production"), []);
    ran(&mut bench, "a", &same, false);
    assert_eq!(
        bench.codes(&release, "production"),
        [Code::GateFailed],
        "the newest counts, also when it fails"
    );
}

#[test]
fn a_release_goes_through_the_environments_in_order() {
    let mut bench = Bench::new(vec![environment("staging"), environment("production")]);
    let (one, two) = (bench.release(), bench.release());
    assert_eq!(bench.codes(&one, "staging"), []);
    assert_eq!(bench.codes(&one, "production"), [Code::EarlierEnvironment]);
    bench.serve(&one, "staging");
    assert_eq!(bench.codes(&one, "production"), []);
    assert_eq!(bench.codes(&two, "production"), [Code::EarlierEnvironment], "its own, not another's");
    bench.carry(&two, "staging", RolloutOutcome::RolledBack);
    assert_eq!(bench.codes(&two, "production"), [Code::EarlierEnvironment], "taken back is not served");
    bench.serve(&two, "staging");
    assert_eq!(bench.codes(&two, "production"), []);
    // Found to be bad there and reverted: it must not go further.
    bench.revert(&one, &two, "staging");
    assert_eq!(bench.codes(&two, "production"), [Code::EarlierEnvironment]);
    assert_eq!(bench.codes(&one, "production"), []);
    assert!(bench.state.taken_back(&two, &bench.environments[0].name).is_some());
    assert!(bench.state.taken_back(&one, &bench.environments[0].name).is_none());
}

#[test]
fn a_second_revert_does_not_bring_the_first_bad_release_back() {
    let mut bench = Bench::new(vec![environment("production")]);
    let releases: Vec<Release> = (0..3).map(|_| bench.release()).collect();
    let place = (releases[0].artifact.service.clone(), bench.environments[0].name.clone());
    let serving = |bench: &Bench| {
        let slot = bench.state.slot(&place.0, &place.1).unwrap();
        (slot.current.clone().unwrap(), slot.previous.clone())
    };
    releases.iter().for_each(|release| bench.serve(release, "production"));
    assert_eq!(serving(&bench), (releases[2].id.clone(), Some(releases[1].id.clone())));
    bench.revert(&releases[1], &releases[2], "production");
    assert_eq!(serving(&bench), (releases[1].id.clone(), Some(releases[0].id.clone())));
    bench.revert(&releases[0], &releases[1], "production");
    assert_eq!(serving(&bench), (releases[0].id.clone(), None));
}

#[test]
fn what_served_is_known_as_it_was_started() {
    let mut bench = Bench::new(vec![environment("production")]);
    let (one, two) = (bench.release(), bench.release());
    let here = bench.environments[0].name.clone();
    let served = |bench: &Bench, release: &Release| {
        planning::served_as(&bench.state, release, &here).map(|revision| revision.id.clone())
    };
    assert_eq!(served(&bench, &one), None);
    let first = bench.carry(&one, "production", RolloutOutcome::Completed);
    bench.carry(&one, "production", RolloutOutcome::RolledBack);
    bench.serve(&two, "production");
    assert_eq!(served(&bench, &one), Some(RevisionId::of_rollout(&first)), "the one that came to serve");
    bench.revert(&one, &two, "production");
    assert_ne!(served(&bench, &one), Some(RevisionId::of_rollout(&first)), "the last that did");
}

#[test]
fn one_rollout_at_a_time() {
    let mut bench = Bench::new(vec![environment("production")]);
    let (one, two) = (bench.release(), bench.release());
    let rollout = bench.plan(&one, "production", None);
    let running = |withdrawable| [Blocker::RolloutRunning { rollout: rollout.clone(), withdrawable }];
    assert_eq!(bench.blockers(&two, "production"), running(true));
    let action = bench.blockers(&two, "production")[0].action(&two, &bench.environments[0].name);
    assert!(action.contains(&format!("trimtab rollback {rollout}")), "{action}");
    // Too late to take it back: nobody is told to.
    let effect = Effect::Promote { revision: RevisionId::of_rollout(&rollout) };
    let command = Command { rollout: rollout.clone(), sequence: 1, epoch: 1, effect };
    bench.record(Event::EffectRequested { command });
    assert_eq!(bench.blockers(&two, "production"), running(false));
    let action = bench.blockers(&two, "production")[0].action(&two, &bench.environments[0].name);
    assert!(action.starts_with("wait") && !action.contains("rollback"), "{action}");
    bench.end(&rollout, RolloutOutcome::Completed);
    assert_eq!(bench.codes(&two, "production"), []);
}

#[test]
fn a_dated_freeze_holds_from_its_first_instant_to_its_last() {
    let (from, until) = (at("2026-12-24T00:00:00Z"), at("2026-12-27T00:00:00Z"));
    let freeze = Freeze { reason: "holidays".into(), window: FreezeWindow::Dates { from, until } };
    let second = Duration::from_secs(1);
    assert_eq!(promotion::frozen_until(&freeze, from.checked_sub(second).unwrap()), None);
    assert_eq!(promotion::frozen_until(&freeze, from), Some(until));
    assert_eq!(promotion::frozen_until(&freeze, until.checked_sub(second).unwrap()), Some(until));
    assert_eq!(promotion::frozen_until(&freeze, until), None);
}

#[test]
fn a_weekly_freeze_wraps_over_sunday() {
    // Friday 16:00 to Monday 08:00. 2026-03-06 is a Friday.
    let window = FreezeWindow::Weekly { from_minute: 4 * 1_440 + 960, until_minute: 480 };
    let freeze = Freeze { reason: "weekend".into(), window };
    let until = |text: &str| promotion::frozen_until(&freeze, at(text));
    let monday = Some(at("2026-03-09T08:00:00Z"));
    assert_eq!(until("2026-03-06T15:59:59Z"), None);
    assert_eq!(until("2026-03-06T16:00:00Z"), monday);
    assert_eq!(until("2026-03-08T23:59:59Z"), monday);
    assert_eq!(until("2026-03-09T00:00:00Z"), monday);
    assert_eq!(until("2026-03-09T07:59:59Z"), monday);
    assert_eq!(until("2026-03-09T08:00:00Z"), None);
    let mut bench = Bench::new(vec![Environment { freezes: vec![freeze], ..environment("production") }]);
    let release = bench.release();
    assert_eq!(bench.codes(&release, "production"), [], "a Monday noon");
    bench.now = at("2026-03-07T12:00:00Z");
    assert_eq!(bench.codes(&release, "production"), [Code::Frozen]);
}

proptest! {
    /// At its end, and not before, a weekly freeze is over; against an independent count of minutes.
    #[test]
    fn a_weekly_freeze_ends_when_it_says(
        from_minute in 0_u32..10_080,
        until_minute in 0_u32..10_080,
        second in -2_000_000_000_i64..4_000_000_000,
    ) {
        let window = FreezeWindow::Weekly { from_minute, until_minute };
        let freeze = Freeze { reason: String::new(), window };
        let now = Timestamp::from_second(second).unwrap();
        let clock = now.strftime("%u %H %M").to_string();
        let parts: Vec<u32> = clock.split(' ').map(|part| part.parse().unwrap()).collect();
        let minute = (parts[0] - 1) * 1_440 + parts[1] * 60 + parts[2];
        let inside = if from_minute <= until_minute {
            (from_minute..until_minute).contains(&minute)
        } else {
            minute >= from_minute || minute < until_minute
        };
        let until = promotion::frozen_until(&freeze, now);
        prop_assert_eq!(until.is_some(), inside);
        if let Some(until) = until {
            prop_assert!(until > now);
            prop_assert_eq!(promotion::frozen_until(&freeze, until), None);
            let before = until.checked_sub(Duration::from_secs(1)).unwrap();
            prop_assert_eq!(promotion::frozen_until(&freeze, before), Some(until));
        }
    }
}

fn soaking(min: f64) -> Vec<Environment> {
    let kpis = vec![KpiRule { kpi: Kpi::SoakMinutes, min: Some(min), max: None }];
    vec![environment("staging"), Environment { kpis, ..environment("production") }]
}

#[test]
fn a_release_soaks_in_the_environment_before() {
    let mut bench = Bench::new(soaking(30.0));
    let (one, two) = (bench.release(), bench.release());
    assert_eq!(bench.codes(&one, "production"), [Code::EarlierEnvironment, Code::KpiUnmet], "no data");
    bench.serve(&one, "staging");
    bench.pass(Duration::from_mins(29));
    let blockers = bench.blockers(&one, "production");
    assert_eq!(blockers.iter().map(Blocker::code).collect::<Vec<_>>(), [Code::KpiUnmet]);
    let action = blockers[0].action(&one, &bench.environments[1].name);
    assert_eq!(action, "wait 1 min 0 s, then run: trimtab ship --to production");
    bench.pass(Duration::from_mins(1));
    assert_eq!(bench.codes(&one, "production"), []);
    // Replaced there: it does not soak any longer.
    bench.serve(&two, "staging");
    let blockers = bench.blockers(&one, "production");
    assert_eq!(blockers.iter().map(Blocker::code).collect::<Vec<_>>(), [Code::KpiUnmet]);
    let action = blockers[0].action(&one, &bench.environments[1].name);
    assert!(action.starts_with("run: trimtab ship --to staging"), "{action}");
}

#[test]
fn a_kpi_that_can_not_be_met_or_compared_blocks_and_says_so() {
    let kpi = |min| KpiRule { kpi: Kpi::SoakMinutes, min: Some(min), max: None };
    let mut bench = Bench::new(vec![Environment { kpis: vec![kpi(0.0)], ..environment("staging") }]);
    let release = bench.release();
    let blockers = bench.blockers(&release, "staging");
    assert_eq!(blockers.len(), 1, "there is nothing to soak in");
    let action = blockers[0].action(&release, &bench.environments[0].name);
    assert!(action.contains("trimtab.toml"), "{action}");
    let mut bench = Bench::new(soaking(f64::NAN));
    let release = bench.release();
    bench.serve(&release, "staging");
    assert_eq!(bench.codes(&release, "production"), [Code::KpiUnmet], "not a number is not met");
}

#[test]
fn change_failure_counts_what_was_taken_back_on_the_way_or_later() {
    let kpis = vec![KpiRule { kpi: Kpi::ChangeFailurePercent, min: None, max: Some(30.0) }];
    let mut bench = Bench::new(vec![Environment { kpis, ..environment("production") }]);
    let releases: Vec<Release> = (0..4).map(|_| bench.release()).collect();
    assert_eq!(bench.codes(&releases[0], "production"), [], "the first may enter");
    let first = bench.plan(&releases[0], "production", None);
    assert_eq!(bench.codes(&releases[1], "production"), [Code::RolloutRunning], "none has ended yet");
    bench.end(&first, RolloutOutcome::Completed);
    bench.serve(&releases[1], "production");
    bench.serve(&releases[2], "production");
    bench.carry(&releases[3], "production", RolloutOutcome::RolledBack);
    assert_eq!(bench.codes(&releases[3], "production"), [], "1 of 4 is 25 %");
    bench.revert(&releases[1], &releases[2], "production");
    let blockers = bench.blockers(&releases[3], "production");
    assert_eq!(blockers.iter().map(Blocker::code).collect::<Vec<_>>(), [Code::KpiUnmet], "2 of 4");
    assert!(blockers[0].sentence().contains("50.0"), "{}", blockers[0].sentence());
    let action = blockers[0].action(&releases[3], &bench.environments[0].name);
    assert!(action.contains("trimtab.toml"), "waiting does not help here: {action}");
    for _ in 0..20 {
        bench.serve(&releases[0], "production");
    }
    assert_eq!(bench.codes(&releases[3], "production"), [], "only the last 20 count");
}

#[test]
fn who_may_not_approve_may_not_resume_either() {
    let mut bench = Bench::new(guarded(1, &[]));
    bench.environments[0].strategy.on_inconclusive = OnInconclusive::Hold;
    bench.environments[0].strategy.steps[0].analyse = true;
    let release = bench.release();
    let id = bench.plan(&release, "production", None);
    let revision = RevisionId::of_rollout(&id);
    let effects = [
        Effect::Retire { revision: revision.clone(), drain_ms: 0 },
        Effect::SetWeight {
            revision,
            weight: Weight::FULL,
            ttl_ms: 1_000,
            on_expiry: OnExpiry::Rollback,
            sticky: Sticky::None,
        },
    ];
    for (sequence, effect) in (1..).zip(effects) {
        let rollout = id.clone();
        let command = Command { rollout: rollout.clone(), sequence, epoch: 1, effect };
        bench.record(Event::EffectRequested { command });
        let outcome = Outcome::Applied { detail: "done".into() };
        bench.record(Event::EffectFinished { rollout, sequence, outcome });
    }
    bench.pass(Duration::from_millis(1_500));
    assert!(bench.state.rollouts[&id].held(bench.now));
    let resumed = |bench: &Bench| bench.state.rollouts[&id].position.unwrap().resumed;
    for (actor, counts) in [
        (Actor::Human("erin@example.com".into()), false),
        (Actor::Machine("trimtab".into()), false),
        (Actor::Human("ana@example.com".into()), true),
    ] {
        assert_eq!(promotion::may_resume(&bench.state, &id, &actor).is_ok(), counts, "{actor:?}");
        bench.record_as(actor, Event::RolloutResumed { rollout: id.clone(), step: 0, reason: "fine".into() });
        assert_eq!(resumed(&bench), counts);
    }
}

/// Every blocker that was made above has an answer in `why`, too.
#[test]
fn why_names_each_blocker_with_its_action() {
    let mut environments = soaking(30.0);
    environments[1].approval = ApprovalRule { required: 1, approvers: vec!["ana@example.com".into()] };
    environments[1].gates = vec![GateName::new("tests").unwrap()];
    let mut bench = Bench::new(environments);
    let release = bench.release();
    bench.serve(&release, "staging");
    let pairs: Vec<(Environment, Digest)> =
        bench.environments.iter().map(|environment| (environment.clone(), bench.policy.clone())).collect();
    let circumstances = Circumstances { environments: &pairs, driven: &|_, _| false, now: bench.now };
    let answers = why(&bench.state, &circumstances);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].blockers.len(), 3, "{answers:?}");
    assert_eq!(answers[0].actions.len(), 3);
}

impl Bench {
    /// A run of the release's commit that gives the same files and passes all gates.
    fn run_again(&mut self, release: &Release) {
        let (run, commit) = (RunId::mint(&mut self.seed), Some(release.commit.id.clone()));
        self.record(Event::RunStarted { run: run.clone(), commit, dirty: false, tasks: Vec::new() });
        for gate in self.environments.last().unwrap().gates.clone() {
            self.judge(&Release { run: run.clone(), ..release.clone() }, gate.as_str(), true);
        }
        self.record(Event::ArtifactPackaged { run, artifact: release.artifact.clone() });
    }

    /// Does what the blocker's action says.
    fn perform(&mut self, blocker: &Blocker, release: &Release) {
        match blocker {
            Blocker::GateFailed { .. } | Blocker::GateMissing { .. } => self.run_again(release),
            Blocker::EarlierEnvironment { environment } => self.serve(release, environment.as_str()),
            Blocker::ApprovalMissing { left: Some(0), .. } => {
                let rule = &mut self.environments.last_mut().unwrap().approval;
                rule.approvers.extend(["ben@example.com".into(), "zoe@example.com".into()]);
            }
            Blocker::ApprovalMissing { approvers, authors, .. } => {
                let anyone = ["ana@example.com".to_owned(), "ben@example.com".to_owned()];
                let approvers = if approvers.is_empty() { &anyone[..] } else { &approvers[..] };
                for approver in approvers.iter().filter(|approver| !authors.contains(approver)) {
                    self.approve(release, approver);
                }
            }
            Blocker::Frozen { until, .. } => self.now = *until,
            Blocker::KpiUnmet { action, .. } if action.starts_with("wait 30 min") => {
                self.pass(Duration::from_mins(30));
            }
            Blocker::KpiUnmet { action, .. } if action.starts_with("run: trimtab ship --to staging") => {
                self.serve(release, "staging");
            }
            Blocker::KpiUnmet { action, .. } => {
                assert!(action.starts_with("change the kpi of production in trimtab.toml"), "{action}");
                self.environments.last_mut().unwrap().kpis.retain(|rule| rule.kpi == Kpi::SoakMinutes);
            }
            Blocker::RolloutRunning { rollout, withdrawable: true } => {
                self.end(rollout, RolloutOutcome::RolledBack);
            }
            Blocker::RolloutRunning { rollout, withdrawable: false } => {
                self.end(rollout, RolloutOutcome::Completed);
            }
        }
    }
}

/// An action is not only a command that exists: whoever does what it says is rid of the blocker.
#[test]
fn doing_what_the_actions_say_lets_the_release_in() {
    let mut environments = soaking(30.0);
    let production = &mut environments[1];
    production.gates = ["tests", "lint"].map(|gate| GateName::new(gate).unwrap()).to_vec();
    production.approval = ApprovalRule { required: 2, approvers: vec!["erin@example.com".into()] };
    production.kpis.push(KpiRule { kpi: Kpi::ChangeFailurePercent, min: None, max: Some(10.0) });
    let (from, until) = (at("2026-03-02T00:00:00Z"), at("2026-03-03T00:00:00Z"));
    production.freezes = vec![Freeze { reason: "audit".into(), window: FreezeWindow::Dates { from, until } }];
    let mut bench = Bench::new(environments);
    let (other, release) = (bench.release(), bench.release());
    bench.judge(&release, "tests", false);
    bench.carry(&other, "production", RolloutOutcome::RolledBack);
    bench.plan(&other, "production", None);
    let mut done = Vec::new();
    while let Some(blocker) = bench.blockers(&release, "production").into_iter().next() {
        bench.perform(&blocker, &release);
        let left = bench.blockers(&release, "production");
        assert!(
            !left.contains(&blocker),
            "{} did not help: {left:?}",
            blocker.action(&release, &bench.environments[1].name)
        );
        done.push(blocker.code());
        assert!(done.len() < 20, "no end: {done:?}");
    }
    for code in [
        Code::GateFailed,
        Code::EarlierEnvironment,
        Code::Frozen,
        Code::KpiUnmet,
        Code::RolloutRunning,
        Code::ApprovalMissing,
    ] {
        assert!(done.contains(&code), "{code:?} was not met: {done:?}");
    }
}

#[test]
fn who_may_be_an_erased_author_does_not_approve() {
    let mut bench = Bench::new(guarded(1, &[]));
    let pseudonym = delivery::people::pseudonym([7; 20]);
    bench.record_as(Actor::Human("ana@example.com".into()), Event::IncidentResolved { incident: "i".into() });
    // As a ledger is read from which the author was erased.
    let release = bench.release_by(&pseudonym);
    bench.record(Event::PersonErased { person: pseudonym.clone() });
    let may = |bench: &Bench, email: &str| {
        let actor = Actor::Human(email.into());
        promotion::may_approve(&bench.state, &release, &bench.environments[0], &actor)
    };
    assert_eq!(may(&bench, &pseudonym), Err(Code::ApprovalByAuthor));
    assert_eq!(may(&bench, "back@example.com"), Err(Code::ApprovalByAuthor), "the erased person, back again");
    assert_eq!(may(&bench, "ana@example.com"), Ok(()), "who was there beside the author is somebody else");
    // What others write after that is approved as ever.
    let later = bench.release_by("erin@example.com");
    let environment = &bench.environments[0].name;
    assert!(promotion::authors(&bench.state, &later, environment).contains(&pseudonym), "it enters along");
    let plan = bench.plan(&release, "production", None);
    bench.record(Event::RolloutFinished { rollout: plan, outcome: RolloutOutcome::Completed });
    let back = Actor::Human("back@example.com".into());
    assert_eq!(promotion::may_approve(&bench.state, &later, &bench.environments[0], &back), Ok(()));
}

#[test]
fn a_state_forgets_whoever_is_erased() {
    let folder = tempfile::tempdir().unwrap();
    let path = camino::Utf8PathBuf::from_path_buf(folder.path().join("ledger.db")).unwrap();
    let ledger = store::Ledger::open(&path, store::Access::ReadWrite).unwrap();
    let mut bench = Bench::new(vec![environment("production")]);
    let released = Event::ReleaseCreated { release: Box::new(bench.release_by("erin@example.com")) };
    ledger.append_blocking(&Actor::Human("erin@example.com".into()), bench.now, vec![released]).unwrap();
    let mut follower = rollout::follower::Follower::open(ledger.clone()).unwrap();
    assert!(format!("{:?}", follower.state()).contains("erin@example.com"));
    let person = ledger.person("erin@example.com").unwrap().unwrap().pseudonym;
    ledger
        .append_blocking(&Actor::Machine("test".into()), bench.now, vec![Event::PersonErased { person }])
        .unwrap();
    assert_eq!(follower.catch_up().unwrap().len(), 1);
    assert!(!format!("{:?}", follower.state()).contains("erin@example.com"));
    // The live state is what a replay gives.
    assert_eq!(*follower.state(), *rollout::follower::Follower::open(ledger).unwrap().state());
}
