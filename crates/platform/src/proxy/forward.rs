//! One request from the client's side: prepare its head, exchange it, hand the response back.
//!
//! Invariant: whatever happens, the client gets a response, and the request's ticket ends.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::body::{Relay, RequestBody, ResponseBody};
use super::exchange::Exchange;
use super::headers;
use super::refusal::Refusal;
use super::splitter::Splitter;
use super::tunnel::{self, Hold};

/// A client's connection.
pub(super) struct Client {
    splitter: Splitter,
    address: IpAddr,
    /// It is a proxy whose word about its clients is taken.
    trusted: bool,
    forwarded_for: HeaderValue,
    /// Its place among the connections; a tunnel takes it over.
    slot: Arc<OwnedSemaphorePermit>,
    stopped: watch::Receiver<()>,
}

impl Client {
    pub(super) fn new(
        splitter: Splitter,
        address: IpAddr,
        slot: OwnedSemaphorePermit,
        stopped: watch::Receiver<()>,
    ) -> Self {
        let address = address.to_canonical();
        let forwarded_for = HeaderValue::try_from(address.to_string());
        let forwarded_for = forwarded_for.unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        let trusted = splitter.trusts(address);
        Self { splitter, address, trusted, forwarded_for, slot: Arc::new(slot), stopped }
    }

    /// Answers a request.
    pub(super) async fn forward(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let (mut parts, body) = request.into_parts();
        let origin = if self.trusted {
            headers::origin(&parts.headers, |address| self.splitter.trusts(address))
        } else {
            None
        };
        let client = origin.unwrap_or(self.address);
        let via = headers::Sender { address: &self.forwarded_for, trusted: self.trusted };
        let upgrade = match headers::prepare(&mut parts, via, body.is_end_stream()) {
            Ok(upgrade) => upgrade.then(|| parts.extensions.remove::<OnUpgrade>()).flatten(),
            Err(refusal) => return Ok(refusal.respond()),
        };
        parts.extensions.clear();
        Ok(self.exchange(client, parts, RequestBody::new(body), upgrade).await)
    }

    async fn exchange(
        &self,
        client: IpAddr,
        parts: Parts,
        body: RequestBody,
        upgrade: Option<OnUpgrade>,
    ) -> Response<ResponseBody> {
        let mut exchange = Exchange::new(&self.splitter, client, parts, body);
        let result = exchange.run().await;
        let cookie = exchange.take_cookie();
        let mut response = match result {
            Ok((response, relay)) => self.respond(response, relay, upgrade).await,
            Err(refusal) => refusal.respond(),
        };
        if let Some(cookie) = cookie {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }

    async fn respond(
        &self,
        response: Response<Incoming>,
        relay: Relay,
        upgrade: Option<OnUpgrade>,
    ) -> Response<ResponseBody> {
        let (mut parts, incoming) = response.into_parts();
        parts.version = Version::HTTP_11;
        if parts.status != StatusCode::SWITCHING_PROTOCOLS {
            headers::strip_response(&mut parts.headers, false);
            return Response::from_parts(parts, ResponseBody::relay(incoming, relay));
        }
        headers::strip_response(&mut parts.headers, true);
        let Relay { upstream, mut ticket, .. } = relay;
        let instance = upstream.into_socket().await;
        let Some(client) = upgrade else {
            // It switched although nobody had asked.
            ticket.finish(true);
            return Refusal::Malformed.respond();
        };
        ticket.count(false);
        let hold = Hold { ticket, slot: Arc::clone(&self.slot), stopped: self.stopped.clone() };
        tunnel::open(client, instance, self.splitter.limits().half_tunnel, hold);
        Response::from_parts(parts, ResponseBody::whole(Bytes::new()))
    }
}
