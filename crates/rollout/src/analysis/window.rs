//! Turns running totals into intervals.
//!
//! Two readings of one splitter lifetime make an interval. A changed boot starts over: that interval holds no data, and no data is
//! never evidence. Totals that went backwards within a lifetime, or a difference that nobody can believe, are no data either, and
//! are not counted from: a metrics source that serves an old reading as a new one would have requests counted twice. A
//! reading older than the last one is ignored. Invariant: every request is in at most one interval.

use delivery::Timestamp;
use delivery::seeded::{self, Bug};
use delivery::traffic::{ArmTotals, LATENCY_BUCKETS, Sample, Weight};

use super::allowance::Counts;

/// A difference of more than this many requests in one interval is a broken counter.
const REQUESTS_MAX: u64 = 1 << 48;

/// What came in one arm.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ArmInterval {
    /// Requests that ended.
    pub(super) requests: u64,
    /// Of these, failed.
    pub(super) errors: u64,
    /// Requests that began; `None` when the counters contradict each other.
    pub(super) started: Option<u64>,
    /// Requests under way at the end.
    pub(super) in_flight: u64,
    /// `slower[j]`: requests above latency bound `j`, and last all of them; empty when buckets are missing.
    pub(super) slower: Vec<u64>,
    /// Requests that the buckets hold together.
    pub(super) timed: u64,
}

/// What came between two readings.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Interval {
    /// When it began, by the reader's clock.
    pub(super) from: Timestamp,
    /// When it ended.
    pub(super) until: Timestamp,
    /// The weight, when it was the same at both ends.
    pub(super) weight: Option<Weight>,
    pub(super) stable: ArmInterval,
    pub(super) canary: ArmInterval,
}

impl Interval {
    /// Errors and requests.
    pub(super) fn errors(&self) -> Counts {
        Counts {
            canary_events: self.canary.errors,
            canary: self.canary.requests,
            stable_events: self.stable.errors,
            stable: self.stable.requests,
        }
    }
}

/// What a reading gave.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading {
    /// Data.
    Interval(Box<Interval>),
    /// The first reading: something to count from.
    Reference,
    /// The counters started over, or contradict what was read before.
    Reset,
    /// Older than the reading before it.
    Stale,
}

/// The last reading.
#[derive(Debug, Clone, Default)]
pub(super) struct Window(Option<Sample>);

impl Window {
    /// Takes the next reading.
    pub(super) fn read(&mut self, sample: &Sample) -> Reading {
        let reading = match &self.0 {
            None => Reading::Reference,
            Some(last) if last.boot == sample.boot && sample.at < last.at => return Reading::Stale,
            Some(last) => match interval(last, sample) {
                Some(interval) => Reading::Interval(Box::new(interval)),
                None if last.boot == sample.boot => return Reading::Reset,
                None => Reading::Reset,
            },
        };
        self.0 = Some(sample.clone());
        reading
    }
}

fn interval(last: &Sample, now: &Sample) -> Option<Interval> {
    if last.boot != now.boot {
        return None;
    }
    Some(Interval {
        from: last.at,
        until: now.at,
        weight: (last.weight == now.weight).then_some(now.weight),
        stable: arm(&last.stable, &now.stable)?,
        canary: arm(&last.canary, &now.canary)?,
    })
}

fn arm(last: &ArmTotals, now: &ArmTotals) -> Option<ArmInterval> {
    let since = now.since(last);
    let came =
        if seeded::is(Bug::ResetCountsFromZero) { since.unwrap_or_else(|| now.clone()) } else { since? };
    let timed = came.latency.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count))?;
    if came.requests.max(timed) > REQUESTS_MAX {
        return None;
    }
    let slower = if came.latency.len() == LATENCY_BUCKETS { exceedances(&came.latency) } else { Vec::new() };
    Some(ArmInterval {
        requests: came.requests,
        errors: came.errors.min(came.requests),
        started: came.requests.saturating_add(now.in_flight).checked_sub(last.in_flight),
        in_flight: now.in_flight,
        slower,
        timed,
    })
}

/// For each bound, how many were above it.
fn exceedances(latency: &[u64]) -> Vec<u64> {
    let mut above = 0;
    let mut slower: Vec<u64> = latency[1..]
        .iter()
        .rev()
        .map(|count| {
            above += count;
            above
        })
        .collect();
    slower.reverse();
    slower
}
