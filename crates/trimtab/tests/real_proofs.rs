//! The independent verifier (`verify.mjs`, in another language) and `trimtab ledger check` on good and on changed proofs:
//! both take the good ones, both refuse the changed ones. Needs node.

#![expect(clippy::disallowed_methods, reason = "a test of real programs starts processes")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

use attest::{Note, SigningKey, VerifierKey};
use camino::{Utf8Path, Utf8PathBuf};
use delivery::{Actor, Event, Timestamp};
use store::tiles::Tiles;
use store::{Access, Bundle, Checkpoint, Ledger};

/// More than a tile, and not full.
const RECORDS: u64 = 300;

struct Stage {
    folder: tempfile::TempDir,
    ledger: Ledger,
    key: SigningKey,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("ledger.db");
        let ledger = Ledger::open(&path, Access::ReadWrite).unwrap();
        let event = |number| Event::IncidentResolved { incident: format!("incident {number}") };
        let actor = Actor::Machine("test".into());
        ledger.append_blocking(&actor, Timestamp::UNIX_EPOCH, (0..RECORDS).map(event).collect()).unwrap();
        Self { folder, ledger, key: SigningKey::from_secret(&[7; 32]) }
    }

    fn path(&self) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.folder.path().to_owned()).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Utf8PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn checkpoint(&self) -> Checkpoint {
        self.ledger.checkpoint().unwrap().unwrap()
    }

    fn note(&self) -> String {
        let checkpoint = self.checkpoint();
        Note::sign(&checkpoint.text(), &checkpoint.origin, &self.key).unwrap().to_string()
    }

    fn verifier(&self) -> String {
        VerifierKey::new(&self.checkpoint().origin, self.key.public().clone()).unwrap().to_string()
    }

    fn bundle(&self, sequence: u64) -> String {
        let proof = self.ledger.prove_inclusion(sequence).unwrap();
        let record = self.ledger.bodies(sequence - 1, 1).unwrap().remove(0);
        Bundle { record, index: sequence - 1, hashes: proof.hashes, checkpoint: self.note() }.to_string()
    }

    /// Whether the program says that it is proven; it must say so by its exit code and not by falling over.
    fn says(&self, program: &mut Command) -> bool {
        let output = program.current_dir(&self.folder).output().unwrap();
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(!talk.contains("panicked"), "{talk}");
        match output.status.code() {
            Some(0) => true,
            Some(1 | 2) => false,
            code => panic!("{code:?}: {talk}"),
        }
    }

    fn node(&self, arguments: &[&str]) -> bool {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify.mjs");
        self.says(Command::new("node").arg(script).arg(self.verifier()).args(arguments))
    }

    /// What both verifiers say, which must be the same.
    fn both(&self, text: &[u8], what: &str) -> bool {
        let file = self.write("bundle", text);
        let ours = self.says(
            Command::new(env!("CARGO_BIN_EXE_trimtab"))
                .args(["ledger", "check", file.as_str(), "--key"])
                .arg(self.verifier()),
        );
        assert_eq!(self.node(&[file.as_str()]), ours, "{what}: node and trimtab disagree");
        ours
    }
}

/// SplitMix64.
fn draw(state: &mut u64, end: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) % end as u64) as usize
}

#[test]
fn proofs_of_every_kind_of_place_verify_in_both_languages() {
    let stage = Stage::new();
    for sequence in [1, 2, 128, 255, 256, 257, RECORDS - 1, RECORDS] {
        assert!(stage.both(stage.bundle(sequence).as_bytes(), "good"), "record {sequence}");
    }
    let checkpoint = stage.write("checkpoint", stage.note().as_bytes());
    assert!(stage.node(&[checkpoint.as_str()]));
}

#[test]
fn changed_proofs_are_refused_in_both_languages() {
    let stage = Stage::new();
    let (good, other) = (stage.bundle(200), stage.bundle(201));
    let mut random = 20_261_127;
    for round in 0..60 {
        let mut lines: Vec<&str> = good.split_inclusive('\n').collect();
        let others: Vec<&str> = other.split_inclusive('\n').collect();
        let (one, two) = (draw(&mut random, lines.len()), draw(&mut random, lines.len()));
        let changed = match round % 5 {
            0 => {
                let mut bytes = good.clone().into_bytes();
                let at = draw(&mut random, bytes.len());
                bytes[at] ^= 1 << draw(&mut random, 8);
                bytes
            }
            1 => {
                lines.remove(one);
                lines.concat().into_bytes()
            }
            2 => {
                lines.swap(one, two);
                lines.concat().into_bytes()
            }
            3 => good.as_bytes()[..draw(&mut random, good.len())].to_vec(),
            _ => {
                lines[one] = others[one.min(others.len() - 1)];
                lines.concat().into_bytes()
            }
        };
        if changed != good.as_bytes() && changed != other.as_bytes() {
            let what = format!("round {round}: {}", String::from_utf8_lossy(&changed));
            assert!(!stage.both(&changed, &what), "{what}");
        }
    }
}

#[test]
fn the_exported_log_is_read_by_the_independent_verifier() {
    let stage = Stage::new();
    let mut tiles = Tiles::new(|path: &str, bytes: &[u8]| -> Result<(), ()> {
        stage.write(&format!("site/{path}"), bytes);
        Ok(())
    });
    stage.ledger.bodies(0, 1_000).unwrap().iter().for_each(|body| tiles.push(body).unwrap());
    assert_eq!(tiles.finish().unwrap().root(), stage.checkpoint().root);
    let checkpoint = stage.write("site/checkpoint", stage.note().as_bytes());
    assert!(stage.node(&[checkpoint.as_str(), "site"]));
    let entries = stage.path().join("site/tile/entries/001.p/44");
    let mut bytes = std::fs::read(&entries).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&entries, bytes).unwrap();
    assert!(!stage.node(&[checkpoint.as_str(), "site"]));
}
