//! The thread that waits for news.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::told::Told;

/// Dropping it ends the thread.
#[derive(Debug)]
pub struct Listening {
    _stop: OwnedFd,
}

/// Calls `act` whenever there are news, until it says that it is over. `None` where nothing is watched.
///
/// # Errors
/// No descriptor, pipe or thread to be had.
pub fn listen(
    told: &Told,
    mut act: impl FnMut() -> ControlFlow<()> + Send + 'static,
) -> io::Result<Option<Listening>> {
    let Some(source) = told.source() else { return Ok(None) };
    let queue = source.queue().try_clone_to_owned()?;
    let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
    let run = move || while wait(&queue, &stopped) && act().is_continue() {};
    thread::Builder::new().name("branchfs-watch".into()).spawn(run)?;
    Ok(Some(Listening { _stop: stop }))
}

/// Whether there are news; else it is over.
fn wait(queue: &OwnedFd, stopped: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(queue, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
    match rustix::io::retry_on_intr(|| poll(&mut fds, None)) {
        Ok(_) => fds[1].revents().is_empty(),
        // The next read says what is wrong.
        Err(_) => true,
    }
}
