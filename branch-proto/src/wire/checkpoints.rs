//! Checkpoints of a branch.

use serde::{Deserialize, Serialize};

/// A noted state of a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its name; unique in its branch.
    pub name: String,
    /// Seconds since the epoch when it was made.
    pub created: i64,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// The branch.
    pub branch: String,
    /// The checkpoint it is now as.
    pub checkpoint: String,
    /// The checkpoint that holds what it was before; absent if another one had that already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<String>,
    /// What went wrong after it, in words.
    pub warnings: Vec<String>,
}
