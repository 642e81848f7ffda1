//! More than a server can take, from one program: readers of live updates of whom some hardly read, senders of events, and
//! connections that begin and do not go on. `cargo xtask overload` runs it beside a real server and judges what it tells.
//!
//! storm ADDRESS TOKEN STREAMS SECONDS EVENTS-A-SECOND ACKNOWLEDGED
//!
//! Prints one line of JSON when all streams were asked for, and one at the end. Writes `SEQUENCE ID` of each event that was
//! acknowledged into the file. Invariant: what was not answered with 200 is never counted as acknowledged.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Connections that send events as fast as they are answered, to see how many the server takes.
const SENDERS: u64 = 48;
/// Connections that send events at a given rate, answered or not: more than the server works on at once, or it would have to refuse none.
const SENDERS_OF_STORM: u64 = 1_024;
/// Events in every second request; the others carry one.
const BATCH: u64 = 63;
/// Streams that are asked for at the same time.
const DIALS: usize = 64;
/// Connections that send a head, or a body, a byte at a time.
const DRIPPERS: usize = 200;
/// Connections that send bodies larger than the limit.
const SWAMPERS: usize = 4;

#[derive(Default)]
struct Counts {
    offered: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    refused_without_wait: AtomicU64,
    other: AtomicU64,
    broken: AtomicU64,
    streams: AtomicU64,
    streams_refused: AtomicU64,
    streams_ended: AtomicU64,
    notices: AtomicU64,
    gaps: AtomicU64,
    holes: AtomicU64,
    drips_ended: AtomicU64,
    swamps_refused: AtomicU64,
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

struct Storm {
    address: SocketAddr,
    token: String,
    until: Instant,
    counts: Counts,
    acknowledged: Mutex<std::io::BufWriter<std::fs::File>>,
}

/// How a reader reads.
#[derive(Clone, Copy, PartialEq)]
enum Pace {
    Eager,
    Slow,
    Stuck,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, token, streams, seconds, rate, acknowledged] = &arguments[..] else {
        return Err("storm ADDRESS TOKEN STREAMS SECONDS EVENTS-A-SECOND ACKNOWLEDGED".into());
    };
    let (streams, seconds, rate): (usize, u64, u64) = (streams.parse()?, seconds.parse()?, rate.parse()?);
    let mut storm = Storm {
        address: address.parse()?,
        token: token.clone(),
        until: Instant::now() + Duration::from_hours(24),
        counts: Counts::default(),
        acknowledged: Mutex::new(std::io::BufWriter::new(std::fs::File::create(acknowledged)?)),
    };
    let sockets = storm.dial(streams).await;
    storm.until = Instant::now() + Duration::from_secs(seconds);
    let storm = Arc::new(storm);
    storm.tell("begun");
    let mut work = JoinSet::new();
    for (number, socket) in sockets.into_iter().enumerate() {
        let pace = match number % 10 {
            8 => Pace::Slow,
            9 => Pace::Stuck,
            _ => Pace::Eager,
        };
        work.spawn(read(storm.clone(), socket, pace));
    }
    let senders = if rate == 0 { SENDERS } else { SENDERS_OF_STORM };
    // Between two requests of a sender; the requests of two have BATCH + 1 events together.
    let pause = Duration::from_micros((1_000_000 * senders * (BATCH + 1) / 2).checked_div(rate).unwrap_or(0));
    for number in 0..senders {
        work.spawn(send(storm.clone(), number, pause));
    }
    let (drippers, swampers) = if streams == 0 { (0, 0) } else { (DRIPPERS, SWAMPERS) };
    for number in 0..drippers {
        work.spawn(drip(storm.clone(), number % 2 == 0));
    }
    for _ in 0..swampers {
        work.spawn(swamp(storm.clone()));
    }
    while work.join_next().await.is_some() {}
    storm.acknowledged.lock().map_err(|_| "a task panicked")?.flush()?;
    storm.tell("ended");
    Ok(())
}

impl Storm {
    fn tell(&self, what: &str) {
        let counts = &self.counts;
        let fields = [
            ("offered", &counts.offered),
            ("acknowledged", &counts.acknowledged),
            ("refused", &counts.refused),
            ("refused_without_wait", &counts.refused_without_wait),
            ("other", &counts.other),
            ("broken", &counts.broken),
            ("streams", &counts.streams),
            ("streams_refused", &counts.streams_refused),
            ("streams_ended", &counts.streams_ended),
            ("notices", &counts.notices),
            ("gaps", &counts.gaps),
            ("holes", &counts.holes),
            ("drips_ended", &counts.drips_ended),
            ("swamps_refused", &counts.swamps_refused),
        ];
        let mut line = format!("{{\"storm\":\"{what}\"");
        for (name, counter) in fields {
            let _ = write!(line, ",\"{name}\":{}", counter.load(Ordering::Relaxed));
        }
        println!("{line}}}");
    }

