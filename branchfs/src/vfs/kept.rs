//! Files that are kept open between requests that name them by inode: who opened and closed them, the kernel alone knows.
//!
//! They are few, against any limit of descriptors. A file goes from here when the kernel forgets its inode, when its
//! branch is let go, when it was not used for a while, or to make room; the next request opens it again.
//!
//! Lock order: a shard's lock is a leaf; nothing is called, and no file closed, while it is held.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use branch_store::{BranchId, OpenFile};
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

use super::ino;

const SHARDS: usize = 16;
/// Most files kept, as each is a descriptor.
const KEPT_MAX: u64 = 512;
/// The share of the descriptors this process may have, at most.
const SHARE: u64 = 16;

const _: () = assert!(SHARDS.is_power_of_two());
const _: () = assert!(KEPT_MAX >= SHARDS as u64);

/// Inode number → open file.
pub(super) struct Kept {
    shards: [Mutex<Shard>; SHARDS],
    shard_max: usize,
    /// Counts uses.
    clock: AtomicU64,
    /// The clock when idle files were last let go.
    looked: AtomicU64,
}

#[derive(Default)]
struct Shard {
    files: HashMap<u64, Used>,
    /// Inodes whose bytes somebody got at since they were last taken.
    served: HashSet<u64>,
}

struct Used {
    file: Arc<OpenFile>,
    last: u64,
}

impl Kept {
    pub(super) fn new() -> Kept {
        let may = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Kept::bounded((may / SHARE).min(KEPT_MAX))
    }

    fn bounded(most: u64) -> Kept {
        Kept {
            shards: std::array::from_fn(|_| Mutex::default()),
            shard_max: usize::try_from(most).unwrap_or(0) / SHARDS,
            clock: AtomicU64::new(1),
            looked: AtomicU64::new(0),
        }
    }

