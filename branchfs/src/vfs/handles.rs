//! The handle table: open files and control files. Directories have no handles: see [`super::listings`].
//!
//! Lock order: a shard's lock is a leaf; nothing is called while it is held.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use branch_store::{Branch, BranchId, OpenFile};
use parking_lot::RwLock;

use super::ino;

const SHARDS: usize = 16;
const _: () = assert!(SHARDS.is_power_of_two());

/// Handle number → open object.
pub(crate) struct Handles {
    next: AtomicU64,
    shards: [RwLock<HashMap<u64, Arc<Handle>>>; SHARDS],
}

/// An open object.
pub(crate) enum Handle {
    File(FileHandle),
    Control(ControlHandle),
}

/// An open regular file.
pub(crate) struct FileHandle {
    pub(crate) ino: u64,
    pub(crate) file: OpenFile,
    pub(crate) intent: Intent,
}

/// An open control file.
pub(crate) struct ControlHandle {
    pub(crate) branch: Arc<Branch>,
    pub(crate) intent: Intent,
}

/// What a descriptor was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// `O_RDONLY`.
    Read,
    /// `O_WRONLY` or `O_RDWR`.
    Write,
}

impl Handles {
    pub(crate) fn new() -> Handles {
        let shards = std::array::from_fn(|_| RwLock::new(HashMap::new()));
        Handles { next: AtomicU64::new(1), shards }
    }

    /// Takes the object in and returns its number, never used before.
    pub(crate) fn insert(&self, handle: Handle) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.shard(number).write().insert(number, Arc::new(handle));
        number
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<Handle>> {
        self.shard(number).read().get(&number).cloned()
    }

    pub(crate) fn remove(&self, number: u64) -> Option<Arc<Handle>> {
        self.shard(number).write().remove(&number)
    }

    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let gone = std::mem::take(&mut *shard.write());
            drop(gone);
        }
    }

    /// Inode numbers of the wanted files that are open for writing, each once.
    pub(crate) fn writable(&self, want: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut found = self.collect(|handle| match handle {
            Handle::File(file) if file.intent == Intent::Write && want(file.ino) => Some(file.ino),
            _ => None,
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    /// How many files of the branch are open.
    pub(crate) fn open_in(&self, branch: BranchId) -> usize {
        let open = self.collect(|handle| match handle {
            Handle::File(FileHandle { ino, .. }) => ino::is_of(*ino, branch).then_some(*ino),
            Handle::Control(_) => None,
        });
        open.len()
    }

    fn collect(&self, pick: impl Fn(&Handle) -> Option<u64>) -> Vec<u64> {
        let mut found = Vec::new();
        for shard in &self.shards {
            found.extend(shard.read().values().filter_map(|handle| pick(handle)));
        }
        found
    }

    fn shard(&self, number: u64) -> &RwLock<HashMap<u64, Arc<Handle>>> {
        &self.shards[number as usize % SHARDS]
    }
}