    /// Opens the streams, and gives those that were let in.
    async fn dial(&self, streams: usize) -> Vec<BufReader<TcpStream>> {
        let mut sockets = Vec::with_capacity(streams);
        for begin in (0..streams).step_by(DIALS) {
            let dials = (begin..streams.min(begin + DIALS)).map(|_| self.subscribe());
            for dialled in futures_util::future::join_all(dials).await {
                match dialled {
                    Ok(Some(socket)) => sockets.push(socket),
                    Ok(None) => add(&self.counts.streams_refused, 1),
                    Err(_) => add(&self.counts.broken, 1),
                }
            }
        }
        add(&self.counts.streams, sockets.len() as u64);
        sockets
    }

    async fn subscribe(&self) -> Result<Option<BufReader<TcpStream>>, Failure> {
        let mut socket = TcpStream::connect(self.address).await?;
        let head = format!("GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        socket.write_all(head.as_bytes()).await?;
        let mut socket = BufReader::with_capacity(2_048, socket);
        let answer = head_of(&mut socket).await?;
        Ok((answer.status == 200).then_some(socket))
    }

    /// A request of so many events.
    fn request(&self, first: u64, events: u64, sender: u64) -> Vec<u8> {
        let mut body = String::with_capacity(events as usize * 420);
        let source = format!("/storm/{}", sender % 4);
        // Another storm's events are others.
        let run = std::process::id();
        let kind = "dev.cdevents.incident.detected.0.3.0";
        for id in first..first + events {
            let separator = if id == first { '[' } else { ',' };
            let _ = write!(
                body,
                r#"{separator}{{"specversion":"1.0","id":"{run}-s{sender}-{id}","source":"{source}","type":"{kind}","data":{{"context":{{"specversion":"0.4.1","id":"{run}-s{sender}-{id}","source":"{source}","type":"{kind}","timestamp":"2026-11-27T09:14:02Z"}},"subject":{{"id":"incident-{id}","content":{{"environment":{{"id":"production"}},"service":{{"id":"shop"}},"description":"response time above 100 ms"}}}}}}}}"#
            );
        }
        body.push(']');
        let mut request = self.head(body.len()).into_bytes();
        request.extend_from_slice(body.as_bytes());
        request
    }

    fn head(&self, bytes: usize) -> String {
        format!(
            "POST /api/v1/events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/cloudevents-batch+json\r\nContent-Length: {bytes}\r\n\r\n",
            self.address, self.token
        )
    }
}

struct Head {
    status: u16,
    length: usize,
    wait: bool,
    close: bool,
}

async fn head_of(socket: &mut BufReader<TcpStream>) -> Result<Head, Failure> {
    let mut head = Head { status: 0, length: 0, wait: false, close: false };
    let mut line = String::new();
    loop {
        line.clear();
        if socket.read_line(&mut line).await? == 0 {
            return Err("it was closed".into());
        }
        let text = line.trim_end().to_ascii_lowercase();
        if text.is_empty() {
            return Ok(head);
        }
        if let Some(rest) = text.strip_prefix("http/1.1 ") {
            head.status = rest.get(..3).unwrap_or_default().parse()?;
        } else if let Some(length) = text.strip_prefix("content-length: ") {
            head.length = length.parse()?;
        }
        head.wait |= text.starts_with("retry-after: ");
        head.close |= text == "connection: close";
    }
}

/// Reads a stream to the end, and holds each eager reader's events together: one after the other, or told as a gap.
async fn read(storm: Arc<Storm>, mut socket: BufReader<TcpStream>, pace: Pace) {
    let ended = match pace {
        Pace::Stuck => {
            tokio::time::sleep_until(storm.until).await;
            return;
        }
        Pace::Slow => loop {
            let mut some = [0_u8; 256];
            match timeout_at(storm.until, socket.read(&mut some)).await {
                // What is there already is read in no time, so the end must be looked for as well.
                Ok(Ok(1..)) if Instant::now() < storm.until => sleep(Duration::from_secs(1)).await,
                Err(_) | Ok(Ok(1..)) => break false,
                Ok(_) => break true,
            }
        },
        Pace::Eager => follow(&storm, &mut socket).await,
    };
    if ended {
        add(&storm.counts.streams_ended, 1);
    }
}

async fn follow(storm: &Storm, socket: &mut BufReader<TcpStream>) -> bool {
    let (mut last, mut gap) = (None::<u64>, None::<u64>);
    let mut line = String::new();
    loop {
        line.clear();
        match timeout_at(storm.until, socket.read_line(&mut line)).await {
            Ok(Ok(1..)) if Instant::now() < storm.until => {}
            Err(_) | Ok(Ok(1..)) => return false,
            Ok(_) => return true,
        }
        if let Some(data) = line.strip_prefix("data: {\"after\":") {
            gap = data.split(',').next().and_then(|after| after.parse().ok());
        } else if let Some(id) = line.strip_prefix("id: ").and_then(|id| id.trim().parse::<u64>().ok()) {
            // A gap's data comes before its id.
            let before = gap.take();
            add(if before.is_some() { &storm.counts.gaps } else { &storm.counts.notices }, 1);
            let expected = before.unwrap_or(id - 1);
            add(&storm.counts.holes, u64::from(last.is_some_and(|last| last != expected)));
            last = Some(id);
        }
    }
}

/// Sends one request after the other, each again until it is taken.
async fn send(storm: Arc<Storm>, sender: u64, pause: Duration) {
    // Not all in the same moment.
    sleep(pause.mul_f64((sender as f64 * 0.618).fract())).await;
    let mut tick = interval(pause.max(Duration::from_micros(1)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut next, mut socket) = (0, None);
    let mut large = sender.is_multiple_of(2);
    while Instant::now() < storm.until {
        large = !large;
        let events = if large { BATCH } else { 1 };
        let first = next;
        let request = storm.request(first, events, sender);
        next += events;
        loop {
            if !pause.is_zero() {
                tick.tick().await;
            }
            if Instant::now() >= storm.until {
                return;
            }
            add(&storm.counts.offered, events);
            // An answer that is under way when the storm ends is still waited for.
            let patience = storm.until + Duration::from_secs(20);
            match timeout_at(patience, exchange(&storm, &mut socket, &request, sender, first)).await {
                Ok(Ok(true)) => break,
                Ok(Ok(false)) => {}
                _ => {
                    add(&storm.counts.broken, 1);
                    socket = None;
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

/// One request and its answer; whether it was taken.
async fn exchange(
    storm: &Storm,
    socket: &mut Option<BufReader<TcpStream>>,
    request: &[u8],
    sender: u64,
    first: u64,
) -> Result<bool, Failure> {
    let open = match socket.take_if(|open| closed(open)) {
        None if socket.is_some() => socket.as_mut().ok_or("no connection")?,
        _ => socket.insert(BufReader::new(TcpStream::connect(storm.address).await?)),
    };
    // Refused before it was read: the answer is there although the request could not be sent whole.
    let sent = open.get_mut().write_all(request).await;
    let head = head_of(open).await?;
    let mut body = vec![0; head.length];
    open.read_exact(&mut body).await?;
    match head.status {
        200 => {
            let text = String::from_utf8(body)?;
            let told = text.split("\"sequence\":").skip(1);
            let mut file = storm.acknowledged.lock().map_err(|_| "a task panicked")?;
            for (number, rest) in (first..).zip(told) {
                let sequence: String = rest.chars().take_while(char::is_ascii_digit).collect();
                writeln!(file, "{sequence} {}-s{sender}-{number}", std::process::id())?;
                add(&storm.counts.acknowledged, 1);
            }
        }
        429 | 503 => {
            add(&storm.counts.refused, 1);
            add(&storm.counts.refused_without_wait, u64::from(!head.wait));
        }
        _ => add(&storm.counts.other, 1),
    }
    if sent.is_err() || head.close {
        *socket = None;
    }
    Ok(head.status == 200)
}

/// Whether the server has closed the connection since the last answer: it need not wait for the next request.
fn closed(open: &BufReader<TcpStream>) -> bool {
    let mut byte = [0];
    !matches!(open.get_ref().try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Sends a head, or after a whole head a body, a byte at a time, for ever.
async fn drip(storm: Arc<Storm>, in_body: bool) {
    while Instant::now() < storm.until {
        let Ok(mut socket) = TcpStream::connect(storm.address).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let head = storm.head(500_000);
        let begin = if in_body { head.as_bytes() } else { &head.as_bytes()[..20] };
        let mut open = socket.write_all(begin).await.is_ok();
        while open && Instant::now() < storm.until {
            sleep(Duration::from_secs(1)).await;
            let mut byte = [0_u8; 512];
            // Answered or closed: either ends it.
            open = socket.try_read(&mut byte).is_err() && socket.write_all(b"x").await.is_ok();
        }
        add(&storm.counts.drips_ended, u64::from(!open));
    }
}

/// Sends bodies that are larger than the limit.
async fn swamp(storm: Arc<Storm>) {
    let body = vec![b'['; 3 << 20];
    while Instant::now() < storm.until {
        if let Ok(socket) = TcpStream::connect(storm.address).await {
            let mut socket = BufReader::new(socket);
            let _ = socket.get_mut().write_all(storm.head(body.len()).as_bytes()).await;
            let _ =
                timeout_at(Instant::now() + Duration::from_secs(2), socket.get_mut().write_all(&body)).await;
            let answered = timeout_at(Instant::now() + Duration::from_secs(2), head_of(&mut socket)).await;
            let refused = matches!(answered, Ok(Ok(Head { status: 413 | 429 | 503, .. })));
            add(&storm.counts.swamps_refused, u64::from(refused));
        }
        sleep(Duration::from_millis(250)).await;
    }
}
