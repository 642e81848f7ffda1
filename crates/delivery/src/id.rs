//! Names people choose, ids we mint, and digests that content has.
//!
//! Names are checked when they are made, so a `ServiceName` in hand is always safe in a path, a URL and a label.
//! Ids are short random words with a prefix that tells their kind (`ro-7k3m9x2p`), made from a caller's [`Seed`].

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Seed;
use crate::limits::NAME_BYTES_MAX;

/// Why a text is not a name, an id or a digest. Reads after "the name is not valid: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("it is empty")]
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes.
    #[error("it is longer than {NAME_BYTES_MAX} characters")]
    TooLong,
    /// A character outside the name's alphabet.
    #[error("it holds {0:?}; use a-z, 0-9 and '-', starting with a letter or digit")]
    Character(char),
    /// Not 64 (SHA-256) or 40 (git) lower-case hexadecimal digits.
    #[error("it is not {0} lower-case hexadecimal digits")]
    NotHex(usize),
    /// Another prefix than the id kind's, or not our alphabet.
    #[error("it does not look like {0}-xxxxxxxx")]
    NotId(&'static str),
}

fn check_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    for (index, c) in text.char_indices() {
        if !(allowed(c) || (c == '-' && index > 0)) {
            return Err(NameError::Character(c));
        }
    }
    Ok(())
}

/// Task names may also hold `:`, `_`, `.` and `/`, which tools commonly use (`test:unit`, `web/build`).
fn check_task_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    for (index, c) in text.char_indices() {
        let inner = index > 0 && matches!(c, '-' | ':' | '_' | '.' | '/');
        if !(c.is_ascii_lowercase() || c.is_ascii_digit() || inner)
            || (c == '.' && text[..index].ends_with('.'))
        {
            return Err(NameError::Character(c));
        }
    }
    Ok(())
}

fn check_hex(text: &str, digits: usize) -> Result<(), NameError> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() == digits && text.bytes().all(hex) { Ok(()) } else { Err(NameError::NotHex(digits)) }
}

/// Crockford's base 32 in lower case: no i, l, o or u, so that an id can be read aloud.
const ID_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const ID_CHARACTERS: usize = 8;

fn check_id(text: &str, prefix: &'static str) -> Result<(), NameError> {
    let tail = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
    match tail {
        Some(tail) if tail.len() == ID_CHARACTERS && tail.bytes().all(|b| ID_ALPHABET.contains(&b)) => Ok(()),
        _ => Err(NameError::NotId(prefix)),
    }
}

fn mint(prefix: &'static str, seed: &mut dyn Seed) -> String {
    let mut random = [0_u8; ID_CHARACTERS];
    seed.fill(&mut random);
    let tail: String = random.iter().map(|b| ID_ALPHABET[usize::from(b & 31)] as char).collect();
    format!("{prefix}-{tail}")
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text and takes it.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                let check: fn(&str) -> Result<(), NameError> = $check;
                check(&text)?;
                Ok(Self(text))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
    };
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        text_type!($(#[$doc])* $name, |text| check_id(text, $prefix));

        impl $name {
            /// Mints a new id from the seed: 40 random bits.
            pub fn mint(seed: &mut dyn Seed) -> Self {
                Self(mint($prefix, seed))
            }
        }
    };
}

text_type!(
    /// A deployable unit, as the manifest names it.
    ServiceName, check_name
);
text_type!(
    /// A place that releases are promoted through, as the manifest names it.
    EnvironmentName, check_name
);
text_type!(
    /// A node of the task graph, as the manifest names it.
    TaskName, check_task_name
);
text_type!(
    /// A quality gate, as the manifest names it.
    GateName, check_name
);
text_type!(
    /// SHA-256 in lower-case hexadecimal. Artifact digests and policy hashes are this.
    Digest, |text| check_hex(text, 64)
);
text_type!(
    /// A git commit (SHA-1 object name, 40 digits).
    CommitId, |text| check_hex(text, 40)
);
id_type!(
    /// One execution of the task graph.
    RunId, "run"
);
id_type!(
    /// One immutable release: version, artifact, changelog, evidence.
    ReleaseId, "rel"
);
id_type!(
    /// One carrying of a release into one environment.
    RolloutId, "ro"
);
id_type!(
    /// One set of running processes of one artifact, on one platform.
    RevisionId, "rev"
);

impl Digest {
    /// The SHA-256 of the bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(hex::encode(sha2::Sha256::digest(bytes)))
    }

    /// The first 12 digits: enough for people, never for a decision.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl CommitId {
    /// The first 10 digits: enough for people, never for a decision.
    pub fn short(&self) -> &str {
        &self.0[..10]
    }
}

impl RevisionId {
    /// The one revision that a rollout starts. Derived, so that starting it twice names the same processes.
    pub fn of_rollout(rollout: &RolloutId) -> Self {
        Self(format!("rev{}", rollout.as_str().trim_start_matches("ro")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(ServiceName::new("web-2").is_ok());
        assert_eq!(ServiceName::new(""), Err(NameError::Empty));
        assert_eq!(ServiceName::new("Web"), Err(NameError::Character('W')));
        assert_eq!(ServiceName::new("-web"), Err(NameError::Character('-')));
        assert_eq!(ServiceName::new("../x"), Err(NameError::Character('.')));
        assert!(TaskName::new("web/test:unit").is_ok());
        assert!(TaskName::new("web/../x").is_err());
    }

    #[test]
    fn ids_tell_their_kind() {
        let id = RolloutId::mint(&mut crate::clock::CountingSeed::default());
        assert_eq!(RolloutId::new(id.as_str()), Ok(id.clone()));
        assert!(RunId::new(id.as_str()).is_err());
        assert!(RevisionId::new(RevisionId::of_rollout(&id).as_str()).is_ok());
    }
}
