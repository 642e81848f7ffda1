use proptest::prelude::*;

use super::*;

const SECRET: &str = "s3cr3t/pass word\"x";

fn all(masker: &Masker, chunks: &[&[u8]]) -> Vec<String> {
    let mut stream = masker.lines();
    let mut lines: Vec<String> = chunks.iter().flat_map(|chunk| stream.feed(chunk)).collect();
    lines.extend(stream.finish());
    lines
}

#[test]
fn every_form_is_masked() {
    let masker = Masker::new([SECRET]);
    let json = serde_json::to_string(SECRET).unwrap();
    let forms = [
        SECRET.to_owned(),
        STANDARD.encode(SECRET),
        URL_SAFE_NO_PAD.encode(SECRET),
        hex::encode(SECRET),
        hex::encode_upper(SECRET),
        "s3cr3t%2Fpass%20word%22x".to_owned(),
        "s3cr3t%2fpass+word%22x".to_owned(),
        json[1..json.len() - 1].to_owned(),
    ];
    for form in forms {
        assert_eq!(masker.mask_str(&format!("a {form} b")), "a [masked] b", "{form}");
    }
}

#[test]
fn base64_inside_a_longer_text_is_masked() {
    let masker = Masker::new(["hunter2-hunter2"]);
    for user in ["a", "ab", "abc", "abcd"] {
        let header = STANDARD.encode(format!("{user}:hunter2-hunter2:tail"));
        let masked = masker.mask_str(&header);
        assert!(masked.contains(MASK), "{header} -> {masked}");
        // What remains decodes to at most the two bytes on either edge of the secret.
        assert!(masked.len() < header.len() - 8, "{header} -> {masked}");
    }
}

#[test]
fn overlapping_secrets_leave_no_rest() {
    let masker = Masker::new(["abcdef", "defghi"]);
    assert_eq!(masker.mask_str("xabcdefghiy"), "x[masked]y");
}

#[test]
fn short_secrets_and_none_change_nothing() {
    assert_eq!(Masker::new(["abc", ""]).mask_str("abc"), "abc");
    assert_eq!(Masker::default().mask_str("abc"), "abc");
    assert!(!format!("{:?}", Masker::new(["topsecret"])).contains("topsecret"));
}

#[test]
fn a_key_with_several_lines_is_masked_line_by_line() {
    let masker = Masker::new(["-----BEGIN KEY-----\nMIIBVQIBADANBg\n-----END KEY-----\n"]);
    let lines = all(&masker, &[b"got -----BEGIN KEY-----\r\nMIIBVQIBADANBg\n"]);
    assert_eq!(lines, ["got [masked]", "[masked]"]);
}

#[test]
fn a_long_line_is_cut_and_a_secret_across_the_cut_is_masked_whole() {
    let masker = Masker::new(["topsecret"]);
    let mut text = vec![b'x'; LOG_LINE_BYTES_MAX - 4];
    text.extend_from_slice(b"topsecret and more\nnext\n");
    let lines = all(&masker, &[&text]);
    assert_eq!(lines.len(), 2);
    assert!(lines[0].ends_with("xx[masked] [cut: 14 bytes more]"), "{}", &lines[0][LOG_LINE_BYTES_MAX - 8..]);
    assert_eq!(lines[1], "next");
}

#[test]
fn a_flood_without_line_ends_stays_bounded() {
    let mut stream = Masker::new(["topsecret"]).lines();
    for _ in 0..100 {
        assert!(stream.feed(&vec![b'y'; 64 << 10]).is_empty());
        assert!(stream.line.len() <= LOG_LINE_BYTES_MAX + stream.masker.longest);
    }
    assert!(stream.finish().unwrap().len() < LOG_LINE_BYTES_MAX + 100);
}

proptest! {
    #[test]
    fn chunk_boundaries_do_not_matter(cuts in prop::collection::vec(0_usize..60, 0..8)) {
        let masker = Masker::new([SECRET, "other-secret"]);
        let text = format!("one {SECRET} two\nother-secret{SECRET}\n\nrest other-secre");
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
        let lines = all(&masker, &chunks);
        prop_assert_eq!(lines, vec!["one [masked] two", "[masked]", "", "rest other-secre"]);
    }
}

#[test]
fn the_password_in_a_url_is_a_secret_by_itself() {
    let masker = Masker::new(["postgres://shop:s3cr%40t-word@db.example:5432/shop?x=1"]);
    for line in ["password s3cr%40t-word refused", "password s3cr@t-word refused"] {
        assert_eq!(masker.mask_str(line), format!("password {MASK} refused"));
    }
    assert_eq!(masker.mask_str("shop at db.example"), "shop at db.example");
    let plain = Masker::new(["https://db.example/a:b@c"]);
    assert_eq!(plain.mask_str("a:b@c"), "a:b@c");
}
