//! Control orders run on threads of their own: a commit may need the workers, to write out dirty pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::io::Errno;

use crate::vfs::{Order, Vfs};

/// Most orders carried out at a time. Not one after the other: the death of a process that waits for its own
/// order may be what another order waits for.
const ORDERS_MAX: usize = 64;
/// Commit walks directories by recursion, and they can be thousands deep. Only what is used takes memory.
const STACK: usize = 64 << 20;

pub(super) struct Orders {
    vfs: Arc<Vfs>,
    running: Arc<AtomicUsize>,
}

struct Place(Arc<AtomicUsize>);

impl Orders {
    pub(super) fn new(vfs: Arc<Vfs>) -> Orders {
        Orders { vfs, running: Arc::new(AtomicUsize::new(0)) }
    }

    /// Carries the order out on a thread and has that thread answer; EAGAIN if too many are running.
    pub(super) fn start(&self, order: Order, answer: impl FnOnce(Result<Vec<u8>, Errno>) + Send + 'static) {
        let Some(place) = self.take_place() else { return answer(Err(Errno::AGAIN)) };
        let vfs = Arc::clone(&self.vfs);
        let work = move || {
            let outcome = vfs.carry_out(&order);
            drop(place);
            answer(outcome);
        };
        if let Err(error) = thread::Builder::new().name("branchfs-order".into()).stack_size(STACK).spawn(work)
        {
            // The reply went with the closure; the crate answers EIO for a reply that is dropped.
            tracing::warn!("no thread for a control order: {error}");
        }
    }

    fn take_place(&self) -> Option<Place> {
        let one_more = |running| (running < ORDERS_MAX).then_some(running + 1);
        let taken = self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| Place(Arc::clone(&self.running)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
