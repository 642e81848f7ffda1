//! How often each fault struck in each phase of a rollout.
//!
//! A simulation that never breaks something at some moment says nothing about that moment. Invariant: a cell that can happen
//! and did not is thin.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::fault::{Fault, Phase};

/// Counts by fault and phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<(Fault, Phase), u64>);

impl Coverage {
    /// A fault struck while a rollout was in that phase.
    pub fn note(&mut self, fault: Fault, phase: Phase) {
        *self.0.entry((fault, phase)).or_default() += 1;
    }

    /// Adds another simulation's counts.
    pub fn add(&mut self, other: &Self) {
        for (cell, count) in &other.0 {
            *self.0.entry(*cell).or_default() += count;
        }
    }

    /// How often.
    pub fn count(&self, fault: Fault, phase: Phase) -> u64 {
        self.0.get(&(fault, phase)).copied().unwrap_or(0)
    }

    /// The cells that can happen and were seen fewer times than this.
    pub fn thin(&self, least: u64) -> Vec<(Fault, Phase, u64)> {
        let cells = Fault::ALL.iter().flat_map(|fault| Phase::ALL.iter().map(|phase| (*fault, *phase)));
        cells
            .filter(|(fault, phase)| fault.strikes_in(*phase))
            .map(|(fault, phase)| (fault, phase, self.count(fault, phase)))
            .filter(|(_, _, count)| *count < least)
            .collect()
    }

    /// A table for people: faults down, phases across; `-` where it can't happen.
    pub fn table(&self) -> String {
        let mut table = format!("{:<34}", "");
        for phase in Phase::ALL {
            let _ = write!(table, "{:>12}", phase.name());
        }
        for fault in Fault::ALL {
            let _ = write!(table, "\n{:<34}", fault.name());
            for phase in Phase::ALL {
                let cell = if fault.strikes_in(*phase) {
                    self.count(*fault, *phase).to_string()
                } else {
                    "-".to_owned()
                };
                let _ = write!(table, "{cell:>12}");
            }
        }
        table
    }
}
