//! Makes an HAProxy follow the routes: again and again, because it forgets them when it is reloaded.
//!
//! Routes are orders with numbers. One task reads HAProxy, changes what differs, reads it again, and says which order is in
//! force. Before it gives the canary more it asks the guard, each time: after a reload, or when this process was stopped and
//! woken, the grant may have ended. It leaves out expiry (the edge's timer, and the guard's).
//!
//! Invariant: the canary's share at HAProxy is never raised above what the guard grants at that moment.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use delivery::Timestamp;
use delivery::traffic::{Sample, Weight};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::HaproxyFront;
use super::front::Permit;
use super::state::Exposure;
use crate::guard::{self, Guard, Held};
use crate::haproxy::{Haproxy, Wanted, totals};
use crate::proxy::Routes;

/// The wait between two looks at HAProxy.
const LOOK: Duration = Duration::from_millis(500);
/// The wait before an HAProxy that did not do as asked is asked again.
const RETRY: Duration = Duration::from_millis(100);
/// How long a command waits for HAProxy before it says that it could not.
const SETTLE: Duration = Duration::from_secs(4);
/// How long a raise waits for a guard that is just being started.
const PERMIT: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Default)]
struct Order {
    number: u64,
    wanted: Wanted,
}

/// The last order that was tried.
#[derive(Debug, Clone, Default)]
struct Tried {
    number: u64,
    trouble: Option<String>,
}

/// The reins of an HAProxy. Clones share everything.
#[derive(Debug, Clone)]
pub(super) struct Follower {
    haproxy: Haproxy,
    guard: Option<Guard>,
    /// Names this edge's process lifetime.
    boot: String,
    orders: Arc<watch::Sender<Order>>,
    tried: Arc<watch::Sender<Tried>>,
    /// The rollout that the guard has a grant of, as far as we asked for one.
    granted: Arc<watch::Sender<Option<delivery::RolloutId>>>,
}

impl Follower {
    pub(super) fn new(front: HaproxyFront, boot: String) -> Self {
        let trouble = Some("HAProxy was not asked yet".into());
        Self {
            guard: front.guard.map(|socket| Guard::at(&socket)),
            haproxy: front.haproxy,
            boot,
            orders: Arc::default(),
            tried: Arc::new(watch::Sender::new(Tried { number: 0, trouble })),
            granted: Arc::default(),
        }
    }

