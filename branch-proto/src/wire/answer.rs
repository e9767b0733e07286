//! What a request is answered with.

use serde::{Deserialize, Serialize};

use super::{
    BranchInfo, CommitPlan, CommitReport, FileChange, GcReport, GroupInfo, LogEntry, NativeView, Omitted,
    RebaseReport, RestoreReport, WorkspaceStatus,
};

/// Successful answers, one per verb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// To `Create`, in the order of the names; to `List`, parents before children.
    Branches {
        /// The branches.
        branches: Vec<BranchInfo>,
    },
    /// To `Inspect` and `SetQuota`.
    Branch {
        /// The branch.
        branch: BranchInfo,
    },
    /// To `Status`.
    Status {
        /// The workspace.
        status: WorkspaceStatus,
    },
    /// To `NativeView`.
    NativeView {
        /// What to mount.
        view: NativeView,
    },
    /// To `Diff`, sorted by path.
    Diff {
        /// The changes.
        changes: Vec<FileChange>,
    },
    /// To `Patch`: what is not in it.
    Patched {
        /// One for each reason.
        omitted: Vec<Omitted>,
    },
    /// To `Commit`, `Undo` and `Redo`.
    Committed {
        /// What happened.
        report: CommitReport,
    },
    /// To `Rebase`.
    Rebased {
        /// What happened.
        report: RebaseReport,
    },
    /// To `PlanCommit`.
    CommitPlan {
        /// What would happen.
        plan: CommitPlan,
    },
    /// To `Checkpoint`.
    Checkpoint {
        /// Its name.
        name: String,
    },
    /// To `Restore`.
    Restored {
        /// What happened.
        report: RestoreReport,
    },
    /// To `Abort`: the branches that ended, leaves first.
    Aborted {
        /// Their names.
        branches: Vec<String>,
    },
    /// To `Gc`.
    Collected {
        /// What was freed, or would be.
        report: GcReport,
    },
    /// To `Log`.
    Log {
        /// Newest first.
        commits: Vec<LogEntry>,
    },
    /// To `Show`.
    Shown {
        /// What the log says of it.
        entry: LogEntry,
        /// Whether the base before and after it can still be seen.
        kept: bool,
    },
    /// To `Groups`, in the order of attachment.
    Groups {
        /// The groups.
        groups: Vec<GroupInfo>,
    },
    /// To `ControlGroups`.
    Controlled {
        /// How many groups it was done with.
        groups: u32,
    },
    /// To `DeleteCheckpoint`, `Attach`, `Subscribe` and `Shutdown`.
    Done,
}
