//! What the guard decides: pure, over a boot clock that is passed in.
//!
//! Leaves out HAProxy, the disk and the socket. Invariants: the ceiling is zero unless a grant is held, or was held and said
//! `hold`; whatever ended by the clock or by a person stays ended for its rollout.

use std::time::Duration;

use delivery::strategy::OnExpiry;
use delivery::traffic::Weight;
use delivery::{RolloutId, Timestamp};
use serde::{Deserialize, Serialize};

use super::wire::Answer;
use crate::grant::{GRANT_TTL_MAX, Grant, GrantError, Grants};

/// Who asked for a rollback, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requested {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Why a grant ended without its controller's doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "cause")]
pub enum Cause {
    /// Nobody renewed it.
    Expired,
    /// The machine was started anew, or what was granted can't be proven.
    Restarted,
    /// A person asked for it.
    Requested(Requested),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Expired => f.write_str("nobody renewed its grant at the guard"),
            Self::Restarted => f.write_str("the guard was restarted and could not prove its grant"),
            Self::Requested(Requested { by, reason }) => write!(f, "{by} asked the guard for it: {reason}"),
        }
    }
}

/// A grant that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Whose.
    pub rollout: RolloutId,
    /// The controller generation that had it.
    pub epoch: u64,
    /// What it had covered.
    pub ceiling: Weight,
    /// When, by the wall clock.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
}

/// A grant in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Whose.
    pub rollout: RolloutId,
    /// The controller generation.
    pub epoch: u64,
    /// The highest share that it covers.
    pub ceiling: Weight,
    /// Its length in milliseconds.
    pub ttl_ms: u64,
    /// When it runs out, in milliseconds on the boot clock. For one that was kept by `hold`: when it ran out.
    pub deadline_ms: u64,
    /// What happens then.
    pub on_expiry: OnExpiry,
}

/// What must be known after a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Names the machine's boot, on whose clock deadlines are.
    pub(super) boot_id: String,
    /// The highest epoch seen.
    pub(super) epoch: u64,
    /// The grant, running or kept by `hold`.
    pub(super) held: Option<Held>,
    /// The last that ended by itself or by a person.
    pub(super) ended: Option<Ended>,
}

/// The decisions of one guard.
#[derive(Debug, Default)]
pub(super) struct Watchman {
    grants: Grants,
    held: Option<Held>,
    ended: Option<Ended>,
}

impl Watchman {
    /// From what was known before, in this boot of the machine. What can't be proven has ended.
    pub(super) fn resume(memory: Memory, boot_id: &str, now: Duration, wall: Timestamp) -> Self {
        let mut watchman = Self { ended: memory.ended, ..Self::default() };
        // Nothing was seen before, so nothing is refused.
        let _ = watchman.grants.admit(memory.epoch);
        let Some(held) = memory.held else { return watchman };
        if memory.boot_id == boot_id {
            let left = Duration::from_millis(held.deadline_ms).saturating_sub(now).min(GRANT_TTL_MAX);
            let grant = Grant { ttl: left, ..grant_of(&held) };
            let _ = watchman.grants.give(now, grant);
            watchman.held = Some(held);
        } else {
            watchman.ended = Some(ended(&held, wall, Cause::Restarted));
        }
        watchman
    }

    /// What must be known after a restart.
    pub(super) fn memory(&self, boot_id: &str) -> Memory {
        Memory {
            boot_id: boot_id.to_owned(),
            epoch: self.grants.epoch(),
            held: self.held.clone(),
            ended: self.ended.clone(),
        }
    }

    /// Gives a grant, in place of the one held before.
    pub(super) fn grant(&mut self, now: Duration, wall: Timestamp, wanted: &Held) -> Answer {
        self.tick(now, wall);
        if let Some(answer) = self.refusal(&wanted.rollout) {
            return answer;
        }
        let grant = grant_of(wanted);
        let ttl = grant.ttl.min(GRANT_TTL_MAX);
        match self.grants.give(now, grant) {
            Ok(()) => {
                let deadline_ms = (now + ttl).as_millis() as u64;
                self.held = Some(Held { deadline_ms, ttl_ms: ttl.as_millis() as u64, ..wanted.clone() });
                Answer::Held { remaining_ms: ttl.as_millis() as u64 }
            }
            Err(GrantError::Fenced { epoch }) => Answer::Fenced { epoch },
            Err(GrantError::Expired { .. } | GrantError::Unknown { .. }) => Answer::None,
        }
    }

