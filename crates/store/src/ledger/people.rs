//! Who is behind the pseudonyms in the records.
//!
//! A pseudonym is SHA-256 over a salt and the e-mail address, cut to 160 bits. The salt is drawn for each person and kept
//! beside the address, outside of the tree. Erasing a person removes both; the pseudonym stays in the records, and nobody can
//! try addresses against it, because the salt is gone. So the root, the proofs and the fold stay what they were, different
//! people stay different, and who comes back later gets another pseudonym.
//!
//! Appending [`Event::PersonErased`] is the erasure: the row goes in the transaction that adds the record.
//!
//! Invariant: every pseudonym that was ever recorded has its row here, or a record that says that it was erased; a row that
//! was changed is the row of another pseudonym.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use delivery::people::{is_pseudonym, pseudonym};
use delivery::{Actor, Event, Recorded, Seed};
use sha2::{Digest as _, Sha256};

use super::database::{StoredPerson, Transaction, View};
use super::scan::{Scanned, scan};
use super::verify::Fault;
use crate::error::Error;

const SALT_BYTES: usize = 32;

/// Where salts come from.
pub(super) enum Salts {
    /// The operating system.
    System,
    /// A seed, so that the same appends give the same bytes.
    Seeded(Box<dyn Seed>),
}

impl Salts {
    fn draw(&mut self) -> Result<[u8; SALT_BYTES], Error> {
        let mut salt = [0; SALT_BYTES];
        match self {
            Self::Seeded(seed) => seed.fill(&mut salt),
            Self::System => fill(&mut salt)?,
        }
        Ok(salt)
    }
}

/// Not from a seed: nobody may guess a salt.
fn fill(salt: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(salt).map_err(|error| Error::Unavailable {
        path: "the operating system's randomness".into(),
        detail: error.to_string(),
    })
}

/// The pseudonym of the address with that salt.
pub(super) fn pseudonym_of(salt: &[u8], email: &str) -> String {
    let digest: [u8; 32] = Sha256::new().chain_update(salt).chain_update(email).finalize().into();
    let mut number = [0; 20];
    number.copy_from_slice(&digest[..20]);
    pseudonym(number)
}

/// A person, with what shows that the pseudonym is theirs: it is SHA-256 over salt and address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revealed {
    /// As it stands in the records.
    pub pseudonym: String,
    /// 32 random bytes.
    pub salt: Vec<u8>,
    /// The e-mail address.
    pub email: String,
}

/// The table, read.
#[derive(Default)]
pub(super) struct People {
    pseudonyms: HashMap<String, String>,
    persons: HashMap<String, StoredPerson>,
}

impl People {
    pub(super) fn read(view: &mut dyn View) -> Result<Self, Error> {
        let mut people = Self::default();
        view.people()?.into_iter().for_each(|person| drop(people.learn(person)));
        Ok(people)
    }

    fn learn(&mut self, person: StoredPerson) -> String {
        let pseudonym = pseudonym_of(&person.salt, &person.email);
        self.pseudonyms.insert(person.email.clone(), pseudonym.clone());
        self.persons.insert(pseudonym.clone(), person);
        pseudonym
    }

    /// The person's pseudonym.
    pub(super) fn pseudonym(&self, email: &str) -> Option<&str> {
        self.pseudonyms.get(email).map(String::as_str)
    }

    /// The person with that address or that pseudonym.
    pub(super) fn reveal(&self, name: &str) -> Option<Revealed> {
        let pseudonym = self.pseudonym(name).unwrap_or(name);
        let StoredPerson { salt, email } = self.persons.get(pseudonym)?.clone();
        Some(Revealed { pseudonym: pseudonym.to_owned(), salt, email })
    }

    fn show(&self, name: &mut String) {
        if let Some(person) = self.persons.get(name) {
            name.clone_from(&person.email);
        }
    }
}

/// Puts addresses in the places of the pseudonyms. Those that are not known stay: somebody was erased, or the table is
/// damaged, and then [`super::verify`] says so. A table that can't be read just now is an error, or whoever reads would take
/// everybody for erased.
pub(super) fn show<'a>(
    view: &mut dyn View,
    records: impl Iterator<Item = &'a mut Recorded>,
) -> Result<(), Error> {
    let mut people: Option<Result<People, Error>> = None;
    for record in records {
        record.people_mut(&mut |name| {
            if is_pseudonym(name)
                && let Ok(people) = people.get_or_insert_with(|| People::read(view))
            {
                people.show(name);
            }
        });
    }
    match people {
        None | Some(Ok(_) | Err(Error::Damaged { .. })) => Ok(()),
        Some(Err(error)) => Err(error),
    }
}

/// The people as one transaction sees them, read when the first one is met.
pub(super) struct Register<'a> {
    salts: &'a mut Salts,
    people: Option<People>,
    /// Whether somebody was erased.
    pub(super) erased: bool,
}

impl<'a> Register<'a> {
    pub(super) fn new(salts: &'a mut Salts) -> Self {
        Self { salts, people: None, erased: false }
    }

    /// Puts pseudonyms in the places of the addresses; who has none gets one.
    pub(super) fn hide(
        &mut self,
        transaction: &mut dyn Transaction,
        actor: &mut Actor,
        event: &mut Event,
    ) -> Result<(), Error> {
        let mut failed = None;
        let mut visit = |name: &mut String| {
            if failed.is_none() && is_address(name) {
                match self.pseudonym(transaction, name) {
                    Ok(pseudonym) => *name = pseudonym,
                    Err(error) => failed = Some(error),
                }
            }
        };
        actor.people_mut(&mut visit);
        event.people_mut(&mut visit);
        failed.map_or(Ok(()), Err)
    }

