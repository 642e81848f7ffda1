//! Tests of `headers`: what is taken out, what is added, what is kept.

use http::Request;

use super::*;

fn parts(build: http::request::Builder) -> Parts {
    build.body(()).unwrap().into_parts().0
}

fn get() -> http::request::Builder {
    Request::builder().uri("/a?b").header("host", "shop.example")
}

fn prepared(build: http::request::Builder, empty: bool) -> Result<(Parts, bool), Refusal> {
    prepared_from(false, build, empty)
}

fn prepared_from(
    trusted: bool,
    build: http::request::Builder,
    empty: bool,
) -> Result<(Parts, bool), Refusal> {
    let mut parts = parts(build);
    let address = HeaderValue::from_static("192.0.2.1");
    let upgrade = prepare(&mut parts, Sender { address: &address, trusted }, empty)?;
    Ok((parts, upgrade))
}

fn all<'a>(parts: &'a Parts, name: &str) -> Vec<&'a str> {
    parts.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn hop_by_hop_fields_end_here() {
    let request = get()
        .header("connection", "close, X-Secret")
        .header("connection", "host, content-length")
        .header("x-secret", "1")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("te", "gzip, trailers")
        .header("upgrade", "h2c")
        .header("expect", "100-continue")
        .header("content-length", "3")
        .header("x-kept", "1");
    let (parts, upgrade) = prepared(request, false).unwrap();
    assert!(!upgrade);
    for gone in ["connection", "x-secret", "keep-alive", "proxy-connection", "upgrade", "expect"] {
        assert!(all(&parts, gone).is_empty(), "{gone}");
    }
    assert_eq!(all(&parts, "te"), ["trailers"]);
    assert_eq!(all(&parts, "host"), ["shop.example"]);
    assert_eq!(all(&parts, "content-length"), ["3"]);
    assert_eq!(all(&parts, "x-kept"), ["1"]);
}

#[test]
fn the_way_is_written_down() {
    let (plain, _) = prepared(get(), true).unwrap();
    assert_eq!(all(&plain, "x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(all(&plain, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&plain, "x-forwarded-host"), ["shop.example"]);
    assert_eq!(all(&plain, "via"), ["1.1 trimtab"]);
    let outer = || {
        get()
            .header("x-forwarded-for", "203.0.113.7")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "outer.example")
            .header("forwarded", "for=203.0.113.7")
            .header("x-real-ip", "203.0.113.7")
    };
    let (behind, _) = prepared_from(true, outer(), true).unwrap();
    assert_eq!(all(&behind, "x-forwarded-for"), ["203.0.113.7", "192.0.2.1"]);
    assert_eq!(all(&behind, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&behind, "x-forwarded-host"), ["outer.example"]);
    assert_eq!(
        (all(&behind, "forwarded"), all(&behind, "x-real-ip")),
        (vec!["for=203.0.113.7"], vec!["203.0.113.7"])
    );
    // Anyone may write these: what is not known to be true is not passed on as if it were.
    let (spoofed, _) = prepared(outer(), true).unwrap();
    assert_eq!(all(&spoofed, "x-forwarded-for"), ["203.0.113.7", "192.0.2.1"]);
    assert_eq!(all(&spoofed, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&spoofed, "x-forwarded-host"), ["shop.example"]);
    assert!(all(&spoofed, "forwarded").is_empty() && all(&spoofed, "x-real-ip").is_empty());
}

#[test]
fn the_client_is_the_last_address_that_is_no_trusted_proxys() {
    let trusted = |address: IpAddr| address.to_string().starts_with("10.");
    let named = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(value));
        }
        origin(&headers, trusted).map(|address| address.to_string())
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(named(&["198.51.100.1, 203.0.113.7", "10.0.0.2 , 10.0.0.1"]), some("203.0.113.7"));
    assert_eq!(named(&["203.0.113.7:4711"]), some("203.0.113.7"));
    assert_eq!(named(&["[2001:db8::1]:4711"]), some("2001:db8::1"));
    assert_eq!(named(&["::ffff:203.0.113.7"]), some("203.0.113.7"));
    assert_eq!(named(&["203.0.113.7, unknown, 10.0.0.1"]), None);
    assert_eq!((named(&[]), named(&["10.0.0.1"])), (None, None));
}

#[test]
fn an_upgrade_is_carried_on_in_http_1_1_only() {
    let ask = || get().header("connection", "keep-alive, Upgrade").header("upgrade", "websocket");
    let (parts, upgrade) = prepared(ask(), true).unwrap();
    assert!(upgrade);
    assert_eq!((all(&parts, "connection"), all(&parts, "upgrade")), (vec!["upgrade"], vec!["websocket"]));
    let (parts, upgrade) = prepared(ask().version(Version::HTTP_10), true).unwrap();
    assert!(!upgrade && all(&parts, "upgrade").is_empty());
    let (parts, upgrade) = prepared(ask().header("upgrade", "h2c"), true).unwrap();
    assert!(!upgrade && all(&parts, "upgrade").is_empty());
    let smuggled = get().header("connection", "upgrade, http2-settings").header("upgrade", "h2c");
    let (parts, upgrade) = prepared(smuggled.header("http2-settings", "AAMA"), true).unwrap();
    assert!(!upgrade && all(&parts, "upgrade").is_empty() && all(&parts, "http2-settings").is_empty());
}

#[test]
fn ambiguous_framing_is_refused() {
    let both = get().header("transfer-encoding", "chunked").header("content-length", "3");
    assert!(all(&prepared(both, false).unwrap().0, "content-length").is_empty());
    let twice = get().header("transfer-encoding", "chunked").header("transfer-encoding", "chunked");
    assert_eq!(prepared(twice, false).err(), Some(Refusal::Framing));
    let odd = get().header("transfer-encoding", "gzip, chunked");
    assert_eq!(prepared(odd, false).err(), Some(Refusal::Framing));
    let (unknown, _) = prepared(get().version(Version::HTTP_2), false).unwrap();
    assert_eq!(all(&unknown, "transfer-encoding"), ["chunked"]);
}

#[test]
fn there_is_one_host_and_an_origin_form() {
    assert_eq!(prepared(Request::builder().uri("/"), true).err(), Some(Refusal::Host));
    assert_eq!(prepared(get().header("host", "other"), true).err(), Some(Refusal::Host));
    let (old, _) = prepared(Request::builder().uri("/").version(Version::HTTP_10), true).unwrap();
    assert_eq!((all(&old, "host"), all(&old, "x-forwarded-host")), (vec!["localhost"], vec![]));
    let absolute = get().uri("http://user@other.example:8080/x?y=1");
    let (parts, _) = prepared(absolute, true).unwrap();
    assert_eq!(parts.uri.to_string(), "/x?y=1");
    assert_eq!(all(&parts, "host"), ["other.example:8080"]);
    assert_eq!(prepared(get().method(Method::CONNECT), true).err(), Some(Refusal::Method));
}

#[test]
fn crumbs_are_joined() {
    let request = get().version(Version::HTTP_2).header("cookie", "a=1").header("cookie", "b=2");
    let (parts, _) = prepared(request, true).unwrap();
    assert_eq!(all(&parts, "cookie"), ["a=1; b=2"]);
    assert_eq!(all(&parts, "via"), ["2.0 trimtab"]);
    assert_eq!(parts.version, Version::HTTP_11);
}

#[test]
fn responses_lose_their_connection() {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
    strip_response(&mut headers, false);
    assert!(headers.is_empty());
}
