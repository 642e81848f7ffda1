//! Masks secrets in output before it is stored: in plain, and in the forms that programs print them by accident.
//!
//! A [`Masker`] knows the secrets; a [`MaskedLines`] takes one stream's bytes in chunks of any size and gives whole masked
//! lines. It deliberately does not guess secrets by their looks, and does not find one that a program itself splits over two
//! lines. Invariant: whatever the chunk boundaries, the lines are the same, and no byte of a known secret's known form is in
//! them, even where a line is cut at its limit.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use delivery::limits::LOG_LINE_BYTES_MAX;

/// A shorter secret is not masked: it would blacken ordinary words, which tells more than it hides.
pub const SECRET_BYTES_MIN: usize = 4;
/// Shortest line of a secret with several lines (a PEM key) that is masked by itself.
const SECRET_LINE_BYTES_MIN: usize = 8;
/// What stands in a secret's place.
pub const MASK: &str = "[masked]";

/// The secrets to hide. Cheap to clone.
#[derive(Clone, Default)]
pub struct Masker {
    automaton: Option<Arc<AhoCorasick>>,
    /// Length of the longest form in bytes.
    longest: usize,
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").field("active", &self.automaton.is_some()).finish_non_exhaustive()
    }
}

impl Masker {
    /// Hides these secrets: plain, base64 (both alphabets, padded or not, also inside a longer encoded text), hexadecimal,
    /// percent-encoded and JSON-escaped; a secret with several lines also line by line, and a URL's password also by itself,
    /// because drivers print it without the rest. Those shorter than
    /// [`SECRET_BYTES_MIN`] are left out.
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let mut forms = Vec::new();
        for secret in secrets {
            let secret = secret.as_ref();
            forms_of(secret, &mut forms);
            if let Some(password) = password(secret) {
                forms_of(password, &mut forms);
                forms_of(&percent_decode(password), &mut forms);
            }
        }
        forms.sort_unstable();
        forms.dedup();
        let longest = forms.iter().map(Vec::len).max().unwrap_or(0);
        if forms.is_empty() {
            return Self::default();
        }
        // Building fails only beyond 2^31 states, far above what an environment can hold.
        let automaton = AhoCorasick::new(&forms).ok().map(Arc::new);
        Self { automaton, longest }
    }

    /// The text with every form of every secret replaced by [`MASK`].
    pub fn mask<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        self.mask_within(text, text.len())
    }

    /// The text with secrets replaced; a `str` stays one.
    pub fn mask_str(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.mask(text.as_bytes())).into_owned()
    }

    /// A new stream that is masked with these secrets.
    pub fn lines(&self) -> MaskedLines {
        MaskedLines { masker: self.clone(), line: Vec::new(), dropped: 0 }
    }

    /// Masks the whole text but gives back only what began before `limit` bytes: a secret across the limit is masked, not
    /// halved.
    fn mask_within<'a>(&self, text: &'a [u8], limit: usize) -> Cow<'a, [u8]> {
        let limit = limit.min(text.len());
        let hits = self.hits(text);
        if hits.is_empty() {
            return Cow::Borrowed(&text[..limit]);
        }
        let mut masked = Vec::with_capacity(limit);
        let mut from = 0;
        for (start, end) in hits {
            if start >= limit {
                break;
            }
            masked.extend_from_slice(&text[from..start]);
            masked.extend_from_slice(MASK.as_bytes());
            from = end;
        }
        masked.extend_from_slice(text.get(from..limit).unwrap_or_default());
        Cow::Owned(masked)
    }

    /// Where secrets are: ascending, and merged where they overlap or touch.
    fn hits(&self, text: &[u8]) -> Vec<(usize, usize)> {
        let Some(automaton) = &self.automaton else { return Vec::new() };
        let mut found: Vec<(usize, usize)> =
            automaton.find_overlapping_iter(text).map(|hit| (hit.start(), hit.end())).collect();
        found.sort_unstable();
        found.dedup_by(|next, kept| {
            let joins = next.0 <= kept.1;
            if joins {
                kept.1 = kept.1.max(next.1);
            }
            joins
        });
        found
    }
}

/// One stream on its way to being masked lines.
#[derive(Debug)]
pub struct MaskedLines {
    masker: Masker,
    /// The line under way: at most [`LOG_LINE_BYTES_MAX`] and the longest secret form.
    line: Vec<u8>,
    /// Bytes of the line under way beyond that.
    dropped: u64,
}