    /// Restarts the time of the grant; also of one that `hold` kept.
    pub(super) fn renew(
        &mut self,
        now: Duration,
        wall: Timestamp,
        rollout: &RolloutId,
        epoch: u64,
    ) -> Answer {
        self.tick(now, wall);
        if let Err(GrantError::Fenced { epoch }) = self.grants.admit(epoch) {
            return Answer::Fenced { epoch };
        }
        if let Some(answer) = self.refusal(rollout) {
            return answer;
        }
        match self.held.clone().filter(|held| held.rollout == *rollout) {
            Some(held) => self.grant(now, wall, &Held { epoch, ..held }),
            None => Answer::None,
        }
    }

    /// The rollout's weight is 0 or it became stable: its grant ends in order.
    pub(super) fn settle(&mut self, rollout: &RolloutId) {
        self.grants.settle(rollout);
        self.held = self.held.take().filter(|held| held.rollout != *rollout);
    }

    /// A person takes back whatever is granted; gives what that was.
    pub(super) fn rollback(&mut self, wall: Timestamp, requested: Requested) -> Option<Ended> {
        let held = self.held.take()?;
        self.grants.settle(&held.rollout);
        let ended = ended(&held, wall, Cause::Requested(requested));
        self.ended = Some(ended.clone());
        Some(ended)
    }

    /// Ends what ran out. Says what that was, once.
    pub(super) fn tick(&mut self, now: Duration, wall: Timestamp) -> Option<Held> {
        self.grants.expire(now)?;
        let held = self.held.clone()?;
        if held.on_expiry == OnExpiry::Rollback {
            self.ended = Some(ended(&held, wall, Cause::Expired));
            self.held = None;
        }
        Some(held)
    }

    /// The highest share that the canary may have.
    pub(super) fn ceiling(&self) -> Weight {
        self.held.as_ref().map_or(Weight::ZERO, |held| held.ceiling)
    }

    pub(super) fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    pub(super) fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    pub(super) fn epoch(&self) -> u64 {
        self.grants.epoch()
    }

    /// When something runs out, on the boot clock.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.grants.deadline()
    }

    fn refusal(&self, rollout: &RolloutId) -> Option<Answer> {
        let ended = self.ended.as_ref().filter(|ended| ended.rollout == *rollout)?;
        Some(Answer::Ended { at: ended.at, ceiling: ended.ceiling, cause: ended.cause.clone() })
    }
}

fn grant_of(held: &Held) -> Grant {
    Grant {
        rollout: held.rollout.clone(),
        epoch: held.epoch,
        ceiling: held.ceiling,
        ttl: Duration::from_millis(held.ttl_ms),
        on_expiry: held.on_expiry,
    }
}

