//! Bugs on purpose: faults of the kind that people write, planted in the product's own code to see whether the simulator finds them.
//!
//! Without the feature `seeded-bugs` there are none: [`is`] is `false` at compile time. No build for users has the feature; the simulator
//! turns it on for `cargo xtask sim --bugs`. Invariant: at most one bug is planted in a thread.

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident = $name:literal,)*) => {
        /// One bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug {
            $($(#[$doc])* $bug,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$bug,)*];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)*
                }
            }
        }
    };
}

bugs! {
    /// Commits are acknowledged before they are synced.
    AckBeforeSync = "ack-before-sync",
    /// A commit that failed is acknowledged all the same.
    AckAfterFailure = "ack-after-failure",
    /// A commit that failed is answered as one that was decided on old records.
    FailureIsConflict = "failure-is-conflict",
    /// A conditional append does not look at what came meanwhile.
    BasisIgnored = "basis-ignored",
    /// Only the newest record is held against a condition.
    BasisLastOnly = "basis-last-only",
    /// The writer trusts its memory of the head instead of reading it.
    HeadFromMemory = "head-from-memory",
    /// The time of a record may be before that of the record before it.
    TimeGoesBack = "time-goes-back",
    /// The head is written without the last record's hash.
    HeadLacksLast = "head-lacks-last",
    /// Commands of old generations are admitted.
    NoFence = "no-fence",
    /// The highest generation is not remembered.
    EpochForgotten = "epoch-forgotten",
    /// A grant never runs out.
    GrantNeverEnds = "grant-never-ends",
    /// A grant runs three times as long as asked.
    GrantTooLong = "grant-too-long",
    /// A renewal is acknowledged and changes nothing.
    RenewalWithoutEffect = "renewal-without-effect",
    /// A grant that says roll back holds.
    RollbackHolds = "rollback-holds",
    /// A grant that ended in order still runs out.
    SettledGrantFires = "settled-grant-fires",
    /// An effect is asked for before it is recorded.
    ActBeforeRecord = "act-before-record",
    /// The grant is renewed although the release is being taken back.
    RenewWhileWithdrawing = "renew-while-withdrawing",
    /// A controller does not read what others have recorded.
    NoCatchUp = "no-catch-up",
    /// A time-out is taken for success.
    TimeoutIsSuccess = "timeout-is-success",
    /// A time-out is taken for a refusal.
    TimeoutIsRefusal = "timeout-is-refusal",
    /// The canary keeps its traffic when the ledger fails.
    NoLowerOnFailure = "no-lower-on-failure",
    /// What raises is recorded whatever others have recorded.
    RaiseWithoutBasis = "raise-without-basis",
    /// Commands carry the first generation.
    OldEpoch = "old-epoch",
    /// Taking over gives no new generation.
    TakeoverWithoutEpoch = "takeover-without-epoch",
    /// A generation is counted for each rollout by itself.
    EpochOfRollout = "epoch-of-rollout",
    /// An unmeasured stay is measured by the ledger's time.
    StayByLedgerTime = "stay-by-ledger-time",
    /// Looked at but not judged: harm does not take a release back.
    HarmIgnored = "harm-ignored",
    /// An incident stays open.
    IncidentLeftOpen = "incident-left-open",
    /// "Not enough evidence yet" promotes.
    PromoteOnContinue = "promote-on-continue",
    /// No signal promotes.
    PromoteOnNoSignal = "promote-on-no-signal",
    /// A verdict counts however old it is.
    StaleVerdict = "stale-verdict",
    /// The verdict of an earlier step counts.
    VerdictOfOtherStep = "verdict-of-other-step",
    /// A step has no shortest stay.
    NoStay = "no-stay",
    /// A step is left out.
    StepSkipped = "step-skipped",
    /// A deadline never comes.
    NoDeadline = "no-deadline",
    /// What was asked is asked again under a new number.
    RetryWithNewNumber = "retry-with-new-number",
    /// A release can be taken back only while it has traffic.
    RollbackOnlyWatching = "rollback-only-watching",
    /// A release can be taken back while its promotion is under way.
    RollbackWhilePromoting = "rollback-while-promoting",
    /// A promotion counts before it was acknowledged.
    PromotedUnanswered = "promoted-unanswered",
    /// The raise is to the weight of the step after the next.
    WeightOfLaterStep = "weight-of-later-step",
    /// Time between looks counts in full, however long.
    WatchedByWallClock = "watched-by-wall-clock",
    /// Missing data leaves the verdict as it was.
    MissingDataKeepsVerdict = "missing-data-keeps-verdict",
    /// A counter that was reset counts from zero.
    ResetCountsFromZero = "reset-counts-from-zero",
    /// Data from before the step count in it.
    OldDataInStep = "old-data-in-step",
    /// Authors may approve.
    AuthorApproves = "author-approves",
    /// An approval counts for every artifact.
    ApprovalOfOtherArtifact = "approval-of-other-artifact",
    /// Whoever wants may wave a held step through.
    AnybodyResumes = "anybody-resumes",
    /// The live state misses some of what it reads.
    LiveStateLags = "live-state-lags",
}

#[cfg(feature = "seeded-bugs")]
mod planted {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants the bug in this thread, in place of the one before it.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(super) fn get() -> Option<Bug> {
        PLANTED.get()
    }
}

#[cfg(feature = "seeded-bugs")]
pub use planted::plant;

/// Whether this bug is planted here.
#[cfg(feature = "seeded-bugs")]
pub fn is(bug: Bug) -> bool {
    planted::get() == Some(bug)
}

/// Whether this bug is planted here: never, in this build.
#[cfg(not(feature = "seeded-bugs"))]
pub const fn is(_: Bug) -> bool {
    false
}
