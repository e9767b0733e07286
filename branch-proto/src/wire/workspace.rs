//! The workspace and its daemon.

use serde::{Deserialize, Serialize};

use super::PathBytes;

/// The workspace and its daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceStatus {
    /// The base directory.
    pub base: PathBytes,
    /// The store directory.
    pub store: PathBytes,
    /// Where the views are mounted.
    pub mountpoint: PathBytes,
    /// Daemon's process id.
    pub pid: i32,
    /// Data path in use, for people: `fuse, 4 threads` and the like.
    pub mode: String,
    /// How file data are served, as it is written in options.
    pub data: String,
    /// Live branches, without `main`.
    pub branches: u64,
    /// Commits into the base so far.
    pub commits: u64,
    /// Bytes in the newest journal.
    pub journal_bytes: u64,
    /// Bytes of file content held by the store.
    pub content_bytes: u64,
    /// What recovery did when the daemon opened the store, in words.
    pub recovery: Vec<String>,
}
