//! Identity of a finding across runs.
//!
//! Pure. Numbers, addresses and long hexadecimal words in a message change from run to run (durations, ports, line numbers,
//! pointers, ids) and are taken out before hashing. Invariant: texts that differ only in those have one fingerprint.

use delivery::Digest;

/// SHA-256 over tool, rule, path and the message without numbers; each length-prefixed.
pub fn fingerprint(tool: &str, rule: &str, path: Option<&str>, message: &str) -> Digest {
    let mut bytes = Vec::new();
    for part in [tool, rule, path.unwrap_or(""), &without_numbers(message)] {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    Digest::of(&bytes)
}

/// Hexadecimal words of this length with a digit in them are ids, not words.
const HEX_WORD_MIN: usize = 8;

fn without_numbers(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(first) = rest.chars().next() {
        let length = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            let (word, tail) = rest.split_at(length);
            push_word(word, &mut out);
            rest = tail;
        }
    }
    out
}

fn push_word(word: &str, out: &mut String) {
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
    let address = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).is_some_and(is_hex);
    if address || (has_digit && word.len() >= HEX_WORD_MIN && is_hex(word)) {
        out.push('#');
        return;
    }
    let mut in_number = false;
    for c in word.chars() {
        let digit = c.is_ascii_digit();
        if !digit {
            out.push(c);
        } else if !in_number {
            out.push('#');
        }
        in_number = digit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_count() {
        let pairs = [
            ("took 12 ms", "took 4711 ms"),
            ("at 0x7ffe12ab", "at 0xdeadbeef"),
            ("id 3f2a9c1b44 lost", "id 00ffab1290 lost"),
            ("a.rs:10:5 boom", "a.rs:200:17 boom"),
            ("left: 1.5s", "left: 22.75s"),
        ];
        for (a, b) in pairs {
            assert_eq!(fingerprint("t", "r", None, a), fingerprint("t", "r", None, b), "{a} / {b}");
        }
        let base = fingerprint("t", "r", Some("p"), "deadline passed");
        assert_ne!(base, fingerprint("t", "r", Some("p"), "facade broken"));
        assert_ne!(base, fingerprint("t", "r", Some("q"), "deadline passed"));
        assert_ne!(base, fingerprint("t", "r2", Some("p"), "deadline passed"));
    }
}
