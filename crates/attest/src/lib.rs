//! Provenance statements, DSSE signatures and their verification; signed notes, which carry the ledger's checkpoints.
//!
//! Before a promotion the gatekeeper calls [`verify`] with the stored envelope, the keys it trusts and what it
//! [`Expected`]; only a statement that says exactly that comes back. Everything else is refused: an unknown key, a statement of
//! another type, a field that this version does not know.
//!
//! **What it proves, honestly.** A local `trimtab run` reaches SLSA Build Level 1: the provenance exists, is signed, and an
//! artifact that was changed afterwards is found. It is not Level 2 (the build does not run on a hosted platform) and not Level 3
//! (tasks run as the same user as the signer, so a malicious task could read the key). The builder id says `local`.
//!
//! Left out: keyless signing (Fulcio, Rekor), time stamps by third parties, keys in a vault. Invariant: the secret key is never
//! printed, serialised or written anywhere but its own file.

mod address;

pub mod dsse;
pub mod key;
pub mod limits;
pub mod note;
pub mod statement;
pub mod verify;

pub use dsse::Envelope;
pub use key::{KeyError, KeyId, PublicKey, SigningKey};
pub use note::{Note, NoteError, VerifierKey};
pub use statement::{BUILDER_LOCAL, Build, Statement};
pub use verify::{Expected, VerifyError, verify};

#[cfg(test)]
mod tests;
