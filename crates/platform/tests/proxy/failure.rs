//! What fails, what the client is told, and whose error it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use platform::proxy::limits::IDLE_CLOSE_AFTER;
use platform::proxy::{ProxyLimits, RetryPolicy, Routes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{
    Body, CANARY, Proxy, STABLE, arm, both, full, get, instance, named, nobody, only, raw_instance, reason,
};

fn post() -> Request<Body> {
    Request::post("/").header("host", "s").body(full("body")).unwrap()
}

/// Reads one request's head.
async fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}

#[tokio::test]
async fn a_refused_connection_is_a_502_and_an_error() {
    let proxy = Proxy::start(only(nobody().await)).await;
    let (status, headers, text) = proxy.client().await.ask(get("/")).await;
    assert_eq!((status, reason(&headers)), (502, "unreachable"), "{text}");
    let totals = proxy.settled(STABLE).await;
    assert_eq!((totals.requests, totals.errors), (1, 1));
}

#[tokio::test]
async fn without_anywhere_to_go_it_is_a_503() {
    let proxy = Proxy::start(Routes::default()).await;
    let mut client = proxy.client().await;
    let (status, headers, _) = client.ask(get("/")).await;
    assert_eq!((status, reason(&headers)), (503, "no-route"));
    proxy.splitter.set_routes(Routes { stable: Some(arm(STABLE, &[])), ..Routes::default() });
    let (status, headers, _) = client.ask(get("/")).await;
    assert_eq!((status, reason(&headers)), (503, "no-instance"));
    let totals = proxy.settled(STABLE).await;
    assert_eq!((totals.requests, totals.errors), (1, 1));
}

#[tokio::test]
async fn a_server_error_counts_and_a_client_error_does_not() {
    let address = instance(|request| async move {
        let status: u16 = request.uri().path()[1..].parse().unwrap();
        Response::builder().status(status).body(full("x")).unwrap()
    })
    .await;
    let proxy = Proxy::start(only(address)).await;
    let mut client = proxy.client().await;
    for status in [200, 204, 302, 404, 429, 500, 503] {
        let (answered, headers, _) = client.ask(get(&format!("/{status}"))).await;
        assert_eq!((answered, reason(&headers)), (status, ""));
    }
    let totals = proxy.settled(STABLE).await;
    assert_eq!((totals.requests, totals.errors), (7, 2));
}

/// An instance that dies before its response: the client is told, and another instance's death is not the client's.
#[tokio::test]
async fn a_death_before_the_response_is_a_502() {
    let address = raw_instance(|mut stream| async move {
        read_head(&mut stream).await;
    })
    .await;
    let proxy = Proxy::start(only(address)).await;
    let mut client = proxy.client().await;
    for request in [get("/"), post()] {
        let (status, headers, _) = client.ask(request).await;
        assert_eq!((status, reason(&headers)), (502, "broken"));
    }
    let totals = proxy.settled(STABLE).await;
    assert_eq!((totals.requests, totals.errors), (2, 2));
}

