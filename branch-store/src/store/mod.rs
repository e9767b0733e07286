//! The store: all branches of one workspace over one base, one journal.

mod abort;
mod checkpoint;
mod files;
mod fork;
mod maintain;
mod recovery;
mod registry;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

pub use abort::{Children, Ended};
pub use files::init;
pub use recovery::{Options, Report, Unrecovered};
pub(crate) use registry::Registry;

use crate::base::Base;
use crate::branch::Branch;
use crate::content::Contents;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::ids::{BranchId, CommitId, LayerId, Name, NodeId};
use crate::journal::record::LogLine;
use crate::journal::{Journal, WorkspaceId};
use crate::node::Time;

/// How the siblings made by one fork relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GroupKind {
    /// The first commit makes the other siblings stale (S12).
    Exclusive,
    /// Siblings live on after a commit (S14).
    Independent,
    /// Exclusive, and the parent is read-only until the group has ended (S2).
    Frozen,
}

/// Something a view of a branch must forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Whose view.
    pub branch: BranchId,
    /// What.
    pub what: Invalidate,
}

/// What to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidate {
    /// A name in a directory.
    Entry {
        /// The directory.
        dir: NodeId,
        /// The name.
        name: Name,
    },
    /// Attributes and bytes of an object.
    Inode(NodeId),
}

/// One commit into the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number, from 1.
    pub commit: CommitId,
    /// The branch that committed.
    pub branch: String,
    /// When.
    pub time: Time,
    /// Number of changed paths.
    pub changed: u64,
}

/// What the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in the journal.
    pub journal_bytes: u64,
    /// Bytes of file content.
    pub content_bytes: u64,
    /// Commits into the base so far.
    pub commits: u64,
}

/// A recovered, open store. Cheap to share; all methods take `&self`.
pub struct Store {
    pub(crate) shared: Arc<Shared>,
}

/// What store and branches share.
///
/// Lock order: `writeback`, `decide`, `gate`, then branch data (parents before children), then
/// `registry`, then the journal's own. Nothing is taken in the other direction.
pub(crate) struct Shared {
    pub(crate) base_path: PathBuf,
    pub(crate) dir_path: PathBuf,
    /// The store directory, readable.
    pub(crate) dir_fd: OwnedFd,
    /// Locked while this is open (S22).
    _lock: OwnedFd,
    /// The directory that holds the preimage directories; on the base's filesystem, always.
    pub(crate) park_fd: OwnedFd,
    pub(crate) workspace: WorkspaceId,
    pub(crate) disk: Disk,
    pub(crate) base: Base,
    pub(crate) contents: Contents,
    pub(crate) journal: Journal,
    pub(crate) counters: Counters,
    pub(crate) registry: RwLock<Registry>,
    pub(crate) log: Mutex<Vec<LogLine>>,
    /// Commits into the base go one at a time.
    pub(crate) writeback: Mutex<()>,
    /// Fork, decisions and abort go one at a time: they change who is alive.
    pub(crate) decide: Mutex<()>,
    /// Shared by every change, exclusive for the checkpoint's picture. Never taken twice by one thread.
    pub(crate) gate: RwLock<()>,
    /// Number of the journal in use.
    pub(crate) journal_number: AtomicU64,
}

/// Numbers handed out in order and never again.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) branch: AtomicU32,
    pub(crate) layer: AtomicU64,
    pub(crate) group: AtomicU64,
    /// The newest commit decided.
    pub(crate) commit: AtomicU64,
}

impl Counters {
    pub(crate) fn new_layer(&self) -> LayerId {
        LayerId(self.layer.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn note_layer(&self, layer: LayerId) {
        self.layer.fetch_max(layer.0 + 1, Ordering::Relaxed);
    }
}

impl Store {
    /// The base directory.
    pub fn base(&self) -> &Path {
        &self.shared.base_path
    }

    /// The store directory.
    pub fn dir(&self) -> &Path {
        &self.shared.dir_path
    }

    /// The root branch.
    pub fn main(&self) -> Arc<Branch> {
        self.shared.main()
    }

    /// A live branch by name; `main` too.
    ///
    /// # Errors
    /// `NoSuchBranch`.
    pub fn branch(&self, name: &str) -> Result<Arc<Branch>> {
        let found = self.shared.registry.read().by_name(name);
        found.ok_or_else(|| Error::NoSuchBranch(name.to_owned()))
    }

    /// A live branch by index.
    pub fn branch_by_id(&self, id: BranchId) -> Option<Arc<Branch>> {
        self.shared.registry.read().get(id)
    }

    /// Live branches, parents before children, `main` first.
    pub fn branches(&self) -> Vec<Arc<Branch>> {
        self.shared.registry.read().all()
    }

    /// The newest commits into the base, newest first.
    pub fn log(&self, limit: usize) -> Vec<LogEntry> {
        let log = self.shared.log.lock();
        let newest = log.iter().rev().take(limit);
        newest
            .map(|line| LogEntry {
                commit: line.commit,
                branch: line.branch.clone(),
                time: line.time,
                changed: line.changed,
            })
            .collect()
    }

    /// What the store holds.
    pub fn usage(&self) -> Usage {
        let content_bytes = self.branches().iter().map(|branch| branch.content_bytes()).sum();
        let commits = self.shared.counters.commit.load(Ordering::Relaxed);
        Usage { journal_bytes: self.shared.journal.length(), content_bytes, commits }
    }

    /// Makes everything acknowledged durable: names, attributes and bytes.
    ///
    /// # Errors
    /// The host's; a failure poisons the store (S21).
    pub fn sync(&self) -> Result<()> {
        if let Err(e) = self.shared.disk.syncfs(&self.shared.dir_fd) {
            self.shared.journal.poison();
            return Err(Error::host("syncfs", "store", e));
        }
        self.shared.journal.sync()
    }
}

impl Drop for Store {
    /// Branches refer to what they share: without this the two would keep each other, and the lock, alive.
    fn drop(&mut self) {
        self.shared.registry.write().clear();
    }
}

impl Shared {
    pub(crate) fn main(&self) -> Arc<Branch> {
        match self.registry.read().get(BranchId::MAIN) {
            Some(main) => main,
            None => unreachable!("main is registered before the store exists and never ends"),
        }
    }
}
