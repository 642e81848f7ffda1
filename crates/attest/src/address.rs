//! A git remote's address as a URI, as in-toto asks of a dependency (a SPDX download location: `git+https://...@ref`).
//!
//! Pure text; nothing is looked up. Leaves out relative paths and remote helpers (`ext::...`), which mean nothing to others.
//! Invariant: what comes out has no query and no fragment, where tokens may hide.

/// How git understands an address.
enum Remote<'a> {
    /// `https://host/path`
    Url(&'a str),
    /// `git@host:path`
    Scp {
        host: &'a str,
        path: &'a str,
    },
    /// `/srv/git/shop.git`
    Path(&'a str),
    Other,
}

fn read(address: &str) -> Remote<'_> {
    if address.contains("://") {
        return Remote::Url(address);
    }
    if address.starts_with('/') {
        return Remote::Path(address);
    }
    match address.split_once(':') {
        // A slash before the colon makes it a path, two colons a remote helper.
        Some((host, path)) if !host.is_empty() && !host.contains('/') && !path.starts_with(':') => {
            Remote::Scp { host, path }
        }
        _ => Remote::Other,
    }
}

/// The address without query and fragment. Only URLs have these; in a path they are plain characters.
pub(crate) fn public(address: &str) -> &str {
    match read(address) {
        Remote::Url(url) => url.split(['?', '#']).next().unwrap_or(url),
        _ => address,
    }
}

/// The URI of what the reference names there.
pub(crate) fn uri(address: &str, reference: Option<&str>) -> Option<String> {
    let whole = match read(public(address)) {
        Remote::Url(url) => format!("git+{}", encoded(url, true)),
        Remote::Scp { host, path } => {
            format!("git+ssh://{}/{}", encoded(host, false), encoded(path.trim_start_matches('/'), false))
        }
        Remote::Path(path) => format!("git+file://{}", encoded(path, false)),
        Remote::Other => return None,
    };
    let at = reference.map(|reference| format!("@{}", encoded(reference, false))).unwrap_or_default();
    Some(format!("{whole}{at}"))
}

/// Percent-encodes what a URI's path can't hold (RFC 3986). A URL's own `%` already encodes.
fn encoded(text: &str, is_url: bool) -> String {
    let encode = |byte: u8| {
        let plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/[]".contains(&byte);
        if plain || (is_url && byte == b'%') { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_address_becomes_a_uri_or_none() {
        for (address, wanted) in [
            ("https://example.org/shop.git", Some("git+https://example.org/shop.git@refs/heads/main")),
            (
                "https://example.org/a%20b.git?token=secret#secret",
                Some("git+https://example.org/a%20b.git@refs/heads/main"),
            ),
            ("ssh://git@example.org/shop", Some("git+ssh://git@example.org/shop@refs/heads/main")),
            ("git@example.org:ana/shop.git", Some("git+ssh://git@example.org/ana/shop.git@refs/heads/main")),
            ("example.org:/srv/shop", Some("git+ssh://example.org/srv/shop@refs/heads/main")),
            ("/srv/git/a b#c?d%.git", Some("git+file:///srv/git/a%20b%23c%3Fd%25.git@refs/heads/main")),
            ("file:///srv/shop.git", Some("git+file:///srv/shop.git@refs/heads/main")),
            ("../shop.git", None),
            ("shop", None),
            ("./a:b", None),
            ("ext::sh -c x", None),
        ] {
            assert_eq!(uri(address, Some("refs/heads/main")).as_deref(), wanted, "{address}");
        }
        assert_eq!(uri("/srv/shop", None).as_deref(), Some("git+file:///srv/shop"));
        assert_eq!(uri("/s", Some("refs/heads/a#b")).as_deref(), Some("git+file:///s@refs/heads/a%23b"));
        assert_eq!(public("https://example.org/shop?token=secret"), "https://example.org/shop");
        assert_eq!(public("/srv/a?b"), "/srv/a?b");
    }
}
