//! The ledger and the state that it adds up to, kept together.
//!
//! When a person is erased the state is folded anew: what was read before still has the address.
//!
//! Invariant: `state` is the fold of the ledger's first `state.size` records; [`Follower::record`] appends only when
//! nothing came in between that the decision depends on, so what is recorded always follows from what was recorded before.

use delivery::seeded::{self, Bug};
use delivery::{Actor, Event, Recorded, Timestamp};
use store::{Basis, Entry, Ledger};

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
        // Nobody asks for what is folded in: the ledger may hold more than fits into memory.
        follower.advance(drop)?;
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
        let before = self.state.size;
        let news = self.fold_on()?;
        let erased = |recorded: &Recorded| matches!(recorded.event, Event::PersonErased { .. });
        if before > 0 && news.iter().any(erased) {
            self.state = State::default();
            self.fold_on()?;
        }
        Ok(news)
    }

    fn fold_on(&mut self) -> Result<Vec<Recorded>, store::Error> {
        let mut news = Vec::new();
        self.advance(|recorded| news.push(recorded))?;
        Ok(news)
    }

    fn advance(&mut self, mut tell: impl FnMut(Recorded)) -> Result<(), store::Error> {
        loop {
            let entries = self.ledger.read(self.state.size, READ_RECORDS)?;
            let last = entries.len() < READ_RECORDS;
            for entry in entries {
                match entry {
                    Entry::Record(recorded)
                        if seeded::is(Bug::LiveStateLags) && recorded.sequence.is_multiple_of(5) =>
                    {
                        self.state.size = recorded.sequence;
                        tell(recorded);
                    }
                    Entry::Record(recorded) => {
                        self.state.apply(&recorded);
                        tell(recorded);
                    }
                    Entry::Quarantined { sequence, reason } => self.state.quarantine(sequence, reason),
                }
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Appends what was decided on the state, unless something that `unsettles` the decision was recorded meanwhile:
    /// [`store::Error::Conflict`] then, and nothing is recorded. Returns what [`Self::catch_up`] does, which ends with the
    /// new records or with what others have added behind them.
    pub async fn record(
        &mut self,
        actor: &Actor,
        at: Timestamp,
        events: Vec<Event>,
        unsettles: impl Fn(&Event) -> bool + Send + 'static,
    ) -> Result<Vec<Recorded>, store::Error> {
        let basis = Basis::until(self.state.size, unsettles);
        self.ledger.append_if(basis, actor, at, events).await?;
        self.catch_up()
    }
}
