//! The specification's own example, and every way in which a note may be wrong.

use proptest::prelude::*;

use super::*;

/// The example of c2sp.org/signed-note@v1.0.0.
const SPECIFIED_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const SPECIFIED_NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo \
    Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

fn key(n: u8) -> SigningKey {
    SigningKey::from_secret(&[n; 32])
}

fn verifier(n: u8) -> VerifierKey {
    VerifierKey::new("trimtab/log", key(n).public().clone()).unwrap()
}

fn note() -> Note {
    Note::sign("trimtab/log\n1\nroot\n", "trimtab/log", &key(1)).unwrap()
}

#[test]
fn the_specifications_example_verifies() {
    let key = VerifierKey::parse(SPECIFIED_KEY).unwrap();
    assert_eq!(key.to_string(), SPECIFIED_KEY);
    let note = Note::parse(SPECIFIED_NOTE).unwrap();
    assert_eq!(note.to_string(), SPECIFIED_NOTE);
    assert_eq!(note.open(std::slice::from_ref(&key)), Ok(("This is an example message.\n", &key)));
}

#[test]
fn what_was_signed_opens_with_its_key_only() {
    let read = Note::parse(&note().to_string()).unwrap();
    assert_eq!(read.open(&[verifier(2), verifier(1)]).unwrap().1, &verifier(1));
    let named = vec![verifier(1).short()];
    assert_eq!(read.open(&[verifier(2)]), Err(NoteError::Untrusted { named: named.clone() }));
    // The same key under another name is another key.
    let renamed = VerifierKey::new("trimtab/other", key(1).public().clone()).unwrap();
    assert_eq!(read.open(&[renamed]), Err(NoteError::Untrusted { named }));
}

#[test]
fn unknown_signatures_are_ignored_and_false_ones_are_not() {
    let mut two = note();
    two.signatures.insert(0, Signature { name: "witness.example/w".into(), bytes: vec![9; 76] });
    assert!(Note::parse(&two.to_string()).unwrap().open(&[verifier(1)]).is_ok());
    let mut forged = note();
    let mut bytes = forged.signatures[0].bytes.clone();
    bytes[10] ^= 1;
    forged.signatures.push(Signature { name: "trimtab/log".into(), bytes });
    assert_eq!(forged.open(&[verifier(1)]), Err(NoteError::Signature { key: verifier(1).short() }));
}

#[test]
fn malformed_notes_are_refused() {
    let wrong = [
        "",
        "\n",
        "text\n",
        "text\n\n",
        "text\n\n\u{2014} name\n",
        "text\n\n- name AAAAAAAA\n",
        "text\n\n\u{2014} name AAAAAAAA",
        "te\txt\n\n\u{2014} name AAAAAAAA\n",
        "text\n\n\u{2014} na+me AAAAAAAA\n",
        "text\n\n\u{2014} name AAAA\n",
        "text\r\n\r\n\u{2014} name AAAAAAAA\r\n",
    ];
    for text in wrong {
        assert!(matches!(Note::parse(text), Err(NoteError::Malformed(_))), "{text:?}");
    }
    assert!(Note::parse(&format!("{}\n\n\u{2014} name AAAAAAAA\n", "a".repeat(NOTE_BYTES_MAX))).is_err());
}

#[test]
fn what_could_pass_for_provenance_is_not_signed() {
    assert!(Note::sign("DSSEv1 2 ab 1 x\n", "trimtab/log", &key(1)).is_err());
    assert!(Note::sign("no newline", "trimtab/log", &key(1)).is_err());
    assert!(Note::sign("text\n", "a name", &key(1)).is_err());
}

#[test]
fn malformed_keys_are_refused() {
    let weak = format!("n+00000000+{}", STANDARD.encode([[1].as_slice(), &[0; 32]].concat()));
    let other_hash = SPECIFIED_KEY.replace("530d903a", "530d903b");
    let other_type = SPECIFIED_KEY.replace("+AekyeRr", "+AukyeRr");
    for text in [
        "",
        "name",
        "name+12",
        "name+12+!!",
        "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        &weak,
        &other_hash,
        &other_type,
    ] {
        assert!(matches!(VerifierKey::parse(text), Err(NoteError::Key(_))), "{text:?}");
    }
}

proptest! {
    #[test]
    fn no_changed_byte_passes(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let whole = note().to_string();
        let mut bytes = whole.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // A changed note is refused; never does it open with another text.
        let opened = String::from_utf8(bytes).ok().and_then(|text| Note::parse(&text).ok());
        prop_assert!(opened.is_none_or(|note| note.open(&[verifier(1)]).is_err()));
    }

    #[test]
    fn nonsense_never_panics(text in "\\PC{0,200}") {
        let _ = Note::parse(&text);
        let _ = VerifierKey::parse(&text);
    }
}
