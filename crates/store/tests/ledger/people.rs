//! People: their addresses are kept apart from the records, and can be erased without touching one.

use delivery::change::{Commit, Person};
use delivery::clock::CountingSeed;
use delivery::environment::{ApprovalRule, Environment};
use delivery::people::is_pseudonym;
use delivery::release::Release;
use delivery::rollout::{RollbackCause, RolloutPlan};
use delivery::strategy::{AnalysisPolicy, OnExpiry, OnInconclusive, Sticky, Strategy, StrategyKind};
use delivery::{
    Actor, CommitId, Digest, EnvironmentName, Event, ReleaseId, RevisionId, RolloutId, RunId, ServiceName,
};
use store::{Access, Committer, Fault, Ledger, Place, Standing};

use crate::{Folder, Random, at, event, records};

fn human(email: &str) -> Actor {
    Actor::Human(email.into())
}

fn person(email: &str) -> Person {
    Person { name: format!("Name of {email}"), email: email.into() }
}

fn release() -> Event {
    let commit = Commit {
        id: CommitId::new("0123456789012345678901234567890123456789").unwrap(),
        author: person("author@example.com"),
        committer: person("committer@example.com"),
        co_authors: vec![person("co@example.com"), person("author@example.com")],
        authored_at: at(0),
        committed_at: at(0),
        subject: "feat: begin".into(),
    };
    let release = Release {
        id: ReleaseId::new("rel-00000001").unwrap(),
        version: "1.0.0".into(),
        commit,
        artifact: delivery::artifact::Artifact {
            service: ServiceName::new("web").unwrap(),
            digest: Digest::of(b"artifact"),
            files: 1,
            bytes: 1,
        },
        authors: vec![person("other@example.com")],
        changelog: Vec::new(),
        run: RunId::new("run-00000001").unwrap(),
        provenance: Digest::of(b"provenance"),
    };
    Event::ReleaseCreated { release: Box::new(release) }
}

fn strategy() -> Strategy {
    Strategy {
        kind: StrategyKind::Direct,
        steps: Vec::new(),
        analysis: AnalysisPolicy::default(),
        on_inconclusive: OnInconclusive::Rollback,
        on_expiry: OnExpiry::Rollback,
        grant_ttl_ms: 1,
        sticky: Sticky::None,
        drain_ms: 1,
    }
}

fn plan() -> Event {
    let environment = Environment {
        name: EnvironmentName::new("production").unwrap(),
        listen: "127.0.0.1:0".into(),
        strategy: strategy(),
        gates: Vec::new(),
        approval: ApprovalRule { required: 1, approvers: vec!["approver@example.com".into()] },
        freezes: Vec::new(),
        kpis: Vec::new(),
        rollback_objective_ms: 1,
    };
    let revision = delivery::effect::RevisionSpec {
        id: RevisionId::new("rev-00000001").unwrap(),
        service: ServiceName::new("web").unwrap(),
        digest: Digest::of(b"artifact"),
        directory: "revisions".into(),
        command: vec!["node".into()],
        environment: std::collections::BTreeMap::new(),
        pass: Vec::new(),
        ready: delivery::effect::Readiness { path: None, within_ms: 1 },
        instances: 1,
        stop_ms: 1,
    };
    let plan = RolloutPlan {
        id: RolloutId::new("ro-00000001").unwrap(),
        parent: None,
        release: ReleaseId::new("rel-00000001").unwrap(),
        version: "1.0.0".into(),
        revision,
        stable: None,
        reverts: None,
        environment,
        policy: Digest::of(b"policy"),
    };
    Event::RolloutPlanned { plan: Box::new(plan) }
}

fn rollback(by: &str) -> Event {
    let cause = RollbackCause::Requested { by: by.into(), reason: "odd".into() };
    Event::RollbackRequested { rollout: RolloutId::new("ro-00000001").unwrap(), cause }
}

fn bodies(ledger: &Ledger) -> String {
    let bodies = ledger.bodies(0, 10_000).unwrap();
    bodies.into_iter().map(|body| String::from_utf8(body).unwrap() + "\n").collect()
}

