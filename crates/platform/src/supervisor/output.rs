//! Captures an instance's output, masked and bounded, and keeps its last lines to explain its death.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Recipe;
use crate::log::Tail;

/// One read.
const CHUNK_BYTES: usize = 64 << 10;
/// After a process ended, its last output is in the pipe; a descendant may hold the pipe open for good.
const SETTLE: Duration = Duration::from_millis(250);

/// The two streams of one process.
pub(super) struct Output {
    tail: Arc<Tail>,
    /// How many streams have ended; changes at each end.
    ended: watch::Receiver<u32>,
    pumps: Vec<JoinHandle<()>>,
}

impl Output {
    /// Takes the child's pipes and copies them to the revision's log until they end.
    pub(super) fn capture(child: &mut Child, recipe: &Arc<Recipe>, index: u32) -> Self {
        let tail = Arc::new(Tail::default());
        let (count, ended) = watch::channel(0);
        let mut pumps = Vec::new();
        if let Some(stream) = child.stdout.take() {
            let source = format!("{index} out");
            pumps.push(tokio::spawn(pump(
                stream,
                source,
                Arc::clone(recipe),
                Arc::clone(&tail),
                count.clone(),
            )));
        }
        if let Some(stream) = child.stderr.take() {
            let source = format!("{index} err");
            pumps.push(tokio::spawn(pump(stream, source, Arc::clone(recipe), Arc::clone(&tail), count)));
        }
        Self { tail, ended, pumps }
    }

    /// The last lines.
    pub(super) fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Waits until the last output has arrived, but not long.
    pub(super) async fn settle(&self) {
        let all = self.pumps.len() as u32;
        let mut ended = self.ended.clone();
        // Both errors mean that there is nothing left to wait for.
        let _ = tokio::time::timeout(SETTLE, ended.wait_for(|n| *n == all)).await;
    }

    /// Lets go of the streams.
    pub(super) async fn finish(self) {
        self.settle().await;
        for pump in self.pumps {
            pump.abort();
        }
    }
}

async fn pump(
    mut stream: impl AsyncRead + Unpin,
    source: String,
    recipe: Arc<Recipe>,
    tail: Arc<Tail>,
    ended: watch::Sender<u32>,
) {
    let mut lines = recipe.masker.lines();
    let mut chunk = vec![0; CHUNK_BYTES];
    let keep = |line: &str| {
        tail.push(line);
        recipe.log.append(recipe.around.clock.now(), &source, line);
    };
    while let Ok(length @ 1..) = stream.read(&mut chunk).await {
        lines.feed(&chunk[..length]).iter().for_each(|line| keep(line));
        // A flood must not keep this thread from serving requests.
        tokio::task::yield_now().await;
    }
    if let Some(line) = lines.finish() {
        keep(&line);
    }
    ended.send_modify(|n| *n += 1);
}
