//! How a program talks to a branchfs daemon.
//!
//! The conversation is frames of JSON over a Unix socket (`frame`); the frames hold the plain types of
//! [`wire`]. [`Client`] is the blocking caller's side; [`server`] holds the few helpers the daemon needs on
//! its side (receive a request together with a descriptor, know who asks). There is no logic here: what a
//! verb does is the daemon's business, what a failure means to a person is the command line's.

#![forbid(unsafe_code)]

mod client;
mod frame;
mod path_bytes;
pub mod server;
mod socket;
pub mod wire;

pub use client::{Client, ClientError, Events};
pub use frame::{FRAME_MAX, FrameError, read_frame, write_frame};
pub use wire::{
    Answer, Bound, BranchInfo, ChangeStatus, Checkpoint, Children, Choice, Choices, CommitAction,
    CommitOptions, CommitPlan, CommitReport, Compared, Conflict, ConflictKind, DiffDetail, EndReason, Event,
    Failure, FileChange, FileKind, GcMode, GcReport, GroupAction, GroupInfo, GroupKind, Hello, Keep,
    KeepChange, LogEntry, Mounter, NativeView, Omitted, OmittedBecause, OnEnd, PROTOCOL_VERSION, Part,
    PathBytes, PlannedStep, ProcessInfo, Quota, RebaseReport, Reply, Request, Resolved, RestoreReport, Side,
    StepAction, Verb, Version, ViewKind, Welcome, WorkspaceStatus,
};
pub use wire::{CommitPhase, CommitProgress};
