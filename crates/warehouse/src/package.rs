//! What a package URL says about a deployed artifact: its version and, where it names its source, the commit.
//!
//! <https://github.com/package-url/purl-spec>. Invariant: never fails; what is not a package URL is its own version.

use delivery::CommitId;

/// The version: of `pkg:oci/shop@sha256%3A0b31?arch=amd64` it is `sha256:0b31`.
pub(crate) fn version(artifact: &str) -> String {
    let Some(package) = artifact.strip_prefix("pkg:") else { return artifact.to_owned() };
    let path = package.split(['?', '#']).next().unwrap_or_default();
    path.rsplit_once('@').map_or_else(|| path.to_owned(), |(_, version)| decoded(version))
}

/// The commit, from the qualifier `vcs_url`: `git+https://example.org/shop.git@COMMIT`.
pub(crate) fn commit(artifact: &str) -> Option<CommitId> {
    let (_, qualifiers) = artifact.strip_prefix("pkg:")?.split('#').next()?.split_once('?')?;
    let source = qualifiers.split('&').find_map(|qualifier| qualifier.strip_prefix("vcs_url="))?;
    let source = decoded(source);
    CommitId::new(source.split('#').next()?.rsplit_once('@')?.1).ok()
}

/// Undoes percent-encoding, as far as it is one.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%');
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_url_tells_version_and_commit() {
        let commit_id = "0123456789abcdef0123456789abcdef01234567";
        let artifact = format!(
            "pkg:oci/shop@sha256%3A0b31?arch=amd64&vcs_url=git%2Bhttps://example.org/shop.git%40{commit_id}#sub"
        );
        assert_eq!(version(&artifact), "sha256:0b31");
        assert_eq!(commit(&artifact), CommitId::new(commit_id).ok());
        assert_eq!(
            (version("pkg:npm/%40scope/shop@1.2.3").as_str(), commit("pkg:npm/shop@1.2.3")),
            ("1.2.3", None)
        );
        for odd in ["shop:1.2", "pkg:", "pkg:oci/shop", "%", "pkg:a@%zz%", "pkg:a?vcs_url=%ff@"] {
            let _ = (version(odd), commit(odd));
        }
        assert_eq!(
            (version("shop:1.2").as_str(), version("pkg:oci/shop").as_str()),
            ("shop:1.2", "oci/shop")
        );
    }
}
