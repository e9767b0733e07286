//! Stopping, watching and killing a group from outside, known by its init: by its control group where it has
//! one, else by `/proc` and signals.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup::Cgroup;
use crate::error::GroupError;
use crate::pidfd;
use crate::processes::{self, Process};
use crate::usage::{Pressure, Usage};

/// Longest time spent on stopping processes that keep forking.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);

/// A group that may have been spawned by another process: what can be done with it from outside.
#[derive(Debug)]
pub struct Control {
    init: i32,
    cgroup: Option<Cgroup>,
}

impl Control {
    /// The group of the init behind this pidfd.
    ///
    /// # Errors
    /// When it has ended, or is not in the caller's pid namespace or below.
    pub fn of(pidfd: BorrowedFd<'_>) -> Result<Control, GroupError> {
        match pidfd::pid_of(pidfd) {
            init if init > 0 => Ok(Control { init, cgroup: Cgroup::of_init(init) }),
            init => Err(GroupError { doing: "find", pid: init, source: Errno::SRCH.into() }),
        }
    }

    /// Everything in it but its init, parents before children. Read from `/proc`: a process that forks
    /// meanwhile may be missed.
    pub fn processes(&self) -> Vec<Process> {
        processes::below(self.init)
    }

    /// What it uses.
    pub fn usage(&self) -> Usage {
        usage(self.init, self.cgroup.as_ref())
    }

    /// How much it waits for memory; None where the kernel does not account for it.
    pub fn pressure(&self) -> Option<Pressure> {
        self.cgroup.as_ref()?.pressure()
    }

    /// Whether it stands still because somebody has frozen it.
    pub fn is_frozen(&self) -> bool {
        match self.cgroup.as_ref().filter(|cgroup| cgroup.freezes()) {
            Some(cgroup) => cgroup.is_frozen(),
            None => {
                let processes = processes::descendants(self.init);
                !processes.is_empty() && processes.into_iter().all(processes::is_still)
            }
        }
    }

    /// Stops all of it, until [`Control::thaw`]; returns when nothing in it runs. It can still be killed.
    ///
    /// # Errors
    /// When it cannot be done within some seconds, or not by this user.
    pub fn freeze(&self) -> Result<(), GroupError> {
        set_frozen(self.init, self.cgroup.as_ref(), true)
    }

    /// Lets it go on. Without a control group, what had been stopped by other means goes on as well.
    ///
    /// # Errors
    /// As [`Control::freeze`].
    pub fn thaw(&self) -> Result<(), GroupError> {
        set_frozen(self.init, self.cgroup.as_ref(), false)
    }
}

/// The control group's numbers, completed from `/proc`.
pub(crate) fn usage(init: i32, cgroup: Option<&Cgroup>) -> Usage {
    let mut usage = cgroup.map(Cgroup::usage).unwrap_or_default();
    if usage.memory.is_none() || usage.pids.is_none() {
        let processes = processes::below(init);
        let resident = || processes.iter().map(|process| process.resident).sum();
        let threads = || processes.iter().map(|process| process.threads).sum();
        usage.memory = usage.memory.or_else(|| Some(resident()));
        usage.pids = usage.pids.or_else(|| Some(threads()));
    }
    usage
}

pub(crate) fn set_frozen(init: i32, cgroup: Option<&Cgroup>, frozen: bool) -> Result<(), GroupError> {
    let doing = if frozen { "freeze" } else { "thaw" };
    let done = match cgroup.filter(|cgroup| cgroup.freezes()) {
        Some(cgroup) => cgroup.freeze(frozen).map_err(|error| error.source),
        None if frozen => stop_all(init),
        None => signal_all(init, Signal::CONT).map(drop),
    };
    done.map_err(|source| GroupError { doing, pid: init, source })
}

/// Until a look finds nobody who could fork: each look stops all who were there.
fn stop_all(init: i32) -> io::Result<()> {
    let deadline = Instant::now() + STOP_WAIT_MAX;
    loop {
        let running = signal_all(init, Signal::STOP)?;
        if running == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // A signal is on its way to each of them; nothing tells when it has arrived.
        std::thread::yield_now();
    }
}

/// Signals everything below the init; how many of them were running before.
fn signal_all(init: i32, signal: Signal) -> io::Result<usize> {
    let mut running = 0;
    for pid in processes::descendants(init) {
        if signal == Signal::STOP && processes::is_still(pid) {
            continue;
        }
        running += 1;
        let Some(pid) = Pid::from_raw(pid) else { continue };
        match kill_process(pid, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(running)
}
