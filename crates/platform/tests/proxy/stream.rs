//! Bodies stream both ways, and upgraded connections are tunnels.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use platform::proxy::ProxyLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

use crate::world::{Body, Proxy, STABLE, empty, full, get, instance, only, raw_instance, revision};

/// A body that is sent part by part, as the test feeds it.
pub(crate) fn fed() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (feed, mut parts) = mpsc::channel(1);
    let parts = futures_util::stream::poll_fn(move |cx| parts.poll_recv(cx).map(|part| part.map(Ok)));
    (feed, StreamBody::new(parts).boxed())
}

#[tokio::test]
async fn the_first_part_arrives_before_the_last_is_sent() {
    let go_on = Arc::new(Notify::new());
    let gate = Arc::clone(&go_on);
    let address = instance(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            let (feed, body) = fed();
            tokio::spawn(async move {
                feed.send(Frame::data("first".into())).await.unwrap();
                gate.notified().await;
                feed.send(Frame::data("last".into())).await.unwrap();
            });
            Response::new(body)
        }
    })
    .await;
    let proxy = Proxy::start(only(address)).await;
    let mut client = proxy.client().await;
    let mut body = client.send(get("/")).await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "first");
    assert_eq!(proxy.totals(STABLE).in_flight, 1);
    assert_eq!(proxy.totals(STABLE).requests, 0, "counted when it ends");
    go_on.notify_one();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "last");
    assert_eq!(proxy.settled(STABLE).await.requests, 1);
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let address = instance(|request| async move {
        let collected = request.into_body().collect().await.unwrap();
        let got = collected.trailers().and_then(|trailers| trailers.get("x-sum")).cloned();
        let (feed, body) = fed();
        tokio::spawn(async move {
            feed.send(Frame::data("data".into())).await.unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-echo", got.unwrap_or(HeaderValue::from_static("none")));
            feed.send(Frame::trailers(trailers)).await.unwrap();
        });
        Response::builder().header("trailer", "x-echo").body(body).unwrap()
    })
    .await;
    let proxy = Proxy::start(only(address)).await;
    let (feed, body) = fed();
    let request = Request::post("/").header("host", "s").header("te", "trailers").header("trailer", "x-sum");
    let request = request.body(body).unwrap();
    tokio::spawn(async move {
        feed.send(Frame::data("up".into())).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        feed.send(Frame::trailers(trailers)).await.unwrap();
    });
    let response = proxy.client().await.send(request).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-echo"], "42");
    assert_eq!(collected.to_bytes(), "data");
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_upload_streams_and_is_not_kept_in_memory() {
    const PART: usize = 1 << 20;
    const PARTS: usize = 64;
    let first = Arc::new(Notify::new());
    let seen = Arc::clone(&first);
    let address = instance(move |request| {
        let seen = Arc::clone(&seen);
        async move {
            let (mut body, mut bytes) = (request.into_body(), 0);
            while let Some(frame) = body.frame().await {
                bytes += frame.unwrap().into_data().unwrap().len();
                seen.notify_one();
            }
            Response::new(full(bytes.to_string()))
        }
    })
    .await;
    let proxy = Proxy::start(only(address)).await;
    let (feed, body) = fed();
    let request = Request::post("/").header("host", "s").body(body).unwrap();
    let part = Bytes::from(vec![7; PART]);
    let before = resident();
    let feeder = tokio::spawn(async move {
        feed.send(Frame::data(part.clone())).await.unwrap();
        // Only a proxy that streams lets the instance see the first part before there is a second.
        first.notified().await;
        for _ in 1..PARTS {
            feed.send(Frame::data(part.clone())).await.unwrap();
        }
        resident()
    });
    let text = proxy.client().await.text(request).await;
    assert_eq!(text, (PART * PARTS).to_string());
    let grown = feeder.await.unwrap().saturating_sub(before);
    assert!(grown < 32 << 20, "grew by {grown} bytes while 64 MiB passed");
}

