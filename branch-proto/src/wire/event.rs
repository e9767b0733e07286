//! What subscribers hear.

use serde::{Deserialize, Serialize};

use super::{CommitProgress, CommitReport, RebaseReport};

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
