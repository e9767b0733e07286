//! Gatekeepers: hosts that fill up, die, do less than they were asked for, or are somebody else's, too.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use branch_store::Gatekeeper;
use rustix::io::Errno;

/// Lets `alive` calls pass, then answers as a dead or full disk does.
pub struct Fuse {
    left: AtomicU64,
    calls: AtomicU64,
    answer: Errno,
    /// After one failure everything works again (a full disk that somebody emptied) or nothing does.
    once: bool,
}

impl Fuse {
    pub fn new(alive: u64, answer: Errno, once: bool) -> Arc<Fuse> {
        Arc::new(Fuse { left: AtomicU64::new(alive), calls: AtomicU64::new(0), answer, once })
    }

    /// Never fails, only counts.
    pub fn counting() -> Arc<Fuse> {
        Fuse::new(u64::MAX, Errno::IO, false)
    }

    /// From now on `alive` calls pass.
    pub fn set(&self, alive: u64) {
        self.calls.store(0, Ordering::SeqCst);
        self.left.store(alive, Ordering::SeqCst);
    }

    /// Calls since the beginning, or the last `set`.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Gatekeeper for Fuse {
    fn before(&self, _call: &'static str) -> Result<(), Errno> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let left = self.left.load(Ordering::SeqCst);
        if left == 0 {
            if self.once {
                self.left.store(u64::MAX, Ordering::SeqCst);
            }
            return Err(self.answer);
        }
        self.left.store(left - 1, Ordering::SeqCst);
        Ok(())
    }

    /// A few pages each: every copy of more is one in several calls.
    fn at_most(&self, _call: &'static str, len: usize) -> usize {
        len.min(16 << 10)
    }
}

/// What a hook does before a call, given its name and how many calls came before it.
type Before = Box<dyn FnMut(&'static str, usize) -> Result<(), Errno> + Send>;

/// Calls a closure before each host call, once armed; not for calls that the closure itself makes.
pub struct Hook {
    pub armed: AtomicBool,
    n: AtomicUsize,
    f: Mutex<Before>,
}

impl Gatekeeper for Hook {
    fn before(&self, call: &'static str) -> Result<(), Errno> {
        if !self.armed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let n = self.n.fetch_add(1, Ordering::SeqCst);
        let Some(mut f) = self.f.try_lock().ok() else { return Ok(()) };
        (*f)(call, n)
    }
}

/// A hook that is not armed yet.
pub fn hook(f: impl FnMut(&'static str, usize) -> Result<(), Errno> + Send + 'static) -> Arc<Hook> {
    Arc::new(Hook { armed: AtomicBool::new(false), n: AtomicUsize::new(0), f: Mutex::new(Box::new(f)) })
}
