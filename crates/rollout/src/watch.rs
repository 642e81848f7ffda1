//! The statistical state of a rollout, kept in step with its recorded looks.
//!
//! Built from the record alone, so a controller that takes over a rollout (or a replay) reaches the very state that the
//! controller before it had. Invariant: looks are fed once each, in order, each after its step began.

use delivery::evidence::Evidence;
use delivery::strategy::Sticky;
use delivery::traffic::Sample;
use delivery::{RolloutId, Timestamp};

use crate::analysis::Analysis;
use crate::progress::Rollout;

/// An [`Analysis`] with how much of the record it has taken in.
#[derive(Debug, Clone)]
pub struct Watch {
    rollout: RolloutId,
    analysis: Analysis,
    looks: usize,
    steps: usize,
}

impl Watch {
    /// For a rollout, from its first look on.
    pub fn over(rollout: &Rollout) -> Self {
        let strategy = &rollout.plan.environment.strategy;
        // Requests of one user go one way when traffic is sticky, so counts of requests can't test the split.
        let independent = strategy.sticky == Sticky::None;
        let digest = rollout.plan.revision.digest.clone();
        let analysis = Analysis::new(&strategy.analysis, digest, independent);
        let mut watch = Self { rollout: rollout.plan.id.clone(), analysis, looks: 0, steps: 0 };
        watch.catch_up(rollout);
        watch
    }

    /// Takes in what was recorded since.
    pub fn catch_up(&mut self, rollout: &Rollout) {
        debug_assert_eq!(self.rollout, rollout.plan.id);
        // Of a rollout that has ended there may be fewer than were seen; nothing is judged there any more.
        for look in rollout.looks.get(self.looks..).unwrap_or_default() {
            self.begin_until(rollout, look.step + 1);
            self.analysis.observe(look.sample.as_ref(), look.at);
        }
        self.looks = rollout.looks.len();
        self.begin_until(rollout, rollout.begun.len());
    }

    /// What a further look would show, without taking it in.
    pub fn judge(&self, sample: Option<&Sample>, at: Timestamp) -> Evidence {
        self.analysis.clone().observe(sample, at)
    }

    fn begin_until(&mut self, rollout: &Rollout, steps: usize) {
        let strategy = &rollout.plan.environment.strategy;
        while self.steps < steps.min(rollout.begun.len()) {
            self.analysis.begin_step(strategy.steps[self.steps].weight, rollout.begun[self.steps]);
            self.steps += 1;
        }
    }
}
