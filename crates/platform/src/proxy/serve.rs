//! The listening side: accepts connections within the limits, and serves HTTP/1.1 or HTTP/2 on each.
//!
//! Invariant: after [`serve`] returns, the listener is closed and no connection is being served, unless it outlived the time
//! that a stop may take.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::forward::Client;
use super::head_timer::HeadTimer;
use super::limits::{
    HEAD_BYTES_MAX, HEADERS_MAX, ProxyLimits, STREAMS_PER_CONNECTION_MAX, UPSTREAM_IDLE_MAX,
};
use super::splitter::Splitter;

/// Pause after a failed accept: the process is short of descriptors or memory, and trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Serves the splitter on the listener until `shutdown` is ready; then accepts no more, lets connections finish what they are
/// doing within the limit, and returns.
pub async fn serve(listener: TcpListener, splitter: Splitter, shutdown: impl Future<Output = ()>) {
    let limits = *splitter.limits();
    let permits = u32::try_from(limits.connections.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
    let slots = Arc::new(Semaphore::new(permits as usize));
    let (stop, stopped) = watch::channel(());
    let mut sweep = tokio::time::interval(UPSTREAM_IDLE_MAX);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            _ = sweep.tick() => {
                splitter.sweep();
                continue;
            }
            accepted = accept(&listener, &slots) => accepted,
        };
        let Ok((slot, stream, address)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let client = Client::new(splitter.clone(), address.ip());
        let connection = connection(builder(&limits), stream, client, stopped.clone());
        tokio::spawn(async move {
            connection.await;
            drop(slot);
        });
    }
    drop(listener);
    drop(stop);
    drop(tokio::time::timeout(limits.stop, slots.acquire_many(permits)).await);
}

/// A builder for one connection, because the timer of its heads is its own.
fn builder(limits: &ProxyLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(HeadTimer::default())
        .header_read_timeout(limits.request_head)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .keep_alive_interval(limits.request_head)
        .keep_alive_timeout(limits.request_head);
    builder
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(tokio::sync::OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((slot, stream, address))
}

async fn connection(
    builder: Builder<TokioExecutor>,
    stream: TcpStream,
    client: Client,
    mut stopped: watch::Receiver<()>,
) {
    // Without it, only small writes are slower.
    drop(stream.set_nodelay(true));
    let client = Arc::new(client);
    let service = service_fn(move |request| {
        let client = Arc::clone(&client);
        async move { client.forward(request).await }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut stop = std::pin::pin!(async move { drop(stopped.changed().await) });
    let mut stopping = false;
    poll_fn(|cx| {
        if !stopping && stop.as_mut().poll(cx).is_ready() {
            stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        // Its errors are the client's: broken requests are answered by hyper, broken connections by nobody.
        connection.as_mut().poll(cx).map(drop)
    })
    .await;
}
