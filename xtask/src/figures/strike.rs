//! Where in a rollout to strike, and the wait until it is there.
//!
//! A third of the strikes come at a uniformly random time, a third within milliseconds after a commit to the ledger, a third
//! within milliseconds after the edge saved its state, which is between doing an effect and answering it. Leaves out what the
//! strike is. Invariant: the bounds are those of an undisturbed rollout of the same shop.

use std::time::Duration;

use delivery::Event;
use delivery::effect::Effect;
use delivery::traffic::Weight;

use super::dice::Dice;
use super::evidence::Record;
use super::process::{self, Running};
use super::shop::{PATIENCE, Shop};

/// How an undisturbed `ship` goes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Course {
    /// From the start to the plan, roughly.
    lead: Duration,
    /// From the start to the end.
    pub(crate) whole: Duration,
    commits: u32,
    saves: u32,
}

impl Course {
    /// Ships undisturbed and watches.
    pub(crate) fn of(shop: &Shop) -> Result<Self, String> {
        let base = shop.records(0)?.last().map_or(0, |record| record.sequence);
        let mut running = shop.start(&["ship"], "ship")?;
        let (mut ledger, mut edge) = (shop.ledger_mark(), shop.edge_mark());
        let mut course = Self::default();
        while running.ended()?.is_none() {
            if running.started.elapsed() > PATIENCE {
                return Err("an undisturbed rollout does not end".into());
            }
            course.commits += u32::from(changed(&mut ledger, shop.ledger_mark()));
            course.saves += u32::from(changed(&mut edge, shop.edge_mark()));
            std::thread::sleep(process::GLANCE);
        }
        course.whole = running.started.elapsed();
        let records = shop.records(base)?;
        let planned = records.iter().find(|record| matches!(record.event, Event::RolloutPlanned { .. }));
        let (Some(planned), Some(last)) = (planned, records.last()) else {
            return Err("an undisturbed ship planned no rollout".into());
        };
        let rollout = last.at.duration_since(planned.at).unsigned_abs();
        course.lead = course.whole.saturating_sub(rollout + Duration::from_millis(100));
        Ok(course)
    }
}

/// Where to strike.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aim {
    /// So long after the start.
    After(Duration),
    /// So long after the commit of this number.
    Commit(u32, Duration),
    /// So long after the edge's save of this number.
    Save(u32, Duration),
}

impl Aim {
    /// Somewhere in such a rollout.
    pub(crate) fn draw(dice: &mut Dice, course: Course) -> Self {
        let soon = dice.time(Duration::ZERO, Duration::from_millis(6));
        match dice.count(3) {
            1 => Self::After(dice.time(course.lead, course.whole)),
            2 => Self::Commit(dice.count(course.commits), soon),
            _ => Self::Save(dice.count(course.saves), soon),
        }
    }
}

/// Waits for the point; false when the program ended before.
pub(crate) fn reach(shop: &Shop, running: &mut Running, aim: Aim) -> Result<bool, String> {
    let (mut ledger, mut edge) = (shop.ledger_mark(), shop.edge_mark());
    let mut seen = 0;
    while running.ended()?.is_none() {
        let reached = match aim {
            Aim::After(time) => running.started.elapsed() >= time,
            Aim::Commit(count, _) => {
                seen += u32::from(changed(&mut ledger, shop.ledger_mark()));
                seen >= count
            }
            Aim::Save(count, _) => {
                seen += u32::from(changed(&mut edge, shop.edge_mark()));
                seen >= count
            }
        };
        if reached {
            if let Aim::Commit(_, delay) | Aim::Save(_, delay) = aim {
                std::thread::sleep(delay);
            }
            return Ok(true);
        }
        if running.started.elapsed() > PATIENCE {
            return Err("a rollout neither ends nor reaches its point".into());
        }
        std::thread::sleep(process::GLANCE);
    }
    Ok(false)
}

/// Where the record stands, in a few words.
pub(crate) fn place(records: &[Record]) -> &'static str {
    match records.last().map(|record| &record.event) {
        Some(Event::EffectRequested { command }) => match &command.effect {
            Effect::Start { .. } => "start requested",
            Effect::SetWeight { weight, .. } if *weight == Weight::ZERO => "weight 0 requested",
            Effect::SetWeight { .. } => "weight requested",
            Effect::Promote { .. } => "promotion requested",
            Effect::Retire { .. } => "retirement requested",
        },
        Some(event) => event.kind(),
        None => "nothing",
    }
}

/// Whether the mark is another one than before.
fn changed<T: PartialEq>(before: &mut T, now: T) -> bool {
    let differs = *before != now;
    *before = now;
    differs
}
