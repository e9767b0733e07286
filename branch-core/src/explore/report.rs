//! What an explore tells: while it runs, and at its end.

use std::time::Duration;

use branch_proc::Denial;
use branch_proto::{CommitReport, Conflict, ViewKind};
use serde::{Serialize, Serializer};

use crate::tail::Tail;

/// A step of an explore. Attempts are numbered from 0 here, as in the report's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// All branches stand.
    Forked {
        /// Their names, one per attempt.
        branches: Vec<String>,
    },
    /// An attempt's command is about to run.
    Started {
        /// Which.
        attempt: usize,
    },
    /// It exited with 0; its check is about to run.
    Checking {
        /// Which.
        attempt: usize,
    },
    /// The check exited with 0 too; it is about to commit.
    Committing {
        /// Which.
        attempt: usize,
    },
    /// It has ended, its processes are gone.
    Finished {
        /// Which.
        attempt: usize,
        /// How it ended.
        verdict: Verdict,
        /// How long it took.
        duration: Duration,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// Its changes are in the parent.
    Won,
    /// Its command failed.
    Failed {
        /// As a shell counts: 128 + n for signal n.
        exit_code: i32,
    },
    /// Its command succeeded, the check did not.
    CheckFailed {
        /// As a shell counts.
        exit_code: i32,
    },
    /// The time was up.
    TimedOut,
    /// A sibling won, or somebody ended its branch.
    Lost,
    /// The explore was stopped.
    Stopped,
    /// It succeeded but could not commit. Its branch is left alive.
    NotCommitted {
        /// Why.
        reason: String,
        /// Where it met what others did, if that is why.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        conflicts: Vec<Conflict>,
    },
    /// It could not be run.
    Error {
        /// Why.
        reason: String,
    },
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttemptReport {
    /// Name of its branch.
    pub branch: String,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// From its start to its end, with check and commit.
    #[serde(rename = "duration_ms", serialize_with = "milliseconds")]
    pub duration: Duration,
    /// Of this the check; absent if none ran.
    #[serde(
        rename = "check_ms",
        serialize_with = "some_milliseconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub check: Option<Duration>,
    /// How its last program ended; None if none came to its end.
    #[serde(skip)]
    pub outcome: Option<Box<branch_proc::Outcome>>,
    /// What its command and its check tried and were not allowed to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Denial>,
    /// Denials beyond those that are kept.
    #[serde(skip_serializing_if = "is_zero")]
    pub denied_dropped: u64,
    /// What its command worked on.
    pub view: ViewKind,
    /// Why not on a native view, if that was wished for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The end of what it and its check wrote to standard output and error.
    pub output: Tail,
}

/// A finished explore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExploreReport {
    /// Index of the attempt that committed; absent if none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub winner: Option<usize>,
    /// What its commit did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitReport>,
    /// All attempts, in the order given.
    pub attempts: Vec<AttemptReport>,
    /// From the fork to the last attempt's end.
    #[serde(rename = "duration_ms", serialize_with = "milliseconds")]
    pub duration: Duration,
    /// Whether it was stopped by the caller.
    pub stopped: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn milliseconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

fn some_milliseconds<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    milliseconds(&span.unwrap_or_default(), serializer)
}
