//! The exit codes of the command line, one per class of ending. Documented in `docs/reference/exit-codes.md`.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Did what it was asked.
    Success = 0,
    /// A task, test or verification failed.
    CheckFailed = 1,
    /// The command line or the manifest is wrong.
    Usage = 2,
    /// A gate, freeze or KPI rule forbids it.
    BlockedByPolicy = 3,
    /// Waits for a person's approval.
    NeedsApproval = 4,
    /// The machine, disk, network or a needed program failed.
    Infrastructure = 5,
    /// The release was taken back.
    RolledBack = 6,
}

impl Exit {
    /// How grave it is when several things end together: what users may have met is graver than what only waits.
    pub fn gravity(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::NeedsApproval => 1,
            Self::BlockedByPolicy => 2,
            Self::Usage => 3,
            Self::CheckFailed => 4,
            Self::Infrastructure => 5,
            Self::RolledBack => 6,
        }
    }

    /// Every exit with the sentence that the reference page gives it.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Success, "success"),
        (Self::CheckFailed, "a task, test or verification failed"),
        (Self::Usage, "the command line or the manifest is wrong"),
        (Self::BlockedByPolicy, "a gate, freeze or KPI rule forbids it"),
        (Self::NeedsApproval, "waits for a person's approval"),
        (Self::Infrastructure, "the machine, disk, network or a needed program failed"),
        (Self::RolledBack, "the release was taken back"),
    ];
}
