//! Live updates lose nothing and repeat nothing.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::story;
use super::{World, event, soon};
use crate::Limits;
use delivery::Actor;

/// A reader of a live stream.
struct Reader {
    socket: TcpStream,
    text: String,
}

impl Reader {
    async fn open(world: &World, path: &str, last: Option<&str>) -> Self {
        let headers: Vec<(&str, &str)> = last.iter().map(|id| ("last-event-id", *id)).collect();
        let mut reader = Self { socket: world.open("GET", path, &headers, "").await, text: String::new() };
        reader.block().await;
        reader
    }

    /// The text up to the next empty line.
    async fn block(&mut self) -> String {
        let mut buffer = [0_u8; 4_096];
        loop {
            if let Some(end) = self.text.find("\n\n") {
                return self.text.drain(..end + 2).collect();
            }
            let read = soon(self.socket.read(&mut buffer)).await.unwrap();
            assert!(read > 0, "the stream ended");
            self.text += std::str::from_utf8(&buffer[..read]).unwrap();
        }
    }

    /// The next events' ids.
    async fn ids(&mut self, count: usize) -> Vec<u64> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let block = self.block().await;
            ids.extend(block.lines().filter_map(|line| line.strip_prefix("id: ")?.parse::<u64>().ok()));
        }
        ids
    }
}

fn many(count: usize) -> Vec<delivery::Event> {
    (0..count).map(|number| event(&format!("incident {number}"))).collect()
}

#[tokio::test]
async fn a_reader_that_comes_back_gets_exactly_what_it_missed() {
    let world = World::new().await;
    world.append(1, many(100)).await;
    let mut first = Reader::open(&world, "/events?after=0", None).await;
    let seen = first.ids(100).await;
    assert_eq!(seen, (1..=100).collect::<Vec<u64>>());
    drop(first);
    world.append(2, many(50)).await;
    let other = world.another();
    other.append(&Actor::Machine("other".into()), super::at(3), many(50)).await.unwrap();
    let mut second = Reader::open(&world, "/events?after=0", Some("100")).await;
    assert_eq!(second.ids(100).await, (101..=200).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_reader_is_told_of_what_other_processes_record() {
    let world = World::new().await;
    let mut stream = Reader::open(&world, "/events", None).await;
    let other = world.another();
    for number in 1..=5_u64 {
        let actor = Actor::Machine("other".into());
        other.append(&actor, super::at(number as i64), vec![event("somewhere else")]).await.unwrap();
        world.append(number as i64, vec![event("here")]).await;
        assert_eq!(stream.ids(2).await, [number * 2 - 1, number * 2]);
    }
}

#[tokio::test]
async fn a_reader_that_is_far_behind_gets_everything_in_order() {
    let world = World::with(|ledger| {
        for batch in 0..5 {
            ledger.append_blocking(&Actor::Machine("test".into()), super::at(batch), many(400)).unwrap();
        }
    })
    .await;
    let mut stream = Reader::open(&world, "/events", Some("3")).await;
    let seen = stream.ids(1_997).await;
    assert_eq!(seen, (4..=2_000).collect::<Vec<u64>>());
}

#[tokio::test]
async fn with_many_streams_whoever_is_far_behind_is_told_of_a_gap() {
    let limits = Limits { streams_exact: 1, ..Limits::default() };
    let world = World::limited(limits, |ledger| {
        for batch in 0..3 {
            ledger.append_blocking(&Actor::Machine("test".into()), super::at(batch), many(400)).unwrap();
        }
    })
    .await;
    let mut first = Reader::open(&world, "/events", Some("3")).await;
    let mut second = Reader::open(&world, "/events", Some("3")).await;
    let block = second.block().await;
    assert_eq!(block, "event: gap\ndata: {\"after\":3,\"sequence\":1200}\nid: 1200\n\n");
    // What comes after the gap is told one by one again, and so is what is new to one who is near.
    let mut near = Reader::open(&world, "/events", Some("1197")).await;
    assert_eq!(near.ids(3).await, [1_198, 1_199, 1_200]);
    world.append(9, many(3)).await;
    assert_eq!(second.ids(3).await, [1_201, 1_202, 1_203]);
    // The one that began alone read on from the ledger, until it was not alone any more.
    let mut told = first.ids(1).await;
    while *told.last().unwrap() < 1_203 {
        told.extend(first.ids(1).await);
    }
    assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "{told:?}");
}

#[tokio::test]
async fn what_a_stream_tells_is_on_the_page_that_is_fetched_for_it() {
    let world = World::new().await;
    let mut stream = Reader::open(&world, "/events", None).await;
    for second in 1..20 {
        world.append(second, vec![event("x")]).await;
        let told = stream.ids(1).await[0];
        let state = world.get("/api/v1/state").await.json();
        assert!(state["sequence"].as_u64().unwrap() >= told);
    }
}

#[tokio::test]
async fn an_id_that_is_none_is_refused_and_one_of_another_ledger_begins_now() {
    let world = World::new().await;
    world.append(1, many(3)).await;
    world.follow().await;
    for id in ["x", "-1", "1.5", ""] {
        let answer = world.send("GET", "/events", &[("last-event-id", id)], "").await;
        assert_eq!(answer.status, 400, "{id:?}");
    }
    assert_eq!(world.send("GET", "/events?after=x", &[], "").await.status, 400);
    let mut stream = Reader::open(&world, "/events", Some("999999")).await;
    world.append(2, vec![event("x")]).await;
    assert_eq!(stream.ids(1).await, [4]);
}

#[tokio::test]
async fn an_event_names_its_rollout() {
    let world = World::new().await;
    let mut stream = Reader::open(&world, "/events?after=0", None).await;
    world.append(1, story::exposed()).await;
    let first = stream.block().await;
    assert!(first.contains(r#""kind":"release.created""#) && !first.contains("rollout"), "{first}");
    let second = stream.block().await;
    assert!(second.contains(r#""sequence":2,"kind":"rollout.planned""#), "{second}");
    assert!(second.contains(r#""rollout":"ro-00000001""#), "{second}");
}

#[tokio::test]
async fn places_are_limited_and_given_back() {
    let world = World::limited(Limits { streams: 20, ..Limits::default() }, |_| {}).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = world.open("GET", "/events", &[], "").await;
        let mut status = [0_u8; 12];
        soon(stream.read_exact(&mut status)).await.unwrap();
        assert_eq!(&status[9..], b"200");
        streams.push(stream);
    }
    let refused = world.send("GET", "/events", &[], "").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "5"));
    assert_eq!(refused.json()["code"], "TRM-0908");
    drop(streams);
    // The server notices when it next has something to say.
    let mut second = 1;
    while take_place(&world).await == 503 {
        world.append(second, vec![event("x")]).await;
        second += 1;
        assert!(second < 200, "places are never given back");
        tokio::task::yield_now().await;
    }
}

async fn take_place(world: &World) -> u16 {
    let mut stream = world.open("GET", "/events", &[], "").await;
    let mut status = [0_u8; 12];
    soon(stream.read_exact(&mut status)).await.unwrap();
    String::from_utf8_lossy(&status[9..]).parse().unwrap()
}
