//! A descriptor that one thread makes readable to wake another out of poll(2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};
use rustix::io::Errno;

/// An eventfd(2): readable from [`Wake::notify`] until [`Wake::clear`].
pub(super) struct Wake(OwnedFd);

impl Wake {
    pub(super) fn new() -> io::Result<Wake> {
        Ok(Wake(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Wakes whoever polls. EAGAIN means that the counter is full: it is readable then, which is all we want.
    pub(super) fn notify(&self) {
        match rustix::io::write(&self.0, &1u64.to_ne_bytes()) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(errno) => tracing::error!(%errno, "eventfd write"),
        }
    }

    /// Makes it unreadable again; what was notified before must be looked for after this.
    pub(super) fn clear(&self) {
        match rustix::io::read(&self.0, &mut [0u8; 8]) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(errno) => tracing::error!(%errno, "eventfd read"),
        }
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// poll(2) for reading: which of the descriptors have something to say (also: have ended), none of them
/// after `at_most`. Signals that interrupt it are served elsewhere.
pub(super) fn wait_any<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    at_most: Option<Duration>,
) -> io::Result<[PollFlags; N]> {
    let at_most = at_most.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
    let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, at_most.as_ref()))?;
    Ok(polled.map(|fd| fd.revents()))
}
