//! What stood in the way.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Conflict;

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

impl Failure {
    /// As an error number (`errno(3)`), for those who have no room for words.
    pub fn errno(&self) -> i32 {
        let errno = match self {
            Failure::NoSuchBranch { .. } | Failure::NoSuchCheckpoint { .. } => Errno::NOENT,
            Failure::Exists { .. } | Failure::CheckpointExists { .. } | Failure::Conflicts { .. } => {
                Errno::EXIST
            }
            Failure::BadName { .. } | Failure::NotAllowed { .. } | Failure::Malformed { .. } => Errno::INVAL,
            Failure::Cancelled => Errno::CANCELED,
            Failure::Stale { .. } => Errno::STALE,
            Failure::HasChildren { .. } => Errno::NOTEMPTY,
            Failure::Busy { .. } => Errno::BUSY,
            Failure::Limit { .. } => Errno::NOSPC,
            Failure::Version { .. } => Errno::PROTO,
            Failure::Poisoned { errno: 0, .. } | Failure::Io { errno: 0, .. } => Errno::IO,
            Failure::Poisoned { errno, .. } | Failure::Io { errno, .. } => return *errno,
        };
        errno.raw_os_error()
    }
}
