//! The five DORA figures of one service in one environment. Pure: deployments in, report out.
//!
//! A deployment belongs to the window in which it finished. Order and duplicates of incidents do not matter.

use std::collections::BTreeSet;

use delivery::Timestamp;
use serde::Serialize;

use crate::deployment::{Change, Confidence, Deployment, Failure, FailureKind};
pub use crate::figure::Figure;
use crate::figure::{Quantile, Unit};
use crate::window::{Window, day, seconds_between};

/// Where the deployments are known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Recorded as they happened.
    Ledger,
    /// Version tags.
    GitTags,
}

/// What a report is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scope {
    /// The service; empty for the whole repository (plain version tags).
    pub service: String,
    /// The environment.
    pub environment: String,
    /// Where the deployments are known from.
    pub source: Source,
    /// When observation began: the ledger's first record, or the first commit.
    pub observed_from: Timestamp,
    /// Tags of the repository that are not read as versions, where tags are what is counted.
    pub tags_unread: usize,
}

/// How many deployments there were in the window. A revert is none of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All that finished, reverts not counted.
    pub attempted: u64,
    /// Of these, the ones whose release came to serve all traffic.
    pub completed: u64,
    /// Of the attempted, the ones that failed: taken back, put back later, or cause of an incident.
    pub failed: u64,
    /// Of the failed, the ones that were taken back before any user's request went to them.
    pub failed_unseen: u64,
    /// Of the failed, the ones whose users are not served rightly again yet.
    pub failed_open: u64,
    /// Deployments that only put an earlier release back.
    pub reverts: u64,
    /// Different UTC days with a completed deployment.
    pub days: u64,
    /// Changes shipped for the first time by the completed ones.
    pub changes: u64,
}

/// The figures of one service in one environment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DoraReport {
    /// What it is about.
    pub scope: Scope,
    /// The period.
    pub window: Window,
    /// How many deployments.
    pub counts: Counts,
    /// Commit to production: from the author date to the end of the deployment. Median.
    pub lead_time_commit: Figure,
    /// The same, 90 % quantile.
    pub lead_time_commit_p90: Figure,
    /// Merge to production: from entering the trunk to the end of the deployment. Median.
    pub lead_time_merge: Figure,
    /// The same, 90 % quantile.
    pub lead_time_merge_p90: Figure,
    /// Completed deployments for each day.
    pub deployment_frequency: Figure,
    /// Days with a completed deployment, as a share of all days.
    pub deployment_days: Figure,
    /// Failed deployments, as a share of the attempted.
    pub change_failure_rate: Figure,
    /// From users' first meeting a failed deployment to serving them rightly again. Median.
    pub recovery_time: Figure,
    /// Unplanned deployments, as a share of all, reverts included.
    pub rework_rate: Figure,
    /// Sentences that a reader of the figures must know.
    pub notes: Vec<String>,
}