fn erase(ledger: &Ledger, email: &str) -> String {
    let person = ledger.person(email).unwrap().unwrap().pseudonym;
    let erased = Event::PersonErased { person: person.clone() };
    ledger.append_blocking(&Actor::Machine("test".into()), at(900), vec![erased]).unwrap();
    person
}

/// Every file of the ledger, one after the other; each byte a character.
fn everything(folder: &Folder) -> String {
    let files = std::fs::read_dir(folder.path()).unwrap();
    files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).map(char::from).collect()
}

#[test]
fn no_address_and_no_name_is_in_any_record() {
    let folder = Folder::new();
    let ledger = folder.open();
    let events = vec![release(), plan(), rollback("asker@example.com"), rollback("trimtab")];
    let given = ledger.append_blocking(&human("Ana@Example.com"), at(1), events.clone()).unwrap();
    let text = bodies(&ledger);
    assert!(!text.contains('@') && !text.contains("Name of"), "{text}");
    assert!(text.contains("\"by\":\"trimtab\""), "what is no address stays: {text}");
    // What is read is what was given: identities in lower case, and nobody has a display name.
    assert_eq!(records(&ledger), given);
    assert_eq!(given[0].actor, human("ana@example.com"));
    let canonical: Vec<Event> = events.into_iter().map(Event::canonical).collect();
    assert_eq!(given.into_iter().map(|recorded| recorded.event).collect::<Vec<_>>(), canonical);
    assert!(ledger.verify().unwrap().is_sound());
}

#[test]
fn erasing_a_person_changes_no_record() {
    let folder = Folder::new();
    let ledger = folder.open();
    ledger.append_blocking(&human("ana@example.com"), at(1), vec![release(), event("a")]).unwrap();
    ledger.append_blocking(&human("author@example.com"), at(2), vec![event("b")]).unwrap();
    let (kept, proof) = (ledger.checkpoint().unwrap().unwrap(), ledger.prove_inclusion(1).unwrap());
    let before = bodies(&ledger);
    let name = erase(&ledger, "Author@example.com");
    assert!(bodies(&ledger).starts_with(&before));
    assert!(matches!(ledger.standing(&kept).unwrap(), Standing::Continues(_)));
    assert_eq!(proof.verify(), Ok(()));
    assert!(ledger.verify().unwrap().is_sound());
    let read = records(&ledger);
    assert_eq!(read[2].actor, human(&name), "the same person, without an address");
    let Event::ReleaseCreated { release } = &read[0].event else { panic!() };
    assert_eq!((&release.commit.author.email, &release.commit.co_authors[1].email), (&name, &name));
    assert_eq!(release.commit.committer.email, "committer@example.com", "others stay");
    assert_eq!(ledger.person("author@example.com").unwrap(), None);
    // Who comes back is somebody new, and what was erased stays erased.
    ledger.append_blocking(&human("author@example.com"), at(901), vec![event("c")]).unwrap();
    let again = ledger.person("author@example.com").unwrap().unwrap().pseudonym;
    assert!(is_pseudonym(&again) && again != name);
    assert_eq!(records(&ledger)[2].actor, human(&name));
    assert!(ledger.verify().unwrap().is_sound());
}

#[test]
fn erased_addresses_are_gone_from_every_byte_of_the_files() {
    let folder = Folder::new();
    let ledger = folder.open();
    let mut random = Random(4);
    let mut present = Vec::new();
    let mut erased = Vec::new();
    for round in 0..300_u64 {
        // Addresses of all lengths, so that pages are split and filled in every way.
        let email = format!("a{round}.{}@example.com", "x".repeat(random.below(120) as usize));
        ledger.append_blocking(&human(&email), at(1), vec![event("a")]).unwrap();
        present.push(email);
        if random.below(3) == 0 {
            let email = present.swap_remove(random.below(present.len() as u64) as usize);
            erase(&ledger, &email);
            erased.push(email);
        }
        if round % 60 == 59 {
            // While it is open, right after an erasure, the log has been emptied too.
            let email = present.swap_remove(0);
            erase(&ledger, &email);
            erased.push(email);
            let text = everything(&folder);
            let left: Vec<&String> = erased.iter().filter(|email| text.contains(*email)).collect();
            assert!(left.is_empty(), "round {round}: {left:?}");
            assert!(present.iter().all(|email| text.contains(email)), "the search finds who is there");
        }
    }
    assert!(erased.len() > 80);
    assert!(ledger.verify().unwrap().is_sound());
}

