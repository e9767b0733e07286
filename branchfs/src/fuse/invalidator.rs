//! Tells the kernel what to forget, from a thread of its own.
//!
//! A notification waits for locks a process may hold while it waits for one of our answers. So none is ever
//! sent from a worker or under a lock a worker takes; the sender publishes the new state first, then posts.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use fuser::{INodeNo, Notifier};

use crate::vfs::SHORT;

/// The mailbox of the thread. It ends when the last clone is gone.
#[derive(Clone)]
pub struct Invalidator {
    jobs: Sender<Job>,
    sent: Arc<AtomicU64>,
}

/// Something posted that can be waited for.
#[must_use = "wait for it, or use the posts that return nothing"]
pub struct Pending {
    done: Receiver<io::Result<()>>,
}

enum Job {
    Entry { parent: u64, name: Vec<u8> },
    Lookups(u64),
    Inodes(Inodes),
    Soon(u64),
    Flush { inodes: Vec<u64>, done: Sender<io::Result<()>> },
    Act { act: Act, done: Sender<io::Result<()>> },
}

type Act = Box<dyn FnOnce(&dyn Kernel) -> io::Result<()> + Send>;

type Inodes = Box<dyn FnOnce() -> Vec<u64> + Send>;

/// What a notification does in the kernel.
pub(super) trait Kernel: Send + 'static {
    fn forget_entry(&self, parent: u64, name: &[u8]) -> io::Result<()>;
    /// Attributes and data; dirty pages are written out first.
    fn forget_inode(&self, ino: u64) -> io::Result<()>;
    fn forget_attributes(&self, ino: u64) -> io::Result<()>;

    /// Returns when every lookup in the directory that was under way has its answer applied: those hold its lock, and
    /// so does a notification, also about a name that no directory has.
    fn wait_for_lookups(&self, dir: u64) -> io::Result<()> {
        self.forget_entry(dir, b".")
    }
}

/// Counts what is sent.
struct Counting<K> {
    kernel: K,
    sent: Arc<AtomicU64>,
}

impl<K> Counting<K> {
    fn count(&self) -> &K {
        self.sent.fetch_add(1, Ordering::Relaxed);
        &self.kernel
    }
}

impl<K: Kernel> Kernel for Counting<K> {
    fn forget_entry(&self, parent: u64, name: &[u8]) -> io::Result<()> {
        self.count().forget_entry(parent, name)
    }

    fn forget_inode(&self, ino: u64) -> io::Result<()> {
        self.count().forget_inode(ino)
    }

    fn forget_attributes(&self, ino: u64) -> io::Result<()> {
        self.count().forget_attributes(ino)
    }
}

impl Kernel for Notifier {
    fn forget_entry(&self, parent: u64, name: &[u8]) -> io::Result<()> {
        self.inval_entry(INodeNo(parent), OsStr::from_bytes(name))
    }

    fn forget_inode(&self, ino: u64) -> io::Result<()> {
        self.inval_inode(INodeNo(ino), 0, 0)
    }

    fn forget_attributes(&self, ino: u64) -> io::Result<()> {
        // A negative offset: no pages (fuse_reverse_inval_inode).
        self.inval_inode(INodeNo(ino), -1, 0)
    }
}

impl Invalidator {
    pub(super) fn start(notifier: Notifier) -> io::Result<Invalidator> {
        Invalidator::start_with(notifier)
    }

    /// The name in the directory, and everything cached below it, is to be looked up again.
    pub fn entry(&self, parent: u64, name: &[u8]) {
        self.post(Job::Entry { parent, name: name.to_vec() });
    }

    /// Lookups under way in the directory are to be waited for.
    pub(super) fn lookups(&self, dir: u64) {
        self.post(Job::Lookups(dir));
    }

    /// Attributes and data of the inode are to be asked for again.
    pub fn inode(&self, ino: u64) {
        self.post(Job::Inodes(Box::new(move || vec![ino])));
    }

    /// As [`Invalidator::inode`], in [`SHORT`].
    pub(super) fn inode_soon(&self, ino: u64) {
        self.post(Job::Soon(ino));
    }

    /// As [`Invalidator::inode`] for all that `which` names when its turn comes.
    pub(super) fn inodes(&self, which: impl FnOnce() -> Vec<u64> + Send + 'static) {
        self.post(Job::Inodes(Box::new(which)));
    }

    /// Dirty pages of the inodes are to be written out, through the ordinary write requests.
    pub fn flush(&self, inodes: Vec<u64>) -> Pending {
        let (done, receiver) = channel();
        self.post(Job::Flush { inodes, done });
        Pending { done: receiver }
    }

    /// Notifications sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Does something with the kernel when its turn comes.
    pub(super) fn act(&self, act: impl FnOnce(&dyn Kernel) -> io::Result<()> + Send + 'static) -> Pending {
        let (done, receiver) = channel();
        self.post(Job::Act { act: Box::new(act), done });
        Pending { done: receiver }
    }

    /// Done when everything posted before it is.
    pub fn barrier(&self) -> Pending {
        self.flush(Vec::new())
    }

    fn start_with(kernel: impl Kernel) -> io::Result<Invalidator> {
        let (jobs, todo) = channel();
        let sent = Arc::new(AtomicU64::new(0));
        let kernel = Counting { kernel, sent: Arc::clone(&sent) };
        thread::Builder::new().name("branchfs-inval".into()).spawn(move || serve(&kernel, &todo))?;
        Ok(Invalidator { jobs, sent })
    }

