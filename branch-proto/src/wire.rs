//! The messages themselves. Plain data: no behaviour beyond construction.
//!
//! A connection starts with one [`Hello`] from the client and one `Result<Welcome, Failure>` from the
//! daemon; then the client sends [`Request`]s and gets one [`Reply`] each, in order. [`Verb::Subscribe`] is
//! answered like any other; after that reply the daemon sends [`Event`]s instead, and ignores requests.

use serde::{Deserialize, Serialize};

pub use answer::Answer;
pub use branch::{BranchInfo, GroupKind, Quota};
pub use checkpoints::{Checkpoint, RestoreReport};
pub use choices::{Choice, Choices, CommitPlan, PlannedStep, Resolved, StepAction};
pub use commit::{CommitAction, CommitReport, LogEntry, RebaseReport};
pub use conflict::{Conflict, ConflictKind, FileKind, Version};
pub use diff::{ChangeStatus, Compared, DiffDetail, FileChange, Omitted, OmittedBecause, Side};
pub use event::{EndReason, Event};
pub use failure::Failure;
pub use gc::{Bound, GcMode, GcReport, Keep, KeepChange};
pub use options::{CommitOptions, Part};
pub use process::{GroupAction, GroupInfo, ProcessInfo};
pub use progress::{CommitPhase, CommitProgress};
pub use verb::{Children, OnEnd, Verb};
pub use view::{Mounter, NativeView, ViewKind};
pub use workspace::WorkspaceStatus;

pub use crate::path_bytes::PathBytes;

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

mod answer;
mod branch;
mod checkpoints;
mod choices;
mod commit;
mod conflict;
mod diff;
mod event;
mod failure;
mod gc;
mod options;
mod process;
mod progress;
#[cfg(test)]
mod tests;
mod verb;
mod view;
mod workspace;
