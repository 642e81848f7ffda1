//! Who may ask for what: the one place that lets a request through or refuses it.
//!
//! Reading needs nothing but a request that names this machine (so that a page of another origin can't reach us under a
//! name of its own: DNS rebinding). Changing needs the token, or the session that a browser got for it together with the
//! form's own token and our own origin. Left out: accounts and roles; everyone with the token is the configured identity.
//!
//! Browsers send a host's cookies to all its ports, so to the very services that are delivered on this machine. Sessions
//! therefore live under a host name below `localhost` that nobody can guess who has not the token, and count nowhere else.
//!
//! Invariant: a [`Permit`] is made here only, and what changes something asks for one. The token itself is kept only within
//! the address that signs in, for whoever started the server.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Form;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest as _, FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use delivery::Actor;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, ORIGIN};
use http::request::Parts;
use http::{StatusCode, Uri};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::admission::{self, Admission, Hold};
use crate::app::App;
use crate::refusal::Refusal;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Hexadecimal digits of the name that sessions are under; 64 bits.
const HOST_DIGITS: usize = 16;
const FORM: &str = "application/x-www-form-urlencoded";

/// What a route asks of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// It only reads.
    Read,
    /// It changes something.
    Change,
    /// It tells what happened elsewhere.
    Report,
}

/// That the request may change something, and in whose name.
#[derive(Debug, Clone)]
pub(crate) struct Permit(Actor);

impl Permit {
    /// Who acts.
    pub(crate) fn actor(self) -> Actor {
        self.0
    }
}

impl<S: Sync> FromRequestParts<S> for Permit {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        // Absent only where a route that reads was given a handler that changes: refused, whoever asks.
        parts.extensions.get::<Self>().cloned().ok_or_else(token_missing)
    }
}

/// That the request may report, and nothing else.
#[derive(Debug, Clone)]
pub(crate) struct Reporter(());

impl<S: Sync> FromRequestParts<S> for Reporter {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts.extensions.get::<Self>().cloned().ok_or_else(report_token_wrong)
    }
}

/// Checks requests. The same token gives the same guard, so sessions outlast a restart.
pub(crate) struct Guard {
    /// Where anybody may read.
    hosts: Vec<String>,
    /// Where sessions are.
    home: String,
    url: String,
    token: [u8; 32],
    report_token: [u8; 32],
    cookie: String,
    session: String,
    form: String,
}

#[derive(Deserialize)]
struct FormToken {
    csrf: String,
}

impl Guard {
    /// For a server at the address. All names and secrets are derived from the token (256 random bits): nobody without it
    /// can guess them.
    pub(crate) fn new(token: &str, report_token: &str, address: SocketAddr) -> Self {
        let port = address.port();
        let derive = |purpose: &str| hex::encode(Sha256::digest(format!("trimtab {purpose}\n{token}")));
        let names = ["127.0.0.1", "localhost", "[::1]"].map(str::to_owned);
        let port_suffix = if port == 80 { String::new() } else { format!(":{port}") };
        let mut hosts: Vec<String> = names.iter().map(|name| format!("{name}:{port}")).collect();
        hosts.push(address.to_string());
        if port == 80 {
            hosts.extend(names);
        }
        let home = format!("trimtab-{}.localhost{port_suffix}", &derive("host")[..HOST_DIGITS]);
        Self {
            hosts,
            url: format!("http://{home}/?token={token}"),
            home,
            token: Sha256::digest(token).into(),
            report_token: Sha256::digest(report_token).into(),
            cookie: format!("trimtab-{port}"),
            session: derive("session"),
            form: derive("form"),
        }
    }

    /// The address that signs a browser in.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Whether the request is to the host that sessions are under.
    pub(crate) fn at_home(&self, headers: &HeaderMap) -> bool {
        headers.get(HOST).is_some_and(|host| host.as_bytes().eq_ignore_ascii_case(self.home.as_bytes()))
    }

