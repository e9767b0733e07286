//! Ctrl-C and its kin: heard on a thread, so that what they stop is stopped in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::error::CliError;

/// While it lives, SIGINT, SIGTERM and SIGHUP do not end this process; the handler hears them instead.
pub(super) struct Interrupts {
    handle: Handle,
    listener: Option<JoinHandle<()>>,
    heard: Arc<AtomicBool>,
}

impl Interrupts {
    /// For each signal `decide` says what it means; `stop` is called if it is to stop, after
    /// [`Interrupts::stopped`] has become true: who makes the thing to stop and then looks, misses none.
    pub(super) fn catch(
        mut decide: impl FnMut(i32) -> Act + Send + 'static,
        mut stop: impl FnMut() + Send + 'static,
    ) -> Result<Interrupts, CliError> {
        let failed = |source| CliError::System { doing: "listen for Ctrl-C", source };
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
        let handle = signals.handle();
        let heard = Arc::new(AtomicBool::new(false));
        let flag = heard.clone();
        let body = move || {
            for signal in signals.forever() {
                if decide(signal) == Act::Stop {
                    flag.store(true, Ordering::SeqCst);
                    stop();
                }
            }
        };
        let listener = thread::Builder::new().name("interrupts".into()).spawn(body).map_err(failed)?;
        Ok(Interrupts { handle, listener: Some(listener), heard })
    }

    /// Whether a signal has asked to stop.
    pub(super) fn stopped(&self) -> bool {
        self.heard.load(Ordering::SeqCst)
    }
}

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Stop,
    /// It is for others.
    Ignore,
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(Err(_)) = self.listener.take().map(JoinHandle::join) {
            tracing::error!("the thread that listens for signals panicked");
        }
    }
}
