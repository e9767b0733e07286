//! The messages themselves. Plain data: no behaviour beyond construction.
//!
//! A connection starts with one [`Hello`] from the client and one `Result<Welcome, Failure>` from the
//! daemon; then the client sends [`Request`]s and gets one [`Reply`] each, in order. [`Verb::Subscribe`] is
//! answered like any other; after that reply the daemon sends [`Event`]s instead, and ignores requests.

use serde::{Deserialize, Serialize};

pub use checkpoints::{Checkpoint, RestoreReport};
pub use choices::{Choice, Choices, CommitPlan, PlannedStep, Resolved, StepAction};
pub use conflict::{Conflict, ConflictKind, FileKind, Version};
pub use gc::{Bound, GcMode, GcReport, Keep, KeepChange};
pub use options::{CommitOptions, Part};
pub use progress::{CommitPhase, CommitProgress};

/// Version of this protocol. A daemon refuses every other one with [`Failure::Version`].
pub const PROTOCOL_VERSION: u32 = 1;

/// First frame of a connection, client to daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Must equal [`PROTOCOL_VERSION`].
    pub protocol: u32,
}

/// Answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The daemon's protocol version.
    pub protocol: u32,
    /// Process id of the daemon.
    pub pid: i32,
    /// `CARGO_PKG_VERSION` of the daemon.
    pub version: String,
}

/// One request. Every variant names the states of the branch in which it is legal; in any other state the
/// daemon answers a [`Failure`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Verb {
    /// Fork `names.len()` branches (1..=64) off `parent`, all or none. Parent: live (or `main`).
    Create {
        /// Names of the new branches, all different and not in use.
        names: Vec<String>,
        /// The branch to fork; `main` is the base itself.
        parent: String,
        /// How the siblings of this one fork relate.
        group: GroupKind,
        /// How much each may hold of its own; absent: as much as the parent may.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quota: Option<Quota>,
    },
    /// Change how much a branch may hold of its own. Live.
    SetQuota {
        /// Name of the branch.
        branch: String,
        /// From now on.
        quota: Quota,
    },
    /// All live branches, parents before children. Any state.
    List,
    /// One branch. Any live state.
    Inspect {
        /// Name of the branch.
        branch: String,
    },
    /// The workspace and its daemon. Any state.
    Status,
    /// What differs between two sides. Live.
    Diff {
        /// The sides.
        compared: Compared,
        /// Whether to count lines and bytes.
        detail: DiffDetail,
    },
    /// The same as a patch for `git apply`: the writing end of a pipe travels as SCM_RIGHTS with this frame. The
    /// daemon writes the patch into it, closes it and answers. Nothing else may be sent meanwhile: it would end
    /// the patch. Live.
    Patch {
        /// The sides.
        compared: Compared,
    },
    /// Commit a leaf branch into its parent. Live.
    Commit {
        /// Name of the branch.
        branch: String,
        /// How.
        #[serde(flatten)]
        options: CommitOptions,
    },
    /// What a commit would do now; changes nothing. Live.
    PlanCommit {
        /// Name of the branch.
        branch: String,
        /// How.
        #[serde(flatten)]
        options: CommitOptions,
    },
    /// Move a leaf branch onto its parent's present state. Live.
    Rebase {
        /// Name of the branch.
        branch: String,
        /// Who wins conflicts.
        #[serde(default)]
        choices: Choices,
    },
    /// Take the last commit into the base back that still stands. Any state.
    Undo,
    /// Take the last `Undo` back, unless something was committed since. Any state.
    Redo,
    /// Note the present state of a branch under a name. Live.
    Checkpoint {
        /// Name of the branch.
        branch: String,
        /// Name of the checkpoint; absent: the next number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Forget a checkpoint. Live.
    DeleteCheckpoint {
        /// Name of the branch.
        branch: String,
        /// Name of the checkpoint.
        name: String,
    },
    /// Make a branch what it was at a checkpoint. Live.
    Restore {
        /// Name of the branch.
        branch: String,
        /// Name of the checkpoint.
        name: String,
    },
    /// Free what nobody needs any more, and give up what is too old. Any state.
    Gc {
        /// What to keep other than the workspace says.
        #[serde(default)]
        keep: KeepChange,
        /// Whether to do it.
        mode: GcMode,
    },
    /// Call off the commit of a branch into the base that is under way, while it is not decided: its own request is
    /// then answered with `Cancelled`. For undo and redo: `main`. Any state.
    Cancel {
        /// Name of the branch.
        branch: String,
    },
    /// Discard a branch. Live.
    Abort {
        /// Name of the branch.
        branch: String,
        /// What to do with branches below it.
        children: Children,
    },
    /// The newest commits into the base, newest first. Any state.
    Log {
        /// At most so many.
        limit: u32,
    },
    /// One commit into the base. Any state.
    Show {
        /// Its number.
        commit: u64,
    },
    /// Hand the daemon a process group of a branch: a pidfd travels as SCM_RIGHTS with this frame. The
    /// daemon kills it when the branch ends. Live.
    Attach {
        /// Name of the branch.
        branch: String,
        /// Process id of the group's init, in the daemon's pid namespace.
        pid: i32,
    },
    /// Turn this connection into an event stream. Any state.
    Subscribe,
    /// Unmount, write a checkpoint, exit. Branches stay. Any state.
    Shutdown,
}

