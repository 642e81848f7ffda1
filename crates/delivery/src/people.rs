//! Where people stand in a record, and what they are called there.
//!
//! A person is known by an e-mail address, in lower case. The ledger keeps the address apart from the record, so that it can
//! be erased while the record stays: in the record itself stands a pseudonym. This module knows every place where a person may stand;
//! who has which pseudonym is the store's business. Left out: what people write (reasons, comments, subjects of commits) is kept as
//! it is, and display names are not kept at all.
//!
//! Invariant: [`Recorded::people_mut`] visits every e-mail address that is recorded as somebody's identity.

use crate::change::{Commit, Person};
use crate::environment::Environment;
use crate::event::{Actor, Event, Recorded};
use crate::rollout::RollbackCause;

/// What begins a pseudonym.
const MARK: &str = "person-";
/// Hexadecimal digits behind it: 160 bits, so that nobody finds two addresses for one.
const DIGITS: usize = 40;

/// The pseudonym with this number.
pub fn pseudonym(number: [u8; DIGITS / 2]) -> String {
    format!("{MARK}{}", hex::encode(number))
}

/// Whether it is a pseudonym, and not an address.
pub fn is_pseudonym(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix(MARK).is_some_and(|tail| tail.len() == DIGITS && tail.bytes().all(hex))
}

/// What two spellings of one e-mail address have in common: the identity that rules compare.
pub fn identity(email: &str) -> String {
    email.trim().to_lowercase()
}

impl Recorded {
    /// Visits every person in the record, as [`Actor::people_mut`] and [`Event::people_mut`] do.
    pub fn people_mut(&mut self, visit: &mut dyn FnMut(&mut String)) {
        self.actor.people_mut(visit);
        self.event.people_mut(visit);
    }
}

impl Actor {
    /// Visits the person, if it is one.
    pub fn people_mut(&mut self, visit: &mut dyn FnMut(&mut String)) {
        match self {
            Self::Human(email) => visit(email),
            Self::Machine(_) => {}
        }
    }
}

impl Event {
    /// Visits every person in the event: an address, or a pseudonym.
    pub fn people_mut(&mut self, visit: &mut dyn FnMut(&mut String)) {
        match self {
            Self::ReleaseCreated { release } => {
                in_commit(&mut release.commit, visit);
                release.authors.iter_mut().for_each(|person| visit(&mut person.email));
            }
            Self::RolloutPlanned { plan } => in_environment(&mut plan.environment, visit),
            Self::RollbackRequested { cause: RollbackCause::Requested { by, .. }, .. } => {
                // Programs ask too, under names that are no addresses.
                if by.contains('@') || is_pseudonym(by) {
                    visit(by);
                }
            }
            Self::RollbackRequested { .. }
            | Self::RunStarted { .. }
            | Self::TaskFinished { .. }
            | Self::TestsFinished { .. }
            | Self::RunFinished { .. }
            | Self::GateJudged { .. }
            | Self::ArtifactPackaged { .. }
            | Self::KeyCreated { .. }
            | Self::ArtifactSigned { .. }
            | Self::ApprovalGranted { .. }
            | Self::RolloutAcquired { .. }
            | Self::EffectRequested { .. }
            | Self::EffectFinished { .. }
            | Self::RolloutJudged { .. }
            | Self::RolloutResumed { .. }
            | Self::RolloutFinished { .. }
            | Self::ServiceDeployed(_)
            | Self::ServiceUpgraded(_)
            | Self::ServiceRolledBack(_)
            | Self::IncidentDetected { .. }
            | Self::IncidentResolved { .. }
            | Self::PersonErased { .. }
            | Self::LedgerRestored { .. }
            | Self::Reported { .. } => {}
        }
    }

    /// The event as it is recorded: addresses are identities, and people have no other name.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        if let Self::ReleaseCreated { release } = &mut self {
            let commit = &mut release.commit;
            let people = [&mut commit.author, &mut commit.committer].into_iter();
            let people = people.chain(&mut commit.co_authors).chain(&mut release.authors);
            people.for_each(|person: &mut Person| person.name.clear());
        }
        self.people_mut(&mut |email| *email = identity(email));
        self
    }
}

impl Actor {
    /// The actor as it is recorded.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        self.people_mut(&mut |email| *email = identity(email));
        self
    }
}

fn in_commit(commit: &mut Commit, visit: &mut dyn FnMut(&mut String)) {
    visit(&mut commit.author.email);
    visit(&mut commit.committer.email);
    commit.co_authors.iter_mut().for_each(|person| visit(&mut person.email));
}

fn in_environment(environment: &mut Environment, visit: &mut dyn FnMut(&mut String)) {
    environment.approval.approvers.iter_mut().for_each(visit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonyms_are_told_from_addresses() {
        assert!(is_pseudonym(&pseudonym([0xa7; 20])));
        for text in ["person-", "person-a7", "ana@example.com", "", &pseudonym([0xa7; 20]).to_uppercase()] {
            assert!(!is_pseudonym(text), "{text}");
        }
        let number = pseudonym([9; 20]);
        assert_eq!(identity(&number), number);
    }

    #[test]
    fn two_spellings_are_one_person() {
        let actor = Actor::Human(" Ana@Example.com".into()).canonical();
        assert_eq!(actor, Actor::Human("ana@example.com".into()));
        let machine = Actor::Machine("Trimtab".into());
        assert_eq!(machine.clone().canonical(), machine);
    }
}
