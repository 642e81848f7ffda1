//! Hand-made ledgers with known truth.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use delivery::artifact::Artifact;
use delivery::change::{Commit, Person};
use delivery::effect::{Command, Effect, Outcome, Readiness, RevisionSpec};
use delivery::environment::{ApprovalRule, Environment};
use delivery::event::ServiceChange;
use delivery::release::Release;
use delivery::report::{Fact, IncidentName, Origin, ServiceStep};
use delivery::rollout::{RollbackCause, RolloutPlan};
use delivery::strategy::{AnalysisPolicy, OnExpiry, OnInconclusive, Step, Sticky, Strategy, StrategyKind};
use delivery::traffic::Weight;
use delivery::{
    Actor, CommitId, Digest, EnvironmentName, Event, Recorded, ReleaseId, RevisionId, RolloutId, RunId,
    ServiceName, Timestamp,
};

use repo::{Entry, Graph};

use super::{DAY, HOUR, at, month, value};
use crate::{Confidence, DoraReport, Facts, FailureKind};

/// Writes a ledger, one step at a time.
#[derive(Clone)]
struct Writer {
    facts: Facts,
    sequence: u64,
}

fn service() -> ServiceName {
    ServiceName::new("web").unwrap()
}

fn production() -> EnvironmentName {
    EnvironmentName::new("production").unwrap()
}

fn release_id(n: u32) -> ReleaseId {
    ReleaseId::new(format!("rel-{n:08}")).unwrap()
}

fn rollout_id(n: u32) -> RolloutId {
    RolloutId::new(format!("ro-{n:08}")).unwrap()
}

fn environment() -> Environment {
    let strategy = Strategy {
        kind: StrategyKind::Direct,
        steps: vec![Step { weight: Weight::FULL, hold_ms: 0, deadline_ms: 0, analyse: false }],
        analysis: AnalysisPolicy::default(),
        on_inconclusive: OnInconclusive::Rollback,
        on_expiry: OnExpiry::Rollback,
        grant_ttl_ms: 1,
        sticky: Sticky::None,
        drain_ms: 0,
    };
    Environment {
        name: production(),
        listen: "127.0.0.1:0".into(),
        strategy,
        gates: vec![],
        approval: ApprovalRule::default(),
        freezes: vec![],
        kpis: vec![],
        rollback_objective_ms: 0,
    }
}

fn revision(rollout: &RolloutId) -> RevisionSpec {
    RevisionSpec {
        id: RevisionId::of_rollout(rollout),
        service: service(),
        digest: Digest::of(b""),
        directory: Utf8PathBuf::new(),
        command: vec![],
        environment: BTreeMap::new(),
        pass: vec![],
        ready: Readiness { path: None, within_ms: 0 },
        instances: 1,
        stop_ms: 0,
    }
}

impl Writer {
    fn new() -> Self {
        Self { facts: Facts::default(), sequence: 0 }
    }

    fn write(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        let actor = Actor::Machine("trimtab".into());
        self.facts.fold(&Recorded { sequence: self.sequence, at, actor, event });
    }

    /// Release `n`, of a commit written and committed at the given seconds.
    fn release(&mut self, n: u32, authored: i64, committed: i64, now: i64) {
        let ada = Person { name: "Ada".into(), email: "ada@example.org".into() };
        let release = Release {
            id: release_id(n),
            version: format!("1.{n}.0"),
            commit: Commit {
                id: CommitId::new(format!("{n:040x}")).unwrap(),
                author: ada.clone(),
                committer: ada,
                co_authors: vec![],
                authored_at: at(authored),
                committed_at: at(committed),
                subject: "feat: x".into(),
            },
            artifact: Artifact { service: service(), digest: Digest::of(b""), files: 1, bytes: 1 },
            authors: vec![],
            changelog: vec![],
            run: RunId::new("run-00000001").unwrap(),
            provenance: Digest::of(b""),
        };
        self.write(at(now), Event::ReleaseCreated { release: Box::new(release) });
    }

    fn plan(&mut self, rollout: u32, release: u32, reverts: Option<u32>, now: i64) {
        let id = rollout_id(rollout);
        let plan = RolloutPlan {
            parent: None,
            release: release_id(release),
            reverts: reverts.map(release_id),
            version: format!("1.{release}.0"),
            revision: revision(&id),
            stable: None,
            environment: environment(),
            policy: Digest::of(b""),
            id,
        };
        self.write(at(now), Event::RolloutPlanned { plan: Box::new(plan) });
    }

