//! Laws that hold for every history.

use delivery::{CommitId, Timestamp};
use proptest::prelude::*;

use super::{DAY, at, month};
use crate::{Change, Confidence, Deployment, DoraReport, Failure, FailureKind, Scope, Source, dora};

fn scope(source: Source) -> Scope {
    Scope {
        service: "web".into(),
        environment: "production".into(),
        source,
        observed_from: at(-DAY),
        tags_unread: 0,
    }
}

fn a_time() -> impl Strategy<Value = Timestamp> {
    (-10 * DAY..40 * DAY).prop_map(at)
}

fn a_failure() -> impl Strategy<Value = Failure> {
    let kinds = prop_oneof![
        Just(FailureKind::RolledBack),
        Just(FailureKind::Reverted),
        Just(FailureKind::Incident),
        Just(FailureKind::FixFollowed)
    ];
    (kinds, a_time(), prop::option::of(a_time()), any::<bool>()).prop_map(
        |(kind, detected_at, restored_at, sure)| {
            let confidence = if sure { Confidence::Recorded } else { Confidence::Inferred };
            Failure { kind, detected_at, restored_at, confidence }
        },
    )
}

fn a_change() -> impl Strategy<Value = Change> {
    (a_time(), prop::option::of(a_time()), any::<u32>()).prop_map(|(authored_at, merged_at, id)| Change {
        commit: CommitId::new(format!("{id:040x}")).unwrap(),
        authored_at,
        merged_at,
    })
}

fn a_deployment() -> impl Strategy<Value = Deployment> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.1));
    (a_time(), flags, prop::option::of(a_failure()), prop::collection::vec(a_change(), 0..4)).prop_map(
        |(finished_at, (rolled_back, exposed, unplanned, revert), failure, changes)| Deployment {
            version: "1.0.0".into(),
            commit: Some(CommitId::new("0".repeat(40)).unwrap()),
            finished_at,
            rolled_back,
            exposed_at: (exposed || !rolled_back).then_some(finished_at),
            unplanned,
            revert,
            failure,
            changes,
        },
    )
}

fn history() -> impl Strategy<Value = (Source, Vec<Deployment>)> {
    let source = prop_oneof![Just(Source::Ledger), Just(Source::GitTags)];
    (source, prop::collection::vec(a_deployment(), 0..40))
}

fn lawful(report: &DoraReport) -> Result<(), TestCaseError> {
    for (name, figure) in report.figures() {
        prop_assert_eq!(figure.value.is_none(), figure.why_empty.is_some(), "{}", name);
        prop_assert!(figure.why_empty.as_ref().is_none_or(|why| !why.is_empty()), "{}", name);
        prop_assert!(figure.value.is_none() || figure.n > 0, "{}: a value needs data", name);
        prop_assert!(figure.value.is_none_or(|value| value.is_finite() && value >= 0.0), "{}", name);
        prop_assert!(figure.interval.is_none() || figure.value.is_some(), "{}", name);
        if let (Some(value), Some(interval)) = (figure.value, figure.interval) {
            prop_assert!(
                interval.low <= value && value <= interval.high,
                "{} {} {:?}",
                name,
                value,
                interval
            );
        }
    }
    for share in [&report.change_failure_rate, &report.rework_rate, &report.deployment_days] {
        prop_assert!(share.value.is_none_or(|value| value <= 1.0));
    }
    let counts = report.counts;
    prop_assert!(counts.failed <= counts.attempted && counts.completed <= counts.attempted);
    prop_assert!(counts.failed_unseen + counts.failed_open <= counts.failed);
    Ok(())
}

proptest! {
    #[test]
    fn every_report_is_lawful((source, deployments) in history()) {
        lawful(&dora::report(scope(source), &deployments, month()))?;
    }

    #[test]
    fn order_does_not_matter((source, deployments) in history(), seed in any::<u64>()) {
        let report = dora::report(scope(source), &deployments, month());
        let mut shuffled = deployments;
        let length = shuffled.len().max(1);
        shuffled.rotate_left(seed as usize % length);
        shuffled.reverse();
        prop_assert_eq!(dora::report(scope(source), &shuffled, month()), report);
    }

    /// One deployment fails once, however many incidents there are.
    #[test]
    fn another_incident_on_a_failed_deployment_moves_no_rate(
        (source, mut deployments) in history(),
        pick in any::<prop::sample::Index>(),
        first in a_failure(),
        second in a_failure(),
    ) {
        prop_assume!(!deployments.is_empty());
        let picked = pick.index(deployments.len());
        deployments[picked].fail(first);
        let before = dora::report(scope(source), &deployments, month());
        deployments[picked].fail(second);
        let after = dora::report(scope(source), &deployments, month());
        prop_assert_eq!(before.change_failure_rate.value, after.change_failure_rate.value);
        prop_assert_eq!(before.change_failure_rate.n, after.change_failure_rate.n);
        prop_assert_eq!(before.counts.failed, after.counts.failed);
    }

    /// What happens outside the window moves no figure.
    #[test]
    fn the_window_bounds_the_figures((source, deployments) in history()) {
        let inside: Vec<Deployment> =
            deployments.iter().filter(|d| month().contains(d.finished_at)).cloned().collect();
        let all = dora::report(scope(source), &deployments, month());
        let only = dora::report(scope(source), &inside, month());
        prop_assert_eq!(all.counts, only.counts);
        for ((_, a), (_, b)) in all.figures().into_iter().zip(only.figures()) {
            prop_assert_eq!((a.value, a.n, a.interval), (b.value, b.n, b.interval));
        }
    }
}
