//! Processes watched by pidfd: every wait here ends with an event, bounded only against a hanging test.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// Bound for waits that a working program ends at once.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// A descriptor that becomes readable when the process ends.
pub fn pidfd(pid: i32) -> OwnedFd {
    let pid = Pid::from_raw(pid).expect("a pid");
    pidfd_open(pid, PidfdFlags::empty()).expect("the process is there")
}

/// Whether the process has ended already, without waiting.
pub fn is_dead(pidfd: impl AsFd) -> bool {
    is_readable_within(pidfd, &NOW)
}

/// Waits for the process's end; it must come.
pub fn wait_dead(pidfd: impl AsFd) {
    assert!(is_readable_within(pidfd, &PATIENCE), "the process does not end");
}

/// Waits until something can be read (or the other side has gone); it must come.
pub fn wait_until_readable(fd: impl AsFd) {
    assert!(is_readable_within(fd, &PATIENCE), "nothing came");
}

fn is_readable_within(fd: impl AsFd, patience: &Timespec) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(patience))).expect("poll") == 1
}

/// The state letter of a process, as in proc_pid_stat(5); `None` if it is gone.
pub fn state_of(pid: i32) -> Option<char> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    String::from_utf8_lossy(&stat).rsplit_once(") ")?.1.chars().next()
}

/// A process stopped by SIGSTOP; dropping this lets it go on.
#[derive(Debug)]
pub struct Stopped(Pid);

impl Stopped {
    /// Stops the process; all its threads have stopped when this returns.
    pub fn new(pid: i32) -> Stopped {
        let stopped = Stopped(Pid::from_raw(pid).expect("a pid"));
        kill_process(stopped.0, Signal::STOP).expect("signalled");
        // The signal is pending for every thread at once, but each stops at its own next step, and there is
        // no event for somebody else's child: look until all have.
        while !all_threads_stopped(pid) {
            std::thread::yield_now();
        }
        stopped
    }
}

fn all_threads_stopped(pid: i32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).expect("signalled");
    }
}
