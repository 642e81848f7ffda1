//! Signed notes (c2sp.org/signed-note@v1.0.0): text with one or more signatures below it, readable by people and programs.
//!
//! Only Ed25519 (type `0x01`) is made and verified; signatures of other types and of unknown keys are ignored, as the
//! specification asks. The key that signs provenance signs notes too: a DSSE signature covers bytes that begin with
//! `DSSEv1 `, and a note's first line never does, because [`Note::sign`] refuses a text that begins so.
//!
//! Invariant: nobody sees a [`Note`]'s text as trusted but through [`Note::open`], which has verified a signature over it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use delivery::Problem;
use delivery::code::Code;
use sha2::{Digest, Sha256};

use crate::key::{PublicKey, SigningKey};
use crate::limits::NOTE_BYTES_MAX;

/// Ed25519 as the specification numbers it.
const ED25519: u8 = 0x01;
/// What begins a signature line: an em dash and a space.
const SIGNATURE_MARK: &str = "\u{2014} ";
/// What every DSSE signature's bytes begin with.
const DSSE_MARK: &str = "DSSEv1 ";

/// Why a note is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a signed note.
    #[error("it is not a signed note: {0}")]
    Malformed(&'static str),
    /// Not a verifier key.
    #[error("{0:?} is not a verifier key (NAME+HASH+KEY)")]
    Key(String),
    /// None of the trusted keys signed it.
    #[error("none of the trusted keys signed it; it names {}", if .named.is_empty() { "no Ed25519 key".to_owned() } else { .named.join(", ") })]
    Untrusted {
        /// The keys that its signature lines name, as `NAME+HASH`.
        named: Vec<String>,
    },
    /// A trusted key's signature is over another text.
    #[error("the signature of {key} is not over this text")]
    Signature {
        /// The key, as `NAME+HASH`.
        key: String,
    },
}

impl NoteError {
    /// As a person is told it. `what` is what was read: `the checkpoint`, `the bundle`.
    pub fn problem(&self, what: &str) -> Problem {
        let (code, hint) = match self {
            Self::Malformed(_) => {
                (Code::CheckpointUnreadable, "take the file as 'trimtab ledger checkpoint' wrote it")
            }
            Self::Key(_) => {
                (Code::CheckpointUnreadable, "'trimtab ledger key' prints the ledger's keys in this form")
            }
            Self::Untrusted { .. } => (
                Code::CheckpointUntrusted,
                "give the key of the ledger that it is of, as 'trimtab ledger key' prints it there",
            ),
            Self::Signature { .. } => {
                (Code::CheckpointUntrusted, "it was changed after it was signed: trust nothing in it")
            }
        };
        Problem::new(code, format!("{what} can't be trusted: {self}")).hint(hint)
    }
}

/// A public key under the name by which it signs notes: a `vkey`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: PublicKey,
}

impl VerifierKey {
    /// The key under this name, which must not be empty, and hold neither spaces nor `+`.
    pub fn new(name: &str, key: PublicKey) -> Result<Self, NoteError> {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '+' || c.is_control()) {
            return Err(NoteError::Malformed("the key's name is empty, or holds a space or a plus"));
        }
        Ok(Self { name: name.to_owned(), key })
    }

    /// From `NAME+HASH+KEY`.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let wrong = || NoteError::Key(text.chars().take(200).collect());
        let (name, rest) = text.split_once('+').ok_or_else(wrong)?;
        let (hash, material) = rest.split_once('+').ok_or_else(wrong)?;
        let material = STANDARD.decode(material).map_err(|_| wrong())?;
        let bytes: &[u8; 32] =
            material.strip_prefix(&[ED25519]).and_then(|bytes| bytes.try_into().ok()).ok_or_else(wrong)?;
        let key = PublicKey::from_bytes(bytes).map_err(|_| wrong())?;
        let key = Self::new(name, key).map_err(|_| wrong())?;
        if hex::encode(key.hash()) == hash { Ok(key) } else { Err(wrong()) }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The key id of the specification: the first four bytes of SHA-256 over name, newline, type and key.
    pub fn hash(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519])
            .chain_update(self.key.as_bytes())
            .finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }

    /// `NAME+HASH`: enough to tell it from others.
    pub fn short(&self) -> String {
        short(&self.name, &self.hash())
    }
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let material = [&[ED25519], &self.key.as_bytes()[..]].concat();
        write!(f, "{}+{}", self.short(), STANDARD.encode(material))
    }
}