    fn change(rollout: u32, release: u32, weight: Weight) -> ServiceChange {
        ServiceChange {
            service: service(),
            environment: production(),
            rollout: rollout_id(rollout),
            release: release_id(release),
            digest: Digest::of(b""),
            weight,
        }
    }

    /// A change of weight that takes two seconds.
    fn weight(&mut self, rollout: u32, sequence: u32, weight: Weight, now: i64) {
        let rollout = rollout_id(rollout);
        let effect = Effect::SetWeight {
            revision: RevisionId::of_rollout(&rollout),
            weight,
            ttl_ms: 1,
            on_expiry: OnExpiry::Rollback,
            sticky: Sticky::None,
        };
        let command = Command { rollout: rollout.clone(), sequence, epoch: 1, effect };
        self.write(at(now), Event::EffectRequested { command });
        let outcome = Outcome::Applied { detail: String::new() };
        self.write(at(now + 2), Event::EffectFinished { rollout, sequence, outcome });
    }

    fn upgraded(&mut self, rollout: u32, release: u32, now: i64) {
        self.write(at(now), Event::ServiceUpgraded(Self::change(rollout, release, Weight::FULL)));
    }

    /// A release that is taken back, after users met it or before.
    fn rolled_back(&mut self, rollout: u32, release: u32, weight: Weight, noticed: i64, now: i64) {
        let cause = RollbackCause::GrantExpired;
        self.write(at(noticed), Event::RollbackRequested { rollout: rollout_id(rollout), cause });
        if weight > Weight::ZERO {
            self.detected(&rollout_id(rollout).to_string(), Some(rollout), noticed);
        }
        self.write(at(now), Event::ServiceRolledBack(Self::change(rollout, release, weight)));
        if weight > Weight::ZERO {
            self.resolved(&rollout_id(rollout).to_string(), now);
        }
    }

    fn detected(&mut self, incident: &str, rollout: Option<u32>, now: i64) {
        let event = Event::IncidentDetected {
            incident: incident.into(),
            service: service(),
            environment: production(),
            rollout: rollout.map(rollout_id),
            summary: "it is slow".into(),
        };
        self.write(at(now), event);
    }

    fn resolved(&mut self, incident: &str, now: i64) {
        self.write(at(now), Event::IncidentResolved { incident: incident.into() });
    }

    fn report(&self) -> DoraReport {
        let mut reports = self.facts.reports(month(), None);
        assert_eq!(reports.len(), 1);
        reports.remove(0)
    }
}

/// The demo's story: v1 ships, v2 ships, v3 fails and is taken back within 8 s.
fn three_releases() -> Writer {
    let mut writer = Writer::new();
    for n in 1..=3 {
        let start = i64::from(n) * DAY;
        writer.release(n, start - 10 * HOUR, start - 4 * HOUR, start);
        writer.plan(n, n, None, start + 10);
    }
    writer.upgraded(1, 1, DAY + 100);
    writer.upgraded(2, 2, 2 * DAY + 100);
    let weight = Weight::from_percent(5.0).unwrap();
    writer.rolled_back(3, 3, weight, 3 * DAY + 60, 3 * DAY + 68);
    writer
}

fn exactly(figure: &crate::Figure, wanted: f64) {
    assert!((value(figure) - wanted).abs() < 1e-9, "{} instead of {wanted}", value(figure));
}

#[test]
fn the_story_of_three_releases() {
    let report = three_releases().report();
    assert_eq!((report.counts.attempted, report.counts.completed, report.counts.failed), (3, 2, 1));
    exactly(&report.lead_time_commit, (10 * HOUR + 100) as f64);
    exactly(&report.lead_time_merge, (4 * HOUR + 100) as f64);
    assert_eq!(report.lead_time_merge.n, 2);
    assert_eq!(report.lead_time_merge.interval, None, "two are too few");
    // Observed from the first record, one day in.
    exactly(&report.deployment_frequency, 2.0 / 29.0);
    exactly(&report.deployment_days, 2.0 / 29.0);
    exactly(&report.change_failure_rate, 1.0 / 3.0);
    exactly(&report.recovery_time, 8.0);
    exactly(&report.rework_rate, 0.0);
    assert_eq!(report.change_failure_rate.confidence, Confidence::Recorded);
    let interval = report.change_failure_rate.interval.unwrap();
    assert!((interval.low - 0.0615).abs() < 1e-3 && (interval.high - 0.7923).abs() < 1e-3, "{interval:?}");
}

