//! One request's way to an instance: choose, connect if need be, send, wait for the response's head; again where that is safe.
//!
//! Choosing and sending are one section under the routes' lock that waits for nothing (see [`super`]). What waits,
//! connecting, happens outside; then the choice is made again.
//!
//! A request is sent again, within [`ROUTINGS_MAX`]:
//! - to another instance of the same revision, when the first did not accept the connection: nothing was sent yet;
//! - on a new connection, when a kept one broke before it answered an idempotent request without a body (RFC 9110, 9.2.2).
//!   Neither is the revision's error if it then works, the second only if the instance was just closing an idle connection:
//!   otherwise the request broke it, which counts as a request and an error of its own;
//! - to stable by [`RetryPolicy`]: that is the canary's error, and stable's time starts anew.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

use super::body::{Relay, RequestBody, Upload};
use super::choose::{ArmChoice, Facts, choose};
use super::counters::Ticket;
use super::endpoint::Endpoint;
use super::facts;
use super::limits::ROUTINGS_MAX;
use super::refusal::Refusal;
use super::routes::RetryPolicy;
use super::shard;
use super::splitter::{Lane, Splitter, Table};
use super::upstream::{Failure, Upstream};

type Link = (Arc<Endpoint>, Upstream);

/// What choosing came to.
enum Step<F> {
    Sent(Link, F),
    Connect(Arc<Endpoint>),
    Failed(Refusal),
}

