//! Killing process groups and waiting until they are gone.
//!
//! A group is known by the pidfd of its init. SIGKILL to the init of a pid namespace kills everything in
//! the namespace, and the init becomes a zombie (its pidfd readable) only after the last of it has gone
//! (pid_namespaces(7)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use branch_proc::{kill_pidfd, order_kill};

/// Longest wait for killed processes, together. They end at once, but for those in an uninterruptible wait:
/// for a broken disk, or for an answer of ours that cannot come before this wait ends.
const GONE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Orders the kill; a process that is gone already is what was wanted.
pub(super) fn kill(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    order_kill(pidfd).map_err(io::Error::other)
}

/// Kills all, then waits for all: they die side by side.
pub(super) fn kill_and_wait(pidfds: &[impl AsFd]) -> io::Result<()> {
    for pidfd in pidfds {
        kill(pidfd.as_fd())?;
    }
    wait_gone(pidfds)
}

/// Waits until every one of the killed processes has ended; a second SIGKILL does no harm.
pub(super) fn wait_gone(pidfds: &[impl AsFd]) -> io::Result<()> {
    let deadline = Instant::now() + GONE_WAIT_MAX;
    for pidfd in pidfds {
        let left = deadline.saturating_duration_since(Instant::now());
        kill_pidfd(pidfd.as_fd(), left).map_err(io::Error::other)?;
    }
    Ok(())
}