    fn people(&mut self, transaction: &mut dyn Transaction) -> Result<&mut People, Error> {
        let people = match self.people.take() {
            Some(people) => people,
            None => People::read(transaction)?,
        };
        Ok(self.people.insert(people))
    }

    fn pseudonym(&mut self, transaction: &mut dyn Transaction, email: &str) -> Result<String, Error> {
        if let Some(known) = self.people(transaction)?.pseudonym(email) {
            return Ok(known.to_owned());
        }
        let person = StoredPerson { salt: self.salts.draw()?.to_vec(), email: email.to_owned() };
        transaction.add_person(&person)?;
        Ok(self.people(transaction)?.learn(person))
    }

    /// Does what the event says, if it says that somebody is erased.
    pub(super) fn heed(&mut self, transaction: &mut dyn Transaction, event: &Event) -> Result<(), Error> {
        let Event::PersonErased { person } = event else { return Ok(()) };
        self.erased = true;
        let people = self.people(transaction)?;
        if let Some(stored) = people.persons.remove(person) {
            people.pseudonyms.remove(&stored.email);
            transaction.remove_person(&stored)?;
        }
        Ok(())
    }
}

fn is_address(name: &str) -> bool {
    !name.is_empty() && !is_pseudonym(name)
}

/// The actor and the event with a pseudonym for everybody, if there is anybody: how large a record may get.
pub(super) fn hidden(actor: &Actor, event: &Event) -> Option<(Actor, Event)> {
    let (mut actor, mut event) = (actor.clone(), event.clone());
    let mut found = false;
    let mut visit = |name: &mut String| {
        if is_address(name) {
            *name = pseudonym([0; 20]);
            found = true;
        }
    };
    actor.people_mut(&mut visit);
    event.people_mut(&mut visit);
    found.then_some((actor, event))
}

/// Who is named in the records, to be held against the table when all were seen.
#[derive(Default)]
pub(super) struct Census {
    /// Pseudonyms, with the record that names them first.
    named: BTreeMap<String, u64>,
    erased: BTreeMap<String, u64>,
}

impl Census {
    /// Who is named in the first `size` records, and whether all of them could be read.
    pub(super) fn of(view: &mut dyn View, size: u64) -> Result<(Self, bool), Error> {
        let (mut census, mut complete) = (Self::default(), true);
        scan(view, 0, Some(size), &mut |item| {
            match item {
                Scanned::Row(row) if row.sequence as u64 > size => return ControlFlow::Break(()),
                Scanned::Row(row) => match row.open() {
                    (_, Ok(recorded)) => census.note(recorded),
                    (_, Err(_)) => complete = false,
                },
                Scanned::Missing { .. } | Scanned::Unreadable { .. } => complete = false,
            }
            ControlFlow::Continue(())
        })?;
        Ok((census, complete))
    }

    /// Who was erased.
    pub(super) fn erased(self) -> BTreeSet<String> {
        self.erased.into_keys().collect()
    }

    /// Those of `gone` who are on record here, and whose erasure is not.
    pub(super) fn still(&self, view: &mut dyn View, gone: &BTreeSet<String>) -> Result<Vec<String>, Error> {
        let people = People::read(view)?;
        let here = |name: &&String| self.named.contains_key(*name) || people.persons.contains_key(*name);
        let still = gone.iter().filter(|name| !self.erased.contains_key(*name)).filter(here);
        Ok(still.cloned().collect())
    }

    /// The rows of those whom no record names.
    pub(super) fn strangers(&self, view: &mut dyn View) -> Result<Vec<StoredPerson>, Error> {
        let people = People::read(view)?.persons.into_iter();
        Ok(people.filter(|(name, _)| !self.named.contains_key(name)).map(|(_, person)| person).collect())
    }

    /// Takes note of a record's people.
    pub(super) fn note(&mut self, mut recorded: Recorded) {
        if let Event::PersonErased { person } = &recorded.event {
            self.erased.insert(person.clone(), recorded.sequence);
        }
        let sequence = recorded.sequence;
        recorded.people_mut(&mut |name| {
            if is_pseudonym(name) {
                self.named.entry(std::mem::take(name)).or_insert(sequence);
            }
        });
    }

    /// What is wrong with the table: record, and what. `complete` says whether every record could be read.
    pub(super) fn compare(self, view: &mut dyn View, complete: bool) -> Vec<(u64, Fault)> {
        let people = match People::read(view) {
            Ok(people) => people,
            Err(error) => return vec![(0, Fault::Database(format!("the people: {error}")))],
        };
        let mut faults = Vec::new();
        for (name, sequence) in &self.named {
            match (people.persons.contains_key(name), self.erased.contains_key(name)) {
                (true, false) | (false, true) => {}
                (false, false) => faults.push((*sequence, Fault::Person(name.clone()))),
                (true, true) => faults.push((self.erased[name], Fault::PersonBack(name.clone()))),
            }
        }
        let strangers = people.persons.keys().filter(|name| !self.named.contains_key(*name)).count();
        if complete && strangers > 0 {
            faults.push((0, Fault::Head(format!("{strangers} people are kept whom no record names"))));
        }
        if people.pseudonyms.len() < people.persons.len() {
            faults.push((0, Fault::Head("somebody is kept under two pseudonyms".to_owned())));
        }
        faults.sort_by_key(|(sequence, _)| *sequence);
        faults
    }
}
