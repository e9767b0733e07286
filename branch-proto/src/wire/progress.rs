//! How far a long commit is.

use serde::{Deserialize, Serialize};

/// How far a commit into the base, its undoing or redoing is. Short ones are not spoken of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitProgress {
    /// The branch; `main` where a commit is undone or redone.
    pub branch: String,
    /// What is being done.
    pub phase: CommitPhase,
    /// So many are done …
    pub done: u64,
    /// … of so many; 0 where nothing is counted.
    pub of: u64,
    /// Bytes copied in this phase so far.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
}

fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

/// What is being done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommitPhase {
    /// Comparing with the base; `of` objects or steps.
    Planning,
    /// Making what is needed, beside the base; counted in objects.
    Staging,
    /// Making that durable.
    Syncing,
    /// The decision: from here on it cannot be called off.
    Deciding,
    /// Writing into the base; counted in steps.
    WritingBack,
    /// Making that durable.
    Finishing,
    /// The base holds the result.
    Done,
}
