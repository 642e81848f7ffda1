//! Checkpoints that somebody kept, held against the ledger: what verification alone can't find.

use rusqlite::params;
use store::merkle::{Frontier, Hash, leaf_hash};
use store::{Bundle, Checkpoint, Ledger, Standing};

use crate::{Folder, actor, at, event};

/// Rewrites everything as a forger with the file in hand can: the bodies from there on changed by `change`, `drop_last`
/// records cut off, and every hash, the tree and the head made anew, the witness taken away.
pub(crate) fn forge(folder: &Folder, change: impl Fn(u64, String) -> String, drop_last: u64) {
    let connection = folder.sqlite();
    let mut statement = connection.prepare("SELECT body FROM record ORDER BY sequence").unwrap();
    let bodies: Vec<Vec<u8>> =
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let size = bodies.len() as u64 - drop_last;
    let mut frontier = Frontier::default();
    for (sequence, body) in (1..=size).zip(bodies) {
        let body = change(sequence, String::from_utf8(body).unwrap());
        let leaf = leaf_hash(body.as_bytes());
        let values = params![body.as_bytes(), leaf, sequence as i64];
        connection.execute("UPDATE record SET body = ?1, leaf = ?2 WHERE sequence = ?3", values).unwrap();
        frontier.push(leaf);
    }
    connection.execute("DELETE FROM record WHERE sequence > ?1", [size as i64]).unwrap();
    let head = "UPDATE head SET size = ?1, root = ?2, frontier = ?3, last_at = (SELECT max(at) FROM record)";
    connection.execute(head, params![size as i64, frontier.root(), frontier.peaks().concat()]).unwrap();
    // Who has the ledger in hand has what lies beside it too: what was seen here last.
    std::fs::remove_file(format!("{}.seen", folder.file())).unwrap();
}

fn changed_from(first: u64) -> impl Fn(u64, String) -> String {
    move |sequence, body| if sequence >= first { body.replace("incident ", "Incident ") } else { body }
}

fn checkpoint(folder: &Folder) -> Checkpoint {
    folder.open_to_read().checkpoint().unwrap().unwrap()
}

/// How a sound ledger stands to the checkpoint.
fn standing(folder: &Folder, kept: &Checkpoint) -> Standing {
    let ledger = folder.open_to_read();
    assert!(ledger.verify().unwrap().is_sound(), "the forger did it well");
    ledger.standing(kept).unwrap()
}

#[test]
fn a_ledger_continues_every_checkpoint_that_it_ever_had() {
    let folder = Folder::new();
    let ledger = folder.open();
    assert_eq!(ledger.checkpoint().unwrap(), None);
    let mut kept = Vec::new();
    for number in 1..=40 {
        ledger.append_blocking(&actor(), at(number), vec![event("a")]).unwrap();
        kept.push(ledger.checkpoint().unwrap().unwrap());
        for checkpoint in &kept {
            let standing = ledger.standing(checkpoint).unwrap();
            let Standing::Continues(proof) = standing else { panic!("{standing:?}") };
            assert_eq!((proof.from_root, proof.size), (checkpoint.root, number as u64));
        }
    }
}

#[test]
fn a_restored_older_copy_is_shorter() {
    let folder = Folder::with_records(60);
    let kept = checkpoint(&folder);
    forge(&folder, changed_from(100), 7);
    assert_eq!(standing(&folder, &kept), Standing::Shorter { size: 53 });
}

#[test]
fn rewritten_history_is_found_wherever_it_begins() {
    for first in [2, 17, 60] {
        let folder = Folder::with_records(60);
        let kept = checkpoint(&folder);
        forge(&folder, changed_from(first), 0);
        assert!(matches!(standing(&folder, &kept), Standing::Forked { .. }), "from {first}");
        folder.open().append_blocking(&actor(), at(100), vec![event("more")]).unwrap();
        assert!(matches!(standing(&folder, &kept), Standing::Rewritten { .. }), "from {first}");
    }
}

#[test]
fn another_beginning_is_another_ledger() {
    let folder = Folder::with_records(20);
    let kept = checkpoint(&folder);
    forge(&folder, changed_from(1), 0);
    let here = checkpoint(&folder).origin;
    assert_eq!(standing(&folder, &kept), Standing::Other { origin: here });
}

#[test]
fn a_cut_off_end_that_was_grown_again_is_found() {
    let folder = Folder::with_records(60);
    let kept = checkpoint(&folder);
    forge(&folder, changed_from(100), 7);
    let ledger = folder.open();
    (0..7).for_each(|n| drop(ledger.append_blocking(&actor(), at(90 + n), vec![event("again")]).unwrap()));
    assert!(matches!(standing(&folder, &kept), Standing::Forked { .. }));
    let never = Checkpoint { size: 0, root: [0; 32], ..kept };
    assert!(matches!(standing(&folder, &never), Standing::Rewritten { .. }));
}

fn bundle(ledger: &Ledger, sequence: u64) -> (Bundle, Checkpoint) {
    let proof = ledger.prove_inclusion(sequence).unwrap();
    let checkpoint =
        Checkpoint { size: proof.size, root: proof.root, ..ledger.checkpoint().unwrap().unwrap() };
    let record = ledger.bodies(sequence - 1, 1).unwrap().remove(0);
    let index = sequence - 1;
    (Bundle { record, index, hashes: proof.hashes, checkpoint: checkpoint.text() }, checkpoint)
}

#[test]
fn every_record_can_be_proven() {
    let folder = Folder::with_records(70);
    let ledger = folder.open_to_read();
    for sequence in 1..=70 {
        let (bundle, checkpoint) = bundle(&ledger, sequence);
        assert_eq!(Bundle::parse(&bundle.to_string()).unwrap().holds(&checkpoint), Ok(()));
        let elsewhere = Bundle { index: bundle.index ^ 1, ..bundle };
        assert!(elsewhere.holds(&checkpoint).is_err());
    }
}

#[test]
fn bodies_are_those_of_the_tree_and_damage_is_said() {
    let folder = Folder::with_records(30);
    let ledger = folder.open_to_read();
    let leaves: Vec<Hash> = ledger.bodies(0, 100).unwrap().iter().map(|body| leaf_hash(body)).collect();
    assert_eq!(store::merkle::root(&leaves), ledger.head().unwrap().root);
    assert_eq!(ledger.bodies(25, 3).unwrap().len(), 3);
    assert_eq!(ledger.bodies(30, 3).unwrap().len(), 0);
    folder.sqlite().execute_batch("DELETE FROM record WHERE sequence = 9").unwrap();
    assert_eq!(ledger.bodies(0, 8).unwrap().len(), 8);
    assert!(ledger.bodies(0, 9).is_err());
}
