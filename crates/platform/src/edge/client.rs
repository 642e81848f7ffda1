//! The client of an edge: what the rollout driver and the kill switch hold.
//!
//! Each call is one connection to the control socket. An error is always about the way there, never about the effect: the
//! caller sends the same command again and gets the first answer.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use camino::Utf8Path;
use delivery::effect::{Command, Effect, Outcome};
use delivery::traffic::{Sample, Weight};
use delivery::{RolloutId, Timestamp};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::wire::{ApplyRequest, Failure, LowerRequest, RenewRequest};
use super::{EdgeConfig, Error, Lowered, Renewal, Status, launch};
use crate::guard::Requested;

/// For everything that is only looked up or switched.
const ANSWER_MS_MAX: u64 = 5_000;
/// For the kill switch, which HAProxy may have to confirm.
const LOWER_MS_MAX: u64 = 8_000;
/// On top of what a command's own limits add up to.
const COMMAND_MARGIN_MS: u64 = 150_000;
/// An answer is a status with a few dozen instances at most.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// A running edge. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Edge {
    config: EdgeConfig,
    variables: BTreeMap<String, String>,
}

impl Edge {
    /// The edge that answers on the configuration's socket; [`Error::NotRunning`] when none does.
    pub async fn connect(config: &EdgeConfig) -> Result<Self, Error> {
        let edge = Self { config: config.clone(), variables: BTreeMap::new() };
        edge.status().await?;
        Ok(edge)
    }

    /// The running edge, or one that is started now as `program... --config FILE` in its own process group with its output
    /// in `edge.log`. Returns when its socket answers and, after a restart, what ran before is up again or known not to come
    /// up quickly.
    pub async fn ensure(config: &EdgeConfig, program: &[String]) -> Result<Self, Error> {
        let edge = Self { config: config.clone(), variables: BTreeMap::new() };
        match edge.status().await {
            Ok(status) if status.stopping => launch::wait_for_end(config, status.pid).await?,
            Ok(_) => return Ok(edge),
            // Broken: it died while it was asked.
            Err(Error::NotRunning { .. } | Error::Broken { .. }) => {}
            Err(other) => return Err(other),
        }
        launch::start(config, program).await
    }

    /// Sends these values along for revisions' `pass` variables. Without them the daemon takes the ones from its own
    /// environment, which is that of whoever started it first.
    #[must_use]
    pub fn with_variables(mut self, variables: BTreeMap<String, String>) -> Self {
        self.variables = variables;
        self
    }

    /// Where this edge listens and keeps its things.
    pub fn config(&self) -> &EdgeConfig {
        &self.config
    }

    /// Applies the command, once however often it is sent. An error says nothing about the effect: send it again.
    pub async fn apply(&self, command: &Command) -> Result<Outcome, Error> {
        let own_ms = match &command.effect {
            Effect::Start { revision } => revision.ready.within_ms.saturating_add(revision.stop_ms),
            Effect::Retire { drain_ms, .. } => *drain_ms,
            Effect::SetWeight { .. } | Effect::Promote { .. } => 0,
        };
        let pass = match &command.effect {
            Effect::Start { revision } => revision.pass.as_slice(),
            _ => &[],
        };
        let variables =
            pass.iter().filter_map(|name| Some((name.clone(), self.variables.get(name)?.clone()))).collect();
        let request = ApplyRequest { command: command.clone(), variables };
        self.ask("apply a command", "/v1/apply", Some(&request), own_ms.saturating_add(COMMAND_MARGIN_MS))
            .await
    }

    /// The splitter's counters, stamped with the reader's time `at`.
    pub async fn sample(&self, at: Timestamp) -> Result<Sample, Error> {
        let sample: Sample = self.ask::<(), _>("give a sample", "/v1/sample", None, ANSWER_MS_MAX).await?;
        Ok(Sample { at, ..sample })
    }

    /// Keeps the rollout's raised weight for another grant's length.
    pub async fn renew(&self, rollout: &RolloutId, epoch: u64) -> Result<Renewal, Error> {
        let request = RenewRequest { rollout: rollout.clone(), epoch };
        self.ask("renew a grant", "/v1/renew", Some(&request), ANSWER_MS_MAX).await
    }

    /// The kill switch: the canary's weight falls to `weight` now if it is above. Needs no epoch, no controller and no disk,
    /// and can only lower. The rollout is told that its grant expired, or who asked.
    pub async fn lower(&self, weight: Weight, requested: Option<Requested>) -> Result<Lowered, Error> {
        let request = LowerRequest { weight, requested };
        self.ask("lower the weight", "/v1/lower", Some(&request), LOWER_MS_MAX).await
    }

    /// Everything that the edge knows about itself.
    pub async fn status(&self) -> Result<Status, Error> {
        self.ask::<(), _>("give its status", "/v1/status", None, ANSWER_MS_MAX).await
    }

    /// Stops the proxy and all instances, and waits until the daemon has let go of its address and state. What ran is started
    /// again by the next [`Edge::ensure`].
    pub async fn shutdown(&self) -> Result<(), Error> {
        let status = self.status().await?;
        self.ask::<(), serde_json::Value>("shut down", "/v1/shutdown", Some(&()), ANSWER_MS_MAX).await?;
        launch::wait_for_end(&self.config, status.pid).await
    }

    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        doing: &'static str,
        path: &'static str,
        question: Option<&Q>,
        within_ms: u64,
    ) -> Result<A, Error> {
        let exchange = exchange(&self.config.control_socket, doing, path, question);
        match tokio::time::timeout(Duration::from_millis(within_ms), exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::TimedOut { doing, within_ms }),
        }
    }
}

/// One request and its answer. With a question it is a POST, otherwise a GET.
pub(crate) async fn exchange<Q: Serialize, A: DeserializeOwned>(
    socket: &Utf8Path,
    doing: &'static str,
    path: &'static str,
    question: Option<&Q>,
) -> Result<A, Error> {
    let broken = |source: Box<dyn std::error::Error + Send + Sync>| Error::Broken { doing, source };
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| Error::NotRunning { socket: socket.to_owned(), source })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(e.into()))?;
    let driver = tokio::spawn(connection);
    let (method, body) = match question {
        Some(question) => ("POST", serde_json::to_vec(question).map_err(|e| broken(e.into()))?),
        None => ("GET", Vec::new()),
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, "edge")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| broken(e.into()))?;
    let response = sender.send_request(request).await.map_err(|e| broken(e.into()))?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(broken)?.to_bytes();
    driver.abort();
    if status != http::StatusCode::OK {
        let reason = serde_json::from_slice::<Failure>(&body)
            .map_or_else(|_| format!("it answered {status}"), |failure| failure.message);
        return Err(Error::Failed { doing, reason });
    }
    serde_json::from_slice(&body).map_err(|e| broken(e.into()))
}
