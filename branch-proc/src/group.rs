//! A running group: waiting, signalling, killing.

use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::cgroup::{Cgroup, OwnCgroup};
use crate::control;
use crate::error::GroupError;
use crate::ladder::{Rung, SystemdScope};
use crate::limits::{self, Enforced, Limit, Limits};
use crate::net::Proxy;
use crate::observe::{Tried, Watch};
use crate::outcome::{Denial, Exit, Outcome};
use crate::pidfd::wait_readable;
use crate::processes::{self, Process};
use crate::sys;
use crate::terminal::Terminal;
use crate::usage::{Pressure, Usage};
use crate::wire::{ENDED_BYTES, Ended};

/// How long dropping a [`Group`] waits for the killed processes to go. More is needed only by processes
/// that hang in a filesystem that does not answer; the kernel ends them when it does.
pub const DROP_WAIT_MAX: Duration = Duration::from_secs(5);

/// How strong the confinement of a group is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// What holds it together.
    pub rung: Rung,
    /// Whose user namespace it is in.
    pub user: UserNamespace,
    /// Which `/proc` it sees.
    pub proc: ProcView,
    /// The limits that were set, and how each is held.
    pub limits: Vec<(Limit, Enforced)>,
    /// Whether the process that made it was moved by systemd, until then.
    #[serde(default)]
    pub systemd: SystemdScope,
}

/// The user namespace of a group (`user_namespaces(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserNamespace {
    /// Its own, with only the caller's uid and gid mapped (to themselves): the caller lacks
    /// `CAP_SYS_ADMIN`.
    Own,
    /// The caller's: it has `CAP_SYS_ADMIN`, and so has the program.
    Callers,
}

/// The `/proc` of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcView {
    /// A fresh one, showing the group's processes only.
    Fresh,
    /// The caller's: the kernel refused a fresh one because parts of the visible `/proc` are masked, as in
    /// most containers. The group can see other processes of the host there, under the host's pids (it can
    /// signal none of them); tools like `ps` show these instead of its own.
    Inherited,
}

/// A signal that the init forwards to the program's process group (to the program alone with
/// [`crate::Command::foreground`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP
    Hup,
    /// SIGINT
    Int,
    /// SIGQUIT
    Quit,
    /// SIGUSR1
    Usr1,
    /// SIGUSR2
    Usr2,
    /// SIGTERM
    Term,
}

impl Signal {
    fn number(self) -> i32 {
        match self {
            Signal::Hup => libc::SIGHUP,
            Signal::Int => libc::SIGINT,
            Signal::Quit => libc::SIGQUIT,
            Signal::Usr1 => libc::SIGUSR1,
            Signal::Usr2 => libc::SIGUSR2,
            Signal::Term => libc::SIGTERM,
        }
    }
}

/// A cloned init and where it tells of the program's end.
#[derive(Debug)]
pub(crate) struct Init {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) status: OwnedFd,
    pub(crate) started_nanos: u64,
}

/// Everything started by one [`crate::Command::spawn`]. Dropping it kills all of it.
#[derive(Debug)]
pub struct Group {
    pid: i32,
    pidfd: OwnedFd,
    status: OwnedFd,
    started_nanos: u64,
    level: Level,
    cgroup: Option<OwnCgroup>,
    terminal: Option<Terminal>,
    /// It ends by itself when the group does, and is joined when this is dropped.
    proxy: Option<Proxy>,
    /// Who looks at what it tries.
    watch: Option<Watch>,
    /// It was to end because its time is up.
    timed_out: bool,
    outcome: Option<Outcome>,
}

impl Group {
    pub(crate) fn new(
        init: Init,
        level: Level,
        cgroup: Option<OwnCgroup>,
        terminal: Option<Terminal>,
    ) -> Group {
        let Init { pid, pidfd, status, started_nanos } = init;
        let (proxy, watch, timed_out, outcome) = (None, None, false, None);
        Group { pid, pidfd, status, started_nanos, level, cgroup, terminal, proxy, watch, timed_out, outcome }
    }

    /// What its init has told of `/proc`.
    pub(crate) fn sees(&mut self, proc: ProcView) {
        self.level.proc = proc;
    }

    /// Its way out.
    pub(crate) fn goes_through(&mut self, proxy: Proxy) {
        self.proxy = Some(proxy);
    }

    /// What was denied to it so far; see [`Outcome::denials`].
    pub fn denials(&self) -> Vec<Denial> {
        let mut denials = self.proxy.as_ref().map(Proxy::denials).unwrap_or_default();
        denials.extend(self.watch.iter().flat_map(Watch::denials));
        denials
    }

