//! The proxy, and a backend that costs next to nothing, for measuring one against another proxy on the same cores.
//!
//! ```text
//! proxy_bench backend 127.0.0.1:9001             answers 12 bytes to everything, on one thread
//! proxy_bench proxy 127.0.0.1:9000 127.0.0.1:9001 [threads]
//!                                                splits 90/10 between two revisions that are both that backend
//! ```
//!
//! Pin each with `taskset` and load it with `wrk` or `h2load`. The figures and the whole command are in the module's
//! documentation page.

use std::error::Error;
use std::net::SocketAddr;

use delivery::RevisionId;
use delivery::traffic::Weight;
use platform::proxy::{Arm, ProxyLimits, Routes, Splitter, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 12\r\n\r\nhello world\n";

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["backend", listen] => run(1, backend(listen.parse()?)),
        ["proxy", listen, backend] => run(1, proxy(listen.parse()?, backend.parse()?)),
        ["proxy", listen, backend, threads] => run(threads.parse()?, proxy(listen.parse()?, backend.parse()?)),
        _ => Err("usage: proxy_bench backend ADDRESS | proxy_bench proxy ADDRESS BACKEND [THREADS]".into()),
    }
}

fn run(threads: usize, task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
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
