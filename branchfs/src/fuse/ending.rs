//! Waiting for the end of a session.

use std::io;
use std::thread;

use parking_lot::{Condvar, Mutex};

/// How far a session is. Shared by its thread and those who wait.
pub(super) struct Ending {
    phase: Mutex<Phase>,
    changed: Condvar,
}

enum Phase {
    Serving,
    /// Detached, but somebody is inside whom only the end of this process can turn out.
    Abandoned,
    /// Over; the outcome until it is told.
    Over(Option<io::Error>),
}

impl Ending {
    pub(super) fn new() -> Ending {
        Ending { phase: Mutex::new(Phase::Serving), changed: Condvar::new() }
    }

    pub(super) fn is_serving(&self) -> bool {
        matches!(*self.phase.lock(), Phase::Serving)
    }

    /// Runs the session and notes how it ended, also if it panics.
    pub(super) fn watch(&self, session: impl FnOnce() -> io::Result<()>) {
        let guard = Guard(self);
        let outcome = session();
        self.set(Phase::Over(outcome.err()));
        drop(guard);
    }

    /// Nobody is to wait any longer.
    pub(super) fn abandon(&self) {
        let mut phase = self.phase.lock();
        if let Phase::Serving = *phase {
            *phase = Phase::Abandoned;
            self.changed.notify_all();
        }
    }

    /// Waits for the end. One caller gets the error there was, if any.
    pub(super) fn wait(&self) -> io::Result<()> {
        let mut phase = self.phase.lock();
        loop {
            match &mut *phase {
                Phase::Serving => self.changed.wait(&mut phase),
                Phase::Abandoned => return Ok(()),
                Phase::Over(error) => return error.take().map_or(Ok(()), Err),
            }
        }
    }

    fn set(&self, phase: Phase) {
        *self.phase.lock() = phase;
        self.changed.notify_all();
    }
}

struct Guard<'a>(&'a Ending);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.set(Phase::Over(Some(io::Error::other("the session's thread panicked"))));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn everybody_waits_and_one_gets_the_error() {
        let ending = Arc::new(Ending::new());
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let ending = Arc::clone(&ending);
                thread::spawn(move || ending.wait().is_err())
            })
            .collect();
        ending.watch(|| Err(io::Error::other("x")));
        let errors = waiting.into_iter().map(|waiter| waiter.join().unwrap());
        assert_eq!(errors.filter(|failed| *failed).count(), 1);
        assert!(!ending.is_serving());
    }

    #[test]
    fn a_panic_is_an_end() {
        let ending = Arc::new(Ending::new());
        let theirs = Arc::clone(&ending);
        assert!(thread::spawn(move || theirs.watch(|| panic!("on purpose"))).join().is_err());
        assert!(ending.wait().is_err());
    }

    #[test]
    fn an_abandoned_session_holds_nobody() {
        let ending = Ending::new();
        ending.abandon();
        ending.wait().unwrap();
    }
}
