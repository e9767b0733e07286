//! Watching the base, so that the kernel may believe for long what it was told of it (S15).
//!
//! A directory of the base is watched from before the kernel is told anything of it that it may believe for long until
//! the kernel has forgotten the directory and everything it was told there. What is heard is turned into what is stale:
//! names of a directory, objects told of under a name in it, the directory itself, in every branch whose kernel knows
//! them. `crate::fuse` tells the kernel. Where a directory cannot be watched, answers about it hold for a second.
//!
//! # Why nothing stale stays
//!
//! Let a change E of the base happen while an answer A about it is under way. A worker (1) makes sure that the directory
//! is watched, (2) notes the moment, (3) looks, (4) enters the object's inode number into the table of what was told
//! and, in the same step, asks whether anything was heard of the directory since (2); if so, A holds for a second
//! only. The watcher (a) notes that there are news of the directory and, in the same step, takes from the table what
//! was told under the name, (b) has the kernel forget that. If E came before (3), A is true. Otherwise E is heard, as
//! the directory is watched since (1), and heard after (2).
//!
//! - (a) before (4): A holds for a second.
//! - (4) before (a): (b) names the inode. What is left is that A may reach the kernel after (b), and there:
//!   - **Names.** The kernel applies the answer to a lookup, and those in a listing, under the directory's lock, which
//!     the notification takes, too (`fuse_reverse_inval_entry`), so that it finds what the answer made. Where a name is
//!     only checked again (`d_revalidate`) there is no lock, but the notification takes the name away from under the
//!     answer, which then prolongs the life of what nobody finds any more.
//!   - **Attributes of an inode that the kernel has.** `fuse_reverse_inval_inode` counts a version up; an answer to a
//!     question asked before is dropped (`fuse_change_attributes`).
//!   - **Attributes of an inode that A will make**: the notification would find nothing, and A would stay. So the
//!     directory's lock is waited for first: a notification about a name that no directory has (`.`). A lookup
//!     that is under way holds the lock until its inode is there.
//!   - Answers to changes of attributes and to links are not checked by version: if they are about the base, they hold
//!     for a second.
//! - Bytes: pages that are being read in are locked, and the notification waits for them.
//!
//! The same holds for what a verb changes in a branch (commit into it, rebase, restore), where the daemon knows exactly
//! what the kernel must forget: first every answer whose look has begun is put in doubt ([`Told::doubt`]), then names are
//! forgotten, then lookups under way waited for, then inodes forgotten.
//!
//! # What is not heard
//!
//! Stores to a mapped file are told when the last user of the mapping has closed the file; a change through
//! another hard link only if that name's directory is watched, or if there were several names when it was looked
//! at (then attributes hold for a second); mounts over directories of the base never. For these, nothing of the base is
//! believed for longer than [`HEARD`].

mod fanotify;
mod inotify;
mod source;
mod stale;
mod thread;
mod told;

use std::time::Duration;

pub use self::source::{How, Wish};
pub use self::stale::Stale;
pub use self::thread::{Listening, listen};
pub use self::told::{Below, Moment, Told, Trust};

/// For how long the kernel may believe what would be heard of, if it changed. Not for ever: see above.
pub const HEARD: Duration = Duration::from_secs(300);