fn short(name: &str, hash: &[u8]) -> String {
    format!("{name}+{}", hex::encode(hash))
}

/// A note as it was read, not yet trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    name: String,
    /// The key's hash, then the signature.
    bytes: Vec<u8>,
}

impl Note {
    /// Signs the text, which ends with a newline, under the name.
    pub fn sign(text: &str, name: &str, key: &SigningKey) -> Result<Self, NoteError> {
        if !text.ends_with('\n') || text.starts_with(DSSE_MARK) || has_control(text) {
            return Err(NoteError::Malformed("its text can't be signed"));
        }
        let public = VerifierKey::new(name, key.public().clone())?;
        let bytes = [&public.hash()[..], &key.sign(text.as_bytes())[..]].concat();
        Ok(Self { text: text.to_owned(), signatures: vec![Signature { name: name.to_owned(), bytes }] })
    }

    /// Reads a note.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Malformed("it is too large"));
        }
        if has_control(note) {
            return Err(NoteError::Malformed("it holds a control character"));
        }
        // The last empty line parts text and signatures.
        let at =
            note.rfind("\n\n").ok_or(NoteError::Malformed("it has no empty line before the signatures"))?;
        let (text, below) = (&note[..=at], &note[at + 2..]);
        let below = below.strip_suffix('\n').ok_or(NoteError::Malformed("its last line does not end"))?;
        let signatures = below.split('\n').map(signature).collect::<Option<Vec<_>>>();
        let signatures =
            signatures.ok_or(NoteError::Malformed("a signature line is not of the form — NAME BASE64"))?;
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The text and the key that signed it: the first of the trusted keys with a signature here. Refused when any signature
    /// that claims to be by a trusted key is not.
    pub fn open<'a>(&self, trusted: &'a [VerifierKey]) -> Result<(&str, &'a VerifierKey), NoteError> {
        let mut by = None;
        for signature in &self.signatures {
            let known = trusted
                .iter()
                .find(|key| key.name == signature.name && signature.bytes.starts_with(&key.hash()));
            let Some(key) = known else { continue };
            let bytes: Option<&[u8; 64]> = signature.bytes.get(4..).and_then(|bytes| bytes.try_into().ok());
            if !bytes.is_some_and(|bytes| key.key.verifies(self.text.as_bytes(), bytes)) {
                return Err(NoteError::Signature { key: key.short() });
            }
            by = by.or(Some(key));
        }
        by.map(|key| (self.text.as_str(), key)).ok_or_else(|| NoteError::Untrusted { named: self.named() })
    }

    fn named(&self) -> Vec<String> {
        let ed25519 = self.signatures.iter().filter(|signature| signature.bytes.len() == 4 + 64);
        ed25519.map(|signature| short(&signature.name, &signature.bytes[..4])).collect()
    }

    /// The text, whoever wrote it: to say in a message what an untrusted note claims.
    pub fn claimed(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| {
            writeln!(f, "{SIGNATURE_MARK}{} {}", signature.name, STANDARD.encode(&signature.bytes))
        })
    }
}

fn has_control(text: &str) -> bool {
    text.bytes().any(|byte| byte < 0x20 && byte != b'\n')
}

fn signature(line: &str) -> Option<Signature> {
    let (name, encoded) = line.strip_prefix(SIGNATURE_MARK)?.split_once(' ')?;
    let bytes = STANDARD.decode(encoded).ok().filter(|bytes| bytes.len() > 4)?;
    (!name.is_empty() && !name.contains('+')).then(|| Signature { name: name.to_owned(), bytes })
}

#[cfg(test)]
mod tests;
