//! hyper's timer for request heads, without a trip to the runtime's timer for every request.
//!
//! hyper makes a timer when it begins to wait for a head and drops it when the head is there. This one hands out the same
//! [`Pause`] again and again: one slot for each connection, empty while the timer is in use.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use super::pause::Pause;

type Slot = Arc<Mutex<Option<Pause>>>;

/// One connection's timer.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadTimer(Slot);

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let pause = kept.unwrap_or_else(|| Pause::until(deadline.into()));
        Box::pin(HeadSleep { pause: Some(pause), deadline, slot: Arc::clone(&self.0) })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

struct HeadSleep {
    pause: Option<Pause>,
    deadline: Instant,
    slot: Slot,
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline.into();
        self.pause.as_mut().map_or(Poll::Ready(()), |pause| pause.poll(cx, deadline))
    }
}

impl Sleep for HeadSleep {}

impl Drop for HeadSleep {
    fn drop(&mut self) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = self.pause.take();
    }
}
