//! Upgraded connections (WebSocket and the like): after a 101, bytes pass both ways until both sides have ended.
//!
//! The request is counted when the 101 arrives; its ticket stays open for the tunnel's life, so a drain waits for it.

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::counters::Ticket;

/// Bytes held for each direction.
const TUNNEL_BUFFER_BYTES: usize = 16 << 10;

/// Passes bytes in a task of its own, as soon as the client's side has been upgraded.
pub(super) fn open(client: OnUpgrade, mut instance: TcpStream, early: Bytes, ticket: Ticket) {
    tokio::spawn(async move {
        // Either side may go away at any time; that is how tunnels end, and nobody is left to be told.
        if let Ok(client) = client.await {
            let mut client = TokioIo::new(client);
            if client.write_all(&early).await.is_ok() && client.flush().await.is_ok() {
                let size = TUNNEL_BUFFER_BYTES;
                drop(tokio::io::copy_bidirectional_with_sizes(&mut client, &mut instance, size, size).await);
            }
        }
        drop(ticket);
    });
}
