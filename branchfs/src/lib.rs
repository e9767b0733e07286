//! # branchfs: the view, the daemon, the command line
//!
//! `vfs` is POSIX over branches: inode numbers, handles, one directory for each branch. `fuse` carries it to
//! the kernel and is the only place that names the FUSE crate. `daemon` owns a store and its mount, answers
//! clients, and turns what the store says has ended into killed processes and dropped caches. `cli` is what
//! people type. `watch` hears of changes of the base behind our back. `patch` says in git's words what differs between two sides,
//! `text_merge` puts the changes of two together. Rules about branches live in none of
//! them: they live in `branch-store`.

pub mod cli;
pub mod daemon;
pub mod fuse;
pub mod patch;
mod procfs;
pub mod text_merge;
pub mod vfs;
pub mod watch;
