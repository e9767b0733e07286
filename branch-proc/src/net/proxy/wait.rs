//! Waiting for sockets, for a while, and until the proxy ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;

use crate::pidfd::time_left;

/// Something that happens once, and that threads can wait for: the end of the proxy, of a lookup.
#[derive(Debug, Clone)]
pub(crate) struct Event(Arc<OwnedFd>);

/// Why waiting ended without what was waited for.
#[derive(Debug)]
pub(crate) enum Interrupted {
    /// The event has happened.
    Stopped,
    /// The time is up.
    TimedOut,
    /// The system does not let us wait.
    Failed(io::Error),
}

impl Event {
    pub(crate) fn new() -> Result<Event, Errno> {
        let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Event(Arc::new(fd)))
    }

    /// It has happened: ends all waiting, for good unless it is cleared.
    pub(crate) fn raise(&self) {
        // It only fails when the counter is full: then it is readable, which is all that is wanted.
        let written = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
        debug_assert!(written.is_ok() || written == Err(Errno::AGAIN));
    }

    /// Makes it not to have happened.
    pub(crate) fn clear(&self) {
        let read = rustix::io::read(&*self.0, &mut [0; 8]);
        debug_assert!(read.is_ok() || read == Err(Errno::AGAIN));
    }

    /// Waits until one of these is ready, or it happens; what each is ready for.
    pub(crate) fn wait<const N: usize>(
        &self,
        watched: [Option<(BorrowedFd<'_>, PollFlags)>; N],
        deadline: Option<Instant>,
    ) -> Result<[PollFlags; N], Interrupted> {
        let mut fds = vec![PollFd::new(&*self.0, PollFlags::IN)];
        for (fd, interest) in watched.iter().flatten() {
            fds.push(PollFd::new(fd, *interest));
        }
        loop {
            match rustix::event::poll(&mut fds, time_left(deadline).as_ref()) {
                Ok(0) => return Err(Interrupted::TimedOut),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(e) => return Err(Interrupted::Failed(e.into())),
            }
        }
        if !fds[0].revents().is_empty() {
            return Err(Interrupted::Stopped);
        }
        let mut ready = fds[1..].iter().map(PollFd::revents);
        Ok(watched.map(|fd| fd.and_then(|_| ready.next()).unwrap_or(PollFlags::empty())))
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Waits until one descriptor is ready.
    pub(crate) fn wait_for(
        &self,
        fd: impl AsFd,
        interest: PollFlags,
        time: Duration,
    ) -> Result<(), Interrupted> {
        self.wait([Some((fd.as_fd(), interest))], Instant::now().checked_add(time)).map(|_| ())
    }
}