fn ended(held: &Held, at: Timestamp, cause: Cause) -> Ended {
    Ended { rollout: held.rollout.clone(), epoch: held.epoch, ceiling: held.ceiling, at, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Timestamp = Timestamp::UNIX_EPOCH;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn rollout(name: &str) -> RolloutId {
        RolloutId::new(name).unwrap()
    }

    fn wanted(name: &str, epoch: u64, on_expiry: OnExpiry) -> Held {
        Held {
            rollout: rollout(name),
            epoch,
            ceiling: Weight::from_basis_points(500).unwrap(),
            ttl_ms: 10_000,
            deadline_ms: 0,
            on_expiry,
        }
    }

    fn granted(on_expiry: OnExpiry) -> Watchman {
        let mut watchman = Watchman::default();
        let answer = watchman.grant(seconds(0), WALL, &wanted("ro-00000001", 1, on_expiry));
        assert_eq!(answer, Answer::Held { remaining_ms: 10_000 });
        watchman
    }

    #[test]
    fn a_grant_that_nobody_renews_ends_for_good() {
        let mut watchman = granted(OnExpiry::Rollback);
        assert!(matches!(watchman.renew(seconds(9), WALL, &rollout("ro-00000001"), 1), Answer::Held { .. }));
        assert_eq!(watchman.tick(seconds(18), WALL), None);
        assert!(watchman.tick(seconds(19), WALL).is_some() && watchman.tick(seconds(20), WALL).is_none());
        assert_eq!(watchman.ceiling(), Weight::ZERO);
        for answer in [
            watchman.renew(seconds(20), WALL, &rollout("ro-00000001"), 1),
            watchman.grant(seconds(20), WALL, &wanted("ro-00000001", 2, OnExpiry::Rollback)),
        ] {
            assert!(matches!(answer, Answer::Ended { cause: Cause::Expired, .. }), "{answer:?}");
        }
        let next = watchman.grant(seconds(21), WALL, &wanted("ro-00000002", 3, OnExpiry::Rollback));
        assert_eq!(next, Answer::Held { remaining_ms: 10_000 });
    }

    #[test]
    fn a_late_renewal_finds_the_end_without_a_tick() {
        let mut watchman = granted(OnExpiry::Rollback);
        let answer = watchman.renew(seconds(10), WALL, &rollout("ro-00000001"), 1);
        assert!(matches!(answer, Answer::Ended { .. }), "{answer:?}");
        assert_eq!(watchman.ceiling(), Weight::ZERO);
    }

    #[test]
    fn hold_keeps_the_ceiling_until_a_person_or_its_controller_comes() {
        let mut watchman = granted(OnExpiry::Hold);
        assert!(watchman.tick(seconds(11), WALL).is_some());
        assert_eq!(watchman.ceiling(), wanted("ro-00000001", 1, OnExpiry::Hold).ceiling);
        assert!(matches!(watchman.renew(seconds(12), WALL, &rollout("ro-00000001"), 2), Answer::Held { .. }));
        let requested = Requested { by: "ana".into(), reason: "smoke".into() };
        assert!(watchman.rollback(WALL, requested.clone()).is_some());
        assert_eq!(watchman.ceiling(), Weight::ZERO);
        let answer = watchman.renew(seconds(13), WALL, &rollout("ro-00000001"), 2);
        assert!(matches!(answer, Answer::Ended { cause: Cause::Requested(by), .. } if by == requested));
        assert_eq!(watchman.rollback(WALL, requested), None, "nothing is left to take back");
    }

    #[test]
    fn an_old_controller_can_neither_renew_nor_take_over() {
        let mut watchman = granted(OnExpiry::Rollback);
        assert!(matches!(watchman.renew(seconds(1), WALL, &rollout("ro-00000001"), 5), Answer::Held { .. }));
        let old = watchman.renew(seconds(2), WALL, &rollout("ro-00000001"), 1);
        assert_eq!(old, Answer::Fenced { epoch: 5 });
        let old = watchman.grant(seconds(2), WALL, &wanted("ro-00000002", 4, OnExpiry::Rollback));
        assert_eq!(old, Answer::Fenced { epoch: 5 });
    }

    #[test]
    fn a_restart_gives_no_time_and_another_boot_ends_everything() {
        let memory = granted(OnExpiry::Rollback).memory("one");
        let mut same = Watchman::resume(memory.clone(), "one", seconds(7), WALL);
        assert!(same.ceiling() > Weight::ZERO);
        assert!(same.tick(seconds(10), WALL).is_some(), "the deadline is the one from before");
        let late = Watchman::resume(memory.clone(), "one", seconds(30), WALL).tick(seconds(30), WALL);
        assert!(late.is_some(), "it ran out while nobody watched");
        let other = Watchman::resume(memory, "two", seconds(1), WALL);
        assert_eq!(other.ceiling(), Weight::ZERO);
        assert!(other.ended().is_some_and(|ended| ended.cause == Cause::Restarted));
    }

    #[test]
    fn what_settled_is_not_said_to_have_ended() {
        let mut watchman = granted(OnExpiry::Rollback);
        watchman.settle(&rollout("ro-00000001"));
        assert_eq!((watchman.ceiling(), watchman.ended()), (Weight::ZERO, None));
        assert_eq!(watchman.renew(seconds(1), WALL, &rollout("ro-00000001"), 1), Answer::None);
    }
}