#[tokio::test]
async fn a_death_in_the_middle_of_the_body_is_an_error_the_client_sees() {
    let address = raw_instance(|mut stream| async move {
        read_head(&mut stream).await;
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this").await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    })
    .await;
    let proxy = Proxy::start(only(address)).await;
    let response = proxy.client().await.send(get("/")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err());
    let totals = proxy.settled(STABLE).await;
    assert_eq!((totals.requests, totals.errors), (1, 1));
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_502() {
    let address = raw_instance(|mut stream| async move {
        read_head(&mut stream).await;
        drop(stream.write_all(b"220 mail.example ESMTP\r\n\r\n").await);
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    let proxy = Proxy::start(only(address)).await;
    let (status, headers, _) = proxy.client().await.ask(get("/")).await;
    assert_eq!((status, reason(&headers)), (502, "malformed"));
    assert_eq!(proxy.settled(STABLE).await.errors, 1);
}

fn impatient() -> ProxyLimits {
    ProxyLimits { response_head: Duration::from_millis(150), ..ProxyLimits::default() }
}

#[tokio::test]
async fn a_late_response_is_a_504_and_its_wait_is_counted() {
    let address = instance(|request| async move {
        if request.uri().path() == "/slow" {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        Response::new(full("x"))
    })
    .await;
    let proxy = Proxy::limited(only(address), impatient()).await;
    let mut client = proxy.client().await;
    // The second comes over a kept connection, whose alarm stands at an earlier time.
    for path in ["/", "/slow", "/", "/slow"] {
        let (status, headers, _) = client.ask(get(path)).await;
        let expected = if path == "/" { (200, "") } else { (504, "response-timeout") };
        assert_eq!((status, reason(&headers)), expected);
    }
    let totals = proxy.settled(STABLE).await;
    assert_eq!((totals.requests, totals.errors), (4, 2));
    let slow: u64 = totals.latency[delivery::traffic::latency_bucket(150_000)..].iter().sum();
    assert_eq!(slow, 2);
}

/// A client that sends its body slowly does not use up the instance's time.
#[tokio::test]
async fn a_slow_upload_is_not_the_instances_delay() {
    let address = instance(|request| async move {
        let bytes = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(bytes))
    })
    .await;
    let proxy = Proxy::limited(only(address), impatient()).await;
    let (feed, body) = crate::stream::fed();
    tokio::spawn(async move {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            feed.send(Frame::data("x".into())).await.unwrap();
        }
    });
    let request = Request::post("/").header("host", "s").body(body).unwrap();
    assert_eq!(proxy.client().await.text(request).await, "xxxxx");
    assert_eq!(proxy.settled(STABLE).await.errors, 0);
}

#[tokio::test]
async fn a_client_that_gives_up_is_no_error() {
    let reached = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&reached);
    let address = instance(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(Duration::from_mins(1)).await;
            Response::new(full("too late"))
        }
    })
    .await;
    let proxy = Proxy::start(only(address)).await;
    let mut client = proxy.client().await;
    let waiting = client.sender.send_request(get("/"));
    while reached.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(proxy.splitter.in_flight(&crate::world::revision(STABLE)), 1);
    client.vanish().await;
    drop(waiting);
    let totals = proxy.settled(STABLE).await;
    assert_eq!((totals.requests, totals.errors, totals.in_flight), (1, 0, 0));
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_body_is_no_error() {
    let address = raw_instance(|mut stream| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
        drop(stream.write_all(head).await);
        while stream.write_all(&[0; 4_096]).await.is_ok() {}
    })
    .await;
    let proxy = Proxy::start(only(address)).await;
    let mut client = proxy.client().await;
    let mut body = client.send(get("/")).await.unwrap().into_body();
    assert!(body.frame().await.unwrap().is_ok());
    client.vanish().await;
    drop(body);
    let totals = proxy.settled(STABLE).await;
    assert_eq!((totals.requests, totals.errors), (1, 0));
}

#[tokio::test]
async fn a_client_that_breaks_off_its_upload_is_no_error() {
    let address = instance(|request| async move {
        drop(request.into_body().collect().await);
        Response::new(full("x"))
    })
    .await;
    let proxy = Proxy::start(only(address)).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: s\r\ncontent-length: 100\r\n\r\nhalf").await.unwrap();
    while proxy.splitter.sent(&crate::world::revision(STABLE)) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    let totals = proxy.settled(STABLE).await;
    assert_eq!((totals.requests, totals.errors), (1, 0));
}

#[tokio::test]
async fn another_instance_takes_over_when_one_does_not_accept() {
    let (alive, _) = named("alive").await;
    let arm = arm(STABLE, &[nobody().await, alive, nobody().await]);
    let proxy = Proxy::start(Routes { stable: Some(arm), ..Routes::default() }).await;
    let mut client = proxy.client().await;
    for _ in 0..12 {
        assert_eq!(client.text(get("/")).await, "alive");
    }
    let totals = proxy.settled(STABLE).await;
    assert_eq!((totals.requests, totals.errors), (12, 0));
}

/// Each connection answers once, and closes on the second request.
async fn answers_once() -> std::net::SocketAddr {
    raw_instance(|mut stream| async move {
        if read_head(&mut stream).await {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await);
            read_head(&mut stream).await;
        }
    })
    .await
}

/// The instance closes idle connections just as the next request comes: nobody's error.
#[tokio::test]
async fn a_kept_connection_that_closes_is_replaced_for_idempotent_requests() {
    let proxy = Proxy::start(only(answers_once().await)).await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        assert_eq!(client.text(get("/")).await, "ok");
        tokio::time::sleep(IDLE_CLOSE_AFTER + Duration::from_millis(20)).await;
    }
    let totals = proxy.settled(STABLE).await;
    assert_eq!((totals.requests, totals.errors), (2, 0));
}

/// A busy connection does not close for idleness: a revision that drops requests must not hide behind the second try.
#[tokio::test]
async fn a_busy_connection_that_breaks_is_replaced_and_an_error() {
    let proxy = Proxy::start(only(answers_once().await)).await;
    let mut client = proxy.client().await;
    for _ in 0..6 {
        assert_eq!(client.text(get("/")).await, "ok");
    }
    let totals = proxy.settled(STABLE).await;
    assert_eq!((totals.requests, totals.errors), (11, 5));
}

/// A client that never reads its response does not hold its instance's connection for ever.
#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let address = raw_instance(|mut stream| async move {
        read_head(&mut stream).await;
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await);
        while stream.write_all(&[0; 16_384]).await.is_ok() {}
    })
    .await;
    let limits = ProxyLimits { write_stall: Duration::from_millis(500), ..ProxyLimits::default() };
    let proxy = Proxy::limited(only(address), limits).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: s\r\n\r\n").await.unwrap();
    while proxy.splitter.sent(&crate::world::revision(STABLE)) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let totals = proxy.settled(STABLE).await;
    assert_eq!((totals.requests, totals.errors), (1, 0));
    drop(stream);
}

#[tokio::test]
async fn the_retry_policy_hides_the_canarys_failure_but_counts_it() {
    let (stable, _) = named("stable").await;
    let dying = raw_instance(|mut stream| async move {
        read_head(&mut stream).await;
    })
    .await;
    for canary in [dying, nobody().await] {
        let proxy = Proxy::start(both(stable, canary, 100.0)).await;
        let mut client = proxy.client().await;
        assert_eq!(client.ask(get("/")).await.0, 502, "off by default");
        let retry = RetryPolicy::IdempotentOnStable;
        proxy.splitter.set_routes(Routes { retry, ..both(stable, canary, 100.0) });
        assert_eq!(client.text(get("/")).await, "stable");
        assert_eq!(client.ask(post()).await.0, 502, "not idempotent");
        let (at_stable, at_canary) = (proxy.settled(STABLE).await, proxy.settled(CANARY).await);
        assert_eq!((at_stable.requests, at_stable.errors), (1, 0));
        assert_eq!((at_canary.requests, at_canary.errors), (3, 3));
    }
}
