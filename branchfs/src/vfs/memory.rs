//! Memory given back when the kernel forgets. Inodes are small and many: what they took is free again but lies in
//! between, and stays with the process unless the allocator is told. It can only give whole pages back, so a few that
//! are left hold many: the last are as important as the first.

use std::sync::atomic::{AtomicUsize, Ordering};

/// So many forgotten inodes took some 4 MiB, which is worth a millisecond or a few.
const EVERY: usize = 1 << 14;
/// So few hold half a megabyte at most.
const FEW: usize = 128;

/// Counts what was forgotten.
#[derive(Debug, Default)]
pub(super) struct Forgettings {
    /// Since memory was last given back.
    forgotten: AtomicUsize,
    /// The most that were known since.
    peak: AtomicUsize,
}

impl Forgettings {
    /// One more was forgotten, so many are left.
    pub(super) fn count(&self, left: usize) {
        if self.is_time(left) {
            give_back();
        }
    }

    /// When many went, and each time that half of them did: where as many come as go, seldom.
    fn is_time(&self, left: usize) -> bool {
        let forgotten = self.forgotten.fetch_add(1, Ordering::Relaxed) + 1;
        let peak = self.peak.fetch_max(left, Ordering::Relaxed).max(left);
        let is_time = forgotten >= EVERY || (peak >= FEW && left <= peak / 2);
        if is_time {
            self.forgotten.store(0, Ordering::Relaxed);
            self.peak.store(left, Ordering::Relaxed);
        }
        is_time
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_until_next_to_nothing_is_left_to_be_forgotten() {
        let all = Forgettings::default();
        let times: Vec<usize> = (0..5 * EVERY).rev().filter(|left| all.is_time(*left)).collect();
        assert!(times.windows(2).all(|pair| pair[0] - pair[1] <= EVERY), "{times:?}");
        assert!(times.last().is_some_and(|left| *left < FEW), "{times:?}");
        assert!(times.len() < 16, "{times:?}");
    }

    /// A program that makes a file, deletes it and makes the next.
    #[test]
    fn where_as_many_come_as_go_memory_is_seldom_given_back() {
        let all = Forgettings::default();
        assert_eq!((0..3 * EVERY).filter(|n| all.is_time(1000 + n % 2)).count(), 3);
        assert_eq!((0..1000).rev().filter(|left| all.is_time(*left)).count(), 3, "and when they go");
        assert_eq!((0..EVERY - FEW).filter(|_| all.is_time(3)).count(), 0, "a handful is not worth it");
    }
}
