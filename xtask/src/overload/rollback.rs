//! Takes real canaries back and measures how long their users wait for it.
//!
//! The clock runs from the request to the server until the edge itself says that no traffic goes to the canary. Its controller
//! is `trimtab ship`, a process of its own, so the way is the longest there is: server, ledger, controller, edge.

use std::time::Duration;

use super::ask::Server;
use crate::figures::process;
use crate::figures::shop::{Build, PATIENCE, Shop};

/// What rollbacks took, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    took_ms: Vec<f64>,
    /// Rollbacks that were not accepted.
    pub(super) refused: u32,
}

/// One rollback.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    took: Duration,
    accepted: bool,
}

impl Latencies {
    pub(super) fn add(&mut self, taken: Taken) {
        self.took_ms.push(taken.took.as_secs_f64() * 1_000.0);
        self.refused += u32::from(!taken.accepted);
    }

    pub(super) fn count(&self) -> u32 {
        self.took_ms.len() as u32
    }

    /// By nearest rank; not a number when nothing was measured.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.took_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
    }
}

/// Ships a new build, waits until half of the traffic goes to it, and takes it back.
pub(super) fn take_back(shop: &Shop, server: &Server, number: u64) -> Result<Taken, String> {
    shop.commit(&Build { name: format!("build{number}"), errors: 0.0, seed: number })?;
    let mut ship = shop.start(&["ship"], "ship")?;
    let rollout = loop {
        if let Some(edge) = shop.edge().filter(|edge| edge.weight > 0)
            && let Some(rollout) = edge.rollout
        {
            break rollout;
        }
        if ship.ended()?.is_some() || ship.started.elapsed() > PATIENCE {
            return Err(format!("the canary gets no traffic: see {}", ship.talk));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // The controller goes on to wait, as it does for most of a canary's life.
    std::thread::sleep(Duration::from_millis(300));
    let asked = process::now();
    let mut answer = server.roll_back(&rollout)?;
    let accepted = answer.status == 202;
    while answer.status != 202 && asked.elapsed() < PATIENCE {
        eprintln!("the rollback is answered with {}: {}", answer.status, answer.body);
        std::thread::sleep(Duration::from_millis(100));
        answer = server.roll_back(&rollout)?;
    }
    while shop.edge().is_none_or(|edge| edge.weight > 0) {
        if asked.elapsed() > PATIENCE {
            return Err(format!("the canary keeps its traffic: see {}", ship.talk));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = asked.elapsed();
    if ship.wait(PATIENCE)?.is_none() {
        return Err(format!("the controller does not end: see {}", ship.talk));
    }
    eprintln!("rollback {number}: {} ms", took.as_millis());
    Ok(Taken { took, accepted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let mut latencies = Latencies::default();
        assert!(latencies.quantile(0.5).is_nan());
        for ms in [3, 1, 2, 4] {
            latencies.add(Taken { took: Duration::from_millis(ms), accepted: ms != 4 });
        }
        let all = [0.0, 0.5, 0.51, 0.99].map(|share| latencies.quantile(share).round() as u32);
        assert_eq!((all, latencies.refused), ([1, 2, 3, 4], 1));
    }
}
