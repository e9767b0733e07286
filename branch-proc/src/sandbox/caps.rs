//! Giving capabilities up (`capabilities(7)`).

use rustix::io::Errno;

use super::answer;

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION_3: u32 = 0x2008_0522;
/// Capabilities are numbered below this.
const CAPS_MAX: u32 = 64;
/// `CAP_SETPCAP`.
const SETPCAP: u32 = 8;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Leaves the calling process, and all it executes, at most the capabilities whose bits are set in `keep`.
///
/// The bounding set is what counts for root, who gets all of it back with each `execve(2)`; it has to go
/// first, for lowering it takes a capability. Async-signal-safe.
pub(super) fn drop_all_but(keep: u64) -> Result<(), Errno> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: version 3 reads and writes a header and two sets.
    answer(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) })?;
    let has = |capability: u32| sets[(capability / 32) as usize].permitted & (1 << (capability % 32)) != 0;
    if has(SETPCAP) {
        for capability in (0..CAPS_MAX).filter(|capability| keep & (1 << capability) == 0) {
            // SAFETY: plain numbers.
            match answer(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }.into()) {
                Ok(_) => {}
                // The first number this kernel has no capability for.
                Err(Errno::INVAL) => break,
                Err(e) => return Err(e),
            }
        }
    }
    let none = libc::PR_CAP_AMBIENT_CLEAR_ALL;
    // SAFETY: plain numbers.
    answer(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, none, 0, 0, 0) }.into())?;
    for (set, kept) in sets.iter_mut().zip([keep as u32, (keep >> 32) as u32]) {
        set.permitted &= kept;
        set.effective = set.permitted;
        set.inheritable = 0;
    }
    // SAFETY: as above.
    answer(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) }).map(drop)
}
