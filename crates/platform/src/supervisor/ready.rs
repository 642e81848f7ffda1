//! Finds out whether an instance is ready: a connection, or a path that answers 200 to 299.
//!
//! Ports are drawn, not reserved, so whoever answers may be somebody else. Invariant: an answer counts only if no stranger can
//! be seen listening there.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use delivery::effect::Readiness;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const INTERVAL_FIRST: Duration = Duration::from_millis(10);
const INTERVAL_LAST: Duration = Duration::from_millis(250);
/// One question and its answer's head.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// `HTTP/1.1 200`.
const STATUS_BYTES: usize = 12;

/// The address at which the instance became ready: IPv4 loopback, or IPv6 for a service that listens there alone; `None`
/// when it did not within its time. `is_strangers` is asked about an address that answered.
pub(super) async fn wait(
    port: u16,
    readiness: &Readiness,
    is_strangers: impl Fn(SocketAddr) -> bool,
) -> Option<SocketAddr> {
    let within = Duration::from_millis(readiness.within_ms);
    tokio::time::timeout(within, poll(port, readiness, is_strangers)).await.ok()
}

async fn poll(port: u16, readiness: &Readiness, is_strangers: impl Fn(SocketAddr) -> bool) -> SocketAddr {
    let mut interval = INTERVAL_FIRST;
    loop {
        for address in
            [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))]
        {
            let asked = tokio::time::timeout(ANSWER_MAX, is_ready(address, readiness.path.as_deref())).await;
            if matches!(asked, Ok(Ok(true))) && !is_strangers(address) {
                return address;
            }
        }
        tokio::time::sleep(interval).await;
        interval = (interval * 3 / 2).min(INTERVAL_LAST);
    }
}

async fn is_ready(address: SocketAddr, path: Option<&str>) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let Some(path) = path else { return Ok(true) };
    let question = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: trimtab-readiness\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(question.as_bytes()).await?;
    let mut status = [0; STATUS_BYTES];
    stream.read_exact(&mut status).await?;
    Ok(status.starts_with(b"HTTP/1.") && status[9] == b'2')
}
