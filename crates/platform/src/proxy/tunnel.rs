//! Upgraded connections (WebSocket): after a 101, bytes pass both ways until one side has ended, and a little longer.
//!
//! The request is counted when the 101 arrives; its ticket stays open for the tunnel's life, so a drain waits for it. Its
//! client keeps its place among the connections. Invariant: a tunnel ends with its instance, so none outlives its revision
//! by more than the time that half a tunnel may take.

use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use super::counters::Ticket;
use super::upstream::Socket;

/// What a tunnel holds while it lives.
pub(super) struct Hold {
    pub(super) ticket: Ticket,
    /// The client's place among the connections.
    pub(super) slot: Arc<OwnedSemaphorePermit>,
    pub(super) stopped: watch::Receiver<()>,
}

/// Passes bytes in a task of its own, as soon as the client's side has been upgraded.
pub(super) fn open(client: OnUpgrade, instance: Socket, half: Duration, hold: Hold) {
    let Hold { ticket, slot, mut stopped } = hold;
    tokio::spawn(async move {
        {
            let mut tunnel = std::pin::pin!(pass(client, instance, half));
            tokio::select! {
                () = &mut tunnel => {}
                _ = stopped.changed() => {
                    // The proxy waits for requests, not for tunnels: they end with their instance.
                    drop(slot);
                    tunnel.await;
                }
            }
        }
        drop(ticket);
    });
}

/// Either side may go away at any time; that is how tunnels end, and nobody is left to be told.
async fn pass(client: OnUpgrade, instance: Socket, half: Duration) {
    let Ok(client) = client.await else { return };
    let Socket { stream, early, slot: _slot } = instance;
    let (from_client, mut to_client) = tokio::io::split(TokioIo::new(client));
    let (from_instance, to_instance) = stream.into_split();
    if to_client.write_all(&early).await.is_err() || to_client.flush().await.is_err() {
        return;
    }
    let mut up = std::pin::pin!(copy(from_client, to_instance));
    let mut down = std::pin::pin!(copy(from_instance, to_client));
    tokio::select! {
        () = &mut up => drop(timeout(half, down).await),
        () = &mut down => drop(timeout(half, up).await),
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    drop(tokio::io::copy(&mut from, &mut to).await);
    drop(to.shutdown().await);
}