#[tokio::test]
async fn head_and_empty_responses_keep_their_connection() {
    let address = instance(|request| async move {
        match request.uri().path() {
            "/204" => Response::builder().status(204).body(empty()).unwrap(),
            "/304" => Response::builder().status(304).header("etag", "\"x\"").body(empty()).unwrap(),
            _ => Response::builder().header("content-length", "5").body(full("hello")).unwrap(),
        }
    })
    .await;
    let proxy = Proxy::start(only(address)).await;
    let mut client = proxy.client().await;
    for _ in 0..3 {
        let head = Request::head("/").header("host", "s").body(empty()).unwrap();
        let (status, headers, text) = client.ask(head).await;
        assert_eq!((status, headers["content-length"].to_str().unwrap(), text.as_str()), (200, "5", ""));
        assert_eq!(client.ask(get("/204")).await.0, 204);
        assert_eq!(client.ask(get("/304")).await.0, 304);
        assert_eq!(client.text(get("/")).await, "hello");
    }
    assert_eq!(proxy.settled(STABLE).await.requests, 12);
}

/// A server that switches protocols, says something at once, and then echoes.
async fn echo_server() -> std::net::SocketAddr {
    raw_instance(|mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello";
        stream.write_all(answer).await.unwrap();
        let (mut read, mut write) = stream.split();
        drop(tokio::io::copy(&mut read, &mut write).await);
    })
    .await
}

#[tokio::test]
async fn an_upgraded_connection_is_a_tunnel() {
    let proxy = Proxy::start(only(echo_server().await)).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let ask = b"GET /ws HTTP/1.1\r\nhost: s\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nhello") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    for message in ["one", "two", "three"] {
        stream.write_all(message.as_bytes()).await.unwrap();
        let mut echo = vec![0; message.len()];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, message.as_bytes());
    }
    let totals = proxy.totals(STABLE);
    assert_eq!((totals.requests, totals.errors, totals.in_flight), (1, 0, 1));
    assert!(!proxy.splitter.drained(&revision(STABLE), Duration::from_millis(50)).await);
    drop(stream);
    let totals = proxy.settled(STABLE).await;
    assert_eq!((totals.requests, totals.errors), (1, 0));
}

/// Opens a tunnel to the echo server.
async fn tunnel(proxy: &Proxy) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let ask = b"GET /ws HTTP/1.1\r\nhost: s\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nhello") {
        answer.push(stream.read_u8().await.unwrap());
    }
    stream
}

#[tokio::test]
async fn a_tunnel_keeps_its_place_among_the_connections() {
    let limits = ProxyLimits { connections: 1, ..ProxyLimits::default() };
    let proxy = Proxy::limited(only(echo_server().await), limits).await;
    let first = tunnel(&proxy).await;
    {
        let mut second = std::pin::pin!(tunnel(&proxy));
        assert!(tokio::time::timeout(Duration::from_millis(200), &mut second).await.is_err());
        drop(first);
        drop(second.await);
    }
    // Tunnels don't hold up the proxy's end.
    let _third = tunnel(&proxy).await;
    tokio::time::timeout(Duration::from_secs(5), proxy.stop()).await.unwrap();
}

#[tokio::test]
async fn a_tunnel_ends_soon_after_its_instance() {
    let address = raw_instance(|mut stream| async move {
        let mut head = [0; 1024];
        drop(stream.read(&mut head).await);
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello";
        stream.write_all(answer).await.unwrap();
    })
    .await;
    let limits = ProxyLimits { half_tunnel: Duration::from_millis(100), ..ProxyLimits::default() };
    let proxy = Proxy::limited(only(address), limits).await;
    let mut stream = tunnel(&proxy).await;
    // The client neither sends nor closes.
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(proxy.settled(STABLE).await.in_flight, 0);
    drop(stream);
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_an_error() {
    let address = raw_instance(|mut stream| async move {
        let mut buffer = [0; 1024];
        drop(stream.read(&mut buffer).await);
        drop(
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")
                .await,
        );
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    let proxy = Proxy::start(only(address)).await;
    assert_eq!(proxy.client().await.ask(get("/")).await.0, 502);
    assert_eq!(proxy.settled(STABLE).await.errors, 1);
}

#[tokio::test]
async fn the_hundred_comes_from_the_proxy_when_the_body_is_wanted() {
    let address = instance(|request| async move {
        assert!(!request.headers().contains_key("expect"));
        Response::new(full(request.into_body().collect().await.unwrap().to_bytes()))
    })
    .await;
    let proxy = Proxy::start(only(address)).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nhost: s\r\nexpect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut interim = Vec::new();
    while !interim.ends_with(b"\r\n\r\n") {
        interim.push(stream.read_u8().await.unwrap());
    }
    assert!(interim.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&interim));
    stream.write_all(b"body").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("body"), "{answer}");
}
