//! Fork, explore, commit: the library to embed.
//!
//! A [`Workspace`] is a base directory with a tree of copy-on-write branches. [`Workspace::fork`] gives
//! [`Branch`]es: each an isolated directory, in constant time. A branch in hand is owned: dropping it aborts
//! it, [`Branch::commit`] moves its changes into its parent atomically, [`Branch::keep`] leaves it alone.
//! [`Explore`] runs several attempts in parallel branches; the first that succeeds commits, the others end
//! without a trace.
//!
//! The work is done by a [`Backend`]: the daemon behind its socket ([`Daemon`]), or an engine in the same
//! process. This crate prints nothing, reads no environment, and starts a daemon only through the
//! [`Launcher`] it is given.

#![forbid(unsafe_code)]

mod backend;
mod confinement;
mod error;
mod explore;
mod follow;
mod location;
mod names;
mod patch;
mod program;
mod stop;
mod tail;
mod view;
mod workspace;

pub use backend::{Backend, Daemon, Launcher, no_daemon};
pub use branch_proto::{
    Bound, BranchInfo, ChangeStatus, Checkpoint, Children, Choice, Choices, ClientError, CommitAction,
    CommitOptions, CommitPlan, CommitReport, Compared, Conflict, ConflictKind, DiffDetail, Failure,
    FileChange, FileKind, GcMode, GcReport, GroupAction, GroupInfo, GroupKind, Keep, KeepChange, LogEntry,
    Mounter, NativeView, Omitted, OmittedBecause, OnEnd, Part, PathBytes, PlannedStep, ProcessInfo, Quota,
    RebaseReport, Resolved, RestoreReport, Side, StepAction, Version, ViewKind, WorkspaceStatus,
};
pub use branch_proto::{CommitPhase, CommitProgress, Event, Events};
pub use confinement::{Confinement, Tmp};
pub use error::{Error, LaunchError};
pub use explore::{ATTEMPTS_MAX, AttemptReport, Explore, ExploreReport, Progress, Verdict};
pub use location::Location;
pub use names::Names;
pub use patch::Patch;
pub use program::{Program, View};
pub use stop::Stopper;
pub use tail::Tail;
pub use view::Started;
pub use workspace::{Branch, CommitError, MAIN, Workspace};
