//! What a gateway does to heads on their way (RFC 9110, 7.6; RFC 9112, 6; RFC 9113, 8.2).
//!
//! Requests: framing is unambiguous or refused, hop-by-hop fields end here, the target is in origin form with exactly one
//! `Host`, which is kept as the client sent it (`localhost` for an HTTP/1.0 client that sent none); `X-Forwarded-For` and `Via` are appended to, `X-Forwarded-Proto` and
//! `X-Forwarded-Host` are set, unless a trusted proxy has; `Forwarded` and `X-Real-IP` are taken from such a one alone. `Expect` ends here: this side sends the 100 itself, as soon as the
//! instance's side wants the body. Responses: hop-by-hop fields end here.

use std::net::{IpAddr, SocketAddr};

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, Entry, FORWARDED, HOST, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, VIA,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use super::refusal::Refusal;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Who sent a request: a client, or a proxy in front.
#[derive(Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) address: &'a HeaderValue,
    /// What it says about its client is taken.
    pub(super) trusted: bool,
}

/// The client that trusted proxies name: the last address in `X-Forwarded-For` that is none of theirs. What comes before it
/// anyone may have written.
pub(super) fn origin(headers: &HeaderMap, trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let values = headers.get_all(FORWARDED_FOR).iter();
    let hops: Vec<&str> = values.flat_map(|value| value.to_str().unwrap_or("?").split(',')).collect();
    for hop in hops.iter().rev() {
        let hop = hop.trim();
        let address = hop.parse().or_else(|_| hop.parse().map(|socket: SocketAddr| socket.ip())).ok()?;
        if !trusted(address) {
            return Some(address.to_canonical());
        }
    }
    None
}

/// Makes a client's request fit to be sent on. `empty`: it has no body. Gives whether it asks for an upgrade.
pub(super) fn prepare(parts: &mut Parts, sender: Sender<'_>, empty: bool) -> Result<bool, Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal::Method);
    }
    let upgrade = parts.version == Version::HTTP_11 && wants_upgrade(&parts.headers);
    let second = parts.version == Version::HTTP_2;
    frame(&mut parts.headers, empty)?;
    target(parts)?;
    strip(&mut parts.headers, upgrade);
    let headers = &mut parts.headers;
    if second {
        join_cookies(headers);
    }
    headers.append(FORWARDED_FOR, sender.address.clone());
    if !sender.trusted {
        headers.remove(FORWARDED_HOST);
        headers.remove(FORWARDED);
        headers.remove(REAL_IP);
    }
    if !(sender.trusted && headers.contains_key(FORWARDED_PROTO)) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !headers.contains_key(FORWARDED_HOST)
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(FORWARDED_HOST, host);
    }
    if let Entry::Vacant(vacant) = headers.entry(HOST) {
        vacant.insert(HeaderValue::from_static("localhost"));
    }
    headers.append(VIA, HeaderValue::from_static(if second { "2.0 trimtab" } else { "1.1 trimtab" }));
    parts.version = Version::HTTP_11;
    Ok(upgrade)
}

/// Removes what belonged to the connection to the instance. `upgrade`: it is a 101, whose `Upgrade` is for the client.
pub(super) fn strip_response(headers: &mut HeaderMap, upgrade: bool) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(TRANSFER_ENCODING);
        headers.remove(CONTENT_LENGTH);
    }
    strip(headers, upgrade);
}

/// Whether a message's `Connection` field names this option.
fn names_option(headers: &HeaderMap, option: &str) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .any(|value| options(value).any(|name| name.eq_ignore_ascii_case(option)))
}

fn options(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|option| !option.is_empty())
}

/// WebSockets alone: behind another protocol (`h2c`) there may be requests, which nobody here would see or split.
fn wants_upgrade(headers: &HeaderMap) -> bool {
    let mut asked = headers.get_all(UPGRADE).iter();
    asked.next().is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && asked.next().is_none()
        && names_option(headers, "upgrade")
}

/// One way to tell the body's length, ours: `Content-Length`, or else chunked.
fn frame(headers: &mut HeaderMap, empty: bool) -> Result<(), Refusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let plain = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        if !plain {
            return Err(Refusal::Framing);
        }
        // hyper has removed it; should it ever leave it, one way to tell the length is left all the same.
        headers.remove(CONTENT_LENGTH);
        return Ok(());
    }
    if !empty && !headers.contains_key(CONTENT_LENGTH) {
        // HTTP/2 frames need no length; and hyper would send no body for a GET without this.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    Ok(())
}

/// Origin form and one `Host`.
fn target(parts: &mut Parts) -> Result<(), Refusal> {
    if let Some(authority) = parts.uri.authority() {
        // RFC 9112, 3.2.2: the target's authority overrides the field.
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        let host = HeaderValue::from_str(host).map_err(|_| Refusal::Host)?;
        parts.headers.insert(HOST, host);
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        return Ok(());
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), None) => Ok(()),
        (None, None) if parts.version == Version::HTTP_10 => Ok(()),
        _ => Err(Refusal::Host),
    }
}

/// Removes the hop-by-hop fields, named by `Connection` or known to be.
fn strip(headers: &mut HeaderMap, upgrade: bool) {
    let trailers =
        headers.get(TE).is_some_and(|te| options(te).any(|coding| coding.eq_ignore_ascii_case("trailers")));
    if headers.contains_key(CONNECTION) {
        for name in nominated(headers) {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(EXPECT);
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        headers.remove(UPGRADE);
    }
}

/// The fields that `Connection` names, except those that the message's meaning or framing hangs on: naming those is an
/// attempt to have them taken away behind the sender's proxy.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let kept = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, UPGRADE, TE, COOKIE];
    let values = headers.get_all(CONNECTION).iter();
    values
        .flat_map(options)
        .filter_map(|option| HeaderName::from_bytes(option.as_bytes()).ok())
        .filter(|name| !kept.contains(name))
        .collect()
}

/// RFC 9113, 8.2.3: crumbs are joined before they leave HTTP/2.
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