    pub(crate) fn watched_by(&mut self, watch: Watch) {
        self.watch = Some(watch);
    }

    /// What it has tried so far, if it is looked at with [`crate::Observe::Everything`]. Each is given once.
    pub fn take_tried(&self) -> Tried {
        self.watch.as_ref().map(Watch::take_tried).unwrap_or_default()
    }

    /// The pid of the group's init, in the caller's pid namespace. The program itself is a child of it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The init's pidfd: readable (`poll(2)`) when nothing of the group is left. Another process or thread
    /// may be given a copy, for [`crate::kill_pidfd`].
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How strong the confinement is.
    pub fn level(&self) -> &Level {
        &self.level
    }

    /// What it uses now; of a group that has ended, what it had used.
    pub fn usage(&self) -> Usage {
        match &self.outcome {
            Some(outcome) => outcome.usage,
            None => control::usage(self.pid, self.cgroup()),
        }
    }

    /// How much it waits for memory; None where the kernel does not account for it.
    pub fn pressure(&self) -> Option<Pressure> {
        self.cgroup()?.pressure()
    }

    /// Everything in it but its init, parents before children. Read from `/proc`: a process that forks meanwhile
    /// may be missed.
    pub fn processes(&self) -> Vec<Process> {
        if self.outcome.is_some() { Vec::new() } else { processes::below(self.pid) }
    }

    /// Changes limits while it runs; those that are None stay. How each is held.
    ///
    /// # Errors
    /// When the kernel does not take a value.
    pub fn limit(&self, limits: &Limits) -> Result<Vec<(Limit, Enforced)>, GroupError> {
        let held = match self.cgroup() {
            Some(cgroup) => cgroup.limit(limits).map_err(|error| GroupError {
                doing: "limit",
                pid: self.pid,
                source: error.source,
            })?,
            None => Vec::new(),
        };
        Ok(limits::completed(limits, held))
    }

    /// Stops all of it, until [`Group::thaw`]; returns when nothing in it runs. It can still be killed.
    ///
    /// # Errors
    /// When it cannot be done within some seconds.
    pub fn freeze(&self) -> Result<(), GroupError> {
        self.set_frozen(true)
    }

