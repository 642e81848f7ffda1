//! HTTP/2 in front, heads that try to confuse, limits, and the proxy's own end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use platform::proxy::ProxyLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{Body, Proxy, STABLE, empty, full, get, instance, named, only};

/// Says what it was asked.
async fn mirror() -> std::net::SocketAddr {
    instance(|request| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let header = |name: &str| {
            let values = parts.headers.get_all(name).iter();
            values.map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join("|")
        };
        let text = format!(
            "{} {} {:?} host={} for={} cookie={} body={}",
            parts.method,
            parts.uri,
            parts.version,
            header("host"),
            header("x-forwarded-for"),
            header("cookie"),
            String::from_utf8_lossy(&body)
        );
        Response::builder()
            .header("connection", "keep-alive")
            .header("keep-alive", "5")
            .body(full(text))
            .unwrap()
    })
    .await
}

#[tokio::test]
async fn http_2_in_front_is_http_1_behind() {
    let proxy = Proxy::start(only(mirror().await)).await;
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut tasks = Vec::new();
    for number in 0..50 {
        let mut sender = sender.clone();
        tasks.push(tokio::spawn(async move {
            let request = Request::post(format!("http://shop.example/{number}?q=1"));
            let request = request.header("cookie", "a=1").header("cookie", "b=2").body(full("up")).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert!(!response.headers().contains_key("keep-alive"));
            let text = response.into_body().collect().await.unwrap().to_bytes();
            let expected = format!(
                "POST /{number}?q=1 HTTP/1.1 host=shop.example for=127.0.0.1 cookie=a=1; b=2 body=up"
            );
            assert_eq!(String::from_utf8_lossy(&text), expected);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(proxy.settled(STABLE).await.requests, 50);
}

#[tokio::test]
async fn absolute_targets_and_old_versions_are_understood() {
    let proxy = Proxy::start(only(mirror().await)).await;
    let answer = proxy.raw(b"GET http://a.example/x HTTP/1.1\r\nhost: b.example\r\n\r\n").await;
    assert!(answer.contains("GET /x HTTP/1.1 host=a.example"), "{answer}");
    let answer = proxy.raw(b"GET /old HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200") && answer.contains("GET /old HTTP/1.1"), "{answer}");
}

/// None of these may reach an instance, where it could be read as two requests.
#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let (address, arrived) = named("stable").await;
    let proxy = Proxy::start(only(address)).await;
    let inner = "GET /smuggled HTTP/1.1\r\nhost: s\r\n\r\n";
    for head in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: +5\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding : chunked\r\n",
        "host: other\r\n",
    ] {
        let request = format!("POST / HTTP/1.1\r\nhost: s\r\n{head}\r\n0\r\n\r\n{inner}");
        let answer = proxy.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{head:?}: {answer}");
        assert_eq!(arrived.load(Ordering::SeqCst), 0, "{head:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{head:?}: the connection must close: {answer}");
    }
}

/// hyper drops the length beside a chunked coding. One request goes on, framed anew; the rest is the next request.
#[tokio::test]
async fn a_length_beside_chunks_does_not_travel() {
    let proxy = Proxy::start(only(mirror().await)).await;
    for head in [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
    ] {
        let request = format!("POST /one HTTP/1.1\r\nhost: s\r\n{head}\r\n2\r\nhi\r\n0\r\n\r\n");
        let answer = proxy.raw(request.as_bytes()).await;
        let whole = answer.contains("POST /one") && answer.contains("body=hi");
        assert!(whole || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (address, arrived) = named("stable").await;
    let proxy = Proxy::start(only(address)).await;
    let large = format!("GET / HTTP/1.1\r\nhost: s\r\nx: {}\r\n\r\n", "a".repeat(70 << 10));
    assert!(proxy.raw(large.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let many = format!("GET / HTTP/1.1\r\nhost: s\r\n{}\r\n", "x: 1\r\n".repeat(120));
    assert!(proxy.raw(many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    assert!(proxy.raw(b"CONNECT s:443 HTTP/1.1\r\nhost: s:443\r\n\r\n").await.starts_with("HTTP/1.1 405"));
    assert_eq!(arrived.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_connection_too_many_waits() {
    let (address, _) = named("stable").await;
    let limits = ProxyLimits { connections: 1, ..ProxyLimits::default() };
    let proxy = Proxy::limited(only(address), limits).await;
    let mut first = proxy.client().await;
    assert_eq!(first.text(get("/")).await, "stable");
    let mut second = proxy.client().await;
    let mut waiting = std::pin::pin!(second.text(get("/")));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut waiting).await.is_err());
    first.vanish().await;
    assert_eq!(waiting.await, "stable");
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let (address, _) = named("stable").await;
    let limits = ProxyLimits { request_head: Duration::from_millis(150), ..ProxyLimits::default() };
    let proxy = Proxy::limited(only(address), limits).await;
    for start in ["GET / HTTP/1.1\r\nhos", "", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{start:?} is still open");
    }
}

/// A preface that comes in two parts is one all the same.
#[tokio::test]
async fn a_preface_may_come_in_parts() {
    let proxy = Proxy::start(only(mirror().await)).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    // The rest, and empty settings.
    stream.write_all(b"\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "settings");
}

/// Streams of one connection may not take all descriptors: further ones are told so, and it is no arm's error.
#[tokio::test]
async fn connections_to_instances_are_limited_too() {
    let address = instance(|request| async move {
        if request.uri().path() == "/slow" {
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        Response::new(full("done"))
    })
    .await;
    let connect = Duration::from_millis(100);
    let proxy =
        Proxy::limited(only(address), ProxyLimits { connections: 1, connect, ..ProxyLimits::default() })
            .await;
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let ask = |path: &str| Request::get(format!("http://shop.example{path}")).body(empty()).unwrap();
    let slow = tokio::spawn(sender.send_request(ask("/slow")));
    while proxy.splitter.sent(&crate::world::revision(STABLE)) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let busy = sender.send_request(ask("/")).await.unwrap();
    assert_eq!((busy.status().as_u16(), crate::world::reason(busy.headers())), (503, "busy"));
    drop(slow.await.unwrap().unwrap().into_body().collect().await);
    let totals = proxy.settled(STABLE).await;
    assert_eq!((totals.requests, totals.errors), (1, 0));
}

#[tokio::test]
async fn stopping_lets_requests_finish_and_closes_idle_connections() {
    let address = instance(|_| async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Response::new(full("done"))
    })
    .await;
    let proxy = Proxy::start(only(address)).await;
    let (mut idle, mut busy) = (proxy.client().await, proxy.client().await);
    assert_eq!(idle.text(get("/")).await, "done");
    let listening = proxy.address;
    let request =
        tokio::spawn(
            async move { busy.text(Request::get("/").header("host", "s").body(empty()).unwrap()).await },
        );
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = tokio::time::Instant::now();
    proxy.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(request.await.unwrap(), "done");
    assert!(TcpStream::connect(listening).await.is_err());
}
