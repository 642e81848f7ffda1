//! What can go wrong, and what a rollout was doing when it did.
//!
//! Invariant: every kind has a name and says in which phases it can strike, so that coverage can be counted and thin spots
//! are seen.

use delivery::effect::Effect;
use delivery::traffic::Weight;
use rollout::progress::Rollout;

use crate::profile::Ambush;

macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// For people.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

kinds! {
    /// A kind of fault.
    Fault {
        /// `kill -9` of a controller, between two operations.
        ControllerKilled = "controller killed",
        /// `kill -9` of a controller in the middle of a commit.
        ControllerKilledWriting = "controller killed while it writes",
        /// A controller does nothing for up to ten minutes, then goes on.
        ControllerPaused = "controller paused",
        /// The power of the machine that all controllers are on goes out.
        PowerCut = "power cut",
        /// The same in the middle of a commit.
        PowerCutWriting = "power cut in a write",
        /// Reading a file fails.
        DiskReadError = "disk read error",
        /// Writing a file fails.
        DiskWriteError = "disk write error",
        /// A write is done in part.
        DiskShortWrite = "short write",
        /// A write survives a power cut in part.
        DiskTornWrite = "torn write",
        /// A sync fails.
        DiskSyncError = "sync error",
        /// No space is left.
        DiskFull = "disk full",
        /// A sync is acknowledged and not done.
        DiskLyingSync = "lying sync",
        /// A bit turns around at rest.
        DiskBitFlip = "bit flip",
        /// A request never arrives.
        RequestLost = "request lost",
        /// An answer never arrives.
        ReplyLost = "answer lost",
        /// A request arrives a second time, later.
        Duplicated = "request repeated",
        /// A request arrives late, maybe after younger ones.
        Delayed = "request delayed",
        /// A controller and a platform can't reach each other for a while.
        Partitioned = "partition",
        /// The reading is an older one.
        MetricsLate = "metrics late",
        /// There is no reading.
        MetricsMissing = "metrics missing",
        /// The reading makes no sense.
        MetricsGarbled = "metrics garbled",
        /// The counters begin anew.
        MetricsReset = "metrics reset",
        /// The counters stand still.
        MetricsStale = "metrics stale",
        /// The platform does it, and its answer is a time-out.
        ApiTimeoutAfter = "time-out after applying",
        /// 409: the platform refuses.
        ApiConflict = "409",
        /// 429: the platform is busy.
        ApiTooMany = "429",
        /// 500: the platform fails, with nothing done.
        ApiError = "500",
        /// A controller starts with a clock that is up to a year ahead.
        ClockAhead = "clock ahead",
        /// A controller starts with a clock that is up to a year behind.
        ClockBehind = "clock behind",
        /// A controller's clock is fast or slow.
        ClockDrift = "clock drift",
        /// The platform dies and comes back with stable alone.
        PlatformRestarted = "platform restarted",
        /// A guard dies and comes back.
        GuardKilled = "guard killed",
        /// A guard does nothing for a while.
        GuardPaused = "guard paused",
    }
}

kinds! {
    /// What a rollout is doing.
    Phase {
        /// Nothing was asked for yet.
        Planned = "planned",
        /// The start was asked for.
        Starting = "starting",
        /// A raise was asked for.
        Raising = "raising",
        /// It has traffic, which is judged.
        Watching = "watching",
        /// It has traffic, and its time runs.
        Holding = "holding",
        /// The promotion was asked for.
        Promoting = "promoting",
        /// It serves; what served before goes.
        Concluding = "concluding",
        /// It is being taken back and may have traffic.
        Withdrawing = "withdrawing",
        /// It was taken back; its processes go.
        Clearing = "clearing",
    }
}

impl Phase {
    /// The phase of a rollout that has not ended.
    pub fn of(rollout: &Rollout) -> Option<Self> {
        if !rollout.active() {
            return None;
        }
        let pending = rollout.pending.as_ref().map(|command| &command.effect);
        Some(match pending {
            _ if rollout.promoted => Self::Concluding,
            _ if rollout.cause.is_some() && rollout.milestones.withdrawn.is_some() => Self::Clearing,
            Some(Effect::Retire { .. }) if rollout.cause.is_some() => Self::Clearing,
            _ if rollout.cause.is_some() => Self::Withdrawing,
            Some(Effect::Promote { .. }) => Self::Promoting,
            Some(Effect::SetWeight { weight, .. }) if *weight > Weight::ZERO => Self::Raising,
            Some(_) => Self::Starting,
            None => match rollout.position.zip(rollout.step()) {
                Some((position, step)) if step.analyse && !position.resumed => Self::Watching,
                Some(_) => Self::Holding,
                None if rollout.started => Self::Raising,
                None => Self::Planned,
            },
        })
    }
}

impl Phase {
    /// How much chaos that lies in wait longs for it: the phases that pass quickly, or that few rollouts come to.
    pub(crate) fn lure(self, ambush: Ambush) -> f64 {
        match (ambush, self) {
            (Ambush::Nowhere, _) => 0.0,
            (_, Self::Concluding | Self::Planned) => 1.0,
            (Ambush::Everywhere, Self::Promoting | Self::Holding | Self::Raising) => 1.0,
            (Ambush::Everywhere, Self::Withdrawing) => 0.6,
            (Ambush::Everywhere, Self::Watching) => 0.5,
            (Ambush::Everywhere, Self::Starting | Self::Clearing) => 0.1,
            (Ambush::Late, Self::Promoting | Self::Raising) => 0.5,
            (Ambush::Late, Self::Holding) => 0.1,
            (Ambush::Late, _) => 0.0,
        }
    }

    /// The same for its requests. A refusal on the way up ends a rollout, and few would come to their last phases.
    pub(crate) fn lure_requests(self, ambush: Ambush) -> f64 {
        match self {
            Self::Raising | Self::Promoting => self.lure(ambush).min(0.25),
            Self::Clearing if ambush != Ambush::Nowhere => 0.3,
            other => other.lure(ambush),
        }
    }
}

impl Fault {
    /// Whether it can strike a rollout in that phase at all.
    pub fn strikes_in(self, phase: Phase) -> bool {
        use Phase::{Holding, Planned, Watching};
        match self {
            Self::MetricsLate
            | Self::MetricsMissing
            | Self::MetricsGarbled
            | Self::MetricsReset
            | Self::MetricsStale => phase == Watching,
            Self::ApiTimeoutAfter | Self::ApiConflict | Self::ApiTooMany | Self::ApiError => {
                !matches!(phase, Planned | Watching | Holding)
            }
            Self::RequestLost | Self::ReplyLost | Self::Duplicated | Self::Delayed => phase != Planned,
            _ => true,
        }
    }
}
