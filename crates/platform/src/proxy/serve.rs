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
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::forward::Client;
use super::head_timer::HeadTimer;
use super::limits::{
    HEAD_BYTES_MAX, HEADERS_MAX, ProxyLimits, STREAM_SEND_BYTES_MAX, STREAMS_PER_CONNECTION_MAX,
    UPSTREAM_IDLE_MAX,
};
use super::splitter::Splitter;

/// Pause after a failed accept: the process is short of descriptors or memory, and trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// A silent client is asked whether it still lives after this time, and then as often.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// What an HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often the rest of a preface that came in parts is looked for.
const PREFACE_LOOK: Duration = Duration::from_millis(25);

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
        let client = Client::new(splitter.clone(), address.ip(), slot, stopped.clone());
        tokio::spawn(connection(limits, stream, client, stopped.clone()));
    }
    drop(listener);
    drop(stop);
    drop(tokio::time::timeout(limits.stop, slots.acquire_many(permits)).await);
}

/// How the system treats a client's connection. Each is a help that the proxy can do without.
fn configure(stream: &TcpStream, limits: &ProxyLimits) {
    // Small writes are not held back.
    let _ = sockopt::set_tcp_nodelay(stream, true);
    // Clients that vanished are found, tunnels' too.
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, KEEP_ALIVE);
    let _ = sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE);
    // Clients that take nothing of what was written are cut off.
    #[cfg(target_os = "linux")]
    let _ = sockopt::set_tcp_user_timeout(stream, limits.write_stall.as_millis() as u32);
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
        .max_send_buf_size(STREAM_SEND_BYTES_MAX)
        .keep_alive_interval(limits.request_head)
        .keep_alive_timeout(limits.request_head);
    builder
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((slot, stream, address))
}

/// Waits until it is clear which HTTP a client speaks; `false` when it went away before. hyper has no limit for this.
async fn begun(stream: &TcpStream) -> bool {
    let mut start = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut start).await {
            Ok(0) | Err(_) => return false,
            Ok(read) if read < PREFACE.len() && PREFACE.starts_with(&start[..read]) => {
                tokio::time::sleep(PREFACE_LOOK).await;
            }
            Ok(_) => return true,
        }
    }
}

async fn connection(
    limits: ProxyLimits,
    stream: TcpStream,
    client: Client,
    mut stopped: watch::Receiver<()>,
) {
    configure(&stream, &limits);
    let begun = tokio::select! {
        begun = timeout(limits.request_head, begun(&stream)) => begun,
        _ = stopped.changed() => return,
    };
    if begun != Ok(true) {
        return;
    }
    let builder = builder(&limits);
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
