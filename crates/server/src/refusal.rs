//! A request that isn't answered as asked: a status and a problem, told as RFC 9457 `application/problem+json`.
//!
//! For a browser, `routes` turns the same refusal into a page. Invariant: each carries one of our codes.

use axum::response::{IntoResponse, Response};
use delivery::Problem;
use delivery::code::Code;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

use crate::cdevents::Unusable;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) problem: Problem,
}

/// RFC 9457, with `code`, `hint` and `causes` as extension members.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    causes: &'a [String],
}

impl Refusal {
    /// The caller may not do that.
    pub(crate) fn refused(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self { status, problem: Problem::new(Code::RequestRefused, sentence) }
    }

    /// The request has the wrong shape.
    pub(crate) fn invalid(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self { status, problem: Problem::new(Code::RequestInvalid, sentence) }
    }

    /// There is nothing of that name.
    pub(crate) fn unknown(code: Code, sentence: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, problem: Problem::new(code, sentence) }
    }

    /// The events can't be taken.
    pub(crate) fn unusable(unusable: &Unusable) -> Self {
        let status = match unusable {
            Unusable::Mode => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Unusable::Many { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Unusable::Event { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self { status, problem: Problem::new(Code::ReportRefused, unusable.to_string()) }
            .hint("run: trimtab explain TRM-0910")
    }

    /// There is no room for it now.
    pub(crate) fn busy(sentence: impl Into<String>) -> Self {
        let problem = Problem::new(Code::ServerBusy, sentence);
        Self { status: StatusCode::SERVICE_UNAVAILABLE, problem }
    }

    /// Something here broke; the request is not at fault.
    pub(crate) fn internal() -> Self {
        let problem = Problem::new(Code::PlatformUnavailable, "the answer could not be made");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, problem }
    }

    /// With what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.problem = self.problem.hint(hint);
        self
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let status = match problem.code {
            Code::RolloutUnknown | Code::ThingUnknown | Code::EnvironmentUnknown | Code::ServiceUnknown => {
                StatusCode::NOT_FOUND
            }
            Code::ApprovalByAuthor | Code::ApproverNotListed => StatusCode::FORBIDDEN,
            Code::NothingToRollBack | Code::NothingToApprove | Code::RolloutRunning | Code::Fenced => {
                StatusCode::CONFLICT
            }
            Code::StoreUnavailable
            | Code::StoreReadOnly
            | Code::StoreNewer
            | Code::StoreFull
            | Code::StoreDamaged
            | Code::StoreLocked
            | Code::PlatformUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self { status, problem }
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        error.problem().into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Body {
            kind: format!("urn:trimtab:problem:{}", self.problem.code),
            title: self.problem.code.title(),
            status: self.status.as_u16(),
            detail: &self.problem.message,
            code: self.problem.code.id(),
            hint: self.problem.hint.as_deref(),
            causes: &self.problem.causes,
        };
        let text = serde_json::to_string(&body).unwrap_or_default();
        let mut response = (self.status, text).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"trimtab\""));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response.extensions_mut().insert(self);
        response
    }
}