/// A request on its way.
pub(super) struct Exchange<'a> {
    splitter: &'a Splitter,
    client: IpAddr,
    began: Instant,
    /// What the client sent; taken when it is sent on for the last time.
    request: Option<(Parts, RequestBody)>,
    upload: Option<Arc<Upload>>,
    facts: Option<Facts>,
    /// The sticky cookie that the client is to be given.
    cookie: Option<HeaderValue>,
    ticket: Option<Ticket>,
    choice: ArmChoice,
    policy: RetryPolicy,
    /// A connection made for this request.
    made: Option<Link>,
    turn: usize,
    /// Instances of the revision, and how many of them did not accept.
    instances: usize,
    unreachable: usize,
    /// A kept connection has just broken: no more of them.
    fresh: bool,
    /// The canary failed, and the policy sends the request to stable.
    to_stable: bool,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(splitter: &'a Splitter, client: IpAddr, parts: Parts, body: RequestBody) -> Self {
        let upload = match &body {
            RequestBody::Empty => None,
            RequestBody::Streaming(_, upload) => Some(Arc::clone(upload)),
        };
        Self {
            splitter,
            client,
            began: Instant::now(),
            request: Some((parts, body)),
            upload,
            facts: None,
            cookie: None,
            ticket: None,
            choice: ArmChoice::Stable,
            policy: RetryPolicy::Off,
            made: None,
            turn: shard::turn(),
            instances: 0,
            unreachable: 0,
            fresh: false,
            to_stable: false,
        }
    }

    /// The cookie that the response must give to the client.
    pub(super) fn take_cookie(&mut self) -> Option<HeaderValue> {
        self.cookie.take()
    }

    /// The response's head with its body, and what is to be settled when the body ends.
    pub(super) async fn run(&mut self) -> Result<(Response<Incoming>, Relay), Refusal> {
        for _ in 0..ROUTINGS_MAX {
            // Outside the runtime's budget: used up, it would make the socket pretend to be full, and the head would be
            // written after the section.
            let step = tokio::task::unconstrained(std::future::poll_fn(|cx| Poll::Ready(self.step(cx))));
            let refusal = match step.await {
                Step::Failed(refusal) => refusal,
                Step::Connect(endpoint) => match self.connect(endpoint).await {
                    None => continue,
                    Some(refusal) => refusal,
                },
                Step::Sent((endpoint, mut upstream), answer) => {
                    let limits = self.splitter.limits();
                    match upstream.answer(answer, self.began, self.upload.as_deref(), limits).await {
                        Ok(response) => return self.answered(response, endpoint, upstream),
                        Err(Failure::Broken) if upstream.used() && self.request.is_some() => {
                            if !upstream.was_closing(self.began)
                                && let Some(ticket) = self.ticket.take()
                            {
                                ticket.finish(true);
                            }
                            self.fresh = true;
                            continue;
                        }
                        Err(failure) => failure.into(),
                    }
                }
            };
            self.failed(refusal)?;
        }
        self.failed(Refusal::Rerouted)?;
        Err(Refusal::Rerouted)
    }

    /// Chooses and sends, or says what is missing. Waits for nothing: it runs under the routes' lock.
    fn step(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Step<impl Future<Output = hyper::Result<Response<Incoming>>> + use<>> {
        self.splitter.with_table(|table| {
            let Some(lane) = self.lane(table) else {
                return Step::Failed(Refusal::NoRoute);
            };
            if lane.endpoints.is_empty() {
                return Step::Failed(Refusal::NoInstance);
            }
            let (endpoint, mut upstream) = match self.link(lane, cx) {
                Ok(link) => link,
                Err(step) => return step,
            };
            let Some(request) = self.take_request(upstream.used()) else {
                return Step::Failed(Refusal::Rerouted);
            };
            lane.counters.count_sent();
            let answer = upstream.send(request, cx);
            Step::Sent((endpoint, upstream), answer)
        })
    }

    /// The arm's lane. The request's ticket becomes that revision's.
    fn lane<'t>(&mut self, table: &'t Table) -> Option<&'t Lane> {
        let facts = self.facts(table);
        let choice = if self.to_stable { Some(ArmChoice::Stable) } else { choose(&table.split, &facts) };
        let lane = choice.and_then(|choice| table.lane(choice));
        let counters = lane.map(|lane| if facts.asked.is_some() { &lane.asked } else { &lane.counters });
        let same = match (&self.ticket, counters) {
            (Some(ticket), Some(counters)) => Arc::ptr_eq(ticket.counters(), counters),
            (ticket, counters) => ticket.is_none() && counters.is_none(),
        };
        if !same {
            let next = counters.map(|counters| Ticket::new(Arc::clone(counters), self.began));
            if let Some(earlier) = std::mem::replace(&mut self.ticket, next) {
                earlier.withdraw();
            }
            self.unreachable = 0;
        }
        self.choice = choice.unwrap_or(ArmChoice::Stable);
        self.policy = table.routes.retry;
        self.instances = lane.map_or(0, |lane| lane.endpoints.len());
        lane
    }

    fn facts(&mut self, table: &Table) -> Facts {
        if let (None, Some((parts, _))) = (self.facts, &self.request) {
            let routes = &table.routes;
            let (facts, cookie) =
                facts::read(&routes.sticky, routes.override_header.as_ref(), &parts.headers, self.client);
            self.cookie = cookie;
            self.facts = Some(facts);
        }
        self.facts.unwrap_or(Facts { asked: None, key: None, draw: 0 })
    }

    /// A connection to one of the lane's instances: the one made for this request, or a kept one.
    fn link<F>(&mut self, lane: &Lane, cx: &mut Context<'_>) -> Result<Link, Step<F>> {
        if let Some((endpoint, mut upstream)) = self.made.take() {
            if !Arc::ptr_eq(&endpoint.counters, &lane.counters) {
                endpoint.keep(upstream);
            } else if upstream.is_open(cx) {
                return Ok((endpoint, upstream));
            } else {
                self.unreachable += 1;
                if self.unreachable >= self.instances {
                    return Err(Step::Failed(Refusal::Broken));
                }
            }
        }
        let endpoint = &lane.endpoints[self.turn.wrapping_add(self.unreachable) % lane.endpoints.len()];
        while !self.fresh
            && let Some(mut upstream) = endpoint.take(self.began)
        {
            if upstream.is_open(cx) {
                return Ok((Arc::clone(endpoint), upstream));
            }
        }
        Err(Step::Connect(Arc::clone(endpoint)))
    }

    /// The request to send. What may have to be sent again is kept.
    fn take_request(&mut self, used: bool) -> Option<Request<RequestBody>> {
        let again = used || (self.choice == ArmChoice::Canary && self.policy != RetryPolicy::Off);
        if again
            && let Some((parts, RequestBody::Empty)) = &self.request
            && parts.method.is_idempotent()
        {
            return Some(Request::from_parts(parts.clone(), RequestBody::Empty));
        }
        let (parts, body) = self.request.take()?;
        Some(Request::from_parts(parts, body))
    }

    /// Makes a connection for this request. `None` says: choose again.
    async fn connect(&mut self, endpoint: Arc<Endpoint>) -> Option<Refusal> {
        let limits = self.splitter.limits();
        let Some(slot) = self.splitter.upstream_slot().await else { return Some(Refusal::Busy) };
        let attempt = Upstream::connect(endpoint.address, self.began + limits.response_head, slot);
        let refusal = match timeout(limits.connect, attempt).await {
            Ok(Ok(upstream)) => {
                self.made = Some((endpoint, upstream));
                return None;
            }
            Ok(Err(_)) => Refusal::Unreachable,
            Err(_) => Refusal::ConnectTimeout,
        };
        self.unreachable += 1;
        (self.unreachable >= self.instances).then_some(refusal)
    }

    fn answered(
        &mut self,
        response: Response<Incoming>,
        endpoint: Arc<Endpoint>,
        upstream: Upstream,
    ) -> Result<(Response<Incoming>, Relay), Refusal> {
        let mut ticket = self.ticket.take().ok_or(Refusal::Rerouted)?;
        ticket.answered();
        let failed = response.status().is_server_error();
        Ok((response, Relay { upstream, endpoint, ticket, failed }))
    }

    /// Counts the failure. `Ok` says: go on, to stable.
    fn failed(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        match self.ticket.take() {
            Some(ticket) if refusal == Refusal::Busy => ticket.withdraw(),
            Some(ticket) => ticket.finish(!refusal.is_clients()),
            None => {}
        }
        let retry = self.policy == RetryPolicy::IdempotentOnStable
            && self.choice == ArmChoice::Canary
            && !self.to_stable
            && !refusal.is_clients()
            && refusal != Refusal::Busy
            && self.request.as_ref().is_some_and(|(parts, body)| {
                parts.method.is_idempotent() && matches!(body, RequestBody::Empty)
            });
        if !retry {
            return Err(refusal);
        }
        self.to_stable = true;
        self.unreachable = 0;
        self.began = Instant::now();
        Ok(())
    }
}