#[test]
fn a_crash_on_start_is_a_failure_that_no_user_met() {
    let mut writer = three_releases();
    writer.release(4, 0, 0, 4 * DAY);
    writer.plan(4, 4, None, 4 * DAY);
    writer.rolled_back(4, 4, Weight::ZERO, 4 * DAY + 5, 4 * DAY + 6);
    let report = writer.report();
    assert_eq!((report.counts.failed, report.counts.failed_unseen), (2, 1));
    exactly(&report.change_failure_rate, 0.5);
    exactly(&report.recovery_time, 8.0);
    assert_eq!(report.recovery_time.n, 1);
    assert!(
        report.notes.iter().any(|note| note.contains("1 of 2") && note.contains("33.3 %")),
        "{:?}",
        report.notes
    );
}

#[test]
fn incidents_belong_to_the_deployment_they_name() {
    let mut writer = three_releases();
    writer.detected("pager-1", Some(2), 3 * DAY);
    writer.detected("pager-2", Some(2), 3 * DAY + 20);
    exactly(&writer.report().change_failure_rate, 2.0 / 3.0);
    assert_eq!(writer.report().counts.failed_open, 1);
    writer.resolved("pager-1", 3 * DAY + HOUR);
    writer.resolved("pager-2", 3 * DAY + 2 * HOUR);
    let report = writer.report();
    assert_eq!((report.counts.failed, report.counts.failed_open), (2, 0));
    // 8 s, and from the deployment to the end of the second: the middle.
    exactly(&report.recovery_time, f64::midpoint(8.0, (DAY + 2 * HOUR - 100) as f64));
}

#[test]
fn an_incident_without_a_name_goes_to_a_fresh_deployment_or_to_none() {
    let mut writer = three_releases();
    writer.detected("fresh", None, 2 * DAY + HOUR);
    let deployments = writer.facts.deployments(service().as_str(), production().as_str(), None);
    let failure = deployments[1].failure.as_ref().unwrap();
    assert_eq!((failure.kind, failure.confidence), (FailureKind::Incident, Confidence::Inferred));
    assert_eq!(writer.report().change_failure_rate.confidence, Confidence::Inferred);
    let mut writer = three_releases();
    writer.detected("stale", None, 20 * DAY);
    exactly(&writer.report().change_failure_rate, 1.0 / 3.0);
}

#[test]
fn a_revert_is_rework_and_the_failure_of_what_it_takes_back() {
    let mut writer = three_releases();
    // Release 2 is taken back a day later by putting release 1 back.
    writer.plan(4, 1, Some(2), 3 * DAY + HOUR);
    writer.upgraded(4, 1, 3 * DAY + HOUR + 30);
    let report = writer.report();
    assert_eq!((report.counts.attempted, report.counts.completed, report.counts.reverts), (3, 2, 1));
    exactly(&report.change_failure_rate, 2.0 / 3.0);
    exactly(&report.rework_rate, 0.25);
    // Users met it all the while, not only from when it was noticed.
    exactly(&report.recovery_time, f64::midpoint(8.0, (DAY + HOUR - 70) as f64));
    assert_eq!(report.lead_time_commit.n, 2, "a revert ships no change");
}

#[test]
fn a_revert_that_failed_is_healed_by_what_replaces_the_release() {
    let mut writer = three_releases();
    writer.plan(4, 1, Some(2), 3 * DAY + HOUR);
    writer.rolled_back(4, 1, Weight::ZERO, 3 * DAY + HOUR + 5, 3 * DAY + HOUR + 10);
    assert_eq!(writer.report().counts.failed_open, 1);
    let mut mended = writer.clone();
    writer.plan(5, 1, Some(2), 3 * DAY + HOUR + 20);
    writer.upgraded(5, 1, 3 * DAY + HOUR + 50);
    mended.release(6, 0, 0, 3 * DAY + HOUR + 20);
    mended.plan(6, 6, None, 3 * DAY + HOUR + 20);
    mended.upgraded(6, 6, 3 * DAY + HOUR + 50);
    for writer in [writer, mended] {
        let report = writer.report();
        assert_eq!((report.counts.failed, report.counts.failed_open), (2, 0));
        assert_eq!(report.recovery_time.n, 2);
    }
}

