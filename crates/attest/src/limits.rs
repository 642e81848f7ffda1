//! The limits of reading keys and envelopes, each with its unit.

/// A DSSE envelope. Larger is refused unread.
pub const ENVELOPE_BYTES_MAX: usize = 1 << 20;
/// Signatures in one envelope.
pub const SIGNATURES_MAX: usize = 16;
/// A key file.
pub const KEY_FILE_BYTES_MAX: u64 = 4 << 10;
/// A path in an artifact.
pub const PATH_BYTES_MAX: usize = 4 << 10;
/// A signed note, which has room for sixteen post-quantum signatures. Larger is refused.
pub const NOTE_BYTES_MAX: usize = 128 << 10;
