//! Waiting on and killing by pidfd (`pidfd_open(2)`): exact, without pid reuse races, in poll.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::error::KillError;
use crate::sys;

/// Kills the process behind a pidfd and returns when it is gone; for the init of a [`crate::Group`] that
/// means that nothing of the group is left. Returns at once if it is gone already.
///
/// The pidfd may come from another process over a socket. Whoever has more rights than its sender must
/// check first whether the sender may do this: a pidfd can be had for any process and is no permission.
///
/// # Errors
/// [`KillError::StillThere`] after `timeout`, [`KillError::Refused`] without permission,
/// [`KillError::NotAPidfd`].
///
/// Source: `pidfd_send_signal(2)`, `pidfd_open(2)`.
pub fn kill_pidfd(pidfd: BorrowedFd<'_>, timeout: Duration) -> Result<(), KillError> {
    order_kill(pidfd)?;
    match wait_readable(pidfd, Instant::now().checked_add(timeout)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(KillError::StillThere { pid: pid_of(pidfd), waited: timeout }),
        Err(e) => Err(KillError::Refused { pid: pid_of(pidfd), source: e.into() }),
    }
}

/// As [`kill_pidfd`] without waiting.
///
/// # Errors
/// [`KillError::Refused`] without permission, [`KillError::NotAPidfd`].
pub fn order_kill(pidfd: BorrowedFd<'_>) -> Result<(), KillError> {
    match sys::send_signal(pidfd, killer(pidfd)) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(e @ (Errno::BADF | Errno::INVAL)) => {
            Err(KillError::NotAPidfd { fd: pidfd.as_raw_fd(), source: e.into() })
        }
        Err(e) => Err(KillError::Refused { pid: pid_of(pidfd), source: e.into() }),
    }
}

/// SIGKILL, but for the init of a group without a pid namespace: that has to end the others first.
fn killer(pidfd: BorrowedFd<'_>) -> i32 {
    if is_bare_init(pid_of(pidfd)) { sys::SIGNAL_END } else { libc::SIGKILL }
}

/// Whether it is an init of ours that is no init to the kernel.
fn is_bare_init(pid: i32) -> bool {
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.strip_suffix(b"\n") == Some(sys::INIT_NAME.to_bytes()) && is_of_this_pid_namespace(&pid.to_string())
}

/// Whether a process, as `/proc` names it, has one number only: it has one for each pid namespace from that of `/proc`
/// down to its own.
pub(crate) fn is_of_this_pid_namespace(process: &str) -> bool {
    let status = std::fs::read(format!("/proc/{process}/status")).unwrap_or_default();
    let numbers = String::from_utf8_lossy(&status)
        .lines()
        .find_map(|line| Some(line.strip_prefix("NSpid:")?.split_whitespace().count()));
    numbers == Some(1)
}

/// Waits until a descriptor is readable or `deadline` has passed (None: for ever); whether it is readable.
pub(crate) fn wait_readable(fd: impl AsFd, deadline: Option<Instant>) -> Result<bool, Errno> {
    loop {
        let mut watched = [PollFd::new(&fd, PollFlags::IN)];
        match rustix::event::poll(&mut watched, time_left(deadline).as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// What is left until a deadline, as poll wants it.
pub(crate) fn time_left(deadline: Option<Instant>) -> Option<Timespec> {
    let left = deadline?.saturating_duration_since(Instant::now());
    Some(Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) })
}

/// What a descriptor that should be a pidfd names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A process, by its id in the caller's pid namespace.
    Process(i32),
    /// A process that has been reaped.
    Reaped,
    /// A process outside the caller's pid namespace and those below it.
    Foreign,
    /// Something else than a process.
    NotAProcess,
}

/// What the descriptor names, as `/proc/self/fdinfo` tells it (`proc(5)`).
///
/// # Errors
/// When that cannot be read: the descriptor is not open, or there is no `/proc`.
pub fn named_by(pidfd: BorrowedFd<'_>) -> io::Result<Named> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    Ok(match pid {
        None => Named::NotAProcess,
        Some(-1) => Named::Reaped,
        Some(0) => Named::Foreign,
        Some(pid) => Named::Process(pid),
    })
}

/// The pid as errors tell it: -1 gone, 0 not visible here.
pub(crate) fn pid_of(pidfd: BorrowedFd<'_>) -> i32 {
    match named_by(pidfd) {
        Ok(Named::Process(pid)) => pid,
        Ok(Named::Reaped) => -1,
        Ok(Named::Foreign | Named::NotAProcess) | Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    use super::*;

    #[test]
    fn a_pidfd_names_its_process_and_a_file_does_not() {
        let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        assert_eq!(named_by(pidfd.as_fd()).unwrap(), Named::Process(getpid().as_raw_pid()));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(named_by(file.as_fd()).unwrap(), Named::NotAProcess);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        assert_eq!(named_by(pidfd.as_fd()).unwrap(), Named::Reaped);
    }
}