#[test]
fn recovery_begins_when_users_meet_the_release() {
    let mut writer = three_releases();
    let (canary, start) = (Weight::from_percent(5.0).unwrap(), 4 * DAY);
    writer.release(4, 0, 0, start);
    writer.plan(4, 4, None, start);
    writer.weight(4, 1, Weight::ZERO, start + 1);
    writer.weight(4, 2, canary, start + 10);
    writer.weight(4, 3, Weight::FULL, start + 30);
    writer.rolled_back(4, 4, Weight::FULL, start + 60, start + 70);
    // 8 s, from the notice on, as nothing is known of the first request; and 60 s.
    exactly(&writer.report().recovery_time, f64::midpoint(8.0, 60.0));
}

#[test]
fn a_deployment_during_an_incident_is_unplanned() {
    let mut writer = three_releases();
    writer.detected("pager", Some(2), 4 * DAY);
    writer.release(4, 4 * DAY, 4 * DAY, 4 * DAY + 10);
    writer.plan(4, 4, None, 4 * DAY + 20);
    writer.upgraded(4, 4, 4 * DAY + 30);
    writer.resolved("pager", 4 * DAY + 40);
    exactly(&writer.report().rework_rate, 0.25);
}

#[test]
fn a_change_ships_once() {
    let mut writer = three_releases();
    writer.plan(4, 3, None, 4 * DAY);
    writer.upgraded(4, 3, 4 * DAY + 50);
    writer.plan(5, 3, None, 5 * DAY);
    writer.upgraded(5, 3, 5 * DAY + 50);
    let report = writer.report();
    assert_eq!((report.counts.completed, report.counts.changes), (4, 3));
    let deployments = writer.facts.deployments(service().as_str(), production().as_str(), None);
    assert_eq!(deployments.iter().map(|d| d.changes.len()).collect::<Vec<_>>(), [1, 1, 0, 1, 0]);
}

#[test]
fn history_that_holds_nothing_deployed_is_not_what_a_deployment_brought() {
    let mut writer = three_releases();
    writer.plan(4, 3, None, 4 * DAY);
    writer.upgraded(4, 3, 4 * DAY + 50);
    let id = |n: u32| CommitId::new(format!("{n:040x}")).unwrap();
    let person = Person { name: "Ada".into(), email: "ada@example.org".into() };
    let entry = |n: u32, parents: &[u32]| Entry {
        commit: Commit {
            id: id(n),
            author: person.clone(),
            committer: person.clone(),
            co_authors: vec![],
            authored_at: at(0),
            committed_at: at(0),
            subject: "feat: x".into(),
        },
        parents: parents.iter().map(|n| id(*n)).collect(),
        message: String::new(),
    };
    // What release 1 was made of is gone; release 2 has a history of its own, on which release 3 stands.
    let graph =
        Graph::new(&[entry(3, &[21]), entry(21, &[2]), entry(2, &[20]), entry(20, &[19]), entry(19, &[])]);
    let deployments =
        writer.facts.deployments(service().as_str(), production().as_str(), Some((&graph, &id(3))));
    assert_eq!(deployments.iter().map(|d| d.changes.len()).collect::<Vec<_>>(), [1, 1, 0, 2]);
}

#[test]
fn nothing_is_told_as_nothing() {
    assert!(Facts::default().reports(month(), None).is_empty());
    let mut writer = Writer::new();
    writer.release(1, 0, 0, 10);
    writer.plan(1, 1, None, 20);
    let report = writer.report();
    for (name, figure) in report.figures() {
        assert_eq!((figure.value, figure.n), (None, 0), "{name}");
        assert!(
            figure.why_empty.as_ref().unwrap().contains("trimtab ship"),
            "{name}: {:?}",
            figure.why_empty
        );
    }
    let later = crate::Window { from: at(40 * DAY), until: at(50 * DAY) };
    let why = three_releases().facts.reports(later, None).remove(0).deployment_frequency.why_empty.unwrap();
    assert!(why.contains("1.3.0 on 2023-11-17") && why.contains("--days"), "{why}");
}

#[test]
fn replayed_and_repeated_records_change_nothing() {
    let mut writer = three_releases();
    let before = writer.report();
    writer.upgraded(2, 2, 2 * DAY + 500);
    writer.resolved("ro-00000003", 9 * DAY);
    writer.detected("ro-00000003", Some(3), 9 * DAY);
    assert_eq!(writer.report(), before);
}

fn reported(writer: &mut Writer, now: i64, occurred: i64, fact: Fact) {
    let origin = Origin { source: "/monitoring".into(), id: writer.sequence.to_string() };
    writer.write(at(now), Event::Reported { origin, occurred_at: at(occurred), fact });
}

