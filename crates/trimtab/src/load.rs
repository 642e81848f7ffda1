//! Open-loop HTTP load: requests leave when the schedule says so, however slow the answers are.
//!
//! A closed loop slows down together with what it measures and so hides the very latency it should find (coordinated
//! omission). Latency is therefore counted from the scheduled time. Bounded in rate, time and requests under way.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// Requests under way at once; more are counted as dropped.
const IN_FLIGHT_MAX: usize = 2_000;
const TIMEOUT: Duration = Duration::from_secs(10);

/// What came of a load.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct LoadReport {
    /// Requests that left.
    pub(crate) requests: u64,
    /// Answers with status 500 or above, broken connections and time-outs.
    pub(crate) failures: u64,
    /// Requests that could not leave, because too many were under way.
    pub(crate) dropped: u64,
    /// Median latency in milliseconds, from the scheduled time.
    pub(crate) p50_ms: f64,
    /// 99th percentile in milliseconds.
    pub(crate) p99_ms: f64,
    /// The longest in milliseconds.
    pub(crate) max_ms: f64,
}

struct Tally {
    requests: u64,
    failures: u64,
    dropped: u64,
    latency_us: Histogram<u64>,
}

/// A load under way.
pub(crate) struct Load {
    tally: Arc<Mutex<Tally>>,
    rate: watch::Sender<f64>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    /// Starts sending `rate` requests a second to the address. A rate of 0 pauses.
    pub(crate) fn start(url: http::Uri, rate: f64) -> Self {
        let latency_us =
            Histogram::new(3).unwrap_or_else(|_| unreachable!("3 significant digits are allowed"));
        let tally = Arc::new(Mutex::new(Tally { requests: 0, failures: 0, dropped: 0, latency_us }));
        let (rate, rates) = watch::channel(rate);
        let task = tokio::spawn(send(url, rates, Arc::clone(&tally)));
        Self { tally, rate, task }
    }

    /// Changes the rate.
    pub(crate) fn set_rate(&self, rate: f64) {
        let _ = self.rate.send(rate);
    }

    /// What came of it so far.
    pub(crate) fn report(&self) -> LoadReport {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let ms = |us: u64| us as f64 / 1000.0;
        LoadReport {
            requests: tally.requests,
            failures: tally.failures,
            dropped: tally.dropped,
            p50_ms: ms(tally.latency_us.value_at_quantile(0.5)),
            p99_ms: ms(tally.latency_us.value_at_quantile(0.99)),
            max_ms: ms(tally.latency_us.max()),
        }
    }

    /// Stops it.
    pub(crate) fn stop(self) -> LoadReport {
        self.task.abort();
        self.report()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn send(url: http::Uri, mut rates: watch::Receiver<f64>, tally: Arc<Mutex<Tally>>) {
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let slots = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut due = Instant::now();
    loop {
        let rate = *rates.borrow_and_update();
        if rate <= 0.0 {
            if rates.changed().await.is_err() {
                return;
            }
            due = Instant::now();
            continue;
        }
        due += Duration::from_secs_f64(1.0 / rate);
        tokio::time::sleep_until(due).await;
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tally.lock().unwrap_or_else(PoisonError::into_inner).dropped += 1;
            continue;
        };
        let (client, url, tally) = (client.clone(), url.clone(), Arc::clone(&tally));
        tokio::spawn(async move {
            let answer = tokio::time::timeout(TIMEOUT, exchange(client, url)).await;
            let failed = !matches!(answer, Ok(Some(status)) if !status.is_server_error());
            let latency = due.elapsed();
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.requests += 1;
            tally.failures += u64::from(failed);
            tally.latency_us.saturating_record(latency.as_micros() as u64);
            drop(slot);
        });
    }
}

async fn exchange(client: Client<HttpConnector, Empty<Bytes>>, url: http::Uri) -> Option<http::StatusCode> {
    let response = client.get(url).await.ok()?;
    let status = response.status();
    // The whole answer counts: a body that breaks off is a failure.
    response.into_body().collect().await.ok()?;
    Some(status)
}
