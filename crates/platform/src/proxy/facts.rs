//! Reads from a request's head what the choice of its arm depends on.

use std::cell::Cell;
use std::net::IpAddr;

use delivery::strategy::Sticky;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::choose::{ArmChoice, Facts, key};

/// How long a client is asked to keep its sticky cookie, in seconds: 30 days, longer than a rollout.
const COOKIE_SECONDS: u32 = 30 * 24 * 3_600;

/// The facts, and the cookie to give to a client that should have one and has none.
pub(super) fn read(
    sticky: &Sticky,
    override_header: Option<&HeaderName>,
    headers: &HeaderMap,
    client: IpAddr,
) -> (Facts, Option<HeaderValue>) {
    let draw = draw();
    let asked = override_header.and_then(|name| match headers.get(name)?.as_bytes() {
        b"canary" => Some(ArmChoice::Canary),
        b"stable" => Some(ArmChoice::Stable),
        _ => None,
    });
    let mut given = None;
    let sticky_key = match sticky {
        Sticky::None => None,
        Sticky::Header(name) => headers.get(name).map(|value| key(value.as_bytes())),
        Sticky::Address => Some(match client.to_canonical() {
            IpAddr::V4(address) => key(&address.octets()),
            // A household or a server has a /64, and often changes its address within.
            IpAddr::V6(address) => key(&address.octets()[..8]),
        }),
        Sticky::Cookie(name) => Some(cookie(headers, name).map_or_else(
            || {
                let id = format!("{draw:016x}{:016x}", self::draw());
                given = set_cookie(name, &id);
                key(id.as_bytes())
            },
            key,
        )),
    };
    (Facts { asked, key: sticky_key, draw }, given)
}

/// The value of a cookie (RFC 6265, 5.4), the first one when there are several.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all(header::COOKIE).iter();
    let mut pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value).filter(|value| !value.is_empty())
    })
}

fn set_cookie(name: &str, id: &str) -> Option<HeaderValue> {
    let text = format!("{name}={id}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax");
    HeaderValue::try_from(text).ok()
}

/// An even random number: SplitMix64 over a counter that each thread starts at a place from the system's randomness. For
/// shares and ids, not for secrets.
pub(super) fn draw() -> u64 {
    thread_local!(static STATE: Cell<Option<u64>> = const { Cell::new(None) });
    STATE.with(|state| {
        let before = state.get().unwrap_or_else(seed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(Some(before));
        super::choose::mix(before)
    })
}

fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Without the system's randomness, an address that differs between threads and runs is left: worse, but not fatal.
    if getrandom::fill(&mut bytes).is_err() {
        let place = std::ptr::from_ref(&bytes).addr() as u64;
        return super::choose::mix(place);
    }
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_cookie_is_read_or_given() {
        let sticky = Sticky::Cookie("trimtab_id".into());
        let with = headers(&[("cookie", "xtrimtab_id=1; trimtab_id=abc"), ("cookie", "trimtab_id=later")]);
        let (facts, given) = read(&sticky, None, &with, CLIENT);
        assert_eq!((facts.key, given), (Some(key(b"abc")), None));
        let (facts, given) = read(&sticky, None, &headers(&[("cookie", "trimtab_id=")]), CLIENT);
        let given = given.unwrap();
        let given = given.to_str().unwrap();
        let id = given.strip_prefix("trimtab_id=").unwrap().split(';').next().unwrap();
        assert_eq!((facts.key, id.len()), (Some(key(id.as_bytes())), 32));
        assert!(given.ends_with("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax"), "{given}");
    }

    #[test]
    fn a_header_or_the_address_is_a_key_and_nothing_is_none() {
        let sticky = Sticky::Header("x-user".into());
        let (facts, _) = read(&sticky, None, &headers(&[("x-user", "u1")]), CLIENT);
        assert_eq!(facts.key, Some(key(b"u1")));
        assert_eq!(read(&sticky, None, &HeaderMap::new(), CLIENT).0.key, None);
        assert_eq!(read(&Sticky::Address, None, &HeaderMap::new(), CLIENT).0.key, Some(key(&[192, 0, 2, 1])));
        assert_eq!(read(&Sticky::None, None, &HeaderMap::new(), CLIENT).0.key, None);
        let [one, other] = ["2001:db8::1", "2001:db8::2:1"].map(|text| text.parse().unwrap());
        let key_of = |client| read(&Sticky::Address, None, &HeaderMap::new(), client).0.key;
        assert_eq!(key_of(one), key_of(other));
    }

    #[test]
    fn the_override_counts_only_where_it_is_configured() {
        let name = HeaderName::from_static("x-trimtab-arm");
        let asks = headers(&[("x-trimtab-arm", "canary")]);
        assert_eq!(read(&Sticky::None, Some(&name), &asks, CLIENT).0.asked, Some(ArmChoice::Canary));
        assert_eq!(read(&Sticky::None, None, &asks, CLIENT).0.asked, None);
        let odd = headers(&[("x-trimtab-arm", "both")]);
        assert_eq!(read(&Sticky::None, Some(&name), &odd, CLIENT).0.asked, None);
    }
}
