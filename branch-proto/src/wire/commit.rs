//! What commits and rebases did.

use serde::{Deserialize, Serialize};

use super::Resolved;

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
    /// Number of the commit into the base; absent when the parent is a branch, or there was nothing to commit.
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
