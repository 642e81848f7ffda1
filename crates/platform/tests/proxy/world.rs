//! The world around the proxy: instances, a proxy, clients.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use delivery::RevisionId;
use delivery::traffic::{ArmTotals, Weight};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use platform::proxy::{Arm, ProxyLimits, Routes, Splitter, serve};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "service").body(empty()).unwrap()
}

pub(crate) const STABLE: &str = "rev-00000001";
pub(crate) const CANARY: &str = "rev-00000002";

pub(crate) fn revision(id: &str) -> RevisionId {
    RevisionId::new(id).unwrap()
}

pub(crate) fn percent(percent: f64) -> Weight {
    Weight::from_percent(percent).unwrap()
}

pub(crate) fn arm(id: &str, instances: &[SocketAddr]) -> Arm {
    Arm { revision: revision(id), instances: instances.to_vec() }
}

/// Only a stable revision.
pub(crate) fn only(instance: SocketAddr) -> Routes {
    Routes { stable: Some(arm(STABLE, &[instance])), ..Routes::default() }
}

pub(crate) fn both(stable: SocketAddr, canary: SocketAddr, weight: f64) -> Routes {
    Routes {
        stable: Some(arm(STABLE, &[stable])),
        canary: Some(arm(CANARY, &[canary])),
        weight: percent(weight),
        ..Routes::default()
    }
}

/// Starts an HTTP/1.1 instance.
pub(crate) async fn instance<H, F>(handler: H) -> SocketAddr
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    raw_instance(move |stream| {
        let handler = handler.clone();
        async move {
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            drop(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        }
    })
    .await
}

/// Starts an instance that handles its connections itself.
pub(crate) async fn raw_instance<H, F>(handler: H) -> SocketAddr
where
    H: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            tokio::spawn(handler(stream));
        }
    });
    address
}

/// An instance that says its name and counts what reaches it.
pub(crate) async fn named(name: &'static str) -> (SocketAddr, Arc<AtomicU64>) {
    let arrived = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&arrived);
    let address = instance(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move { Response::new(full(name)) }
    })
    .await;
    (address, arrived)
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) splitter: Splitter,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(routes: Routes) -> Self {
        Self::limited(routes, ProxyLimits::default()).await
    }

    pub(crate) async fn limited(routes: Routes, limits: ProxyLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let splitter = Splitter::new("boot-1".into(), limits);
        splitter.set_routes(routes);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, splitter.clone(), async { drop(stopped.await) }));
        Self { address, splitter, stop: Some(stop), task }
    }

    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.task.await.unwrap();
    }

    pub(crate) fn totals(&self, id: &str) -> ArmTotals {
        self.splitter.totals(&revision(id)).unwrap_or_else(ArmTotals::zero)
    }

    /// A revision's totals once nothing is under way on it.
    pub(crate) async fn settled(&self, id: &str) -> ArmTotals {
        assert!(self.splitter.drained(&revision(id), Duration::from_secs(10)).await, "requests never ended");
        self.totals(id)
    }

    pub(crate) async fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let task = tokio::spawn(async move { drop(connection.await) });
        Client { sender, task }
    }

    /// Writes bytes on a connection of its own and reads until the proxy closes or nothing comes for a while.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The proxy may answer and close before it has read everything.
        drop(tokio::io::AsyncWriteExt::write_all(&mut stream, bytes).await);
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        while let Ok(Ok(read)) =
            tokio::time::timeout(Duration::from_millis(500), stream.read(&mut part)).await
        {
            if read == 0 {
                break;
            }
            answer.extend_from_slice(&part[..read]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// A client with one connection.
pub(crate) struct Client {
    pub(crate) sender: SendRequest<Body>,
    task: tokio::task::JoinHandle<()>,
}

impl Client {
    pub(crate) async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// Status, headers and text.
    pub(crate) async fn ask(&mut self, request: Request<Body>) -> (u16, http::HeaderMap, String) {
        let (parts, body) = self.send(request).await.unwrap().into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, String::from_utf8_lossy(&text).into_owned())
    }

    pub(crate) async fn text(&mut self, request: Request<Body>) -> String {
        let (status, _, text) = self.ask(request).await;
        assert_eq!(status, 200, "{text}");
        text
    }

    /// Goes away at once, whatever is under way.
    pub(crate) async fn vanish(self) {
        self.task.abort();
        drop(self.task.await);
    }
}

pub(crate) fn reason(headers: &http::HeaderMap) -> &str {
    headers.get("x-trimtab-proxy").map_or("", |value| value.to_str().unwrap())
}