impl DoraReport {
    /// The figures with their names, in the order of reading.
    pub fn figures(&self) -> [(&'static str, &Figure); 9] {
        [
            ("lead time, commit to production (median)", &self.lead_time_commit),
            ("lead time, commit to production (p90)", &self.lead_time_commit_p90),
            ("lead time, merge to production (median)", &self.lead_time_merge),
            ("lead time, merge to production (p90)", &self.lead_time_merge_p90),
            ("deployment frequency", &self.deployment_frequency),
            ("days with a deployment", &self.deployment_days),
            ("change failure rate", &self.change_failure_rate),
            ("failed deployment recovery time (median)", &self.recovery_time),
            ("deployment rework rate", &self.rework_rate),
        ]
    }
}

/// Computes a report. `deployments` are all that are known of the scope, also those outside the window.
pub fn report(scope: Scope, deployments: &[Deployment], window: Window) -> DoraReport {
    let inside: Vec<&Deployment> =
        deployments.iter().filter(|deployment| window.contains(deployment.finished_at)).collect();
    let counts = count(&inside);
    let why = Why { scope: &scope, deployments, window, counts };
    let days = window.days_observed(scope.observed_from);

    let mut commit = lead_times(&inside, |change| Some(change.authored_at));
    let mut merge = lead_times(&inside, |change| change.merged_at);
    let recorded = Confidence::Recorded;
    // A tag stands for a deployment: that it is one is a conclusion already.
    let counted = if scope.source == Source::Ledger { recorded } else { Confidence::Inferred };
    let lead_time = |seconds: &mut Vec<f64>, q, method: &str| {
        Figure::quantile(seconds, q, counted, || why.no_change(), method)
    };
    DoraReport {
        lead_time_commit: lead_time(&mut commit, Quantile::Median, COMMIT_CLOCK),
        lead_time_commit_p90: lead_time(&mut commit, Quantile::P90, COMMIT_CLOCK),
        lead_time_merge: lead_time(&mut merge, Quantile::Median, MERGE_CLOCK),
        lead_time_merge_p90: lead_time(&mut merge, Quantile::P90, MERGE_CLOCK),
        deployment_frequency: Figure::per_day(
            counts.completed,
            days,
            counted,
            || why.no_deployment(),
            "completed deployments for each day observed; interval: exact Poisson (Garwood)",
        ),
        deployment_days: Figure::share(
            // A day that is counted whole may reach past the window's edge.
            counts.days.min(days.ceil() as u64),
            if counts.completed == 0 { 0 } else { days.ceil() as u64 },
            counted,
            || why.no_deployment(),
            "UTC days with a completed deployment, as a share of the days observed; interval: Wilson",
        ),
        change_failure_rate: change_failure_rate(&inside, &why),
        recovery_time: recovery_time(&inside, &why),
        rework_rate: rework_rate(&inside, &why),
        notes: notes(&why, days),
        counts,
        window,
        scope,
    }
}

const COMMIT_CLOCK: &str = "from each commit's author date to the end of the first deployment that completed with it; interval: order \
                            statistics (commits of one deployment are not independent, so it is too narrow)";
const MERGE_CLOCK: &str = "from each commit's entry into the trunk to the end of the first deployment that completed with it; \
                           interval: order statistics (commits of one deployment are not independent, so it is too narrow)";

fn count(inside: &[&Deployment]) -> Counts {
    let mut counts = Counts::default();
    let mut days = BTreeSet::new();
    for deployment in inside {
        if deployment.revert {
            counts.reverts += 1;
            continue;
        }
        counts.attempted += 1;
        if !deployment.rolled_back {
            counts.completed += 1;
            counts.changes += deployment.changes.len() as u64;
            days.insert(day(deployment.finished_at));
        }
        if let Some(failure) = failure_of(deployment) {
            counts.failed += 1;
            counts.failed_unseen += u64::from(deployment.exposed_at.is_none());
            counts.failed_open += u64::from(deployment.exposed_at.is_some() && failure.restored_at.is_none());
        }
    }
    counts.days = days.len() as u64;
    counts
}

/// The failure of a deployment that carried changes.
fn failure_of(deployment: &Deployment) -> Option<&Failure> {
    deployment.failure.as_ref().filter(|_| !deployment.revert)
}

fn lead_times(inside: &[&Deployment], start: impl Fn(&Change) -> Option<Timestamp>) -> Vec<f64> {
    inside
        .iter()
        .filter(|deployment| !deployment.rolled_back && !deployment.revert)
        .flat_map(|deployment| deployment.changes.iter().map(|change| (change, deployment.finished_at)))
        // A clock that was ahead gives a negative time, which means: at once.
        .filter_map(|(change, end)| start(change).map(|start| seconds_between(start, end).max(0.0)))
        .collect()
}

fn change_failure_rate(inside: &[&Deployment], why: &Why<'_>) -> Figure {
    let inferred = why.scope.source == Source::GitTags;
    let method = if inferred {
        "releases that were followed within 72 h by a patch release of fixes only, as a share of all releases: a lower bound, \
         because git records no failures; interval: Wilson"
    } else {
        "deployments that were taken back, put back later or caused an incident, as a share of all that were attempted; \
         interval: Wilson"
    };
    let confidence = weakest(inside.iter().filter_map(|deployment| failure_of(deployment)), inferred);
    if inferred && why.counts.failed == 0 && why.counts.attempted > 0 {
        return Figure {
            n: why.counts.attempted,
            ..Figure::empty(Unit::Share, confidence, WHY_NO_FIX, method)
        };
    }
    Figure::share(why.counts.failed, why.counts.attempted, confidence, || why.no_deployment(), method)
}

const WHY_NO_FIX: &str = "git records no failures, and no release in this period looks like an emergency fix of the one before; ship \
                          with `trimtab ship` to have failures recorded";

fn recovery_time(inside: &[&Deployment], why: &Why<'_>) -> Figure {
    let inferred = why.scope.source == Source::GitTags;
    let seen = || inside.iter().filter_map(|d| d.exposed_at.zip(failure_of(d)));
    let mut seconds: Vec<f64> = seen()
        .filter_map(|(exposed_at, f)| Some(seconds_between(exposed_at, f.restored_at?).max(0.0)))
        .collect();
    let method = if inferred {
        "from the failed release's tag to the tag of the release that fixed it; interval: order statistics"
    } else {
        "from the first request that went to the release to the end of the rollback, the revert or the incident; failures that no user met and those \
         that still go on are left out; interval: order statistics"
    };
    Figure::quantile(
        &mut seconds,
        Quantile::Median,
        weakest(seen().map(|(_, failure)| failure), inferred),
        || why.no_recovery(),
        method,
    )
}

fn rework_rate(inside: &[&Deployment], why: &Why<'_>) -> Figure {
    let inferred = why.scope.source == Source::GitTags;
    let unplanned =
        inside.iter().filter(|deployment| deployment.unplanned || deployment.revert).count() as u64;
    let confidence = if inferred { Confidence::Inferred } else { Confidence::Recorded };
    let method = if inferred {
        "patch releases of fixes only, within 72 h of the release before, as a share of all releases: a lower bound; interval: \
         Wilson"
    } else {
        "reverts, and deployments begun during an incident, as a share of all deployments, reverts included; interval: Wilson"
    };
    if inferred && unplanned == 0 && !inside.is_empty() {
        return Figure {
            n: inside.len() as u64,
            ..Figure::empty(Unit::Share, confidence, WHY_NO_FIX, method)
        };
    }
    Figure::share(unplanned, inside.len() as u64, confidence, || why.no_deployment(), method)
}

/// Inferred as soon as one of the failures is.
fn weakest<'a>(failures: impl Iterator<Item = &'a Failure>, inferred: bool) -> Confidence {
    let floor = if inferred { Confidence::Inferred } else { Confidence::Recorded };
    failures.map(|failure| failure.confidence).fold(floor, Confidence::max)
}

