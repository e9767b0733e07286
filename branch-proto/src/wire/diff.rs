//! Comparing two trees.

use serde::{Deserialize, Serialize};

use super::PathBytes;

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
