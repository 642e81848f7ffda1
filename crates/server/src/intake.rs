//! Records reports from outside, each once, however often and to however many servers it is sent.
//!
//! One task takes what waits, asks which of it is on record already (`store::Recall`), appends the rest together, and answers
//! after the commit. It appends on the condition that nobody recorded one of the same reports meanwhile, so the memory of what
//! was recorded is the record itself: it outlives a restart and holds for several servers of one ledger.
//!
//! Invariants: whoever got a sequence has that record on disk; of one origin there is one record. What waits is bounded, and
//! this task has one commit's appends under way at most, so reports never fill the ledger's queue. While a rollout is under
//! way it rests as long as it works, so that what lowers risk has its turn.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use delivery::limits::BATCH_RECORDS_MAX;
use delivery::report::{Origin, Report};
use delivery::{Actor, Event};
use rollout::progress::Rollout;
use store::{Basis, Recall};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::app::App;
use crate::refusal::Refusal;

/// Reporters whose events one round appends. Each is an append of its own, whose condition looks through the others'.
const SOURCES_MAX: usize = 16;

/// Records of one commit while a rollout is under way: its controller waits as long for the ledger as a commit takes.
const DRIVEN_RECORDS_MAX: usize = 64;

/// The longest rest between two commits.
const REST_MAX: Duration = Duration::from_millis(200);

type Answer = Result<Vec<u64>, store::Error>;

/// One request's reports, on their way into the record.
pub(crate) struct Delivery {
    reports: Vec<Report>,
    reply: oneshot::Sender<Answer>,
    _room: OwnedSemaphorePermit,
}

/// Where requests leave their reports.
pub(crate) struct Intake {
    queue: mpsc::UnboundedSender<Delivery>,
    room: Arc<Semaphore>,
}

impl Intake {
    /// The intake, and what [`run`] takes from.
    pub(crate) fn new(waiting_max: usize) -> (Self, mpsc::UnboundedReceiver<Delivery>) {
        // Not bounded itself: `room` bounds what is in it, by events.
        let (queue, waiting) = mpsc::unbounded_channel();
        (Self { queue, room: Arc::new(Semaphore::new(waiting_max)) }, waiting)
    }

    /// Refuses while there is no room for even one more event, before a body is read for nothing.
    pub(crate) fn has_room(&self) -> Result<(), Refusal> {
        if self.room.available_permits() > 0 { Ok(()) } else { Err(full()) }
    }

    /// Has the reports recorded and returns their sequences, in order.
    pub(crate) async fn take(&self, reports: Vec<Report>) -> Result<Vec<u64>, Refusal> {
        let wanted = u32::try_from(reports.len()).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(wanted).map_err(|_| full())?;
        let (reply, answer) = oneshot::channel();
        let stopping = || Refusal::busy("the server is about to stop").hint("send it again later");
        self.queue.send(Delivery { reports, reply, _room: room }).map_err(|_| stopping())?;
        Ok(answer.await.map_err(|_| stopping())??)
    }
}

fn full() -> Refusal {
    Refusal::busy("more events wait to be recorded than the server holds").hint("send it again later")
}

/// Records what comes until the server stops. What it leaves unanswered was not acknowledged.
pub(crate) async fn run(app: Arc<App>, mut waiting: mpsc::UnboundedReceiver<Delivery>) {
    let mut stopped = app.stopped.clone();
    let mut recall = None;
    let mut held: Option<Delivery> = None;
    loop {
        let first = if let Some(held) = held.take() {
            held
        } else {
            tokio::select! {
                Some(delivery) = waiting.recv() => delivery,
                _ = stopped.wait_for(|stop| *stop) => return,
            }
        };
        let driven = app.chronicle().state().rollouts.values().any(Rollout::active);
        let most = if driven { DRIVEN_RECORDS_MAX } else { BATCH_RECORDS_MAX };
        let mut events = first.reports.len();
        let mut deliveries = vec![first];
        while let Ok(next) = waiting.try_recv() {
            events += next.reports.len();
            if events > most {
                held = Some(next);
                break;
            }
            deliveries.push(next);
        }
        let began = app.clock.now();
        serve(&app, &mut recall, deliveries).await;
        if driven {
            // A controller in another process waits for the ledger's lock by asking again and again, so it must be free half of
            // the time; and the cores are its as well.
            let took = app.clock.now().duration_since(began).unsigned_abs();
            tokio::time::sleep(took.min(REST_MAX)).await;
        }
    }
}

