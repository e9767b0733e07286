//! Memory given back when the kernel forgets. Inodes are small and many: what they took is free again but lies in
//! between, and stays with the process unless the allocator is told.

use std::sync::atomic::{AtomicU64, Ordering};

/// So many forgotten inodes took some 4 MiB, which is worth a millisecond or a few.
const EVERY: u64 = 1 << 14;

/// Counts what was forgotten.
#[derive(Debug, Default)]
pub(super) struct Forgettings(AtomicU64);

impl Forgettings {
    /// One more.
    pub(super) fn count(&self) {
        if self.0.fetch_add(1, Ordering::Relaxed) % EVERY == EVERY - 1 {
            give_back();
        }
    }
}

#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: it takes no pointers, and locks for itself.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators do it by themselves.
#[cfg(not(target_env = "gnu"))]
fn give_back() {}
