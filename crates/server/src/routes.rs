//! Every route with its policy, and what all answers have in common: security headers, and pages for refused browsers.
//!
//! Invariant: a route is a row of [`table`], so it has a policy; whatever isn't a GET changes something (a test says so).

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use delivery::code::Code;
use http::header::{ACCEPT, CACHE_CONTROL, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use crate::app::App;
use crate::guard::{self, Policy};
use crate::refusal::Refusal;
use crate::{api, assets, live, pages};

/// One route.
pub(crate) struct Route {
    /// GET or POST.
    #[cfg_attr(not(test), expect(dead_code, reason = "the handler knows it; the table's test asks"))]
    pub(crate) method: Method,
    /// As axum writes paths.
    pub(crate) path: &'static str,
    /// What it asks of its callers.
    pub(crate) policy: Policy,
    handler: MethodRouter<Arc<App>>,
}

fn get<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<App>>) -> Route {
    Route { method: Method::GET, path, policy: Policy::Read, handler: on(MethodFilter::GET, handler) }
}

fn post<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<App>>) -> Route {
    Route { method: Method::POST, path, policy: Policy::Change, handler: on(MethodFilter::POST, handler) }
}

fn report<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<App>>) -> Route {
    Route { method: Method::POST, path, policy: Policy::Report, handler: on(MethodFilter::POST, handler) }
}

/// All routes.
pub(crate) fn table() -> Vec<Route> {
    vec![
        get("/", pages::now),
        get("/rollouts", pages::rollouts),
        get("/rollouts/{id}", pages::rollout),
        get("/rollouts/{id}/rollback", pages::rollback_confirm),
        post("/rollouts/{id}/rollback", pages::rollback),
        get("/rollouts/{id}/resume", pages::resume_confirm),
        post("/rollouts/{id}/resume", pages::resume),
        get("/releases/{id}/approve/{environment}", pages::approve_confirm),
        post("/releases/{id}/approve/{environment}", pages::approve),
        get("/events", live::events),
        get("/api/v1/state", api::state),
        get("/api/v1/rollouts", api::rollouts),
        get("/api/v1/rollouts/{id}", api::rollout),
        post("/api/v1/rollouts/{id}/rollback", api::rollback),
        post("/api/v1/rollouts/{id}/resume", api::resume),
        post("/api/v1/releases/{id}/approvals", api::approve),
        report("/api/v1/events", api::report),
        get("/api/v1/why", api::why),
        get("/api/v1/ledger", api::ledger),
        get("/assets/{name}", assets::asset),
        get("/healthz", healthz),
    ]
}

async fn healthz() -> &'static str {
    "ok\n"
}

/// The routes behind their guard.
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for route in table() {
        let (guard, policy) = (app.clone(), route.policy);
        let admit = middleware::from_fn(move |request: Request, next: Next| {
            guard::admit(guard.clone(), policy, request, next)
        });
        router = router.route(route.path, route.handler.layer(admit));
    }
    router
        .fallback(|| async { Refusal::unknown(Code::ThingUnknown, "there is nothing at this address") })
        .method_not_allowed_fallback(|| async {
            Refusal::invalid(StatusCode::METHOD_NOT_ALLOWED, "this address does not take that method")
        })
        .layer(middleware::from_fn_with_state(app.clone(), every))
        .with_state(app)
}

const SECURITY: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    // Not no-referrer: with that, browsers send forms with `Origin: null`.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// What holds for every request, whether a route takes it or not.
async fn every(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let machine = path.starts_with("/api/") || path == "/events";
    let wants_page = !machine
        && request
            .headers()
            .get(ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("text/html"));
    let signed_in = app.guard.in_session(request.headers());
    let (mut response, known) = match app.guard.host(request.uri(), request.headers()) {
        Ok(()) => (next.run(request).await, true),
        Err(refusal) => (refusal.into_response(), false),
    };
    if response.status().is_client_error() && response.extensions().get::<Refusal>().is_none() {
        // What the framework refuses by itself, such as an address that is badly encoded, is told like all else.
        let sentence = "the address or its query can't be understood";
        response = Refusal::invalid(response.status(), sentence).into_response();
    }
    // Whoever came by another name gets no page: a page names the project.
    if wants_page
        && known
        && let Some(refusal) = response.extensions().get::<Refusal>().cloned()
    {
        response = pages::refusal(&app, signed_in, &refusal);
    }
    let headers = response.headers_mut();
    for (name, value) in SECURITY {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
