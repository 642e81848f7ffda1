//! The style sheet, the script and the icon, in the binary.
//!
//! Each has its content's digest in its address, so browsers may keep it for good. Leaves out compression: they are small
//! and come from this machine.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use delivery::Digest;
use delivery::code::Code;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::refusal::Refusal;

const STYLE: &str = include_str!("../assets/app.css");
const SCRIPT: &str = include_str!("../assets/app.js");
const ICON: &str = include_str!("../assets/icon.svg");

/// The addresses of the assets.
pub(crate) struct Addresses {
    pub(crate) style: String,
    pub(crate) script: String,
    pub(crate) icon: String,
}

/// Computed once.
pub(crate) static ADDRESSES: LazyLock<Addresses> = LazyLock::new(|| {
    let address = |name: &str, end: &str, text: &str| {
        format!("/assets/{name}.{}.{end}", Digest::of(text.as_bytes()).short())
    };
    Addresses {
        style: address("app", "css", STYLE),
        script: address("app", "js", SCRIPT),
        icon: address("icon", "svg", ICON),
    }
});

/// `GET /assets/{name}`.
pub(crate) async fn asset(Path(name): Path<String>) -> Result<Response, Refusal> {
    let is = |address: &str| address.strip_prefix("/assets/") == Some(name.as_str());
    let (kind, text) = if is(&ADDRESSES.style) {
        ("text/css; charset=utf-8", STYLE)
    } else if is(&ADDRESSES.script) {
        ("text/javascript; charset=utf-8", SCRIPT)
    } else if is(&ADDRESSES.icon) {
        ("image/svg+xml", ICON)
    } else {
        return Err(Refusal::unknown(Code::ThingUnknown, "there is no such asset"));
    };
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, text).into_response())
}