fn incident(id: &str) -> IncidentName {
    IncidentName { source: "/monitoring".into(), id: id.into() }
}

fn found(id: &str) -> Fact {
    let (service, environment) = (service().to_string(), production().to_string());
    Fact::IncidentDetected { incident: incident(id), service, environment, summary: "slow".into() }
}

fn over(id: &str) -> Fact {
    Fact::IncidentResolved { incident: incident(id) }
}

fn changed(step: ServiceStep, service: &str, version: &str) -> Fact {
    let artifact = format!("pkg:oci/{service}@{version}");
    Fact::ServiceChanged { step, service: service.into(), environment: production().to_string(), artifact }
}

#[test]
fn a_reported_incident_counts_from_when_it_happened() {
    let mut writer = three_releases();
    // Told half an hour late, and twice.
    reported(&mut writer, 2 * DAY + 3 * HOUR, 2 * DAY + HOUR, found("i"));
    reported(&mut writer, 2 * DAY + 3 * HOUR, 2 * DAY + 2 * HOUR, found("i"));
    reported(&mut writer, 2 * DAY + 5 * HOUR, 2 * DAY + 4 * HOUR, over("i"));
    reported(&mut writer, 2 * DAY + 6 * HOUR, 2 * DAY + 6 * HOUR, over("i"));
    let report = writer.report();
    assert_eq!((report.counts.failed, report.counts.failed_open), (2, 0));
    exactly(&report.change_failure_rate, 2.0 / 3.0);
    // Of the deployment, which users met from its end on; and the 8 s of the one that was taken back.
    exactly(&report.recovery_time, f64::midpoint(8.0, (4 * HOUR - 100) as f64));
}

#[test]
fn a_reporters_incident_is_not_the_rollouts_of_the_same_name() {
    let mut writer = three_releases();
    let before = writer.report();
    reported(&mut writer, 4 * DAY, 4 * DAY, over("ro-00000003"));
    reported(&mut writer, 20 * DAY, 20 * DAY, found("ro-00000003"));
    let after = writer.report();
    assert_eq!((before.counts, before.recovery_time), (after.counts, after.recovery_time));
}

#[test]
fn a_report_from_the_future_happened_when_it_was_recorded() {
    let mut writer = three_releases();
    reported(&mut writer, 2 * DAY + HOUR, 900 * DAY, found("i"));
    reported(&mut writer, 2 * DAY + 2 * HOUR, 901 * DAY, over("i"));
    exactly(&writer.report().recovery_time, f64::midpoint(8.0, (2 * HOUR - 100) as f64));
}

#[test]
fn what_others_deploy_has_figures_of_its_own() {
    let mut writer = three_releases();
    let now = 9 * DAY;
    reported(&mut writer, now, 3 * DAY, changed(ServiceStep::Upgraded, "other", "2"));
    // Reported out of order, and from before our first record.
    reported(&mut writer, now, HOUR, changed(ServiceStep::Deployed, "other", "1"));
    reported(&mut writer, now, 3 * DAY + HOUR, changed(ServiceStep::RolledBack, "other", "1"));
    let reports = writer.facts.reports(month(), None);
    assert_eq!(reports.len(), 2);
    let other = reports.iter().find(|report| report.scope.service == "other").unwrap();
    assert_eq!((other.counts.completed, other.counts.failed, other.counts.reverts), (2, 1, 1));
    exactly(&other.change_failure_rate, 0.5);
    exactly(&other.recovery_time, HOUR as f64);
    assert_eq!(other.scope.observed_from, at(HOUR));
    let deployments = writer.facts.deployments("other", production().as_str(), None);
    assert_eq!(deployments.iter().map(|d| d.version.as_str()).collect::<Vec<_>>(), ["1", "2", "1"]);
    assert_eq!(deployments[1].failure.as_ref().unwrap().kind, FailureKind::Reverted);
    assert!(other.lead_time_commit.value.is_none(), "nobody said what was in it");
}

#[test]
fn a_report_is_data_too() {
    let json = serde_json::to_value(three_releases().report()).unwrap();
    assert_eq!(json["scope"]["environment"], "production");
    assert_eq!(json["scope"]["source"], "ledger");
    assert_eq!(json["change_failure_rate"]["n"], 3);
    assert_eq!(json["change_failure_rate"]["unit"], "share");
    assert_eq!(json["lead_time_commit"]["interval"], serde_json::Value::Null);
}
