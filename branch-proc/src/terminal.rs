//! Putting the terminal's foreground group back after a program that moved it (an interactive shell does).

use std::io;

use rustix::process::Pid;
use rustix::termios::{isatty, tcgetpgrp, tcsetpgrp};

use crate::program::Session;
use crate::sys::SignalsBlocked;

/// The caller's terminal and who was in its foreground.
#[derive(Debug)]
pub(crate) struct Terminal {
    foreground: Pid,
}

impl Terminal {
    /// The terminal on standard input, if the program shares it and the caller is in its foreground.
    pub(crate) fn of(session: Session) -> Option<Terminal> {
        let stdin = io::stdin();
        if session == Session::Own || !isatty(&stdin) {
            return None;
        }
        let foreground = tcgetpgrp(&stdin).ok()?;
        (foreground == rustix::process::getpgrp()).then_some(Terminal { foreground })
    }

    /// Best effort: the terminal may have gone meanwhile.
    pub(crate) fn give_back(&self) -> bool {
        // A background group that calls tcsetpgrp is sent SIGTTOU and stopped unless it blocks it.
        let blocked = SignalsBlocked::new();
        let done = tcsetpgrp(io::stdin(), self.foreground).is_ok();
        drop(blocked);
        done
    }
}