impl Verb {
    /// The verb as the wire spells it.
    pub fn name(&self) -> &'static str {
        match self {
            Verb::Create { .. } => "create",
            Verb::SetQuota { .. } => "set-quota",
            Verb::List => "list",
            Verb::Inspect { .. } => "inspect",
            Verb::Status => "status",
            Verb::Diff { .. } => "diff",
            Verb::Patch { .. } => "patch",
            Verb::Commit { .. } => "commit",
            Verb::Rebase { .. } => "rebase",
            Verb::Undo => "undo",
            Verb::Redo => "redo",
            Verb::PlanCommit { .. } => "plan-commit",
            Verb::Checkpoint { .. } => "checkpoint",
            Verb::DeleteCheckpoint { .. } => "delete-checkpoint",
            Verb::Restore { .. } => "restore",
            Verb::Gc { .. } => "gc",
            Verb::Cancel { .. } => "cancel",
            Verb::Abort { .. } => "abort",
            Verb::Log { .. } => "log",
            Verb::Show { .. } => "show",
            Verb::Attach { .. } => "attach",
            Verb::Subscribe => "subscribe",
            Verb::Shutdown => "shutdown",
        }
    }
}

/// How the siblings made by one fork relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupKind {
    /// The first commit makes the other siblings stale.
    Exclusive,
    /// Siblings live on after a commit.
    Independent,
    /// Exclusive, and the parent is read-only until the group has ended.
    Frozen,
}

/// How much a branch may hold of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quota {
    /// As much as there is.
    Unlimited,
    /// So many bytes, as the host allocates them.
    Bytes(u64),
}

/// What `abort` does with live branches below the one named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Children {
    /// Refuse, naming them.
    Refuse,
    /// Abort them first.
    Cascade,
}

/// What a diff compares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "compared", rename_all = "kebab-case")]
pub enum Compared {
    /// A branch as its fork found it with what it is now.
    SinceFork {
        /// Name of the branch.
        branch: String,
    },
    /// Any two.
    Between {
        /// What the changes lead from.
        old: Side,
        /// What they lead to.
        new: Side,
    },
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "side", rename_all = "kebab-case")]
pub enum Side {
    /// A branch as it is now; `main` is the base.
    Branch {
        /// Its name.
        name: String,
    },
    /// A branch as it was at a checkpoint.
    Checkpoint {
        /// Name of the branch.
        branch: String,
        /// Name of the checkpoint.
        name: String,
    },
    /// The base as it was after a commit, as long as what later ones replaced is kept; 0 is before the first.
    Commit {
        /// Number of the commit.
        commit: u64,
    },
}

/// How much a diff costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiffDetail {
    /// Path and status only.
    NameStatus,
    /// Line counts as well; reads both sides of every changed file.
    Stat,
}

/// A request frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Echoed in the reply.
    pub id: u64,
    /// What to do.
    #[serde(flatten)]
    pub verb: Verb,
}

/// A reply frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's id.
    pub id: u64,
    /// What came of it.
    pub outcome: Result<Answer, Failure>,
}

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
    /// To `DeleteCheckpoint`, `Attach`, `Subscribe` and `Shutdown`.
    Done,
}

/// One live branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchInfo {
    /// Name; unique among live branches.
    pub name: String,
    /// Index of the branch: the high 32 bits of its inode numbers. 0 is `main`.
    pub index: u32,
    /// Name of the parent; absent for `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// How it relates to its siblings; absent for `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupKind>,
    /// Seconds since the epoch of the fork.
    pub created: i64,
    /// Number of objects made, written or removed since the fork; directories that only hold them do not
    /// count.
    pub changed: u64,
    /// Bytes of file content the branch holds of its own, as the host allocates them: what becomes free when it is
    /// aborted.
    pub bytes: u64,
    /// Bytes of all content its view has apart from the base: `bytes`, and what its ancestors had when it was forked.
    #[serde(default)]
    pub content: u64,
    /// How much `bytes` may become; absent without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Live process groups attached to it.
    pub groups: u32,
    /// Names of the live branches below.
    pub children: Vec<String>,
    /// Its checkpoints, oldest first.
    #[serde(default)]
    pub checkpoints: Vec<Checkpoint>,
    /// Absolute path of its view, as bytes (paths need not be UTF-8).
    pub path: PathBytes,
}

