//! The codes of everything that can go wrong for a user. `trimtab explain CODE` prints a page for each
//! (`docs/reference/errors/CODE.md`); a test holds the pages and this table together.
//!
//! Ranges: 01xx manifest, 02xx repository, 03xx store, 04xx pipeline, 05xx gates, 06xx attestation, 07xx platform,
//! 08xx promotion and rollout, 09xx server and command line.

use std::fmt;

use crate::exit::Exit;

macro_rules! codes {
    ($($variant:ident = $id:literal, $exit:ident, $title:literal;)*) => {
        /// What kind of problem it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code as it is printed: `TRM-0101`.
            pub fn id(self) -> &'static str {
                match self { $(Self::$variant => concat!("TRM-", $id),)* }
            }

            /// One line for lists.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// Its page: what it means, why it happens, what to do. A code without a page does not compile.
            pub fn page(self) -> &'static str {
                match self {
                    $(Self::$variant => {
                        include_str!(concat!("../../../docs/reference/errors/TRM-", $id, ".md"))
                    })*
                }
            }

            /// How a command that meets it ends.
            pub fn exit(self) -> Exit {
                match self { $(Self::$variant => Exit::$exit,)* }
            }
        }
    };
}

codes! {
    ManifestMissing = "0101", Usage, "there is no trimtab.toml";
    ManifestUnreadable = "0102", Usage, "the manifest can't be read";
    ManifestTooLarge = "0103", Usage, "the manifest is too large";
    ManifestNotUtf8 = "0104", Usage, "the manifest is not UTF-8";
    ManifestSyntax = "0105", Usage, "the manifest is not valid TOML";
    ManifestKeyUnknown = "0106", Usage, "the manifest has an unknown key";
    ManifestType = "0107", Usage, "a value in the manifest has the wrong type";
    ManifestKeyMissing = "0108", Usage, "the manifest lacks a required key";
    ManifestValue = "0109", Usage, "a value in the manifest is out of range";
    ManifestReference = "0110", Usage, "the manifest names something that it does not define";
    ManifestCycle = "0111", Usage, "tasks need each other in a circle";
    ManifestVersion = "0112", Usage, "the manifest is of another version";
    ManifestEmpty = "0113", Usage, "the manifest is empty";
    ManifestExists = "0114", Usage, "there is a trimtab.toml already";
    ManifestOutputs = "0115", Usage, "two tasks write the same output";

    RepositoryMissing = "0201", Usage, "this is not a git repository";
    RepositoryShallow = "0202", Usage, "the repository is a shallow clone";
    RepositoryEmpty = "0203", Usage, "the repository has no commits";
    RepositoryDirty = "0204", Usage, "the work tree has uncommitted changes";
    GitMissing = "0205", Infrastructure, "the git program can't be started";
    GitFailed = "0206", Infrastructure, "a git command failed";
    IdentityMissing = "0207", Usage, "git does not know who you are";

    StoreUnavailable = "0301", Infrastructure, "the ledger can't be opened";
    StoreReadOnly = "0302", Infrastructure, "the ledger can't be written";
    StoreNewer = "0303", Infrastructure, "the ledger was written by a newer Trimtab";
    StoreFull = "0304", Infrastructure, "there is no space for the ledger";
    StoreDamaged = "0305", CheckFailed, "the ledger is damaged";
    StoreLocked = "0306", Infrastructure, "another process keeps the ledger locked";
    RecordTooLarge = "0307", Infrastructure, "an event is too large to record";
    BackupDamaged = "0311", CheckFailed, "the backup is damaged";
    LedgerExists = "0312", Usage, "there is something in that place already";
    StoreOlder = "0313", Infrastructure, "the ledger is older than what was seen here";
    CheckpointUnreadable = "0320", Usage, "a checkpoint or proof can't be read";
    HistoryChanged = "0321", CheckFailed, "the ledger does not continue a checkpoint";
    LedgerForked = "0322", CheckFailed, "the ledger has two histories";

    TaskUnknown = "0401", Usage, "there is no such task";
    TaskFailed = "0402", CheckFailed, "a task failed";
    TaskNotStarted = "0403", CheckFailed, "a task's program can't be started";
    TaskTimedOut = "0404", CheckFailed, "a task ran into its time limit";
    OutputMissing = "0405", CheckFailed, "a task did not write a declared output";
    RunCancelled = "0406", CheckFailed, "the run was cancelled";
    CacheFailed = "0407", Infrastructure, "the task cache can't be used";
    WorkTreeBusy = "0408", Infrastructure, "another process runs tasks in this work tree";

    GateFailed = "0501", BlockedByPolicy, "a gate does not let the change pass";
    ReportUnreadable = "0502", CheckFailed, "a report can't be read";

    KeyUnusable = "0601", Infrastructure, "the signing key can't be used";
    SignatureInvalid = "0602", BlockedByPolicy, "the provenance's signature does not verify";
    ArtifactChanged = "0603", BlockedByPolicy, "the artifact is not the one that was signed";
    ArtifactUnpackable = "0604", CheckFailed, "the artifact can't be packaged";
    CheckpointUntrusted = "0605", CheckFailed, "no trusted key signed the checkpoint";
    ProofInvalid = "0606", CheckFailed, "the proof does not hold";

    PlatformUnavailable = "0701", Infrastructure, "the platform does not answer";
    PortTaken = "0702", Infrastructure, "the port is taken";
    ProgramMissing = "0703", Infrastructure, "a program is missing";
    HaproxyUnreachable = "0704", Infrastructure, "HAProxy does not answer";
    HaproxyUnfit = "0705", Infrastructure, "HAProxy is not set up for canaries";
    GuardUnavailable = "0706", Infrastructure, "the guard does not answer";

    EnvironmentUnknown = "0801", Usage, "there is no such environment";
    ServiceUnknown = "0802", Usage, "there is no such service";
    RolloutUnknown = "0803", Usage, "there is no such rollout";
    ApprovalMissing = "0804", NeedsApproval, "the promotion waits for approval";
    ApprovalByAuthor = "0805", BlockedByPolicy, "an author can't approve their own change";
    ApproverNotListed = "0806", BlockedByPolicy, "this person may not approve here";
    Frozen = "0807", BlockedByPolicy, "the environment is frozen";
    KpiUnmet = "0808", BlockedByPolicy, "a KPI threshold is not met";
    EarlierEnvironment = "0809", BlockedByPolicy, "the release has not passed the environment before";
    RolloutRunning = "0810", BlockedByPolicy, "a rollout is already running there";
    RolledBack = "0811", RolledBack, "the release was taken back";
    NothingToRollBack = "0812", Usage, "there is nothing to take back";
    Fenced = "0813", Infrastructure, "another controller has taken over";
    NothingToApprove = "0814", Usage, "there is nothing to approve";

    CodeUnknown = "0901", Usage, "there is no such code";
    ThingUnknown = "0902", Usage, "there is nothing of that name";
    AddressTaken = "0903", Infrastructure, "the address is taken";
    DemoFailed = "0904", Infrastructure, "the demo did not end as it should";
    RequestRefused = "0905", Usage, "the request may not do that";
    AddressNotLocal = "0906", Usage, "the server listens on this machine only";
    RequestInvalid = "0907", Usage, "the request can't be understood";
    ServerBusy = "0908", Infrastructure, "the server has too much to do";
    OutputLost = "0909", Infrastructure, "the answer could not be written";
    ReportRefused = "0910", Usage, "the reported event can't be taken";
}

impl Code {
    /// The code with this id, however it is cased.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.id().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_found_again() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.id()), Some(*code));
        }
        assert_eq!(Code::parse("trm-0101"), Some(Code::ManifestMissing));
    }
}