impl MaskedLines {
    /// Takes the stream's next bytes and gives the lines that ended in them, masked, without their line ends. Bytes that are
    /// not UTF-8 become U+FFFD; a line beyond [`LOG_LINE_BYTES_MAX`] is cut and says so.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(at) = bytes.iter().position(|b| *b == b'\n') {
            self.take(&bytes[..at]);
            lines.push(self.end());
            bytes = &bytes[at + 1..];
        }
        self.take(bytes);
        lines
    }

    /// The last line, if the stream ended without a line end.
    pub fn finish(&mut self) -> Option<String> {
        (!self.line.is_empty()).then(|| self.end())
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = (LOG_LINE_BYTES_MAX + self.masker.longest).saturating_sub(self.line.len());
        let kept = bytes.len().min(room);
        self.line.extend_from_slice(&bytes[..kept]);
        self.dropped += (bytes.len() - kept) as u64;
    }

    fn end(&mut self) -> String {
        if self.line.last() == Some(&b'\r') && self.dropped == 0 {
            self.line.pop();
        }
        let masked = self.masker.mask_within(&self.line, LOG_LINE_BYTES_MAX);
        let mut line = String::from_utf8_lossy(&masked).into_owned();
        let beyond = self.dropped + self.line.len().saturating_sub(LOG_LINE_BYTES_MAX) as u64;
        if beyond > 0 {
            line = format!("{line} [cut: {beyond} bytes more]");
        }
        self.line.clear();
        self.dropped = 0;
        line
    }
}

/// Every form that one secret is printed in.
fn forms_of(secret: &str, forms: &mut Vec<Vec<u8>>) {
    let trimmed = secret.trim();
    if trimmed.len() < SECRET_BYTES_MIN {
        return;
    }
    let mut add = |form: Vec<u8>| {
        if form.len() >= SECRET_BYTES_MIN {
            forms.push(form);
        }
    };
    for text in if trimmed == secret { vec![secret] } else { vec![secret, trimmed] } {
        let bytes = text.as_bytes();
        add(bytes.to_vec());
        add(hex::encode(bytes).into_bytes());
        add(hex::encode_upper(bytes).into_bytes());
        add(STANDARD.encode(bytes).into_bytes());
        add(URL_SAFE.encode(bytes).into_bytes());
        for shift in 0..3 {
            let shifted = [&[0_u8; 2][..shift], bytes].concat();
            add(inner_base64(&STANDARD_NO_PAD.encode(&shifted), shift, shifted.len()));
            add(inner_base64(&URL_SAFE_NO_PAD.encode(&shifted), shift, shifted.len()));
        }
        for upper in [true, false] {
            let encoded = percent_encode(text, upper);
            add(encoded.replace("%20", "+").into_bytes());
            add(encoded.into_bytes());
        }
        if let Ok(json) = serde_json::to_string(text) {
            let inner = &json[1..json.len() - 1];
            add(inner.replace('/', "\\/").into_bytes());
            add(inner.as_bytes().to_vec());
        }
    }
    if trimmed.contains('\n') {
        for line in trimmed.lines().map(str::trim).filter(|line| line.len() >= SECRET_LINE_BYTES_MIN) {
            add(line.as_bytes().to_vec());
        }
    }
}

/// The characters of an encoded text that depend on the secret alone, when `shift` unknown bytes stand before it (modulo 3)
/// and unknown bytes may follow.
fn inner_base64(encoded: &str, shift: usize, bytes: usize) -> Vec<u8> {
    let head = [0, 2, 3][shift];
    let tail = usize::from(!bytes.is_multiple_of(3));
    encoded.as_bytes().get(head..encoded.len() - tail).unwrap_or_default().to_vec()
}

/// The password in a URL's user information (RFC 3986, 3.2.1), as it is written there.
fn password(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    Some(authority.rsplit_once('@')?.0.split_once(':')?.1)
}

fn percent_decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let coded = after.get(..2).filter(|_| *first == b'%').and_then(|digits| hex::decode(digits).ok());
        let (byte, length) = coded.and_then(|bytes| Some((*bytes.first()?, 2))).unwrap_or((*first, 0));
        decoded.push(byte);
        rest = &after[length..];
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// RFC 3986: everything but unreserved characters as `%XX`.
fn percent_encode(text: &str, upper: bool) -> String {
    use fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let done = match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte as char);
                Ok(())
            }
            _ if upper => write!(encoded, "%{byte:02X}"),
            _ => write!(encoded, "%{byte:02x}"),
        };
        debug_assert!(done.is_ok(), "writing to a string does not fail");
    }
    encoded
}

#[cfg(test)]
mod tests;