/// A path as the bytes the kernel knows; in JSON a string where it is UTF-8 and a byte array where not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathBytes(pub Vec<u8>);

/// The workspace and its daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceStatus {
    /// The base directory.
    pub base: PathBytes,
    /// The store directory.
    pub store: PathBytes,
    /// Where the views are mounted.
    pub mountpoint: PathBytes,
    /// Daemon's process id.
    pub pid: i32,
    /// Data path in use, for people: `fuse, 4 threads` and the like.
    pub mode: String,
    /// Live branches, without `main`.
    pub branches: u64,
    /// Commits into the base so far.
    pub commits: u64,
    /// Bytes in the newest journal.
    pub journal_bytes: u64,
    /// Bytes of file content held by the store.
    pub content_bytes: u64,
    /// What recovery did when the daemon opened the store, in words.
    pub recovery: Vec<String>,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Path in the branch, relative to the workspace.
    pub path: PathBytes,
    /// What happened to it.
    pub status: ChangeStatus,
    /// Where it was before; only for `Renamed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBytes>,
    /// Lines added; absent when not asked for or not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<u64>,
    /// Lines removed; absent when not asked for or not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<u64>,
    /// Size before in bytes; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_size: Option<u64>,
    /// Size after in bytes; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_size: Option<u64>,
}

/// Kinds of change, with git's letters in the docs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeStatus {
    /// A: was not there.
    Added,
    /// M: content changed.
    Modified,
    /// D: is gone.
    Deleted,
    /// R: came from another path.
    Renamed,
    /// T: kind changed (file, directory, link, …).
    Type,
    /// m: only attributes changed (mode, owner, times, extended attributes).
    Attributes,
}

/// Paths that a patch cannot speak of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Omitted {
    /// Why.
    pub why: OmittedBecause,
    /// How many.
    pub paths: u64,
    /// The first of them.
    pub first: PathBytes,
}

/// Why something is not in a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OmittedBecause {
    /// Attributes other than the executable bit of files.
    Attributes,
    /// An empty directory.
    EmptyDirectory,
    /// A FIFO, socket or device.
    Special,
    /// A path that git takes for its own.
    Reserved,
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitReport {
    /// What it was.
    #[serde(flatten)]
    pub action: CommitAction,
    /// The branch that committed; of an undoing, the branch whose commit it is about.
    pub branch: String,
    /// Its parent, which now holds the changes.
    pub into: String,
    /// Number of the commit into the base; absent when the parent is a branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<u64>,
    /// Number of changed paths.
    pub changed: u64,
    /// Siblings (and branches below them) that became stale.
    pub stale: Vec<String>,
    /// What could not be kept, in words (owners an ordinary user may not set, …). Empty is the rule.
    pub warnings: Vec<String>,
    /// Conflicts that the choices decided, sorted by path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved: Vec<Resolved>,
    /// Number of changed paths that the branch still has, after a partial commit; absent: it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<u64>,
}

/// What a rebase did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebaseReport {
    /// The branch.
    pub branch: String,
    /// Its parent.
    pub onto: String,
    /// Whether the parent had changed since the fork, or the last rebase. If not, nothing was done.
    pub moved: bool,
    /// Number of changed paths that the branch has now.
    pub changed: u64,
    /// Conflicts that the choices decided, sorted by path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved: Vec<Resolved>,
    /// What could not be done around it, in words. Empty is the rule.
    pub warnings: Vec<String>,
}

/// What a commit did to its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum CommitAction {
    /// Brought the changes of a branch.
    Commit,
    /// Took a commit into the base back.
    Undo {
        /// Its number.
        of: u64,
    },
    /// Took an undoing back.
    Redo {
        /// Its number.
        of: u64,
    },
}

/// One commit into the base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Number of the commit, from 1.
    pub commit: u64,
    /// What it was.
    #[serde(flatten)]
    pub action: CommitAction,
    /// Name of the branch that committed.
    pub branch: String,
    /// Seconds since the epoch.
    pub time: i64,
    /// Number of changed paths.
    pub changed: u64,
    /// Bytes of the files it brought into the base; of one that undoes or redoes, of the commit it is about.
    pub bytes: u64,
    /// User id of who asked for it; absent if nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<u32>,
    /// What it was for; absent if nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Failures as data; the words are the client's business, except for `detail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "failure", rename_all = "kebab-case")]
