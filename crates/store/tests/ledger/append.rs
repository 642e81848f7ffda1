//! What an append promises while nothing fails.

use std::collections::HashSet;
use std::time::Duration;

use delivery::code::Code;
use delivery::evidence::{Evidence, Finding};
use delivery::{Digest, Event, RolloutId};
use proptest::prelude::*;
use store::{Access, BASIS_RECORDS_MAX, Basis, Committer, Entry, Error, Ledger, Place, merkle};

use crate::{Folder, actor, at, event, records};

fn judged(log_e_harm: f64) -> Event {
    Event::RolloutJudged {
        rollout: RolloutId::new("ro-00000000").unwrap(),
        step: 0,
        looked_at: at(0),
        sample: None,
        evidence: Evidence {
            finding: Finding::Continue,
            log_e_harm,
            log_e_safe: 0.0,
            signal: "errors".into(),
            ratio_low: None,
            ratio_high: Some(log_e_harm),
            canary_requests: 1,
            canary_errors: 0,
            stable_requests: u64::MAX,
            stable_errors: 0,
            slower: None,
            digest: Digest::of(b""),
        },
    }
}

#[test]
fn what_was_answered_is_what_is_read() {
    let folder = Folder::new();
    let ledger = folder.open();
    assert_eq!(ledger.head().unwrap().size, 0);
    assert_eq!(ledger.head().unwrap().root, merkle::empty_root());
    assert_eq!(ledger.head().unwrap().last_at, None);
    let mut answered = ledger.append_blocking(&actor(), at(5), vec![event("a"), event("b")]).unwrap();
    answered.extend(ledger.append_blocking(&actor(), at(6), vec![judged(0.1 + 0.2)]).unwrap());
    assert_eq!(records(&ledger), answered);
    assert_eq!(answered.iter().map(|record| record.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    let head = ledger.head().unwrap();
    assert_eq!((head.size, head.last_at), (3, Some(at(6))));
    drop(ledger);
    let again = folder.open_to_read();
    assert_eq!(records(&again), answered, "a replay gives the very same");
    assert_eq!(again.head().unwrap(), head);
    let found = again.verify().unwrap();
    assert!(found.is_sound() && found.unreadable_total == 0);
    assert_eq!((found.size, found.root), (3, head.root));
}

#[test]
fn reading_pages_in_order() {
    let folder = Folder::with_records(120);
    let ledger = folder.open();
    let mut after = 0;
    let mut seen = Vec::new();
    loop {
        let page = ledger.read(after, 7).unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 7);
        after = last.sequence();
        seen.extend(page.iter().map(Entry::sequence));
    }
    assert_eq!(seen, (1..=120).collect::<Vec<_>>());
    assert!(ledger.read(0, 0).unwrap().is_empty());
    assert!(ledger.read(u64::MAX, 5).unwrap().is_empty());
}

#[test]
fn time_never_goes_back_and_is_in_microseconds() {
    let folder = Folder::new();
    let ledger = folder.open();
    let fine = at(100).checked_add(jiff_nanoseconds(1_999)).unwrap();
    let first = ledger.append_blocking(&actor(), fine, vec![event("a")]).unwrap();
    assert_eq!(first[0].at, at(100).checked_add(jiff_nanoseconds(1_000)).unwrap());
    let second = ledger.append_blocking(&actor(), at(-3_600), vec![event("b")]).unwrap();
    assert_eq!(second[0].at, first[0].at, "the clock was set back an hour");
    let third = ledger.append_blocking(&actor(), at(200), vec![event("c")]).unwrap();
    assert_eq!(third[0].at, at(200));
    assert!(ledger.verify().unwrap().is_sound());
}

fn jiff_nanoseconds(n: u64) -> Duration {
    Duration::from_nanos(n)
}

#[test]
fn what_can_not_be_recorded_is_refused_and_nothing_is_written() {
    let folder = Folder::new();
    let ledger = folder.open();
    let refused = |events: Vec<Event>| ledger.append_blocking(&actor(), at(0), events).unwrap_err();
    let large = refused(vec![event("fits"), event(&"x".repeat(65_535))]);
    assert_eq!(large, Error::RecordTooLarge { kind: "incident.resolved" });
    assert_eq!(large.problem().code, Code::RecordTooLarge);
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(matches!(
            refused(vec![judged(number)]),
            Error::NotRepresentable { kind: "rollout.judged", .. }
        ));
    }
    let many = vec![event("x"); delivery::limits::BATCH_RECORDS_MAX + 1];
    assert!(matches!(refused(many), Error::BatchTooLarge { .. }));
    assert_eq!(ledger.append_blocking(&actor(), at(0), Vec::new()), Ok(Vec::new()));
    assert_eq!(ledger.head().unwrap().size, 0);
    let most = vec![event("x"); delivery::limits::BATCH_RECORDS_MAX];
    assert_eq!(ledger.append_blocking(&actor(), at(0), most).unwrap().len(), 512);
    let largest = event(&"x".repeat(65_000));
    assert!(ledger.append_blocking(&actor(), at(0), vec![largest]).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn finite_numbers_read_back_exactly(numbers in prop::collection::vec(
        prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO, 200)) {
        let folder = Folder::new();
        let ledger = folder.open();
        let events: Vec<_> = numbers.iter().map(|number| judged(*number)).collect();
        ledger.append_blocking(&actor(), at(0), events.clone()).unwrap();
        let read: Vec<_> = records(&ledger).into_iter().map(|record| record.event).collect();
        prop_assert_eq!(read, events);
    }
}

#[tokio::test]
async fn a_condition_that_no_longer_holds_refuses() {
    let folder = Folder::new();
    let ledger = folder.open();
    ledger.append_if(Basis::whole(0), &actor(), at(0), vec![event("a")]).await.unwrap();
    let late = ledger.append_if(Basis::whole(0), &actor(), at(0), vec![event("b")]).await;
    assert_eq!(late, Err(Error::Conflict { size: 1 }));
    assert_eq!(ledger.append_if(Basis::whole(1), &actor(), at(0), Vec::new()).await, Ok(Vec::new()));
    assert_eq!(
        ledger.append_if(Basis::whole(7), &actor(), at(0), Vec::new()).await,
        Err(Error::Conflict { size: 1 })
    );
    assert_eq!(ledger.head().unwrap().size, 1);
    let racers = (0..20).map(|_| {
        let ledger = ledger.clone();
        tokio::spawn(async move {
            ledger.append_if(Basis::whole(1), &actor(), at(0), vec![event("c"), event("d")]).await
        })
    });
    let mut winners = 0;
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            Ok(_) => winners += 1,
            Err(error) => assert_eq!(error, Error::Conflict { size: 3 }),
        }
    }
    assert_eq!(winners, 1);
    assert_eq!(ledger.head().unwrap().size, 3);
}

