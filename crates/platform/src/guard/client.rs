//! The client of a guard: what the edge, the kill switch and `trimtab guard status` hold.
//!
//! Each call is one connection. An error says nothing about the effect, except that nothing was raised by it.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::RolloutId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::wire::{RenewRequest, SettleRequest};
use super::{Answer, Error, Held, Requested, Status};
use crate::edge::client::exchange;

/// For what is answered from memory and disk.
const ANSWER_MS_MAX: u64 = 2_000;
/// For what is answered after HAProxy has confirmed it, or has not.
const ROLLBACK_MS_MAX: u64 = 10_000;

/// A guard that may or may not run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Guard {
    socket: Utf8PathBuf,
}

impl Guard {
    /// The one behind this socket.
    pub fn at(socket: &Utf8Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks for a grant, in place of the one that it holds.
    pub async fn grant(&self, wanted: &Held) -> Result<Answer, Error> {
        self.ask("give a grant", "/v1/grant", Some(wanted), ANSWER_MS_MAX).await
    }

    /// Keeps the rollout's grant for another length of it.
    pub async fn renew(&self, rollout: &RolloutId, epoch: u64) -> Result<Answer, Error> {
        let request = RenewRequest { rollout: rollout.clone(), epoch };
        self.ask("renew a grant", "/v1/renew", Some(&request), ANSWER_MS_MAX).await
    }

    /// Says that the rollout needs no grant any more.
    pub async fn settle(&self, rollout: &RolloutId) -> Result<Answer, Error> {
        let request = SettleRequest { rollout: rollout.clone() };
        self.ask("end a grant", "/v1/settle", Some(&request), ANSWER_MS_MAX).await
    }

    /// The kill switch: no canary at HAProxy from now on. Answers when HAProxy confirmed it, or with the drain as owed.
    pub async fn rollback(&self, requested: &Requested) -> Result<Status, Error> {
        self.ask("take the traffic back", "/v1/rollback", Some(requested), ROLLBACK_MS_MAX).await
    }

    /// Everything that it knows about itself.
    pub async fn status(&self) -> Result<Status, Error> {
        self.ask::<(), _>("give its status", "/v1/status", None, ANSWER_MS_MAX).await
    }

    /// Ends the guard. Refused while it holds a grant or owes a drain.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.ask::<(), serde_json::Value>("end", "/v1/shutdown", Some(&()), ANSWER_MS_MAX).await.map(drop)
    }

    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        doing: &'static str,
        path: &'static str,
        question: Option<&Q>,
        within_ms: u64,
    ) -> Result<A, Error> {
        let exchange = exchange(&self.socket, doing, path, question);
        match tokio::time::timeout(Duration::from_millis(within_ms), exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(crate::edge::Error::NotRunning { socket, .. })) => Err(Error::NotRunning { socket }),
            Ok(Err(crate::edge::Error::Failed { reason, .. })) => Err(Error::Failed { doing, reason }),
            Ok(Err(error)) => Err(Error::Failed { doing, reason: error.to_string() }),
            Err(_) => Err(Error::Failed { doing, reason: format!("no answer within {within_ms} ms") }),
        }
    }
}