/// A statement, the record at which it is found, and as what.
type Tampering = (&'static str, u64, fn(&Fault) -> bool);

#[test]
fn whoever_changes_the_people_is_found_out() {
    let changes: [Tampering; 7] = [
        ("UPDATE person SET email = 'eve@example.com' WHERE email = 'ana@example.com'", 1, |fault| {
            matches!(fault, Fault::Person(_))
        }),
        ("UPDATE person SET salt = zeroblob(32) WHERE email = 'ana@example.com'", 1, |fault| {
            matches!(fault, Fault::Person(_))
        }),
        ("DELETE FROM person WHERE email = 'bob@example.com'", 2, |fault| matches!(fault, Fault::Person(_))),
        ("DROP TABLE person", 1, |fault| matches!(fault, Fault::Person(_))),
        ("INSERT INTO person SELECT randomblob(32), 'eve@example.com'", 0, |fault| {
            matches!(fault, Fault::Head(_))
        }),
        (
            "INSERT INTO person SELECT randomblob(32), email FROM person WHERE email = 'bob@example.com'",
            0,
            |fault| matches!(fault, Fault::Head(_)),
        ),
        ("INSERT INTO person SELECT salt, email FROM gone", 4, |fault| matches!(fault, Fault::PersonBack(_))),
    ];
    for (change, sequence, expected) in changes {
        let folder = Folder::new();
        let ledger = folder.open();
        for name in ["ana", "bob", "cyd"] {
            let actor = human(&format!("{name}@example.com"));
            ledger.append_blocking(&actor, at(1), vec![event("a")]).unwrap();
        }
        folder
            .sqlite()
            .execute_batch("CREATE TABLE gone AS SELECT * FROM person WHERE email = 'cyd@example.com'")
            .unwrap();
        erase(&ledger, "cyd@example.com");
        assert!(ledger.verify().unwrap().is_sound());
        folder.sqlite().execute_batch(change).unwrap();
        let damages = ledger.verify().unwrap().damages;
        assert!(
            damages.iter().any(|damage| damage.sequence == sequence && expected(&damage.fault)),
            "{change}: {damages:?}"
        );
        assert_eq!(records(&ledger).len(), 4, "{change}: it is read all the same");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_does_not() {
    let root = |seed: fn() -> Box<dyn delivery::Seed>| {
        let folder = Folder::new();
        let place = Place::File(folder.file());
        let ledger = Ledger::open_seeded(&place, Access::ReadWrite, Committer::Caller, seed()).unwrap();
        ledger.append_blocking(&human("ana@example.com"), at(1), vec![release()]).unwrap();
        ledger.head().unwrap().root
    };
    let counting = || -> Box<dyn delivery::Seed> { Box::new(CountingSeed::default()) };
    assert_eq!(root(counting), root(counting));
    let system = || {
        let folder = Folder::new();
        let ledger = folder.open();
        ledger.append_blocking(&human("ana@example.com"), at(1), vec![release()]).unwrap();
        ledger.head().unwrap().root
    };
    assert_ne!(system(), system());
}

#[test]
fn a_ledger_from_before_there_were_pseudonyms_is_read_and_goes_on() {
    let folder = Folder::with_records(3);
    // As the first schema left it.
    folder.sqlite().execute_batch("DROP TABLE person; PRAGMA user_version = 1").unwrap();
    assert_eq!(records(&folder.open_to_read()).len(), 3);
    assert!(folder.open_to_read().verify().unwrap().is_sound());
    let ledger = folder.open();
    ledger.append_blocking(&human("ana@example.com"), at(100), vec![event("a")]).unwrap();
    assert_eq!(records(&ledger)[3].actor, human("ana@example.com"));
    assert!(ledger.verify().unwrap().is_sound());
}
