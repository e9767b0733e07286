//! One signal to all attempts of an explore: a pipe whose write end is closed. Every poller of the read end
//! wakes at once, however many there are, and a late one sees it too.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Ends an explore from another thread or a signal handler's thread.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    watched: PipeReader,
    // Leaf lock: nothing is called while it is held.
    held: Mutex<Option<PipeWriter>>,
    reason: OnceLock<Reason>,
}

/// Why everything still running is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// An attempt has committed.
    Won,
    /// The caller wants no more.
    Stopped,
}

impl Stopper {
    pub(crate) fn new() -> io::Result<Stopper> {
        let (watched, held) = io::pipe()?;
        Ok(Stopper(Arc::new(Inner { watched, held: Mutex::new(Some(held)), reason: OnceLock::new() })))
    }

    /// Kills all attempts that still run; their branches are aborted. An attempt that has begun to commit
    /// finishes. Does nothing the second time.
    pub fn stop(&self) {
        self.end(Reason::Stopped);
    }

    /// The first reason stands.
    pub(crate) fn end(&self, reason: Reason) {
        self.0.reason.get_or_init(|| reason);
        drop(self.0.held.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        self.0.reason.get().copied()
    }

    /// Hung up (`POLLHUP`) once ended.
    pub(crate) fn watched(&self) -> BorrowedFd<'_> {
        self.0.watched.as_fd()
    }
}
