//! What all branches of a workspace share: the base, the journal, who is alive, and the locks around it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use crate::base::Base;
use crate::branch::{Branch, Data, Registry, State};
use crate::content::Contents;
use crate::disk::{Disk, Locked};
use crate::error::{Error, Result};
use crate::ids::{BranchId, CommitId, GroupKind, LayerId};
use crate::journal::record::LogLine;
use crate::journal::{Journal, WorkspaceId};
use crate::keep::Keep;
use crate::lease::Leases;

/// What store and branches share.
///
/// Lock order: a branch's native view, `writeback`, `decide`, `gate`, then branch data (parents before children), then
/// `leases`, `registry`, `settling`, then the journal's own. Nothing is taken in the other direction.
pub(crate) struct Shared {
    pub(crate) base_path: PathBuf,
    pub(crate) dir_path: PathBuf,
    /// The store directory, readable.
    pub(crate) dir_fd: OwnedFd,
    /// Locked while this is open (S22).
    pub(crate) _lock: Locked,
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
    /// Held by the one who makes the journal durable; the sequence number before which copied bytes are so.
    pub(crate) settling: Mutex<u64>,
    /// How much of the past is kept.
    pub(crate) keep: Mutex<Keep>,
    /// Who reads the base as it was.
    pub(crate) leases: Arc<Leases>,
    /// Bytes of preimage directories that were measured.
    pub(crate) park_bytes: Mutex<ParkBytes>,
    /// Number of the journal in use.
    pub(crate) journal_number: AtomicU64,
}

/// Bytes of preimage directories by commit, as long as no undoing moves anything in or out of them.
#[derive(Default)]
pub(crate) struct ParkBytes {
    /// The newest commit when they were measured.
    pub(crate) head: CommitId,
    pub(crate) bytes: HashMap<CommitId, u64>,
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

impl Shared {
    pub(crate) fn main(&self) -> Arc<Branch> {
        match self.registry.read().get(BranchId::MAIN) {
            Some(main) => main,
            None => unreachable!("main is registered before the store exists and never ends"),
        }
    }

    /// Who loses if this branch wins: live siblings of an exclusive group and what is below them.
    pub(crate) fn losers(&self, branch: &Branch) -> Vec<Arc<Branch>> {
        match branch.group() {
            Some(GroupKind::Exclusive | GroupKind::Frozen) => {
                let registry = self.registry.read();
                let siblings = registry.siblings_of(branch);
                let ids: Vec<BranchId> = siblings.into_iter().flat_map(|id| registry.subtree(id)).collect();
                drop(registry);
                self.live(&ids)
            }
            Some(GroupKind::Independent) | None => Vec::new(),
        }
    }

    pub(crate) fn live(&self, ids: &[BranchId]) -> Vec<Arc<Branch>> {
        let registry = self.registry.read();
        ids.iter().filter_map(|id| registry.get(*id)).collect()
    }

    /// The base does not change under a native view that would outlive the change.
    pub(crate) fn refuse_attached(&self, ending: &[Arc<Branch>]) -> Result<()> {
        let all = self.registry.read().all();
        let stays = |branch: &&Arc<Branch>| {
            branch.is_attached() && ending.iter().all(|ending| ending.id() != branch.id())
        };
        let attached: Vec<String> = all.iter().filter(stays).map(|branch| branch.name().to_owned()).collect();
        if attached.is_empty() { Ok(()) } else { Err(Error::Attached(attached)) }
    }

    pub(crate) fn refuse_children(&self, branch: &Branch) -> Result<()> {
        let children = self.live(&branch.children());
        if children.is_empty() {
            return Ok(());
        }
        let children = children.iter().map(|child| child.name().to_owned()).collect();
        Err(Error::HasChildren { name: branch.name().to_owned(), children })
    }

    /// Keeps changes away from branches that are about to end, from before the record of it is journaled
    /// until they have ended: recovery knows an ended branch no more, so no change may be journaled behind
    /// its end. The caller holds `decide`: nobody else takes several of these locks at a time.
    pub(crate) fn hold<'b>(&self, branches: &'b [Arc<Branch>]) -> Vec<RwLockWriteGuard<'b, Data>> {
        debug_assert!(self.decide.is_locked());
        let mut parents_first: Vec<&Arc<Branch>> = branches.iter().collect();
        parents_first.sort_by_key(|branch| branch.id());
        parents_first.into_iter().map(|branch| branch.data.write()).collect()
    }

    /// Ends branches, leaves first, live and in recovery.
    pub(crate) fn end_all(&self, branches: &[Arc<Branch>], state: State) {
        for branch in branches {
            branch.end(state);
            self.bury(branch);
        }
    }

    /// Takes an ended branch off the books.
    pub(crate) fn bury(&self, branch: &Branch) {
        debug_assert!(!branch.is_live());
        let parent = branch.parent().and_then(|id| self.registry.read().get(id));
        if let (Some(parent), Some((_, GroupKind::Frozen))) = (parent, branch.birth.group) {
            let before = parent.frozen.fetch_sub(1, Ordering::AcqRel);
            debug_assert!(before > 0, "every frozen sibling was counted at the fork");
        }
        self.registry.write().remove(branch);
    }
}