/// Appends what was decided after `seen` records, unless a record that `unsettles` it came since.
async fn decide(
    ledger: &Ledger,
    seen: u64,
    unsettles: fn(&Event) -> bool,
) -> Result<Vec<delivery::Recorded>, Error> {
    ledger.append_if(Basis::until(seen, unsettles), &actor(), at(0), vec![event("mine")]).await
}

#[tokio::test]
async fn what_does_not_concern_a_decision_does_not_disturb_it() {
    let (folder, judge) = (Folder::new(), actor());
    let ledger = folder.open();
    let verdicts = |event: &Event| matches!(event, Event::RolloutJudged { .. });
    ledger.append(&judge, at(0), vec![event("a"), event("b")]).await.unwrap();
    assert_eq!(decide(&ledger, 0, verdicts).await.unwrap()[0].sequence, 3);
    ledger.append(&judge, at(0), vec![judged(1.0), event("c")]).await.unwrap();
    assert_eq!(decide(&ledger, 3, verdicts).await, Err(Error::Conflict { size: 5 }));
    assert_eq!(decide(&ledger, 4, verdicts).await.unwrap()[0].sequence, 6);
    // Callers that share a commit see what those before them in it have added.
    let (noise, verdict, late) = tokio::join!(
        ledger.append(&judge, at(0), vec![event("d")]),
        ledger.append(&judge, at(0), vec![judged(2.0)]),
        decide(&ledger, 6, verdicts),
    );
    assert!(noise.is_ok() && verdict.is_ok());
    assert_eq!(late, Err(Error::Conflict { size: 8 }));
}

