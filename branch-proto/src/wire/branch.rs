//! One branch: how it was made, and what it is.

use serde::{Deserialize, Serialize};

use super::{Checkpoint, PathBytes, ViewKind};

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
    /// What its processes work on.
    #[serde(default, skip_serializing_if = "ViewKind::is_fuse")]
    pub view: ViewKind,
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