    pub(super) fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }

    /// Takes new routes.
    pub(super) fn follow(&self, routes: &Routes) {
        let instances = |arm: &Option<crate::proxy::Arm>| {
            arm.as_ref().map(|arm| arm.instances.clone()).unwrap_or_default()
        };
        let weight = routes.weight;
        let wanted = Wanted { stable: instances(&routes.stable), canary: instances(&routes.canary), weight };
        self.order(wanted);
    }

    fn order(&self, wanted: Wanted) {
        self.orders.send_if_modified(|order| {
            let news = order.wanted != wanted;
            if news {
                *order = Order { number: order.number + 1, wanted };
            }
            news
        });
    }

    /// Waits until the last order is in force.
    pub(super) async fn settled(&self) -> Result<(), String> {
        let number = self.orders.borrow().number;
        let mut tried = self.tried.subscribe();
        let done = tried.wait_for(|tried| tried.number >= number && tried.trouble.is_none());
        match timeout(SETTLE, done).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.trouble().unwrap_or_else(|| "HAProxy did not follow in time".into())),
        }
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.tried.borrow().trouble.clone()
    }

    /// Asks the guard for the grant of a raise. One that does not answer is waited for, but not for long.
    pub(super) async fn permit(&self, wanted: &Exposure) -> Permit {
        let Some(guard) = &self.guard else { return Permit::Granted };
        let held = Held {
            rollout: wanted.rollout.clone(),
            epoch: wanted.epoch,
            ceiling: wanted.weight,
            ttl_ms: wanted.ttl_ms,
            deadline_ms: 0,
            on_expiry: wanted.on_expiry,
        };
        let deadline = Instant::now() + PERMIT;
        loop {
            match guard.grant(&held).await {
                Ok(guard::Answer::Held { .. }) => {
                    self.granted.send_replace(Some(held.rollout));
                    return Permit::Granted;
                }
                Ok(guard::Answer::Fenced { epoch }) => return Permit::Fenced(epoch),
                Ok(guard::Answer::Ended { cause, .. }) => return Permit::Refused(cause.to_string()),
                Ok(guard::Answer::None) => return Permit::Refused("the guard gives no grant".into()),
                Err(error) if Instant::now() > deadline => {
                    let why = format!("{error}; without its guard no canary gets traffic here");
                    return Permit::Refused(why);
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    pub(super) async fn lack_of_room(&self, instances: u32) -> Result<Option<String>, String> {
        let backend = self.haproxy.read().await.map_err(|error| error.words())?;
        let (slots, name) = (backend.slots(), &self.haproxy.backend);
        Ok((slots < instances as usize).then(|| {
            format!("HAProxy's backend {name:?} has {slots} servers of a kind for {instances} instances")
        }))
    }

    /// What HAProxy counted, and the share by the weights that it has. Latency is not measured.
    pub(super) async fn sample(&self, at: Timestamp) -> Result<Sample, String> {
        let backend = self.haproxy.read().await.map_err(|error| error.words())?;
        Ok(Sample {
            boot: format!("{}-{}", self.boot, backend.boot),
            at,
            weight: backend.share(),
            stable: totals(&backend.stable),
            canary: totals(&backend.canary),
        })
    }

    /// Waits until nothing is under way on the canary's slots; whether it was so in time, and how many requests are left.
    pub(super) async fn canary_drained(&self, within: Duration) -> (bool, Option<u64>) {
        let deadline = Instant::now() + within;
        loop {
            let backend = self.haproxy.read().await.ok();
            let left = backend.map(|backend| totals(&backend.canary).in_flight);
            if left == Some(0) || Instant::now() >= deadline {
                return (left == Some(0), left);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Follows until told to stop; then nobody gets traffic through HAProxy any more.
    pub(super) async fn run(self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut orders = self.orders.subscribe();
        let mut raised = false;
        loop {
            let order = orders.borrow_and_update().clone();
            let trouble = self.obey(&order, &mut raised).await.err();
            let pause = if trouble.is_some() { RETRY } else { LOOK };
            self.tried.send_replace(Tried { number: order.number, trouble });
            tokio::select! {
                () = &mut stop => break,
                // The sender lives as long as this does.
                _ = orders.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.order(Wanted::default());
        let order = orders.borrow_and_update().clone();
        let trouble = self.obey(&order, &mut raised).await.err();
        self.tried.send_replace(Tried { number: order.number, trouble });
    }

    /// Brings HAProxy to what is ordered. What the guard does not grant is not raised; everything else is done.
    async fn obey(&self, order: &Order, raised: &mut bool) -> Result<(), String> {
        let now = self.haproxy.read().await.map_err(|error| error.words())?;
        let mut wanted = order.wanted.clone();
        let mut refusal = None;
        if self.haproxy.raises(&now, &wanted).map_err(|error| error.words())?
            && let Err(reason) = self.still_granted(wanted.weight).await
        {
            wanted.weight = Weight::ZERO;
            refusal = Some(reason);
        }
        self.haproxy.apply(&now, &wanted).await.map_err(|error| error.words())?;
        if wanted.weight > Weight::ZERO {
            *raised = true;
        } else if *raised {
            *raised = false;
            self.settle().await;
        }
        refusal.map_or(Ok(()), Err)
    }

    async fn still_granted(&self, weight: Weight) -> Result<(), String> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let status = guard.status().await.map_err(|error| error.to_string())?;
        let ceiling = status.held.map_or(Weight::ZERO, |held| held.ceiling);
        if ceiling >= weight {
            return Ok(());
        }
        Err(format!("the guard grants {ceiling}, not {weight}"))
    }

    /// The canary has nothing any more: its grant ends in order. A guard that does not hear it lets it run out.
    async fn settle(&self) {
        let granted = self.granted.send_replace(None);
        if let (Some(guard), Some(rollout)) = (&self.guard, granted) {
            let _ = guard.settle(&rollout).await;
        }
    }
}