pub enum Failure {
    /// The two sides speak different protocol versions.
    #[error("the daemon speaks protocol {daemon}, this program {client}")]
    Version {
        /// The daemon's version.
        daemon: u32,
        /// The client's version.
        client: u32,
    },
    /// No live branch has this name.
    #[error("no branch named '{name}'")]
    NoSuchBranch {
        /// The name asked for.
        name: String,
    },
    /// A live branch has this name.
    #[error("branch '{name}' exists already")]
    Exists {
        /// The name asked for.
        name: String,
    },
    /// Not a name a branch can have.
    #[error("bad branch name '{name}': {reason}")]
    BadName {
        /// The name asked for.
        name: String,
        /// What would be right.
        reason: String,
    },
    /// The branch has no checkpoint of this name.
    #[error("branch '{branch}' has no checkpoint named '{name}'")]
    NoSuchCheckpoint {
        /// The branch.
        branch: String,
        /// The name asked for.
        name: String,
    },
    /// The branch has a checkpoint of this name.
    #[error("branch '{branch}' has a checkpoint named '{name}' already")]
    CheckpointExists {
        /// The branch.
        branch: String,
        /// The name asked for.
        name: String,
    },
    /// A sibling committed first.
    #[error("branch '{name}' is stale: a sibling committed first")]
    Stale {
        /// The loser.
        name: String,
    },
    /// Live branches below it.
    #[error("branch '{name}' has live branches below it: {}", .children.join(", "))]
    HasChildren {
        /// The branch.
        name: String,
        /// Their names.
        children: Vec<String>,
    },
    /// The parent or base changed on the same paths.
    #[error("{} conflicting {}", .conflicts.len(), if .conflicts.len() == 1 { "path" } else { "paths" })]
    Conflicts {
        /// Every one of them, sorted by path.
        conflicts: Vec<Conflict>,
    },
    /// The commit was called off before it was decided: nothing was changed.
    #[error("called off before it was decided: nothing was changed")]
    Cancelled,
    /// Another operation holds the branch (it is being committed).
    #[error("branch '{name}' is busy: {reason}")]
    Busy {
        /// The branch.
        name: String,
        /// With what.
        reason: String,
    },
    /// The verb is not for this branch (`commit main`).
    #[error("{reason}")]
    NotAllowed {
        /// Why, and what would be right.
        reason: String,
    },
    /// A bound was exceeded.
    #[error("{reason}")]
    Limit {
        /// Which, and its value.
        reason: String,
    },
    /// The frame was not a request.
    #[error("malformed request: {reason}")]
    Malformed {
        /// What was wrong with it.
        reason: String,
    },
    /// The store takes nothing more until it is opened again: a write or fsync failed where that cannot be mended
    /// while it is open. What was acknowledged, or decided, stands.
    #[error("{detail}")]
    Poisoned {
        /// errno of what failed, 0 if unknown.
        errno: i32,
        /// What stands, and what failed.
        detail: String,
    },
    /// The operating system refused.
    #[error("{detail}")]
    Io {
        /// errno, 0 if unknown.
        errno: i32,
        /// The operation, the thing, the cause.
        detail: String,
    },
}

/// What a subscriber hears. A slow subscriber loses the connection, never an event in the middle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Sent once when the subscription stands: everything after it will be seen.
    Subscribed,
    /// Branches were forked.
    Forked {
        /// The parent.
        parent: String,
        /// The children.
        branches: Vec<String>,
    },
    /// A long commit goes on.
    Progress {
        /// How far it is.
        progress: CommitProgress,
    },
    /// A branch committed.
    Committed {
        /// What happened.
        report: CommitReport,
    },
    /// A branch moved onto its parent's present state.
    Rebased {
        /// What happened.
        report: RebaseReport,
    },
    /// A branch ended without committing.
    Ended {
        /// The branch.
        branch: String,
        /// Why.
        reason: EndReason,
    },
    /// A process group of a branch was killed or has gone.
    GroupGone {
        /// The branch.
        branch: String,
        /// Process id of its init.
        pid: i32,
    },
    /// The daemon is going down.
    Shutdown,
}

/// Why a branch ended without committing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// Somebody aborted it.
    Aborted,
    /// A sibling committed first.
    Stale,
}

mod checkpoints;
mod choices;
mod conflict;
mod gc;
mod options;
mod progress;
#[cfg(test)]
mod tests;
