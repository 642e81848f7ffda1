//! The byte form of keys and cache files: length-prefixed fields in a fixed order, sealed by a hash.
//!
//! Leaves out any notion of what is stored. Invariant: two different sequences of fields never have the same bytes, and
//! reading never allocates more than the bytes that are there.

use blake3::Hash;

/// Appends fields.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn number(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn hash(&mut self, value: &Hash) {
        self.0.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub(crate) fn texts(&mut self, values: &[String]) {
        self.number(values.len() as u64);
        values.iter().for_each(|value| self.text(value));
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The bytes with their hash behind them.
    pub(crate) fn seal(mut self) -> Vec<u8> {
        let hash = blake3::hash(&self.0);
        self.hash(&hash);
        self.0
    }
}

/// Reads fields back; `None` means that the bytes are not what was written.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Checks and takes off the hash that [`Writer::seal`] put behind the bytes.
    pub(crate) fn unseal(bytes: &'a [u8]) -> Option<Self> {
        let (body, seal) = bytes.split_last_chunk::<32>()?;
        (blake3::hash(body) == Hash::from_bytes(*seal)).then_some(Self(body))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub(crate) fn hash(&mut self) -> Option<Hash> {
        self.take(32)?.try_into().ok().map(Hash::from_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        std::str::from_utf8(self.bytes()?).ok().map(str::to_owned)
    }

    /// A count of items that follow, each at least one byte long, so that a damaged count can't ask for memory.
    pub(crate) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|count| *count <= self.0.len())
    }

    pub(crate) fn texts(&mut self) -> Option<Vec<String>> {
        (0..self.count()?).map(|_| self.text()).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
