//! Objects without a name that the kernel has forgotten go in the background, many in one step: nobody waits for it, and
//! one by one each would cost a record of the journal. Recovery does the same with what a killed process left.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use branch_store::{Branch, BranchId, NodeId, Quota};
use parking_lot::{Condvar, Mutex};

use super::Known;
use super::ino;
use super::inodes::Inodes;

/// For so long more is waited for once there is something to do.
const GATHERING: Duration = Duration::from_millis(10);
/// So many are not waited with.
const MANY: usize = 512;

/// Where forgotten objects go. Without a thread they go at once.
pub(super) struct Reaping {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Lock order: `working`, then `due`; the store is called under `working` only.
struct Queue {
    inodes: Arc<Inodes<Known>>,
    due: Mutex<Due>,
    changed: Condvar,
    /// Held by who reaps, from before it takes what is due until that is gone.
    working: Mutex<()>,
}

#[derive(Default)]
struct Due {
    branches: HashMap<BranchId, (Arc<Branch>, Vec<NodeId>)>,
    count: usize,
    stopped: bool,
}

impl Reaping {
    pub(super) fn new(inodes: Arc<Inodes<Known>>) -> Reaping {
        let queue =
            Queue { inodes, due: Mutex::default(), changed: Condvar::new(), working: Mutex::default() };
        Reaping { queue: Arc::new(queue), thread: Mutex::default() }
    }

    /// From now on in the background, until [`Reaping::stop`].
    ///
    /// # Errors
    /// No thread to be had.
    pub(super) fn start(&self) -> io::Result<()> {
        let queue = Arc::clone(&self.queue);
        let thread = thread::Builder::new().name("branchfs-reap".into()).spawn(move || queue.run())?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    /// The kernel has forgotten an object that has no name. The space of a branch with a limit is needed at once.
    pub(super) fn reap(&self, branch: &Arc<Branch>, id: NodeId) {
        let waits = self.thread.lock().is_some() && branch.quota() == Quota::Unlimited;
        if waits { self.queue.add(branch, id) } else { reap(branch, &[id]) }
    }

    /// All that is due is gone when this returns.
    pub(super) fn finish(&self) {
        self.queue.reap();
    }

    /// The same, and there is no thread any more.
    pub(super) fn stop(&self) {
        if let Some(thread) = self.thread.lock().take() {
            self.queue.due.lock().stopped = true;
            self.queue.changed.notify_one();
            if thread.join().is_err() {
                tracing::error!("the thread that forgets unlinked objects has panicked");
            }
        }
        self.finish();
    }
}

impl Drop for Reaping {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Queue {
    fn add(&self, branch: &Arc<Branch>, id: NodeId) {
        let mut due = self.due.lock();
        due.branches.entry(branch.id()).or_insert_with(|| (Arc::clone(branch), Vec::new())).1.push(id);
        due.count += 1;
        if due.count == 1 || due.count == MANY {
            self.changed.notify_one();
        }
    }

    fn run(&self) {
        while self.wait() {
            self.reap();
        }
    }

    /// Whether there is something to do; else it is over.
    fn wait(&self) -> bool {
        let mut due = self.due.lock();
        while due.count == 0 && !due.stopped {
            self.changed.wait(&mut due);
        }
        if due.count < MANY && !due.stopped {
            self.changed.wait_for(&mut due, GATHERING);
        }
        !due.stopped
    }

    fn reap(&self) {
        let _working = self.working.lock();
        let due = {
            let mut due = self.due.lock();
            due.count = 0;
            std::mem::take(&mut due.branches)
        };
        for (branch, mut ids) in due.into_values() {
            // Known again, as a restore has given it its name back: should it lose that once more, it is forgotten
            // once more, too.
            ids.retain(|id| !self.inodes.contains(ino::of_node(branch.id(), *id)));
            ids.chunks(MANY).for_each(|ids| reap(&branch, ids));
        }
    }
}

/// What cannot be forgotten costs space until the next recovery.
pub(super) fn reap(branch: &Branch, ids: &[NodeId]) {
    if let Err(error) = branch.reap_all(ids) {
        tracing::debug!("forgetting unlinked objects of '{}': {error}", branch.name());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use branch_store::{GroupKind, MAIN, New, NewKind, Object, Options, Store, Unrecovered};
    use rustix::io::Errno;

    use super::*;

    struct Work {
        _dir: tempfile::TempDir,
        _store: Store,
        branch: Arc<Branch>,
        inodes: Arc<Inodes<Known>>,
        reaping: Reaping,
    }

    impl Work {
        fn new() -> Work {
            let dir = tempfile::tempdir().unwrap();
            let store = dir.path().join(".branchfs");
            branch_store::init(dir.path(), &store).unwrap();
            let options = Options { base: dir.path().to_owned(), store };
            let (store, _) = Unrecovered::open(options).unwrap().recover().unwrap();
            let main = store.branch(MAIN).unwrap();
            let branch = store.fork(&main, &["b".to_owned()], GroupKind::Independent).unwrap().remove(0);
            let inodes = Arc::new(Inodes::new());
            let reaping = Reaping::new(Arc::clone(&inodes));
            Work { _dir: dir, _store: store, branch, inodes, reaping }
        }

        fn unlinked(&self, name: &[u8]) -> Object {
            let new = New { kind: NewKind::File, mode: 0o644, uid: 0, gid: 0, xattrs: BTreeMap::new() };
            let (object, _) = self.branch.create(&self.branch.root(), name, new).unwrap();
            assert_eq!(self.branch.unlink(&self.branch.root(), name).unwrap().orphan, Some(object.id));
            object
        }

        fn is_there(&self, object: &Object) -> bool {
            match self.branch.stat(object).map_err(|error| error.errno()) {
                Ok(_) => true,
                Err(errno) => {
                    assert_eq!(errno, Errno::STALE);
                    false
                }
            }
        }
    }

    #[test]
    fn what_is_due_is_gone_when_it_is_finished_and_when_it_is_stopped() {
        let work = Work::new();
        work.reaping.start().unwrap();
        for end in [Reaping::finish, Reaping::stop] {
            let objects: Vec<Object> = (0..3).map(|n| work.unlinked(format!("{n}").as_bytes())).collect();
            objects.iter().for_each(|object| work.reaping.reap(&work.branch, object.id));
            end(&work.reaping);
            assert!(!objects.iter().any(|object| work.is_there(object)));
        }
        let late = work.unlinked(b"late");
        work.reaping.reap(&work.branch, late.id);
        assert!(!work.is_there(&late), "without a thread at once");
    }

    #[test]
    fn the_thread_does_it_by_itself() {
        let work = Work::new();
        work.reaping.start().unwrap();
        let object = work.unlinked(b"a");
        work.reaping.reap(&work.branch, object.id);
        let begin = std::time::Instant::now();
        while work.is_there(&object) {
            assert!(begin.elapsed() < Duration::from_secs(30));
            thread::yield_now();
        }
    }

    #[test]
    fn what_the_kernel_knows_again_stays() {
        let work = Work::new();
        let object = work.unlinked(b"a");
        let known = Known { branch: Arc::clone(&work.branch), object: object.clone(), under: NodeId::ROOT };
        let ino = known.ino();
        work.inodes.remember(ino, known);
        work.reaping.queue.add(&work.branch, object.id);
        work.reaping.finish();
        assert!(work.is_there(&object));
        work.inodes.forget(ino, 1);
        work.reaping.queue.add(&work.branch, object.id);
        work.reaping.finish();
        assert!(!work.is_there(&object));
    }
}