#[tokio::test]
async fn a_decision_from_long_ago_or_before_a_damaged_record_is_made_anew() {
    let folder = Folder::new();
    let ledger = folder.open();
    for _ in 0..BASIS_RECORDS_MAX / 512 {
        ledger.append(&actor(), at(0), (0..512).map(|_| event("noise")).collect()).await.unwrap();
    }
    let undisturbed = |_: &Event| false;
    assert!(decide(&ledger, 0, undisturbed).await.is_ok());
    assert_eq!(decide(&ledger, 0, undisturbed).await, Err(Error::Conflict { size: BASIS_RECORDS_MAX + 1 }));
    assert!(decide(&ledger, 1, undisturbed).await.is_ok());
    ledger.append(&actor(), at(0), vec![event("noise"), event("noise")]).await.unwrap();
    let size = ledger.head().unwrap().size;
    let connection = rusqlite::Connection::open(ledger.path()).unwrap();
    connection.execute("UPDATE record SET body = x'00' WHERE sequence = ?1", [size as i64 - 1]).unwrap();
    assert_eq!(decide(&ledger, size - 2, undisturbed).await, Err(Error::Conflict { size }));
    assert!(decide(&ledger, size - 1, undisturbed).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_share_commits_and_keep_their_events_together() {
    let folder = Folder::new();
    let ledger = folder.open();
    let callers: Vec<_> = (0..100)
        .map(|caller| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                let mut answered = Vec::new();
                for round in 0..5 {
                    let events = (0..3).map(|part| event(&format!("{caller} {round} {part}"))).collect();
                    answered.push(ledger.append(&actor(), at(0), events).await.unwrap());
                }
                answered
            })
        })
        .collect();
    let mut sequences = HashSet::new();
    for (caller, answers) in callers.into_iter().enumerate() {
        for (round, answer) in answers.await.unwrap().into_iter().enumerate() {
            for (part, record) in answer.iter().enumerate() {
                assert_eq!(record.sequence, answer[0].sequence + part as u64, "a batch is in one piece");
                assert_eq!(record.event, event(&format!("{caller} {round} {part}")));
                assert!(sequences.insert(record.sequence));
            }
        }
    }
    assert_eq!(sequences.len(), 1_500);
    assert_eq!(records(&ledger).len(), 1_500);
    assert!(ledger.verify().unwrap().is_sound());
}

#[tokio::test]
async fn waiting_ends_with_the_next_append_of_anybody() {
    let folder = Folder::with_records(3);
    let ledger = folder.open();
    assert_eq!(ledger.changed(0).await, Ok(3));
    let other = folder.open();
    for appender in [&ledger, &other] {
        let size = ledger.head().unwrap().size;
        let waiter = tokio::spawn({
            let ledger = ledger.clone();
            async move { ledger.changed(size).await }
        });
        tokio::time::sleep(Duration::from_millis(120)).await;
        assert!(!waiter.is_finished(), "nothing happened yet");
        appender.append(&actor(), at(0), vec![event("x")]).await.unwrap();
        let woken = tokio::time::timeout(Duration::from_secs(2), waiter).await.unwrap().unwrap();
        assert_eq!(woken, Ok(size + 1));
    }
    let reader = folder.open_to_read();
    assert_eq!(reader.changed(4).await, Ok(5));
}

#[test]
fn proofs_hold_and_bind_the_record() {
    let folder = Folder::with_records(75);
    let ledger = folder.open();
    let old = ledger.head().unwrap();
    ledger.append_blocking(&actor(), at(100), vec![event("later")]).unwrap();
    let head = ledger.head().unwrap();
    let bodies = folder.sqlite();
    for sequence in 1..=76 {
        let proof = ledger.prove_inclusion(sequence).unwrap();
        assert_eq!(proof.verify(), Ok(()));
        assert_eq!((proof.size, proof.root), (head.size, head.root));
        let body: Vec<u8> = bodies
            .query_row("SELECT body FROM record WHERE sequence = ?1", [sequence as i64], |row| row.get(0))
            .unwrap();
        assert_eq!(proof.leaf, merkle::leaf_hash(&body));
        assert_eq!(ledger.prove_consistency(sequence).unwrap().verify(), Ok(()));
    }
    let proof = ledger.prove_consistency(old.size).unwrap();
    assert_eq!((proof.from_root, proof.root), (old.root, head.root));
    for nothing in [0, 77, u64::MAX] {
        assert_eq!(ledger.prove_inclusion(nothing), Err(Error::NoSuchRecord { sequence: nothing }));
        assert_eq!(ledger.prove_consistency(nothing), Err(Error::NoSuchRecord { sequence: nothing }));
    }
}

#[test]
fn the_record_format_is_pinned() {
    let folder = Folder::new();
    let seed = Box::new(delivery::clock::CountingSeed::default());
    let place = Place::File(folder.file());
    let ledger = Ledger::open_seeded(&place, Access::ReadWrite, Committer::Caller, seed).unwrap();
    ledger
        .append_blocking(&delivery::Actor::Human("ana@example.org".into()), at(0), vec![event("i-1")])
        .unwrap();
    let body: Vec<u8> = folder.sqlite().query_row("SELECT body FROM record", [], |row| row.get(0)).unwrap();
    assert_eq!(
        String::from_utf8(body).unwrap(),
        r#"{"v":1,"sequence":1,"at":1780000000000000,"actor":{"kind":"human","name":"person-cb167a7f19054cbe05e9d53b72924da70adad6c0"},"event":{"kind":"incident.resolved","data":{"incident":"i-1"}}}"#
    );
    assert_eq!(
        Ledger::open(&folder.file(), Access::ReadOnly).unwrap().head().unwrap(),
        ledger.head().unwrap()
    );
}
