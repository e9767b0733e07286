//! What a client asks for.

use serde::{Deserialize, Serialize};

use super::{
    Choices, CommitOptions, Compared, DiffDetail, GcMode, GroupAction, GroupKind, KeepChange, Mounter, Quota,
};

/// One request. Every variant names the states of the branch in which it is legal; in any other state the
/// daemon answers a [`Failure`](super::Failure).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Verb {
    /// Fork `names.len()` branches (1..=64) off `parent`, all or none. A pidfd may travel as SCM_RIGHTS with this frame:
    /// each branch is aborted if that process ends before a group is attached to it. Parent: live (or `main`).
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
        /// What the end of the group means for the branch.
        #[serde(default, skip_serializing_if = "OnEnd::keeps")]
        on_end: OnEnd,
    },
    /// Make the directories for a native view of a branch, a kernel overlayfs: the next group attached, with
    /// [`OnEnd::TakeIn`], writes to it. Live, without other groups.
    NativeView {
        /// Name of the branch.
        branch: String,
        /// Who is going to mount it.
        mounter: Mounter,
    },
    /// Take into a branch what processes have done in its native view so far; without any, for good. Live.
    TakeIn {
        /// Name of the branch.
        branch: String,
    },
    /// The process groups of a branch, or of all. Live, or any state.
    Groups {
        /// Name of the branch; absent: all branches.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        branch: Option<String>,
    },
    /// Do something with every process group of a branch. Live.
    ControlGroups {
        /// Name of the branch.
        branch: String,
        /// What.
        action: GroupAction,
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
            Verb::NativeView { .. } => "native-view",
            Verb::TakeIn { .. } => "take-in",
            Verb::Groups { .. } => "groups",
            Verb::ControlGroups { .. } => "control-groups",
            Verb::Subscribe => "subscribe",
            Verb::Shutdown => "shutdown",
        }
    }
}

/// What happens to a branch when a group of it ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnEnd {
    /// Nothing.
    #[default]
    Keep,
    /// It is aborted, with those below it. A request that the daemon gets after the end finds it gone.
    Abort,
    /// What the group did in the branch's native view is taken into the branch. A request that the daemon gets after the
    /// end finds it there.
    TakeIn,
}

impl OnEnd {
    fn keeps(&self) -> bool {
        *self == OnEnd::Keep
    }
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