async fn serve(app: &Arc<App>, recall: &mut Option<Recall>, mut deliveries: Vec<Delivery>) {
    let mut known = HashMap::new();
    let trouble = record(app, recall, &deliveries, &mut known).await.err();
    if trouble.is_some() {
        // Whatever is wrong with it, the next round opens it anew.
        *recall = None;
    }
    for delivery in deliveries.drain(..) {
        let sequences = delivery.reports.iter().map(|report| known.get(&report.origin).copied());
        let answer = sequences.collect::<Option<Vec<u64>>>().ok_or_else(|| {
            // Of several reporters' appends one may have failed after others were recorded.
            trouble.clone().unwrap_or(store::Error::Stopped)
        });
        // Nobody listens any more when the sender has hung up; it will send it again.
        let _ = delivery.reply.send(answer);
    }
}

/// Fills in under which sequence each report is on record, recording those that are not.
async fn record(
    app: &Arc<App>,
    recall: &mut Option<Recall>,
    deliveries: &[Delivery],
    known: &mut HashMap<Origin, u64>,
) -> Result<(), store::Error> {
    loop {
        let reports = deliveries.iter().flat_map(|delivery| &delivery.reports);
        let wanted: HashSet<Origin> = reports
            .clone()
            .map(|report| &report.origin)
            .filter(|origin| !known.contains_key(origin))
            .cloned()
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let size = look_up(app, recall, wanted, known).await?;
        let mut asked = HashSet::new();
        let mut sources: BTreeMap<&str, Vec<&Report>> = BTreeMap::new();
        for report in reports {
            if !known.contains_key(&report.origin) && asked.insert(&report.origin) {
                sources.entry(&report.origin.source).or_default().push(report);
            }
        }
        let appends =
            sources.into_iter().take(SOURCES_MAX).map(|(source, reports)| append(app, size, source, reports));
        for appended in futures_util::future::join_all(appends).await {
            match appended {
                Ok(recorded) => known.extend(recorded),
                // Somebody else recorded one of them; it is found in the next round.
                Err(store::Error::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Which of the reports are on record among how many records.
async fn look_up(
    app: &Arc<App>,
    recall: &mut Option<Recall>,
    wanted: HashSet<Origin>,
    known: &mut HashMap<Origin, u64>,
) -> Result<u64, store::Error> {
    let (app, taken) = (app.clone(), recall.take());
    let work = move || {
        let mut recall = taken.map_or_else(|| Recall::open(&app.recall, &app.ledger), Ok)?;
        let size = recall.catch_up(&app.ledger)?;
        let mut found = Vec::new();
        for origin in wanted {
            found.extend(recall.first(&origin)?.map(|sequence| (origin, sequence)));
        }
        Ok::<_, store::Error>((recall, size, found))
    };
    let (used, size, found) =
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(store::Error::Stopped))?;
    *recall = Some(used);
    known.extend(found);
    Ok(size)
}

/// Appends one reporter's reports, unless one of them was recorded after the first `size` records.
async fn append(
    app: &App,
    size: u64,
    source: &str,
    reports: Vec<&Report>,
) -> Result<Vec<(Origin, u64)>, store::Error> {
    let origins: Vec<Origin> = reports.iter().map(|report| report.origin.clone()).collect();
    let events: Vec<Event> = reports.into_iter().cloned().map(Event::from).collect();
    let ours: HashSet<Origin> = origins.iter().cloned().collect();
    let same = move |event: &Event| matches!(event, Event::Reported { origin, .. } if ours.contains(origin));
    let actor = Actor::Machine(source.to_owned());
    let recorded = app.ledger.append_if(Basis::until(size, same), &actor, app.now(), events).await?;
    Ok(origins.into_iter().zip(recorded.into_iter().map(|record| record.sequence)).collect())
}
