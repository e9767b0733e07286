//! Why the daemon stops, and who waits for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use branch_proto::{Answer, Failure, Reply, server};
use parking_lot::Mutex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::wake::Wake;

/// Why the daemon stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A client asked.
    Asked,
    /// SIGTERM, SIGINT or SIGHUP.
    Signal,
    /// Somebody unmounted the views.
    Unmounted,
}

/// The request to stop. `state` is a leaf lock.
pub(super) struct Stop {
    wake: Arc<Wake>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cause: Option<Cause>,
    waiting: Vec<(UnixStream, u64)>,
}

impl Stop {
    pub(super) fn new() -> io::Result<Stop> {
        Ok(Stop { wake: Arc::new(Wake::new()?), state: Mutex::default() })
    }

    /// Asks the daemon to stop. The first cause counts.
    pub(super) fn request(&self, cause: Cause) {
        self.state.lock().cause.get_or_insert(cause);
        self.wake.notify();
    }

    /// The same for a client, which is answered when nothing is mounted any more and the store is closed.
    pub(super) fn request_by(&self, client: UnixStream, request: u64) {
        self.state.lock().waiting.push((client, request));
        self.request(Cause::Asked);
    }

    /// What was asked so far.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.state.lock().cause
    }

    /// Wakes up who polls, for another reason.
    pub(super) fn wake(&self) -> &Arc<Wake> {
        &self.wake
    }

    /// Those who wait for the end.
    pub(super) fn take_waiting(&self) -> Vec<(UnixStream, u64)> {
        std::mem::take(&mut self.state.lock().waiting)
    }
}

/// Tells those who asked how it went.
pub(super) fn answer(waiting: Vec<(UnixStream, u64)>, outcome: Result<(), Failure>) {
    for (client, id) in waiting {
        let reply = Reply { id, outcome: outcome.clone().map(|()| Answer::Done) };
        if let Err(error) = server::send_reply(&client, &reply) {
            tracing::debug!(%error, "the client that asked for the stop has gone");
        }
    }
}

/// Signals that stop the daemon, as a descriptor. They stay caught until the process ends.
pub(super) struct Signals(UnixStream);

impl Signals {
    pub(super) fn catch() -> io::Result<Signals> {
        let (read, write) = UnixStream::pair()?;
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Signals(read))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