    /// Refuses a request that names another host than this machine.
    pub(crate) fn host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut named = headers.get_all(HOST).iter();
        let host = named.next().and_then(|value| value.to_str().ok());
        let allowed = |host: &str| self.is_own(host);
        let agrees = uri.authority().is_none_or(|authority| allowed(authority.as_str()));
        if named.next().is_none() && host.is_some_and(allowed) && agrees {
            return Ok(());
        }
        Err(Refusal::refused(
            StatusCode::MISDIRECTED_REQUEST,
            "the request names another host than this machine",
        )
        .hint(format!("use http://{}/", self.hosts[0])))
    }

    fn is_own(&self, host: &str) -> bool {
        self.hosts.iter().chain([&self.home]).any(|own| own.eq_ignore_ascii_case(host))
    }

    /// Whether this is the token.
    pub(crate) fn is_token(&self, token: &str) -> bool {
        same(&Sha256::digest(token).into(), &self.token)
    }

    /// Whether the request belongs to a session. A session's cookie that comes to another name was not sent by our pages.
    pub(crate) fn in_session(&self, headers: &HeaderMap) -> bool {
        if !self.at_home(headers) {
            return false;
        }
        let wanted: [u8; 32] = Sha256::digest(&self.session).into();
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookies
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(name, value)| name == self.cookie && same(&Sha256::digest(value).into(), &wanted))
    }

    /// The header that begins a session.
    pub(crate) fn set_cookie(&self) -> String {
        format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie, self.session)
    }

    /// What forms must carry.
    pub(crate) fn form_token(&self) -> &str {
        &self.form
    }

    /// Refuses a request of another origin.
    fn origin(&self, headers: &HeaderMap, required: bool) -> Result<(), Refusal> {
        let foreign = || {
            Refusal::refused(
                StatusCode::FORBIDDEN,
                "the request comes from another page than the server's own",
            )
        };
        let site = headers.get(FETCH_SITE).map(http::HeaderValue::as_bytes);
        if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
            return Err(foreign());
        }
        match headers.get(ORIGIN) {
            None if required => Err(foreign()),
            None => Ok(()),
            Some(origin) => {
                let host = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
                let own =
                    host.is_some_and(|host| if required { host == self.home } else { self.is_own(host) });
                if own { Ok(()) } else { Err(foreign()) }
            }
        }
    }

    /// Lets a request that changes something through, or not. Its body is read only after its sender is known.
    async fn change(&self, admission: &Admission, request: Request) -> Result<(Request, Hold), Refusal> {
        let headers = request.headers();
        if let Some(credential) = headers.get(AUTHORIZATION) {
            if !bearer(credential).is_some_and(|token| self.is_token(token)) {
                return Err(token_wrong());
            }
            self.origin(headers, false)?;
            let (request, _, hold) = admission.change(request).await?;
            return Ok((request, hold));
        }
        if !self.in_session(headers) {
            return Err(token_missing());
        }
        self.origin(headers, true)?;
        let form = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(FORM.as_bytes()));
        let (request, bytes, hold) = admission.change(request).await?;
        let carried = if form { form_token(bytes).await } else { None };
        let carried = carried.unwrap_or_default();
        if same(&Sha256::digest(carried).into(), &Sha256::digest(&self.form).into()) {
            return Ok((request, hold));
        }
        Err(Refusal::refused(StatusCode::FORBIDDEN, "the form is not one that this server made")
            .hint("reload the page and try again"))
    }

    /// Lets a report through, or not. Programs report: a session is no excuse, nor is the token that changes things.
    fn report(&self, request: &Request) -> Result<(), Refusal> {
        let token = request.headers().get(AUTHORIZATION).and_then(bearer);
        if !token.is_some_and(|token| same(&Sha256::digest(token).into(), &self.report_token)) {
            return Err(report_token_wrong());
        }
        self.origin(request.headers(), false)
    }
}

/// The token of an `Authorization` header.
fn bearer(credential: &http::HeaderValue) -> Option<&str> {
    // The scheme's case does not matter (RFC 9110, 11.1).
    let (scheme, token) = credential.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

async fn form_token(bytes: Bytes) -> Option<String> {
    let request = http::Request::post("/").header(CONTENT_TYPE, FORM).body(Body::from(bytes)).ok()?;
    Form::<FormToken>::from_request(request, &()).await.ok().map(|Form(form)| form.csrf)
}

/// Compares digests of secrets in a time that does not depend on where they differ.
fn same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    std::hint::black_box(left.iter().zip(right).fold(0, |differs, (a, b)| differs | (a ^ b))) == 0
}

fn token_missing() -> Refusal {
    Refusal::refused(StatusCode::UNAUTHORIZED, "this changes something, so it needs the token")
        .hint("open the address that trimtab server prints, or send: Authorization: Bearer TOKEN")
}

pub(crate) fn token_wrong() -> Refusal {
    Refusal::refused(StatusCode::UNAUTHORIZED, "the token is not this server's")
        .hint("it is in .trimtab/keys/api-token; trimtab server prints an address that carries it")
}

fn report_token_wrong() -> Refusal {
    Refusal::refused(StatusCode::UNAUTHORIZED, "events are taken with the report token only")
        .hint("send: Authorization: Bearer TOKEN, with the token in .trimtab/keys/report-token")
}

/// The choke point: each route passes through it with its policy. Who may not ask takes no place of those who may.
pub(crate) async fn admit(app: Arc<App>, policy: Policy, request: Request, next: Next) -> Response {
    match pass(&app, policy, request).await {
        Ok((request, _hold)) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn pass(app: &App, policy: Policy, request: Request) -> Result<(Request, Hold), Refusal> {
    match policy {
        Policy::Read => Ok((request, app.admission.read().await?)),
        Policy::Change => {
            let (mut request, hold) = app.guard.change(&app.admission, request).await?;
            request.extensions_mut().insert(Permit(app.identity.clone()));
            Ok((request, hold))
        }
        Policy::Report => {
            app.guard.report(&request)?;
            if let Err(refusal) = app.intake.has_room() {
                admission::discard(request.into_body()).await;
                return Err(refusal);
            }
            let (mut request, hold) = app.admission.report(request).await?;
            request.extensions_mut().insert(Reporter(()));
            Ok((request, hold))
        }
    }
}
