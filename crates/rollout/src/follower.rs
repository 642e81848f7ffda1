//! The ledger and the state that it adds up to, kept together.
//!
//! Invariant: `state` is the fold of the ledger's first `state.size` records; [`Follower::record`] appends only when
//! nothing came in between, so a decision is always recorded on the state that it was made from.

use delivery::{Actor, Event, Recorded, Timestamp};
use store::{Entry, Ledger};

use crate::state::State;

const READ_RECORDS: usize = 1_024;

/// A state that follows its ledger.
#[derive(Clone)]
pub struct Follower {
    ledger: Ledger,
    state: State,
}

impl Follower {
    /// Reads the whole ledger.
    pub fn open(ledger: Ledger) -> Result<Self, store::Error> {
        let mut follower = Self { ledger, state: State::default() };
        follower.catch_up()?;
        Ok(follower)
    }

    /// The state as of the last [`Self::catch_up`] or [`Self::record`].
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Folds in what was recorded since, and returns it.
    pub fn catch_up(&mut self) -> Result<Vec<Recorded>, store::Error> {
        let mut news = Vec::new();
        loop {
            let entries = self.ledger.read(self.state.size, READ_RECORDS)?;
            let last = entries.len() < READ_RECORDS;
            for entry in entries {
                match entry {
                    Entry::Record(recorded) => {
                        self.state.apply(&recorded);
                        news.push(recorded);
                    }
                    Entry::Quarantined { sequence, reason } => self.state.quarantine(sequence, reason),
                }
            }
            if last {
                return Ok(news);
            }
        }
    }

    /// Appends, if the ledger still is what the state says; [`store::Error::Conflict`] otherwise, and nothing is recorded.
    pub async fn record(
        &mut self,
        actor: &Actor,
        at: Timestamp,
        events: Vec<Event>,
    ) -> Result<Vec<Recorded>, store::Error> {
        let recorded = self.ledger.append_if(self.state.size, actor, at, events).await?;
        recorded.iter().for_each(|record| self.state.apply(record));
        Ok(recorded)
    }
}
