//! How much of what is free again the process keeps.

/// Larger than the answer to any request, which is made and dropped each time; smaller than a worker's buffer, which stays
/// and is never touched as a whole.
#[cfg(target_env = "gnu")]
const OF_ITS_OWN: libc::c_int = 4 << 20;
/// What may be left free at the end of a heap. There is one heap for each worker.
#[cfg(target_env = "gnu")]
const LEFT_FREE: libc::c_int = 2 << 20;

/// glibc raises both limits by itself, to 32 and 64 MiB, as soon as a large buffer is freed: what workers took for inodes would then
/// stay with their heaps when the kernel has forgotten them.
#[cfg(target_env = "gnu")]
pub(super) fn give_memory_back() {
    for (what, bytes) in [(libc::M_MMAP_THRESHOLD, OF_ITS_OWN), (libc::M_TRIM_THRESHOLD, LEFT_FREE)] {
        // SAFETY: it takes no pointers, and locks for itself.
        if unsafe { libc::mallopt(what, bytes) } == 0 {
            tracing::debug!("the allocator does not take {bytes} as its limit {what}");
        }
    }
}

/// Other allocators have limits of their own.
#[cfg(not(target_env = "gnu"))]
pub(super) fn give_memory_back() {}
