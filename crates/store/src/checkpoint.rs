//! A checkpoint: what a ledger held at some moment, in the text form of c2sp.org/tlog-checkpoint.
//!
//! Three lines: the ledger's name (its origin), its size, its root. The name is made from the first record's leaf hash, so
//! it is the same for as long as the ledger lives, wherever it is copied to, and no other ledger has it. Left out: the
//! signature, which is around this text (`attest::note`), and extension lines, which are read past.
//!
//! Invariant: what [`Checkpoint::text`] writes, [`Checkpoint::parse`] reads back equal.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::merkle::Hash;

/// What begins the name of every ledger of ours.
const NAME: &str = "trimtab/ledger/";
/// Bytes of the first leaf hash in the name: 128 bits, so that nobody finds two.
const NAME_BYTES: usize = 16;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The ledger's name; not empty, without white space.
    pub origin: String,
    /// Number of records.
    pub size: u64,
    /// Root of the Merkle tree over them (RFC 6962).
    pub root: Hash,
}

/// Why a text is not a checkpoint. Reads after "it is not a checkpoint: ".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Fewer than three lines, an empty one, or no newline at the end.
    #[error("it needs three lines: name, size, root")]
    Lines,
    /// White space or a plus in the name.
    #[error("its name holds a space or a plus")]
    Origin,
    /// Not a decimal number without leading zeroes.
    #[error("its size is not a number")]
    Size,
    /// Not 32 bytes in base64.
    #[error("its root is not a hash")]
    Root,
}

/// The name of the ledger whose first record has this leaf hash.
pub fn origin(first: &Hash) -> String {
    format!("{NAME}{}", hex::encode(&first[..NAME_BYTES]))
}

/// A number as checkpoints and proofs write it: decimal, without sign and leading zeroes.
pub(crate) fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// A hash in base64.
pub(crate) fn hash(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

impl Checkpoint {
    /// The text that is signed; ends with a newline.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// From the text of a note. Lines after the third are for others and read past.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let lines: Vec<&str> = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?.split('\n').collect();
        let [origin, size, root, ..] = lines[..] else { return Err(CheckpointError::Lines) };
        if lines.iter().any(|line| line.is_empty()) {
            return Err(CheckpointError::Lines);
        }
        if origin.contains(|c: char| c.is_whitespace() || c == '+') {
            return Err(CheckpointError::Origin);
        }
        let size = number(size).ok_or(CheckpointError::Size)?;
        let root = hash(root).ok_or(CheckpointError::Root)?;
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_three_lines() {
        let root = crate::merkle::empty_root();
        let checkpoint = Checkpoint { origin: origin(&root), size: 20_852_163, root };
        let text = "trimtab/ledger/e3b0c44298fc1c149afbf4c8996fb924\n20852163\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
        assert_eq!(checkpoint.text(), text);
        assert_eq!(Checkpoint::parse(text), Ok(checkpoint.clone()));
        assert_eq!(Checkpoint::parse(&format!("{text}extension\n")), Ok(checkpoint));
    }

    #[test]
    fn other_texts_are_refused() {
        let root = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let refused = [
            (String::new(), CheckpointError::Lines),
            ("name\n1\n".into(), CheckpointError::Lines),
            (format!("name\n1\n{root}"), CheckpointError::Lines),
            (format!("\n1\n{root}\n"), CheckpointError::Lines),
            (format!("name\n1\n{root}\n\n"), CheckpointError::Lines),
            (format!("a name\n1\n{root}\n"), CheckpointError::Origin),
            (format!("name\n01\n{root}\n"), CheckpointError::Size),
            (format!("name\n+1\n{root}\n"), CheckpointError::Size),
            (format!("name\n18446744073709551616\n{root}\n"), CheckpointError::Size),
            ("name\n1\nAAAA\n".into(), CheckpointError::Root),
            (format!("name\n1\n{}\n", root.replace('=', "")), CheckpointError::Root),
        ];
        for (text, error) in refused {
            assert_eq!(Checkpoint::parse(&text), Err(error), "{text:?}");
        }
    }
}
