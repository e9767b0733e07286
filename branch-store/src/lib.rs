//! # branch-store: the engine
//!
//! A workspace is a base directory and a tree of branches over it. A branch is a *difference*: a persistent
//! map of nodes, change by change away from the base, so forking one is cloning a pointer, and a
//! snapshot stays what it was because nothing is ever changed in place. Names live in that map; bytes live in
//! ordinary files of the store, one directory ("layer") for each stretch of a branch's life between forks.
//!
//! Every change is one checksummed journal record, written before the caller hears of it. A commit into the
//! base is one decision record; everything it needs is durable before, everything it does can be repeated
//! after. `docs/on-disk-format.md` has the bytes and the crash cases, `docs/invariants.md` the rules.
//!
//! The engine knows nothing of FUSE, sockets or processes. It prints nothing, reads no environment, and calls
//! nobody: what others must do (invalidate caches, kill processes) it returns as data.

mod asked;
mod base;
mod branch;
mod clock;
mod commit;
mod conflict;
mod content;
mod copying;
mod crew;
mod diff;
mod disk;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod gatekeeper;
mod host_times;
mod ids;
mod journal;
mod keep;
mod lease;
mod measuring;
mod native;
mod node;
mod note;
mod plan;
mod progress;
mod removing;
mod side;
mod store;
mod tree;
mod xattr;

pub use branch::{
    Access, AttrChange, BEFORE_RESTORE, Branch, Holdings, MarkInfo, New, NewKind, OpenFile, OverlayXattrs,
    Removed, RenameMode, SeekWhat, Stable, State, SyncWhat, XattrChange, XattrMode,
};
pub use commit::{
    Action, Choice, Committed, Invalid, Invalidate, MERGE_MAX, MergedText, Merger, PlannedStep, Preview,
    Rebased, Resolved, Resolver, Selector, Stays, StepAction, Texts,
};
pub use conflict::{Conflict, ConflictKind, Target, Version};
pub use diff::{ChangeKind, Directories, PathChange};
pub use disk::Disk;
pub use error::{Error, Result};
pub use gatekeeper::{Call, Entry, Gatekeeper};
pub use ids::{
    ACL_ACCESS, BRANCH_ID_MAX, BRANCH_NAME_MAX, BRANCHES_MAX, BranchId, CommitId, DEPTH_MAX, FORK_MAX,
    GroupId, GroupKind, LayerId, MAIN, MARKS_MAX, NAME_MAX, Name, NodeId, Quota, STORE_DIR, SYMLINK_MAX,
    XATTR_SIZE_MAX, XATTRS_SIZE_MAX, check_branch_name,
};
pub use keep::Keep;
pub use native::{NativePaths, Processes, Taken};
pub use node::{DirEntry, Kind, Object, Owner, Slot, Stat, Time};
pub use note::{MESSAGE_MAX, Note};
pub use progress::{PROGRESS_BYTES, PROGRESS_EVERY, Phase, Progress, Watch};
pub use side::Side;
pub use store::{
    Children, Collected, Ended, LogEntry, Options, Report, Restored, Store, Unrecovered, Usage, init,
    wait_closed,
};
