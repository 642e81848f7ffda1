//! The proxy, and a backend that costs next to nothing, for measuring one against another proxy on the same cores.
//!
//! ```text
//! proxy_bench backend 127.0.0.1:9001             answers 12 bytes to everything, on one thread
//! proxy_bench proxy 127.0.0.1:9000 127.0.0.1:9001 [threads]
//!                                                splits 90/10 between two revisions that are both that backend
//! proxy_bench load 127.0.0.1:9000 10000 10       10,000 requests/s for 10 s, open loop; prints latency quantiles
//! ```
//!
//! Pin each with `taskset`; load the backend, our proxy and the other with `wrk` for requests/s, and with `load` at half of that for
//! what each adds to the latency. `load` draws its arrivals from a Poisson process, because users don't come in step, sends each
//! request whether or not earlier ones were answered, and counts from the moment that it was due.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use delivery::RevisionId;
use delivery::traffic::Weight;
use platform::proxy::{Arm, ProxyLimits, Routes, Splitter, serve};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 12\r\n\r\nhello world\n";

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["backend", listen] => run(1, backend(listen.parse()?)),
        ["proxy", listen, backend] => run(1, proxy(listen.parse()?, backend.parse()?)),
        ["proxy", listen, backend, threads] => run(threads.parse()?, proxy(listen.parse()?, backend.parse()?)),
        ["load", target, rate, seconds] => run(1, load(target.parse()?, rate.parse()?, seconds.parse()?)),
        _ => Err("usage: proxy_bench backend ADDRESS | proxy ADDRESS BACKEND [THREADS] | load ADDRESS RATE SECONDS".into()),
    }
}

fn run(threads: usize, task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    // One thread is one thread: the multi-threaded runtime would add the main thread, and every wake-up would cross.
    let runtime = match threads {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        _ => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?,
    };
    runtime.block_on(task)
}

async fn backend(listen: SocketAddr) -> Result<(), Failure> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(answer(stream));
    }
}

/// One response for each empty line: enough for requests without a body.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut answers = Vec::new();
        let mut start = 0;
        while let Some(end) = buffer[start..filled].windows(4).position(|window| window == b"\r\n\r\n") {
            start += end + 4;
            answers.extend_from_slice(RESPONSE);
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        stream.write_all(&answers).await?;
    }
}

async fn proxy(listen: SocketAddr, backend: SocketAddr) -> Result<(), Failure> {
    let arm = |id: &str| RevisionId::new(id).map(|revision| Arm { revision, instances: vec![backend] });
    let splitter = Splitter::new("bench".into(), ProxyLimits::default());
    splitter.set_routes(Routes {
        stable: Some(arm("rev-00000001")?),
        canary: Some(arm("rev-00000002")?),
        weight: Weight::from_percent(10.0).unwrap_or_default(),
        ..Routes::default()
    });
    let listener = TcpListener::bind(listen).await?;
    // What is waited for here is the end of the process.
    serve(listener, splitter, std::future::pending()).await;
    Ok(())
}

/// Connections that `load` sends over.
const CONNECTIONS: usize = 256;

async fn load(target: SocketAddr, rate: usize, seconds: usize) -> Result<(), Failure> {
    let latencies = Arc::new(Mutex::new(Vec::with_capacity(rate * seconds)));
    let mut lanes = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        let (send, mut dues) = tokio::sync::mpsc::unbounded_channel::<Instant>();
        let latencies = Arc::clone(&latencies);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Some(due) = dues.recv().await {
                stream.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n").await?;
                if stream.read(&mut buffer).await? == 0 {
                    return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
                }
                let micros = due.elapsed().as_micros();
                latencies.lock().unwrap_or_else(PoisonError::into_inner).push(micros);
            }
            Ok(())
        });
        lanes.push(send);
    }
    // A thread of its own, because the runtime's timers count in milliseconds.
    let sent = tokio::task::spawn_blocking(move || arrivals(&lanes, rate, seconds)).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner).clone();
    latencies.sort_unstable();
    let quantile = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "sent {sent} answered {} p50 {} p90 {} p99 {} p99.9 {} max {} microseconds",
        latencies.len(),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(0.999),
        quantile(1.0)
    );
    Ok(())
}

/// Tells the lanes in turn when a request is due; gives how many were. The waits are exponential, from a fixed seed.
fn arrivals(lanes: &[UnboundedSender<Instant>], rate: usize, seconds: usize) -> usize {
    let mut draws = SmallRng::seed_from_u64(1);
    let (began, mut due, mut sent) = (Instant::now(), 0.0, 0);
    while due < seconds as f64 {
        due += -(1.0 - draws.random::<f64>()).ln() / rate as f64;
        let at = began + Duration::from_secs_f64(due);
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        // A lane whose connection broke answers no more: the count of answers tells.
        let _ = lanes[sent % lanes.len()].send(at);
        sent += 1;
    }
    sent
}
