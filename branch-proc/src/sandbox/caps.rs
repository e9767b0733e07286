//! Giving capabilities up (`capabilities(7)`), with or without a policy. Async-signal-safe.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities, clear_ambient_capability_set, set_capabilities};

use super::answer;

/// Capabilities are numbered below this.
const CAPS_MAX: u32 = 64;

/// Those by which root in the caller's user namespace could leave a network namespace: by entering or changing another
/// one, by taking over a process outside, or by the kernel itself.
const WAYS_OUT: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::SYS_MODULE)
    .union(CapabilitySet::SYS_RAWIO)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYS_BOOT)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::BPF);

/// Takes [`WAYS_OUT`] from what the calling process will execute; itself it keeps them. Who cannot do that is told:
/// root's programs would get them back.
pub(crate) fn drop_ways_out() -> Result<(), Errno> {
    unbound(WAYS_OUT)?;
    let mut sets = capabilities(None)?;
    // Ambient capabilities are inheritable ones, and go with them.
    sets.inheritable &= !WAYS_OUT;
    set_capabilities(None, sets)
}

/// Leaves the calling process, and all it executes, at most the capabilities whose bits are set in `keep`. Who may not
/// lower the bounding set keeps it: a policy is held by more than capabilities.
pub(super) fn drop_all_but(keep: u64) -> Result<(), Errno> {
    let keep = CapabilitySet::from_bits_retain(keep);
    let mut sets = capabilities(None)?;
    // First: lowering it takes a capability.
    if sets.permitted.contains(CapabilitySet::SETPCAP) {
        unbound(!keep)?;
    }
    clear_ambient_capability_set()?;
    sets.permitted &= keep;
    sets.effective = sets.permitted;
    sets.inheritable = CapabilitySet::empty();
    set_capabilities(None, sets)
}

/// Takes capabilities from the bounding set. It is what counts for root, who gets all of it with each `execve(2)`.
fn unbound(gone: CapabilitySet) -> Result<(), Errno> {
    for capability in (0..CAPS_MAX).filter(|capability| gone.bits() & (1 << capability) != 0) {
        // SAFETY: plain numbers.
        match answer(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }.into()) {
            Ok(_) => {}
            // The first number this kernel has no capability for.
            Err(Errno::INVAL) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