    fn post(&self, job: Job) {
        if self.jobs.send(job).is_err() {
            tracing::debug!("the invalidation thread has ended");
        }
    }
}

impl Pending {
    /// Waits.
    ///
    /// # Errors
    /// What the kernel answered; an unmounted session is no error, nothing is cached then.
    pub fn wait(self) -> io::Result<()> {
        self.done.recv().unwrap_or_else(|_| Err(io::Error::other("the invalidation thread has ended")))
    }
}

/// What is to be done soon, the first to be done first: all of it waits equally long. Each inode once.
#[derive(Default)]
struct Soon {
    queue: VecDeque<(Instant, u64)>,
    inodes: HashSet<u64>,
}

impl Soon {
    fn add(&mut self, ino: u64) {
        if self.inodes.insert(ino) {
            self.queue.push_back((Instant::now() + SHORT, ino));
        }
    }

    fn next(&self) -> Option<Duration> {
        self.queue.front().map(|(when, _)| when.saturating_duration_since(Instant::now()))
    }

    fn take_due(&mut self) -> Vec<u64> {
        let now = Instant::now();
        let due = self.queue.iter().take_while(|(when, _)| *when <= now).count();
        let due: Vec<u64> = self.queue.drain(..due).map(|(_, ino)| ino).collect();
        due.iter().for_each(|ino| _ = self.inodes.remove(ino));
        due
    }
}

/// The next job, and what has become due until it came. `None`: nobody can post any more.
fn next(kernel: &impl Kernel, todo: &Receiver<Job>, soon: &mut Soon) -> Option<Job> {
    loop {
        note("listings", forget_all(kernel, soon.take_due()));
        let Some(left) = soon.next() else { return todo.recv().ok() };
        match todo.recv_timeout(left) {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

fn serve(kernel: &impl Kernel, todo: &Receiver<Job>) {
    let mut soon = Soon::default();
    while let Some(job) = next(kernel, todo, &mut soon) {
        match job {
            Job::Soon(ino) => soon.add(ino),
            Job::Entry { parent, name } => note("entry", harmless(kernel.forget_entry(parent, &name))),
            Job::Lookups(dir) => note("lookups", harmless(kernel.wait_for_lookups(dir))),
            Job::Inodes(which) => note("inodes", forget_all(kernel, which())),
            Job::Act { act, done } => {
                if done.send(act(kernel)).is_err() {
                    tracing::debug!("nobody waits for it any more");
                }
            }
            Job::Flush { inodes, done } => {
                if done.send(forget_all(kernel, inodes)).is_err() {
                    tracing::debug!("nobody waits for a flush any more");
                }
            }
        }
    }
}

/// All of them, whatever happens to each; the first error is told.
fn forget_all(kernel: &impl Kernel, inodes: Vec<u64>) -> io::Result<()> {
    let mut first = Ok(());
    for ino in inodes {
        first = first.and(harmless(kernel.forget_inode(ino)));
    }
    first
}

/// ENOENT: the kernel has it no more. ENODEV and ENOTCONN: the mount is gone, and its cache with it.
pub(super) fn harmless(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ENOTCONN)) => {
            Ok(())
        }
        other => other,
    }
}

fn note(what: &str, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!("invalidating {what}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Recorded(Arc<Mutex<Vec<String>>>);

    impl Kernel for Recorded {
        fn forget_entry(&self, parent: u64, name: &[u8]) -> io::Result<()> {
            self.0.lock().push(format!("{parent}/{}", String::from_utf8_lossy(name)));
            Err(io::Error::from_raw_os_error(libc::ENOENT))
        }

        fn forget_inode(&self, ino: u64) -> io::Result<()> {
            self.0.lock().push(format!("#{ino}"));
            if ino == 13 { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
        }

        fn forget_attributes(&self, ino: u64) -> io::Result<()> {
            self.0.lock().push(format!("@{ino}"));
            Ok(())
        }
    }

    #[test]
    fn jobs_are_done_in_the_order_they_were_posted() {
        let kernel = Recorded::default();
        let invalidator = Invalidator::start_with(kernel.clone()).unwrap();
        invalidator.entry(1, b"a");
        invalidator.lookups(2);
        invalidator.inode(7);
        invalidator.inodes(|| vec![8, 9]);
        invalidator.barrier().wait().unwrap();
        assert_eq!(*kernel.0.lock(), ["1/a", "2/.", "#7", "#8", "#9"]);
    }

    #[test]
    fn what_is_to_be_forgotten_soon_is_forgotten_once_and_in_time() {
        let kernel = Recorded::default();
        let invalidator = Invalidator::start_with(kernel.clone()).unwrap();
        let begin = Instant::now();
        [3, 4, 3].into_iter().for_each(|ino| invalidator.inode_soon(ino));
        invalidator.barrier().wait().unwrap();
        if begin.elapsed() < SHORT {
            assert!(kernel.0.lock().is_empty(), "not yet");
        }
        while kernel.0.lock().len() < 2 {
            assert!(begin.elapsed() < 20 * SHORT, "too late");
            invalidator.barrier().wait().unwrap();
        }
        assert!(begin.elapsed() >= SHORT);
        assert_eq!(*kernel.0.lock(), ["#3", "#4"]);
    }

    #[test]
    fn a_flush_goes_on_after_an_error_and_tells_it() {
        let kernel = Recorded::default();
        let invalidator = Invalidator::start_with(kernel.clone()).unwrap();
        let error = invalidator.flush(vec![12, 13, 14]).wait().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert_eq!(*kernel.0.lock(), ["#12", "#13", "#14"]);
    }
}