    /// What is kept of an inode whose bytes somebody wants to get at.
    pub(super) fn get(&self, ino: u64) -> Option<Arc<OpenFile>> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut shard = self.shard(ino).lock();
        shard.served.insert(ino);
        let used = shard.files.get_mut(&ino)?;
        used.last = now;
        Some(Arc::clone(&used.file))
    }

    /// Keeps the file in place of what was kept of the inode.
    pub(super) fn put(&self, ino: u64, file: Arc<OpenFile>) {
        if self.shard_max == 0 {
            return;
        }
        let last = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut shard = self.shard(ino).lock();
        let files = &mut shard.files;
        let before = files.insert(ino, Used { file, last });
        let longest = (files.len() > self.shard_max).then(|| files.iter().min_by_key(|(_, used)| used.last));
        let longest = longest.flatten().map(|(ino, _)| *ino);
        let pushed_out = longest.and_then(|ino| files.remove(&ino));
        drop(shard);
        drop((before, pushed_out));
    }

    /// Closes what is kept of the inode.
    pub(super) fn remove(&self, ino: u64) {
        let gone = self.shard(ino).lock().files.remove(&ino);
        drop(gone);
    }

    /// The kernel has forgotten the inode, and with it all its pages.
    pub(super) fn forget(&self, ino: u64) {
        let mut shard = self.shard(ino).lock();
        shard.served.remove(&ino);
        let gone = shard.files.remove(&ino);
        drop(shard);
        drop(gone);
    }

    /// Wanted inodes whose bytes somebody got at since they were last taken.
    pub(super) fn take_served(&self, want: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            taken.extend(shard.lock().served.extract_if(|ino| want(*ino)));
        }
        taken
    }

    /// Closes the branch's files.
    pub(super) fn let_go(&self, branch: BranchId) {
        self.close(|ino, _| ino::is_of(ino, branch));
    }

    /// Closes what was not used since the last call.
    pub(super) fn let_idle_go(&self) {
        let now = self.clock.load(Ordering::Relaxed);
        let looked = self.looked.swap(now, Ordering::Relaxed);
        self.close(|_, last| last < looked);
    }

    pub(super) fn clear(&self) {
        self.close(|_, _| true);
    }

    /// How many of the branch's files are kept.
    pub(super) fn of(&self, branch: BranchId) -> usize {
        let count =
            |shard: &Mutex<Shard>| shard.lock().files.keys().filter(|ino| ino::is_of(**ino, branch)).count();
        self.shards.iter().map(count).sum()
    }

    fn close(&self, goes: impl Fn(u64, u64) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let gone = shard.files.extract_if(|ino, used| goes(*ino, used.last)).map(|(_, used)| used);
            let gone: Vec<Used> = gone.collect();
            drop(shard);
            drop(gone);
        }
    }

    fn shard(&self, ino: u64) -> &Mutex<Shard> {
        &self.shards[ino as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use branch_store::{Access, NodeId, Store, Unrecovered};

    use super::*;

    fn store(dir: &Path) -> Store {
        for name in 0..40 {
            std::fs::write(dir.join(format!("f{name}")), "x").unwrap();
        }
        let store = dir.join(".branchfs");
        branch_store::init(dir, &store).unwrap();
        let options = branch_store::Options { base: dir.to_owned(), store };
        Unrecovered::open(options).unwrap().recover().unwrap().0
    }

    fn open(store: &Store, name: usize) -> Arc<OpenFile> {
        let main = store.main();
        let (object, _) = main.lookup(&main.root(), format!("f{name}").as_bytes()).unwrap();
        Arc::new(main.open(&object, Access::Read).unwrap())
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let kept = Kept::bounded(2 * SHARDS as u64);
        // All in one shard.
        let ino = |n: usize| (n * SHARDS) as u64;
        for n in 0..2 {
            kept.put(ino(n), open(&store, n));
        }
        assert!(kept.get(ino(0)).is_some());
        kept.put(ino(2), open(&store, 2));
        assert!(kept.get(ino(1)).is_none());
        assert!(kept.get(ino(0)).is_some() && kept.get(ino(2)).is_some());
    }

    #[test]
    fn idle_files_are_closed_at_the_second_look() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let kept = Kept::bounded(KEPT_MAX);
        kept.put(7, open(&store, 0));
        kept.put(8, open(&store, 1));
        kept.let_idle_go();
        assert!(kept.get(7).is_some(), "used before the first look and after it");
        kept.let_idle_go();
        assert!(kept.get(8).is_none());
        assert!(kept.get(7).is_some());
    }

    #[test]
    fn a_branch_is_let_go_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let kept = Kept::bounded(KEPT_MAX);
        let of = |branch| ino::of_node(BranchId(branch), NodeId(9));
        kept.put(of(1), open(&store, 0));
        kept.put(of(2), open(&store, 1));
        kept.let_go(BranchId(1));
        assert_eq!((kept.of(BranchId(1)), kept.of(BranchId(2))), (0, 1));
        kept.clear();
        assert_eq!(kept.of(BranchId(2)), 0);
    }

    #[test]
    fn whose_bytes_were_got_at_is_told_once() {
        let kept = Kept::bounded(KEPT_MAX);
        let of = |branch, node| ino::of_node(BranchId(branch), NodeId(node));
        [of(1, 5), of(1, 6), of(2, 5)].into_iter().for_each(|ino| assert!(kept.get(ino).is_none()));
        kept.forget(of(1, 6));
        let take = |branch| kept.take_served(|ino| ino::is_of(ino, BranchId(branch)));
        assert_eq!(take(1), [of(1, 5)]);
        assert!(take(1).is_empty());
        assert_eq!(take(2), [of(2, 5)]);
    }

    #[test]
    fn a_process_that_may_have_few_descriptors_keeps_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let kept = Kept::bounded(SHARDS as u64 - 1);
        kept.put(7, open(&store, 0));
        assert!(kept.get(7).is_none());
    }
}
