//! The answers that the proxy gives itself: a status, a small plain body, and a header that tells its reason to programs.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::ResponseBody;

/// The header that names the reason. Upstreams do not set it, so its presence tells that the proxy answered.
pub(super) const REASON: HeaderName = HeaderName::from_static("x-trimtab-proxy");

/// Why the proxy answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `CONNECT`: this is no forward proxy.
    Method,
    /// A `Transfer-Encoding` that is not plain chunked. (Of `Content-Length` beside chunked, hyper takes the latter, removes
    /// the former and closes after the answer, as RFC 9112, 6.3 allows.)
    Framing,
    /// No `Host`, or several.
    Host,
    /// The client's body broke off.
    ClientBody,
    /// The client stopped sending its body.
    ClientTimeout,
    /// There is no revision to go to.
    NoRoute,
    /// The revision has no ready instance.
    NoInstance,
    /// The routes kept changing.
    Rerouted,
    /// All connections to instances that may be open are in use. Counted for no arm.
    Busy,
    /// The instance refused or reset the connection attempt.
    Unreachable,
    /// The connection attempt took too long.
    ConnectTimeout,
    /// The connection broke before the response's head.
    Broken,
    /// The response was not HTTP/1.
    Malformed,
    /// The response's head took too long.
    ResponseTimeout,
}

impl Refusal {
    /// Status, reason and sentence.
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method", "CONNECT is not allowed here\n"),
            Self::Framing => (StatusCode::BAD_REQUEST, "framing", "the request's length is ambiguous\n"),
            Self::Host => (StatusCode::BAD_REQUEST, "host", "the request needs exactly one Host\n"),
            Self::ClientBody => (StatusCode::BAD_REQUEST, "client-body", "the request's body broke off\n"),
            Self::ClientTimeout => {
                (StatusCode::REQUEST_TIMEOUT, "client-timeout", "the request's body took too long\n")
            }
            Self::NoRoute => (StatusCode::SERVICE_UNAVAILABLE, "no-route", "nothing is deployed here\n"),
            Self::NoInstance => {
                (StatusCode::SERVICE_UNAVAILABLE, "no-instance", "no instance of the service is ready\n")
            }
            Self::Rerouted => (StatusCode::SERVICE_UNAVAILABLE, "rerouted", "the routes keep changing\n"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "too many requests are under way\n"),
            Self::Unreachable => {
                (StatusCode::BAD_GATEWAY, "unreachable", "the service does not accept connections\n")
            }
            Self::ConnectTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, "connect-timeout", "the service did not accept in time\n")
            }
            Self::Broken => (StatusCode::BAD_GATEWAY, "broken", "the service closed the connection\n"),
            Self::Malformed => (StatusCode::BAD_GATEWAY, "malformed", "the service did not answer in HTTP\n"),
            Self::ResponseTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, "response-timeout", "the service did not answer in time\n")
            }
        }
    }

    /// Whether the client caused it, so that it is no arm's error.
    pub(super) fn is_clients(self) -> bool {
        self.parts().0.is_client_error()
    }

    pub(super) fn respond(self) -> Response<ResponseBody> {
        let (status, reason, sentence) = self.parts();
        let mut response = Response::new(ResponseBody::whole(Bytes::from_static(sentence.as_bytes())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(REASON, HeaderValue::from_static(reason));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.is_clients() {
            // What follows on a connection whose request was not understood may be meant as something else.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