    /// Lets it go on. Without a control group, what had been stopped by other means goes on as well.
    ///
    /// # Errors
    /// As [`Group::freeze`].
    pub fn thaw(&self) -> Result<(), GroupError> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), GroupError> {
        match &self.outcome {
            Some(_) => Ok(()),
            None => control::set_frozen(self.pid, self.cgroup(), frozen),
        }
    }

    pub(crate) fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_deref()
    }

    /// Waits until the program has ended and nothing of the group is left. May be called again.
    ///
    /// # Errors
    /// Only when `poll(2)` does not work (out of memory).
    pub fn wait(&mut self) -> Result<Outcome, GroupError> {
        loop {
            if let Some(outcome) = self.wait_until(None)? {
                return Ok(outcome);
            }
        }
    }

    /// As [`Group::wait`], but None if the group is still there after `timeout`.
    ///
    /// # Errors
    /// As [`Group::wait`].
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<Outcome>, GroupError> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// Sends a signal to the program, through the init. Nothing happens if the group has ended.
    ///
    /// # Errors
    /// When the kernel refuses, as it does after the caller has changed its user.
    pub fn signal(&self, signal: Signal) -> Result<(), GroupError> {
        self.send(signal.number())
    }

    /// Kills everything in the group (SIGKILL) and returns when nothing of it is left. May be called again.
    ///
    /// # Errors
    /// As [`Group::signal`] and [`Group::wait`].
    pub fn kill(&mut self) -> Result<Outcome, GroupError> {
        self.signal_kill()?;
        self.wait()
    }

    /// Asks the program to end (SIGTERM), gives it `grace`, then kills; returns when nothing is left.
    ///
    /// # Errors
    /// As [`Group::kill`].
    pub fn stop(&mut self, grace: Duration) -> Result<Outcome, GroupError> {
        self.signal(Signal::Term)?;
        match self.wait_timeout(grace)? {
            Some(outcome) => Ok(outcome),
            None => self.kill(),
        }
    }

    /// As [`Group::stop`], of a group whose time is up, as [`Outcome::timed_out`] then tells; killed at once if
    /// `grace` is zero. One that has ended meanwhile by itself is in time.
    ///
    /// # Errors
    /// As [`Group::kill`].
    pub fn time_out(&mut self, grace: Duration) -> Result<Outcome, GroupError> {
        if let Some(outcome) = self.wait_timeout(Duration::ZERO)? {
            return Ok(outcome);
        }
        self.is_out_of_time();
        if grace.is_zero() { self.kill() } else { self.stop(grace) }
    }

    /// Whoever calls this makes it end.
    pub(crate) fn is_out_of_time(&mut self) {
        self.timed_out = true;
    }

    /// Kills without waiting.
    pub(crate) fn signal_kill(&self) -> Result<(), GroupError> {
        self.send(if self.level.rung.has_namespaces() { libc::SIGKILL } else { sys::SIGNAL_END })
    }

    fn send(&self, signal: i32) -> Result<(), GroupError> {
        if self.outcome.is_some() {
            return Ok(());
        }
        match sys::send_signal(self.pidfd.as_fd(), signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(e) => Err(self.error("signal", e)),
        }
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Result<Option<Outcome>, GroupError> {
        if self.outcome.is_none()
            && wait_readable(&self.pidfd, deadline).map_err(|e| self.error("watch", e))?
        {
            self.outcome = Some(self.reap());
        }
        Ok(self.outcome.clone())
    }

    /// Collects what is left of an init that has ended.
    fn reap(&mut self) -> Outcome {
        let usage = reap_pidfd(self.pidfd.as_fd());
        if let Some(terminal) = self.terminal.take() {
            terminal.give_back();
        }
        let mut bytes = [0; ENDED_BYTES];
        let (exit, ended_nanos) = match rustix::io::read(&self.status, &mut bytes) {
            Ok(ENDED_BYTES) => {
                let ended = Ended::decode(bytes);
                (Exit::from_wait_status(ended.wait_status), ended.at_nanos)
            }
            // The init tells unless it is killed, and only SIGKILL from outside can do that.
            _ => (Exit::Signal(libc::SIGKILL), sys::monotonic_nanos()),
        };
        if let Some(watch) = &self.watch {
            watch.end();
        }
        let used = self.cgroup().map(Cgroup::usage).unwrap_or_default();
        // Nothing is left in it.
        self.cgroup = None;
        Outcome {
            exit,
            usage: used,
            wall: Duration::from_nanos(ended_nanos.saturating_sub(self.started_nanos)),
            user: duration(usage.ru_utime),
            sys: duration(usage.ru_stime),
            max_rss: usage.ru_maxrss as u64 * 1024,
            timed_out: self.timed_out,
            denials: self.denials(),
            denials_dropped: self.watch.as_ref().map_or(0, Watch::dropped),
        }
    }

    fn error(&self, doing: &'static str, errno: Errno) -> GroupError {
        GroupError { doing, pid: self.pid, source: errno.into() }
    }
}

/// Kills several groups at once and returns when nothing of any is left: they die side by side, where one
/// [`Group::kill`] after the other would wait for each.
///
/// # Errors
/// The first of [`Group::kill`]'s; the others are killed all the same.
pub fn kill_all<'a>(groups: impl IntoIterator<Item = &'a mut Group>) -> Result<(), GroupError> {
    let mut groups: Vec<_> = groups.into_iter().collect();
    let signalled: Vec<_> = groups.iter().map(|group| group.signal_kill()).collect();
    let mut result = Ok(());
    for (group, signalled) in groups.iter_mut().zip(signalled) {
        result = result.and(signalled.and_then(|()| group.wait().map(drop)));
    }
    result
}

impl Drop for Group {
    fn drop(&mut self) {
        // Failing means that the group is gone or hangs in the kernel, killed: there is nothing more to do.
        if self.outcome.is_none() && self.signal_kill().is_ok() {
            drop(self.wait_timeout(DROP_WAIT_MAX));
        }
    }
}

/// Reaps an init that has ended, with its and its reaped children's usage; zero if somebody else has reaped
/// it.
fn reap_pidfd(pidfd: BorrowedFd<'_>) -> libc::rusage {
    // SAFETY: siginfo_t is plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: so is rusage.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    let id = pidfd.as_raw_fd();
    // The raw call, for libc's has no rusage. It cannot block: a readable pidfd has ended. __WALL, for the
    // init has no exit signal.
    let options = libc::WEXITED | libc::__WALL;
    // SAFETY: both places are valid for the call. On failure usage stays zero, which is what is documented.
    unsafe { libc::syscall(libc::SYS_waitid, libc::P_PIDFD, id, &raw mut info, options, &raw mut usage) };
    usage
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
}
