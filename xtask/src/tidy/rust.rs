//! Just enough of Rust's lexical grammar to look at code without being fooled by comments and literals.
//!
//! Not a parser: rules that need types are clippy's. Invariant: a masked text has the same length and the same lines as its
//! source, so a place in one is the place in the other.

/// The source with comments blanked and the insides of string and character literals filled with `"`.
pub(crate) fn mask(source: &str) -> String {
    let mut masker = Masker { source: source.as_bytes(), out: Vec::with_capacity(source.len()) };
    while masker.out.len() < masker.source.len() {
        masker.step();
    }
    String::from_utf8(masker.out).unwrap_or_default()
}

/// The masked code with everything under `#[cfg(test)]` blanked too.
pub(crate) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find(MARK) {
        let end = start + MARK.len() + item_end(&rest[start + MARK.len()..]);
        out.push_str(&rest[..start]);
        out.extend(rest[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[end..];
    }
    out + rest
}

/// Where the item that begins here ends, in masked code: after its body's closing brace, or after its semicolon.
pub(crate) fn item_end(code: &str) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// The line of a place, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).fold(1, |line, byte| line + usize::from(byte == b'\n'))
}

/// Whether the byte can be part of a name.
pub(crate) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where the word stands in masked code: not as a part of a longer name.
pub(crate) fn find_word<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).is_some_and(|index| is_name(bytes[index]));
        let after = bytes.get(at + word.len()).is_some_and(|&byte| is_name(byte));
        !before && !after
    })
}

struct Masker<'a> {
    source: &'a [u8],
    out: Vec<u8>,
}

impl Masker<'_> {
    fn step(&mut self) {
        let at = self.out.len();
        let rest = &self.source[at..];
        if rest.starts_with(b"//") {
            self.fill(find(rest, b"\n").unwrap_or(rest.len()), b' ');
        } else if rest.starts_with(b"/*") {
            self.fill(block_comment(rest), b' ');
        } else if let Some(length) = raw_string(self.source, at) {
            self.fill(length, b'"');
        } else if rest[0] == b'"' {
            self.fill(quoted(rest, b'"'), b'"');
        } else if let Some(length) = character(rest) {
            self.fill(length, b'"');
        } else {
            self.out.push(rest[0]);
        }
    }

    /// Writes `length` fillers, but keeps the ends of lines.
    fn fill(&mut self, length: usize, filler: u8) {
        let at = self.out.len();
        let end = (at + length).min(self.source.len());
        self.out.extend(self.source[at..end].iter().map(|&byte| if byte == b'\n' { b'\n' } else { filler }));
    }
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

/// Length of a block comment; they nest.
fn block_comment(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Length of a literal with escapes that begins with its quote.
fn quoted(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// Length of a raw string (`r"…"`, `r#"…"#`, `br"…"`, `cr"…"`: the prefix letter before `r` stays), if one begins here.
fn raw_string(source: &[u8], at: usize) -> Option<usize> {
    let rest = &source[at..];
    let longer_name = at.checked_sub(1).is_some_and(|before| {
        is_name(source[before])
            && !(matches!(source[before], b'b' | b'c') && (before == 0 || !is_name(source[before - 1])))
    });
    if rest[0] != b'r' || longer_name {
        return None;
    }
    let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = 2 + hashes;
    Some(find(&rest[body..], &close).map_or(rest.len(), |end| body + end + close.len()))
}

/// Length of a character literal; `None` for a lifetime.
fn character(text: &[u8]) -> Option<usize> {
    if text[0] != b'\'' || text.len() < 3 {
        return None;
    }
    if text[1] == b'\\' {
        return Some(quoted(text, b'\''));
    }
    let width = match text[1] {
        0..0x80 => 1,
        0x80..0xE0 => 2,
        0xE0..0xF0 => 3,
        _ => 4,
    };
    (text.get(1 + width) == Some(&b'\'')).then_some(width + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_masked_and_lines_stay() {
        let source = "let a = \"x // {\"; // }\n/* { /* } */ */ let b = r#\"{\"}\"#; let c = '{'; let d: &'a str = \"\\\"\";\n";
        let masked = mask(source);
        assert_eq!(masked.len(), source.len());
        assert_eq!(masked.lines().count(), source.lines().count());
        assert!(!masked.contains(['{', '}', '/']), "{masked}");
        assert!(masked.contains("let b =") && masked.contains("let d: &'a str ="), "{masked}");
    }

    #[test]
    fn names_that_end_in_r_are_no_raw_strings() {
        let masked = mask("for_each(writer\"{\"); br\"}\"; '\\''; 'é'; 'x: loop {}");
        assert_eq!(masked.matches(['{', '}']).count(), 2, "{masked}");
    }

    #[test]
    fn what_is_under_cfg_test_goes() {
        let code =
            "fn a() {}\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod more {\n fn b() {}\n}\nfn c() {}\n";
        let bare = without_tests(code);
        assert!(
            bare.contains("fn a")
                && bare.contains("fn c")
                && !bare.contains("tests")
                && !bare.contains("fn b")
        );
        assert_eq!(bare.lines().count(), code.lines().count());
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(find_word("env::var env::var_os my_env::var", "env::var").collect::<Vec<_>>(), [0]);
    }
}
