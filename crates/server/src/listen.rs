//! Takes connections, a bounded number of them, and gives up those whose request does not come.
//!
//! Leaves out what is answered (`routes`). Invariant: whatever peers do, no more descriptors are in use here than there may be
//! connections, so that the rest of the process has some.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::bulk::{Bulk, may_wait};
use crate::limits::Limits;
use crate::stall::Impatient;

/// The wait after a connection could not be taken, such as for want of descriptors.
const RETRY: Duration = Duration::from_millis(100);

/// Serves until it is told to stop, then lets answers under way finish.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
    bulk: Arc<Bulk>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head_within);
    loop {
        let accept = async {
            // Never closed, so a place always comes.
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accept => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        let (builder, watcher, bulk) = (builder.clone(), graceful.watcher(), bulk.clone());
        let mut stopping = stopped.clone();
        connections.spawn(async move {
            let first = tokio::time::timeout(limits.head_within, may_wait(&stream));
            let first = tokio::select! {
                first = first => first.ok(),
                _ = stopping.wait_for(|stop| *stop) => None,
            };
            // Nothing was asked: there is nothing to answer.
            let Some(may_wait) = first else { return };
            let answering = async move {
                let socket = TokioIo::new(Impatient::new(stream, limits.stalled_within));
                // A peer that breaks off is no news.
                let _ = watcher.watch(builder.serve_connection(socket, service)).await;
            };
            match bulk.handle().filter(|_| may_wait) {
                Some(bulk) => drop(bulk.spawn(answering).await),
                None => answering.await,
            }
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn half_sent_requests_do_not_keep_others_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "here" }));
        let limits = Limits { connections: 4, head_within: Duration::from_millis(200), ..Limits::default() };
        let (stop, stopped) = watch::channel(false);
        let bulk = Arc::new(Bulk::start().unwrap());
        let server = tokio::spawn(serve(listener, router, limits, stopped, bulk));
        let mut half_sent = Vec::new();
        for _ in 0..12 {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
            half_sent.push(socket);
        }
        let asked = async {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut text = String::new();
            socket.read_to_string(&mut text).await.unwrap();
            text
        };
        let text = tokio::time::timeout(Duration::from_secs(20), asked).await.expect("it is kept out");
        assert!(text.ends_with("here"), "{text}");
        stop.send_replace(true);
        tokio::time::timeout(Duration::from_secs(20), server).await.expect("it does not stop").unwrap();
    }
}