fn notes(why: &Why<'_>, days: f64) -> Vec<String> {
    let Counts { failed, failed_unseen, failed_open, attempted, reverts, .. } = why.counts;
    let mut notes = Vec::new();
    if why.scope.source == Source::GitTags {
        notes.push(
            "from git alone: each version tag counts as a deployment, failures are inferred".to_owned(),
        );
    }
    if failed_unseen > 0 && attempted > failed_unseen {
        let rate = 100.0 * (failed - failed_unseen) as f64 / (attempted - failed_unseen) as f64;
        notes.push(format!(
            "{failed_unseen} of {failed} failed deployments met no user; without them the change failure rate is {rate:.1} %"
        ));
    } else if failed_unseen > 0 {
        notes.push("no failed deployment met a user".to_owned());
    }
    if failed_open > 0 {
        notes.push(format!("{failed_open} of {failed} failed deployments are not restored yet"));
    }
    if reverts > 0 {
        notes.push(format!(
            "{} back to an earlier release: in the rework rate only",
            delivery::text::count(reverts, "deployment")
        ));
    }
    if why.scope.observed_from > why.window.from && attempted > 0 {
        notes.push(format!("observed for {days:.1} days only: frequencies are over those"));
    }
    notes
}

/// Finds the sentence for a figure without a value.
struct Why<'a> {
    scope: &'a Scope,
    deployments: &'a [Deployment],
    window: Window,
    counts: Counts,
}

impl Why<'_> {
    fn no_deployment(&self) -> String {
        let (what, remedy) = match self.scope.source {
            Source::Ledger => ("deployment", "ship one with `trimtab ship`"),
            Source::GitTags => ("version tag", "tag a release, such as v1.2.3"),
        };
        if self.counts.attempted > 0 {
            return format!("none of the {} completed", delivery::text::count(self.counts.attempted, what));
        }
        let earlier = self.deployments.iter().filter(|d| d.finished_at < self.window.from && !d.revert);
        match earlier.max_by_key(|deployment| deployment.finished_at) {
            Some(last) => format!(
                "no {what} between {} and {}; the last before was {} on {}: look further back with --days",
                day(self.window.from),
                day(self.window.until),
                last.version,
                day(last.finished_at)
            ),
            None if self.scope.tags_unread > 0 => format!(
                "there {}, none of which is read as a version: {remedy}",
                match self.scope.tags_unread {
                    1 => "is 1 tag".to_owned(),
                    more => format!("are {more} tags"),
                }
            ),
            None => format!("there is no {what} yet: {remedy}"),
        }
    }

    fn no_change(&self) -> String {
        if self.counts.completed == 0 {
            return self.no_deployment();
        }
        "no deployment in this period brought a new commit whose time on this clock is known".to_owned()
    }

    fn no_recovery(&self) -> String {
        let Counts { attempted, failed, failed_unseen, failed_open, .. } = self.counts;
        match self.scope.source {
            _ if attempted == 0 => self.no_deployment(),
            Source::GitTags => WHY_NO_FIX.to_owned(),
            Source::Ledger if failed_open > 0 => {
                "the failed deployments are not restored yet: `trimtab why` says what they wait for".to_owned()
            }
            Source::Ledger if failed == failed_unseen && failed > 0 => {
                "every failed deployment was taken back before a user met it: there was nothing to recover from".to_owned()
            }
            Source::Ledger => format!(
                "none of the {} failed: there was nothing to recover from",
                delivery::text::count(attempted, "deployment")
            ),
        }
    }
}

impl Deployment {
    /// Adds what went wrong. One deployment fails once: the earliest sign counts, restored when the last one is, and the
    /// surer kind of knowledge wins.
    pub(crate) fn fail(&mut self, failure: Failure) {
        let merged = match self.failure.take() {
            None => failure,
            Some(known) => Failure {
                kind: if failure.kind == FailureKind::Incident { known.kind } else { failure.kind },
                detected_at: known.detected_at.min(failure.detected_at),
                restored_at: known.restored_at.zip(failure.restored_at).map(|(a, b)| a.max(b)),
                confidence: known.confidence.min(failure.confidence),
            },
        };
        self.failure = Some(merged);
    }
}
